// Package smtpd is the SMTP server's protocol engine: one connection in, replies
// out, and a message at the door of package intake. It knows no policy: at each
// stage it asks the connection's hooks.Chain.
//
//   - Server.Serve (here) takes a connection that the gate let in and blocks to
//     its end: stage connect, greeting, commands, stage disconnect.
//   - A command line (input.go) ends with CRLF and with nothing else. A line with
//     a bare CR, a bare LF or a NUL in it gets 501 and is never run, nor is a
//     part of it; a bare LF at its end thus waits for a CRLF to come.
//   - The table of verbs (verbs.go) says for each where it is legal, whether it
//     takes an argument, and what runs it (session.go, envelope.go, data.go,
//     starttls.go, auth.go, xclient.go). A later verb is a row; a later ESMTP parameter
//     is a row of the table in params.go. Policies may answer some (command.go).
//   - What EHLO offers, and what stage helo took away: capabilities.go.
//   - DATA's text goes through dots (dots.go): CRLF.CRLF ends it, dots are taken
//     away, and NUL, bare CR and bare LF are noticed on whole buffers. BDAT's
//     chunks (chunks.go) are counted octets, watched for the same.
//   - What a message gets is answered in answer.go: once, or in LMTP and PRDR
//     for each recipient. An LMTP listener differs in that, in LHLO, and in 503.
//   - Replies (replies.go) gather until the client must have them (RFC 2920).
//     Every refusal passes stage deny, the recorder and the error budget there;
//     only the farewells 421 for time, stop and failure are not up to a policy.
//   - Deadlines and the server's stop share one alarm (alarm.go).
//
// A transaction is all that MAIL began; reset (envelope.go) is the one way out of
// it, whatever the cause, so that nothing of one message reaches the next.
package smtpd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Options of New.
type Options struct {
	Hostname string // in the greeting and EHLO's reply
	Limits   Limits
	// Grace is how long a transaction that is under way when the server stops may
	// go on; sessions without one end at once. 0: no longer at all.
	Grace  time.Duration
	Intake *intake.Intake
	Record *record.Recorder
	// TLS gives the configuration of a handshake; nil, or a nil result: STARTTLS
	// is not offered. The listener must want it too (gate.Listener.StartTLS,
	// ImplicitTLS).
	TLS func() *tls.Config
	// Auth judges logins; nil: AUTH is not offered. The listener must want it too
	// (gate.Listener.Auth).
	Auth *auth.Authenticator
	Log  *slog.Logger // nil: none
	// Now is the clock of what policies see; nil: time.Now. Deadlines are the
	// machine's.
	Now func() time.Time
}

// Limits bound one connection. A zero is the default.
type Limits struct {
	Recipients     int           // of one message; default 1000
	Errors         int           // negative replies, after which the next command gets 421; default: any number
	Messages       int           // transactions of one connection; default: any number
	CommandTimeout time.Duration // from a reply to the end of the next command line, and of one write; default 5 minutes
	DataTimeout    time.Duration // of a message's text, beside what MinDataRate grants; default 10 minutes
	MinDataRate    int64         // bytes a second; each byte received adds its share to DataTimeout; default 4096
	NormaliseLF    bool          // a bare LF in a message becomes CRLF; otherwise the message is refused
}

// Defaults of Limits.
const (
	defaultRecipients     = 1000
	defaultCommandTimeout = 5 * time.Minute
	defaultDataTimeout    = 10 * time.Minute
	defaultMinDataRate    = 4096
)

// Server speaks SMTP with any number of connections. It is safe for concurrent
// use.
type Server struct {
	hostname string
	grace    time.Duration
	door     door
	record   recorder
	tls      func() *tls.Config
	auth     *auth.Authenticator
	now      func() time.Time
	log      *slog.Logger
	limits   atomic.Pointer[Limits]

	verbs   []verb
	byName  map[string]*verb
	params  map[string]*parameter
	buffers sync.Pool // of *bigBuffer
}

