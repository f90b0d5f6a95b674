// Package proto is the plugin protocol: policy.proto, the Go code that protoc
// makes of it (generate.sh), and what both ends of the wire share.
//
//   - The handshake and the bounds of the protocol (this file).
//   - Value (value.go): plain values, to and from Go's.
//   - CheckSettings (settings.go): settings held against what a policy declared,
//     with a problem for each key that is wrong.
//   - ParseDuration and ParseSize (units.go): how durations and sizes are written.
//
// The server's end is package hooks/plugin, a plugin's is package hooks/sdk. A
// program in another language needs policy.proto alone.
package proto

//go:generate ./generate.sh

// The handshake of hashicorp/go-plugin. The cookie is no secret: it keeps a
// plugin that a person starts by hand from waiting for a server.
const (
	Version     = 1 // of the protocol: the second field of a plugin's first line
	CookieKey   = "POSTERN_PLUGIN"
	CookieValue = "postern.hooks.v1"

	// Revision counts the additions to version 1. A server goes on to serve what
	// needs an older one.
	Revision = 3
	// HostKey is the environment variable with the path of service Host's socket.
	HostKey = "POSTERN_HOST_SOCKET"
)

// The bounds of the protocol. What is larger is an error of the call, never a
// cut-off answer; what the server cuts, it marks in the Event.
const (
	MaxEvent  = 4 << 20   // bytes of an Event on the wire; gRPC's own default everywhere
	MaxAnswer = 1 << 20   // bytes of every answer of a plugin
	MaxHeader = 1 << 20   // bytes of Event.header
	MaxPrefix = 1 << 20   // bytes of Event.body with ACCESS_PREFIX
	MaxInline = 256 << 10 // bytes of Event.body with ACCESS_WHOLE; larger ones go by file
	MaxEdits  = 1000      // of one Decision
	MaxEach   = 10000     // of one Decision: those on single recipients
	MaxText   = 2000      // bytes of a reply's text and of a reason
	MaxDepth  = 32        // of lists and maps in each other
	MaxPart   = 64 << 10  // bytes of a Part's body
	MaxNews   = 1000      // Measures of one call
)
