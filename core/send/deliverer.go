package send

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// Result is what became of one recipient in one attempt.
type Result uint8

// The results.
const (
	Deferred Result = iota // not now: the zero value, since what is not clear is temporary
	Delivered
	Bounced
)

// String is the result's name in JSON, metrics and logs.
func (r Result) String() string {
	return [...]string{"deferred", "delivered", "bounced"}[min(r, Bounced)]
}

// NextHop is where a route leads.
type NextHop struct {
	Scheme string // smtp, smtps, lmtp, qmqp, mx, local, pipe or discard
	Host   string // of smtp, smtps and lmtp: a name or an address
	Port   string // of the same; "" means 25, 465 and 24
	Path   string // of lmtp: an absolute path of a unix socket, instead of Host and Port; of qmqp: its servers, each HOST[:PORT], with commas between them; of pipe: a program and its arguments
}

// Server tells whether the next hop is a given server, as opposed to one that
// the DNS names, and to this host.
func (n NextHop) Server() bool {
	return n.Scheme == SchemeSMTP || n.Scheme == SchemeSMTPS || n.Scheme == SchemeLMTP
}

// String is the next hop as a configuration writes it.
func (n NextHop) String() string {
	switch n.Scheme {
	case SchemeQMQP:
		return n.Scheme + "://" + n.Path
	case SchemePipe:
		return n.Scheme + ":" + n.Path
	}
	if !n.Server() {
		return n.Scheme
	}
	s := n.Scheme + "://"
	if n.Path != "" {
		return s + n.Path
	}
	if len(n.Host) > 0 && n.Host[0] != '[' && strings.Contains(n.Host, ":") {
		s += "[" + n.Host + "]"
	} else {
		s += n.Host
	}
	if n.Port != "" {
		s += ":" + n.Port
	}
	return s
}

// Login is how we authenticate to a next hop; the zero value: not at all.
type Login struct {
	User         string
	PasswordFile string // its first line is the password; read for each connection
}

// Job is one attempt: one message, those of its recipients that share a
// destination, and the way there.
type Job struct {
	Message    *queue.Message // must not be changed
	Recipients []int          // indices into Message.Recipients
	Body       message.Body   // the stored message, trace fields included
	NextHop    NextHop
	Domain     string // of the recipients, where NextHop is mx
	TLS        string // none, may, encrypt or verify; later dane
	Auth       Login
	Source     netip.Addr // the address of this host to connect from; the zero value: any
}

// Reach is how far a delivery got: what a sender who asked to hear of success
// (NOTIFY=SUCCESS) is told of it.
type Reach uint8

// How far a delivery may get.
const (
	AtEnd   Reach = iota // it is where it was to go: "delivered"
	Relayed              // a host took it that tells no sender of success: "relayed" (RFC 3461 section 5.2.2)
	Handed               // a host took it that knows what the sender wants to hear, and tells
)

// Outcome is what one recipient got.
type Outcome struct {
	Recipient int // index into Message.Recipients
	Result    Result
	Reply     message.Reply // what the peer said, or what we say of a failure of our own
	Peer      string        // name and address of who said it: "mx.example [192.0.2.1]:25", "" where nobody was reached
	TLS       string        // "TLSv1.3 TLS_AES_128_GCM_SHA256" or ""
	Reach     Reach         // of Delivered
	Unreached bool          // no conversation came about: the destination itself is in trouble
	Duration  time.Duration
}

// Deliverer makes one attempt. It answers with one Outcome for each of the
// job's recipients, whatever happens, and returns soon after ctx is done. It is
// called from many goroutines at once.
type Deliverer interface {
	Deliver(ctx context.Context, j *Job) []Outcome
}
