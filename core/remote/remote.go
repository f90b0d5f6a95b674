// Package remote delivers to other hosts by SMTP, and to mailbox servers by LMTP.
//
// One Deliver is one attempt for the recipients of one message that share a next
// hop, in this order:
//
//  1. Which hosts (hosts.go): the given one, or the mail exchangers of the
//     domain, or its own address; never ourselves.
//  2. Each address in turn until one talks to us (deliver in this file). An address
//     that did not answer is asked last for a while (marks.go).
//  3. A connection: an idle one from the pool (pool.go), or a new one: greeting,
//     EHLO (conn.go), TLS as the route wants it (secure.go), AUTH (auth.go).
//  4. What the host can take (form.go): SMTPUTF8, 8BITMIME, BINARYMIME, SIZE, DSN.
//     For a host that lacks what the message needs, the message is rewritten
//     (mime.go, downgrade.go) or bounced.
//  5. The transaction (transaction.go): MAIL, RCPT for each recipient and DATA,
//     together where the host offers PIPELINING; then the message (body.go). Each
//     recipient has its own outcome, by LMTP also its own answer to the message.
//
// For a route in proxy mode the same goes step by step while the client waits
// (passage.go); and the recipient rule asks by it who exists (callout.go).
//
// The dialogue is our own (wire.go): client libraries neither pipeline nor speak
// BDAT, and take DSN parameters apart that have to go on as they came.
//
// What is at risk: until the final dot is sent, a lost connection means that
// nothing was delivered, and another connection or host may be tried. After it,
// the outcome is unknown, so the recipients are deferred, which may deliver the
// message twice, and a log line says so: the one window that SMTP leaves open.
package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// Timeouts of a session. A zero one is its default, which is what RFC 5321
// section 4.5.3.2 asks for.
type Timeouts struct {
	Connect   time.Duration // 30 s; the RFC names none
	Greeting  time.Duration // 5 min (4.5.3.2.1)
	Command   time.Duration // 5 min, EHLO, MAIL and RCPT (4.5.3.2.2 and 3), and STARTTLS
	Handshake time.Duration // 1 min, of TLS
	DataInit  time.Duration // 2 min, the answer to DATA (4.5.3.2.4)
	DataBlock time.Duration // 3 min, one piece of the message (4.5.3.2.5)
	DataEnd   time.Duration // 10 min, the answer to the final dot (4.5.3.2.6)
	Idle      time.Duration // 10 s, how long a connection waits for another message
	Passage   time.Duration // 100 s, all of one step of a message whose client waits (passage.go)
	PassEnd   time.Duration // 9 min, the same of the message itself: clients wait for 10
}

func (t Timeouts) complete() Timeouts {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&t.Connect, 30 * time.Second},
		{&t.Greeting, 5 * time.Minute},
		{&t.Command, 5 * time.Minute},
		{&t.Handshake, time.Minute},
		{&t.DataInit, 2 * time.Minute},
		{&t.DataBlock, 3 * time.Minute},
		{&t.DataEnd, 10 * time.Minute},
		{&t.Idle, 10 * time.Second},
		{&t.Passage, 100 * time.Second},
		{&t.PassEnd, 9 * time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	return t
}

// Options of New.
type Options struct {
	Resolver dns.Resolver
	// Dial opens a connection, tcp or unix, from the source address where that is
	// valid; nil: a net.Dialer does.
	Dial func(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error)
	// Own tells whether we ourselves listen there, so that mail exchangers that
	// lead back here are found; nil: only Settings.Hostname tells.
	Own func(netip.AddrPort) bool
	// Port is that of mail exchangers, and of next hops without one; "": 25.
	Port     string
	Timeouts Timeouts
	Log      *slog.Logger // nil: none
}

// Settings are what a reload may change.
type Settings struct {
	Hostname string // our name
	Helo     string // what we call ourselves; "": Hostname
	// Roots are the authorities that certificates are verified against; nil: the
	// system's.
	Roots *x509.CertPool
	// Again signs what a host gets that can't take a message as we had signed it; nil: it
	// goes without our signature.
	Again intake.Again
}

// maxHosts is how many addresses one attempt tries.
const maxHosts = 6

// Client is the Deliverer. It is safe for concurrent use.
type Client struct {
	o        Options
	set      atomic.Pointer[Settings]
	pool     pool
	down     marks // addresses that did not answer
	clear    marks // hosts whose TLS does not work
	sessions tls.ClientSessionCache
}