// door is what the engine asks of package intake.
type door interface {
	begin(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction, r relay) mail
	relay(tx *hooks.Transaction, each bool) relay
	Limits(s *hooks.Session) (messageSize int64)
	Meant(s *hooks.Session, a message.Address) (message.Address, error)
	Ours(domain string) bool
	Postmaster() message.Address
	Untag(r *hooks.Recipient)
}

// relay asks next hops about recipients while the client waits.
type relay interface {
	Offer(ctx context.Context, r *hooks.Recipient) (reply message.Reply, by string)
	Close()
}

// mail is a message on its way in.
type mail interface {
	Write(p []byte)
	Refuse(r message.Reply)
	Refused() bool
	AnswerEach()
	End(ctx context.Context) intake.Answer
	Abort()
}

// recorder is what the engine tells package record.
type recorder interface {
	Connected(s *hooks.Session)
	Disconnected(s *hooks.Session)
	Stage(tx *hooks.Transaction, run hooks.StageRun)
	Refused(tx *hooks.Transaction, at hooks.Stage, by string, r message.Reply)
	Verdict(tx *hooks.Transaction, v record.Verdict, r message.Reply, reason string)
}

// entrance is the door that leads into the queue.
type entrance struct{ *intake.Intake }

func (e entrance) begin(ctx context.Context, chain *hooks.Chain, tx *hooks.Transaction, r relay) mail {
	m := e.Begin(ctx, chain, tx)
	if way, ok := r.(*intake.Relay); ok {
		m.Through(way)
	}
	return m
}

// relay is nil where all mail is queued.
func (e entrance) relay(tx *hooks.Transaction, each bool) relay {
	if r := e.Relay(tx, each); r != nil {
		return r
	}
	return nil
}

// New makes a server.
func New(o Options) *Server {
	s := newServer(o)
	s.door, s.record = entrance{o.Intake}, o.Record
	return s
}

func newServer(o Options) *Server {
	s := &Server{hostname: o.Hostname, grace: o.Grace, tls: o.TLS, auth: o.Auth, log: o.Log, verbs: verbs(), byName: map[string]*verb{}, params: map[string]*parameter{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for i := range s.verbs {
		s.byName[s.verbs[i].name] = &s.verbs[i]
	}
	list := parameters()
	for i := range list {
		s.params[list[i].of+" "+list[i].key] = &list[i]
	}
	if s.now = o.Now; s.now == nil {
		s.now = time.Now
	}
	s.buffers.New = func() any { return new(bigBuffer) }
	s.SetLimits(o.Limits)
	return s
}

// SetLimits replaces the limits; connections that are open keep theirs.
func (s *Server) SetLimits(l Limits) {
	if l.Recipients <= 0 {
		l.Recipients = defaultRecipients
	}
	if l.CommandTimeout <= 0 {
		l.CommandTimeout = defaultCommandTimeout
	}
	if l.DataTimeout <= 0 {
		l.DataTimeout = defaultDataTimeout
	}
	if l.MinDataRate <= 0 {
		l.MinDataRate = defaultMinDataRate
	}
	s.limits.Store(&l)
}

// Serve speaks with one client until it leaves, is turned away, or ctx is done:
// then a session without a transaction is told 421 4.3.2, and one with a
// transaction may end it within Options.Grace. It does not close peer's
// connection, and a panic inside ends this connection alone.
func (s *Server) Serve(ctx context.Context, peer *gate.Conn) {
	c := &conn{server: s, peer: peer, nc: peer.Conn, s: peer.Session, chain: peer.Chain, limits: s.limits.Load(), peek: make(chan struct{}, 1)}
	c.whole.Session = c.s
	c.out = c.outSmall[:0]
	c.in.start(c.nc, &s.buffers)
	c.wait = c.awaitLine
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.work = work
	c.alarm.start(c.nc, s.grace, cancel)
	stop := context.AfterFunc(ctx, c.alarm.stop)
	if c.s.Early == nil {
		c.s.Early = c.early
	}
	s.record.Connected(c.s)
	defer func() {
		stop()
		c.alarm.end()
		cancel()
	}()
	defer c.finish()
	if c.implicitTLS() {
		c.meet()
		c.converse()
	}
}
