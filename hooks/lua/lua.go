// Package lua makes a Lua script a hooks.Handler. It is the only place that
// knows gopher-lua.
//
//   - Compile (script.go) reads a script, finds its policy{…}, its settings and
//     its stages; Instance binds settings and gives a Policy, which answers.
//   - chunk.go and rewrite.go change the parsed script before it is compiled: `..`
//     and every assignment to a field become calls of bounded functions, and what was made
//     at load can't be changed afterwards.
//   - budget.go bounds one call: Lua time, memory made by library calls. A limit
//     that is reached ends the call; pcall doesn't catch it.
//   - pool.go and state.go keep the Lua states: compiled code is shared, states
//     are reused, their number is bounded over all policies.
//   - base.go, text.go, pattern.go, matcher.go, format.go and tables.go are the
//     standard library as policies may have it; lib_*.go are Postern's own.
//   - event.go, tx.go, conn.go, rcpt.go, headers.go, body.go and notes.go are
//     what a handler sees; decide.go is what it answers.
//   - settings.go, kinds.go and types.go are the typed settings.
//   - program.go runs scripts that are no policies, such as tests of policies.
//
// A script can't harm more than its own call: it has no files, no processes and
// no state that outlives a call except notes and the store.
package lua

import (
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/postern-mta/postern/core/auth/batv"
	"github.com/postern-mta/postern/core/auth/srs"
	"github.com/postern-mta/postern/core/dns"
	named "github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/core/store"
)

// Library is what scripts may reach. All of it must be safe for concurrent use.
type Library struct {
	DNS   dns.Resolver // nil: every look-up is a temporary error
	Store store.Store  // nil: likewise
	// Judged counts what DMARC judged, for the reports to the owners of domains; nil:
	// nobody does.
	Judged Judged
	// Hostname is our name, for what tells who judged.
	Hostname string
	Log      *slog.Logger             // nil: none
	Now      func() time.Time         // nil: time.Now
	Ours     func(domain string) bool // whether a lower-case domain is one of ours; nil: none is
	// Dial opens the connections of http and tcp; nil: the network itself. The
	// address is as the script wrote it: a name, or an IP, and a port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots are the authorities that certificates of http and tcp must come from;
	// nil: the system's.
	Roots *x509.CertPool
	// Metrics takes what scripts count; nil: nobody does.
	Metrics Metrics
	// Places answers geoip; nil: there is no database.
	Places Places
	// Maps answers lookup; nil: there are none.
	Maps named.Getter
	// Load is the host's load average of the last minute; nil: the kernel's.
	Load func() (float64, error)
	// Pause waits, until ctx ends; nil: as long as it says.
	Pause func(ctx context.Context, wait time.Duration)
	// SRS and BATV make and read senders; nil: they are not configured.
	SRS  *srs.Rewriter
	BATV *batv.Tagger
}

// DefaultLuaTime is how long one call may compute, look-ups not counted.
const DefaultLuaTime = 100 * time.Millisecond

// Options of Compile.
type Options struct {
	Library Library
	// Modules are the folders where require looks, in their order.
	Modules []fs.FS
	// Dir is the folder that relative paths of file settings belong to.
	Dir string
	// Shadow: nothing of what the policy says is done, which dmarc.count tells.
	Shadow bool
	// Pool bounds the Lua states; policies of one process share one. nil: one of
	// its own with the default size.
	Pool *Pool
	// LuaTime of one call; 0: DefaultLuaTime.
	LuaTime time.Duration
	// Cache remembers what was compiled, over generations; nil: nothing does. What
	// was compiled with Coverage is not kept.
	Cache *Cache
	// Coverage counts the statements that run; nil: nothing is counted, at no cost.
	Coverage *Coverage
}

// Problem is something wrong with a script or its settings.
type Problem struct {
	File    string // the module that it is in, such as "words.lua"; "": the script itself
	Line    int    // in the file, 0 where none is to blame
	Key     string // the setting, "" where none is to blame
	Text    string
	Warning bool // worth telling, but the script can run
}

// String is the problem as one line without the file's name.
func (p Problem) String() string {
	switch {
	case p.Key != "":
		return p.Key + ": " + p.Text
	case p.Line > 0:
		return fmt.Sprintf("%d: %s", p.Line, p.Text)
	}
	return p.Text
}

// Failed tells whether one of the problems is more than a warning.
func Failed(list []Problem) bool {
	for _, p := range list {
		if !p.Warning {
			return true
		}
	}
	return false
}