// New makes a Client.
func New(o Options, s Settings) *Client {
	if o.Dial == nil {
		o.Dial = dialNet
	}
	if o.Own == nil {
		o.Own = func(netip.AddrPort) bool { return false }
	}
	if o.Port == "" {
		o.Port = "25"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timeouts = o.Timeouts.complete()
	c := &Client{
		o: o, sessions: tls.NewLRUClientSessionCache(256),
		down: marks{life: 2 * time.Minute}, clear: marks{life: 10 * time.Minute},
		pool: pool{life: o.Timeouts.Idle},
	}
	c.Reconfigure(s)
	return c
}

// Reconfigure replaces the settings; open connections keep the name they gave, and
// those that authorities vouched for which are no longer asked are not used again.
func (c *Client) Reconfigure(s Settings) {
	if s.Helo == "" {
		s.Helo = s.Hostname
	}
	if old := c.set.Load(); old != nil && old.Roots.Equal(s.Roots) {
		s.Roots = old.Roots // sessions that these vouched for are still good
	}
	c.set.Store(&s)
}

// roots are the authorities that a host's certificate is verified against, nil
// for the system's and where none is looked at.
func (c *Client) roots(w way) *x509.CertPool {
	if w.tls != "verify" {
		return nil
	}
	return c.set.Load().Roots
}

// Close ends the idle connections. No Deliver may be under way.
func (c *Client) Close() error {
	c.pool.close()
	return nil
}

// Down is a host that did not answer of late, and is passed over where there is
// another one.
type Down struct {
	Peer  string    `json:"peer"`
	IP    string    `json:"ip,omitempty"` // "" of a unix socket
	Since time.Time `json:"since"`
}

// Downs lists them, those that failed first in front.
func (c *Client) Downs() []Down {
	list := []Down{}
	c.down.each(func(h host, since time.Time) {
		d := Down{Peer: h.String(), Since: since}
		if h.addr.IsValid() {
			d.IP = h.addr.Addr().String()
		}
		list = append(list, d)
	})
	slices.SortFunc(list, func(a, b Down) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Peer, b.Peer)) })
	return list
}

// Forget takes back what was remembered of hosts that did not answer, for an
// operator who wants them tried now.
func (c *Client) Forget() {
	c.down.reset()
	c.clear.reset()
}

// Deliver implements send.Deliverer.
func (c *Client) Deliver(ctx context.Context, j *send.Job) []send.Outcome {
	t := newTransaction(ctx, c, j)
	if len(t.rest) == 0 {
		return t.finish()
	}
	hosts, fail := c.hosts(ctx, j)
	if fail != nil {
		t.all(fail.result, fail.reply)
		for i := range t.outcomes {
			t.outcomes[i].Unreached = fail.unreached
		}
		return t.finish()
	}
	c.deliver(ctx, t, hosts)
	return t.finish()
}

// deliver makes the attempt with one host after the other, until each recipient
// has its outcome.
func (c *Client) deliver(ctx context.Context, t *transaction, hosts []host) {
	fail := c.reach(ctx, t.job, hosts, func(cn *conn) error { return t.run(ctx, cn) })
	if fail == nil {
		return
	}
	t.peer = fail.peer
	t.all(send.Deferred, fail.reply)
	for i := range t.outcomes {
		t.outcomes[i].Unreached = !fail.reached && ctx.Err() == nil
	}
}

// reach tries the hosts in their order until one has given an answer, which is
// for try to say: an error means that the connection was lost with nothing at
// risk. Else it returns why there is no answer.
func (c *Client) reach(ctx context.Context, j *send.Job, hosts []host, try func(*conn) error) *failure {
	last, reached := failure{reply: message.NewReply(451, "4.4.1", "No address to connect to")}, false
	way := wayOf(j)
	for i, h := range hosts {
		if i == maxHosts || ctx.Err() != nil {
			break
		}
		err := c.visit(ctx, h, way, try)
		if err == nil {
			return nil
		}
		if f, ok := errors.AsType[failure](err); ok {
			last = f
		} else {
			last = failure{reply: message.NewReply(451, "4.4.2", "%s: %s", h.name, plainError(err)), reached: true, peer: h.String()}
		}
		reached = reached || last.reached
		c.o.Log.Debug("host given up for this attempt", "id", j.Message.ID, "peer", h.String(), "error", err)
	}
	switch ctx.Err() {
	case nil:
	case context.DeadlineExceeded:
		last.reply = message.NewReply(451, "4.4.2", "The next hop did not answer in time")
	default:
		last.reply = message.NewReply(451, "4.3.2", "The mail system is stopping")
	}
	last.reached = reached
	return &last
}

// visit tries one host: over an idle connection, and where that turns out to be
// dead, over a new one.
func (c *Client) visit(ctx context.Context, h host, w way, try func(*conn) error) error {
	for range maxStale {
		cn := c.pool.take(poolKey{h, w, c.roots(w)})
		if cn == nil {
			break
		}
		if err := try(cn); err == nil {
			return nil
		}
	}
	cn, err := c.connect(ctx, h, w)
	if err != nil {
		return err
	}
	return try(cn)
}

// maxStale is how many idle connections that turn out to be dead are tried
// before a new one is opened.
const maxStale = 3

// failure is why a host gave no answer to the transaction.
type failure struct {
	reply   message.Reply
	reached bool   // it did talk to us about this mail; without TLS or a login that it takes, it can't
	peer    string // who said so, "" where nobody was there
}

func (f failure) Error() string { return f.reply.Error() }
