// Package qmqp speaks QMQP and QMTP, the mail protocols that are made of netstrings
// (cr.yp.to/proto): a whole message with its envelope in one piece, and an answer.
//
//   - Reader (netstring.go) reads netstrings without taking memory for them.
//   - Server (server.go) is both protocols' server: a connection that the gate let in,
//     its requests (request.go), each through intake as a message that is handed over.
//   - Client (client.go) sends a message by QMQP to the first of several servers that
//     takes the connection: for next hops qmqp://, and for programs as qmail-qmqpc.
//
// QMQP's clients may send anywhere, so the server has ears for clients alone that the
// listener's relay_from, a connection rule with RELAYCLIENT, or a client certificate
// vouches for. QMTP is for strangers too, as SMTP is: each recipient is judged, and
// answered, by itself.
package qmqp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// The protocols, as [[listen]] calls them.
const (
	QMQP = "qmqp"
	QMTP = "qmtp"
)

// Options of New.
type Options struct {
	Hostname string
	Limits   Limits
	// Grace is how long a request that is under way when the server stops may go on.
	Grace  time.Duration
	Intake *intake.Intake
	Record *record.Recorder
	// TLS gives the configuration of a handshake; nil, or a nil result: a listener with
	// implicit TLS has no certificate.
	TLS   func() *tls.Config
	Spool string       // where large messages wait for their envelope; made by others
	Log   *slog.Logger // nil: none
}

// Limits bound one connection. A zero is the default.
type Limits struct {
	IdleTimeout time.Duration // from one package of QMTP to the next, and for an answer to be taken; default 5 minutes
	DataTimeout time.Duration // of a whole request, beside what MinDataRate grants; default 10 minutes
	MinDataRate int64         // bytes a second; each byte received adds its share to DataTimeout; default 4096
}

// Server speaks QMQP and QMTP with any number of connections. It is safe for
// concurrent use.
type Server struct {
	o      Options
	log    *slog.Logger
	limits atomic.Pointer[Limits]
}

// New makes a server.
func New(o Options) *Server {
	s := &Server{o: o, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.SetLimits(o.Limits)
	return s
}

// SetLimits replaces the limits; connections that are open keep theirs.
func (s *Server) SetLimits(l Limits) {
	if l.IdleTimeout <= 0 {
		l.IdleTimeout = 5 * time.Minute
	}
	if l.DataTimeout <= 0 {
		l.DataTimeout = 10 * time.Minute
	}
	if l.MinDataRate <= 0 {
		l.MinDataRate = 4096
	}
	s.limits.Store(&l)
}

// Serve speaks with one client until it is answered, leaves, or ctx is done: then a
// request that is under way may end within Options.Grace. It does not close peer's
// connection, and a panic inside ends this connection alone.
func (s *Server) Serve(ctx context.Context, peer *gate.Conn) {
	c := &conn{server: s, peer: peer, s: peer.Session, limits: s.limits.Load()}
	c.whole.Session = c.s
	c.timed = &timed{Conn: peer.Conn, limits: c.limits}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	c.work = work
	stop := context.AfterFunc(ctx, func() { c.timed.stop(s.o.Grace, cancel) })
	defer stop()
	s.o.Record.Connected(c.s)
	defer c.finish()
	if c.secure() {
		c.converse()
	}
}

// conn is one connection. It belongs to one goroutine.
type conn struct {
	server *Server
	peer   *gate.Conn
	s      *hooks.Session
	limits *Limits
	work   context.Context
	whole  hooks.Transaction // what stages of the connection get
	timed  *timed
	nc     io.ReadWriter
	out    *bufio.Writer
	tls    *tls.Conn
}

// secure does the handshake where the listener wants one. false: it failed.
func (c *conn) secure() bool {
	c.nc = c.timed
	if c.peer.Listener.ImplicitTLS {
		var config *tls.Config
		if c.server.o.TLS != nil {
			config = c.server.o.TLS()
		}
		if config == nil {
			c.server.log.Error("a listener with implicit TLS has no certificate", "listener", c.s.Listener)
			return false
		}
		c.peer.Stands(hooks.TLS)
		c.tls = tls.Server(c.timed, config)
		c.timed.begin()
		if err := c.tls.HandshakeContext(c.work); err != nil {
			c.server.o.Record.Refused(&c.whole, hooks.TLS, "postern", message.NewReply(454, "4.7.0", "The TLS handshake failed: %v", err))
			return false
		}
		c.peer.Secured()
		state := c.tls.ConnectionState()
		c.s.TLS = &hooks.TLSFact{Version: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), Client: gate.VerifiedClient(state, config.ClientCAs)}
		c.nc = c.tls
	}
	c.out = bufio.NewWriter(c.nc)
	return true
}

// converse asks the stages of the connection, then serves its requests.
func (c *conn) converse() {
	r := &requests{conn: c, in: NewReader(bufio.NewReaderSize(c.nc, 32<<10))}
	d := c.peer.Chain.Run(c.work, hooks.Connect, &c.whole)
	if !d.Verb.Refuses() && c.tls != nil {
		d = c.peer.Chain.Run(c.work, hooks.TLS, &c.whole)
	}
	switch {
	case d.Verb.Refuses():
		r.refusal = &refusal{hooks.Connect, d.By, d.Reply}
	case c.s.Protocol == QMQP && !c.trusted():
		r.refusal = &refusal{hooks.Connect, "postern", errStranger}
	}
	c.peer.Stands(hooks.Data)
	var err error
	if c.s.Protocol == QMTP {
		err = r.packages()
	} else {
		err = r.message()
	}
	if err == nil || errors.Is(err, io.EOF) {
		return
	}
	reply := errMalformed
	if why, ok := errors.AsType[message.Reply](err); ok {
		reply = why
	} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		c.server.log.Debug("a request ended early", "session", c.s.ID, "client", c.s.Client.String(), "error", err)
		return // as with qmail: there is nobody to answer, and nothing was taken
	} else {
		reply.Text += ": " + err.Error()
	}
	c.server.o.Record.Refused(&c.whole, hooks.Data, "postern", reply)
	c.answer(reply)
	_ = c.flush() // it is closed in any case
	c.linger()
}

// trusted tells whether a client may hand over mail for anybody.
func (c *conn) trusted() bool {
	return c.s.Relaying || c.s.Authenticated || c.s.TLS != nil && c.s.TLS.Client != ""
}

// answer writes one answer; it may wait for flush.
func (c *conn) answer(r message.Reply) {
	text := reason(c.s.ID, r)
	_, _ = fmt.Fprintf(c.out, "%d:%s,", len(text), text) // an error stays, and flush tells it
}

func (c *conn) flush() error {
	c.timed.writeBy(c.limits.IdleTimeout)
	return c.out.Flush()
}

// finish ends the connection.
func (c *conn) finish() {
	if p := recover(); p != nil {
		c.server.log.Error("connection failed", "session", c.s.ID, "client", c.s.Client.String(), "panic", p, "stack", string(debug.Stack()))
	}
	if c.tls != nil {
		_ = c.tls.Close() // says so in TLS; the gate closes what is below
	}
	c.s.Totals.Duration = time.Since(c.s.Started)
	c.peer.Chain.Tell(hooks.Disconnect, &c.whole)
	c.server.o.Record.Disconnected(c.s)
}

// Bounds of lingering: how long, and how much is read.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// linger reads a little of what the client sends still: input that nobody read would
// turn our close into a reset, which can overtake the answer.
func (c *conn) linger() {
	half, ok := c.peer.Conn.(interface{ CloseWrite() error })
	if !ok || c.tls != nil || half.CloseWrite() != nil {
		return
	}
	_ = c.peer.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.peer.Conn, lingerBytes)
}
