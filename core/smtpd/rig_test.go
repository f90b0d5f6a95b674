package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// rig is an engine behind a real gate, on connections in memory, before a door
// that keeps what passes it.
type rig struct {
	t        testing.TB
	server   *Server
	listener *gate.Listener
	conns    chan net.Conn
	door     *shelf
	story    *story
	handlers []hooks.Entry
	tap      func(net.Conn) net.Conn // around the server's side
	peer     string                  // where clients come from
	stop     context.CancelFunc
	done     chan struct{}
	chain    *hooks.Chain
}

// handler makes a hooks.Handler of a function.
type handler struct {
	name   string
	stages []hooks.Stage
	run    func(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error)
}

func (h handler) Name() string          { return h.name }
func (h handler) Stages() []hooks.Stage { return h.stages }
func (h handler) Handle(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	return h.run(ctx, at, tx)
}

// on adds a policy that answers always the same.
func (r *rig) on(at hooks.Stage, d hooks.Decision) *rig {
	return r.policy(at, func(*hooks.Transaction) hooks.Decision { return d })
}

// policy adds a policy in front of the recipient rule.
func (r *rig) policy(at hooks.Stage, f func(tx *hooks.Transaction) hooks.Decision) *rig {
	name := fmt.Sprintf("p%d", len(r.handlers))
	r.handlers = append(r.handlers, hooks.Entry{Name: name, Handler: handler{name, []hooks.Stage{at}, func(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
		return f(tx), nil
	}}})
	return r
}

// rule is the recipient rule of the rig: example.net is ours, but for nobody@.
func rule(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	switch a := tx.Current.Address; {
	case tx.Session.Relaying, tx.Session.Authenticated:
		return hooks.Decision{Verb: hooks.Accept}, nil
	case a.Domain != "example.net":
		return hooks.Decision{Verb: hooks.Reject}, nil
	case a.Local == "nobody":
		return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.1.1", "No such recipient here")}, nil
	}
	return hooks.Decision{Verb: hooks.Accept}, nil
}

func newRig(t testing.TB, l Limits) *rig {
	r := &rig{t: t, conns: make(chan net.Conn), door: &shelf{limit: 1 << 20}, story: &story{}, peer: "192.0.2.7:4711"}
	r.server = newServer(Options{Hostname: "mx.example.net", Limits: l})
	r.server.door, r.server.record = r.door, r.story
	r.listener = &gate.Listener{Name: "mx", Protocol: "smtp", XclientFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	return r
}

// start serves until the test ends.
func (r *rig) start() *rig {
	entries := append(slices.Clone(r.handlers), hooks.Entry{Name: "rule", Handler: handler{"rule", []hooks.Stage{hooks.Rcpt}, rule}})
	r.chain = hooks.NewChain(entries, hooks.Options{})
	g := gate.New(gate.Options{
		Hostname: "mx.example.net",
		Limits:   gate.Limits{Connections: 1 << 20, PerClient: 1 << 20},
		Chain:    func() *hooks.Chain { r.chain.Acquire(); return r.chain },
		Log:      slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.done = cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		if err := g.Serve(ctx, pipes{r.conns, ctx}, func() *gate.Listener { return r.listener }, r.server.Serve); err != nil {
			r.t.Error(err)
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		<-r.done
		r.chain.Wait()
	})
	return r
}

// pipes is a net.Listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	ctx   context.Context
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// placed is a connection with addresses.
type placed struct {
	net.Conn
	remote string
}

func (p placed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.remote))
}

func (p placed) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:25"))
}

// dial connects without reading the greeting.
func (r *rig) dial() *client {
	near, far := net.Pipe()
	var server net.Conn = placed{far, r.peer}
	if r.tap != nil {
		server = r.tap(server)
	}
	r.conns <- server
	c := &client{t: r.t, nc: near}
	c.listen()
	r.t.Cleanup(func() { _ = near.Close() })
	return c
}

// greeted connects, reads 220 and says EHLO.
func (r *rig) greeted() *client {
	c := r.dial()
	c.want("220 mx.example.net ESMTP")
	c.say("EHLO client.example.org", "250")
	return c
}

// client speaks exactly the bytes it is told. Replies are read beside, since a
// pipe holds none.
type client struct {
	t     testing.TB
	nc    net.Conn
	lines chan string
}

func (c *client) listen() {
	c.lines = make(chan string, 10000)
	go func(nc net.Conn, lines chan string) {
		defer close(lines)
		br := bufio.NewReader(nc)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
			if len(line) > 3 && line[3] == ' ' && strings.HasPrefix(line, "220 2.0.0 Ready to start TLS") {
				return
			}
		}
	}(c.nc, c.lines)
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, s); err != nil {
		c.t.Logf("send: %v", err)
	}
}

// reply reads one whole reply; "" where the server closed.
func (c *client) reply() string {
	c.t.Helper()
	all := ""
	for line := range c.lines {
		if !strings.HasSuffix(line, "\r\n") || len(line) > 512 || len(line) < 5 {
			c.t.Fatalf("malformed reply line %q", line)
		}
		all += line
		if line[3] == ' ' {
			return all
		}
	}
	return all
}

// want reads one reply, which must begin so.
func (c *client) want(prefix string) string {
	c.t.Helper()
	got := c.reply()
	if !strings.HasPrefix(got, prefix) || prefix == "" && got != "" {
		c.t.Fatalf("reply %q, want %q", got, prefix)
	}
	return got
}

// say sends a line and wants a reply.
func (c *client) say(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	got := c.reply()
	if !strings.HasPrefix(got, prefix) || prefix == "" && got != "" {
		c.t.Fatalf("%q: reply %q, want %q", line, got, prefix)
	}
	return got
}

// closed wants no more replies but the end.
func (c *client) closed() {
	c.t.Helper()
	if got := c.reply(); got != "" {
		c.t.Fatalf("reply %q, want the end", got)
	}
}

// begin opens a transaction with one recipient.
func (c *client) begin() {
	c.t.Helper()
	c.say("MAIL FROM:<s@client.example.org>", "250 2.1.0")
	c.say("RCPT TO:<t@example.net>", "250 2.1.5")
}

// shelf is a door that keeps what passes.
type shelf struct {
	mu        sync.Mutex
	limit     int64
	mails     []*shelved
	answer    func(m *shelved) intake.Answer
	relays    func(tx *hooks.Transaction, each bool) relay
	panicking bool
}

// shelved is a message as it came to the door.
type shelved struct {
	door    *shelf
	tx      *hooks.Transaction
	sender  string
	rcpts   []string
	text    []byte
	refusal *message.Reply
	ended   bool
	aborted bool
}

func (s *shelf) begin(_ context.Context, _ *hooks.Chain, tx *hooks.Transaction, _ relay) mail {
	m := &shelved{door: s, tx: tx, sender: tx.Sender.String()}
	for _, r := range tx.Recipients {
		m.rcpts = append(m.rcpts, r.Address.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
	return m
}

// relay is what the rig's next hop is asked by; nil: nothing goes there.
func (s *shelf) relay(tx *hooks.Transaction, each bool) relay {
	if s.relays == nil {
		return nil
	}
	return s.relays(tx, each)
}

func (s *shelf) Limits(*hooks.Session) int64 { return s.limit }

func (s *shelf) Meant(_ *hooks.Session, a message.Address) (message.Address, error) { return a, nil }

func (s *shelf) Ours(domain string) bool { return domain == "example.net" }
func (s *shelf) Untag(*hooks.Recipient)  {}

func (s *shelf) Postmaster() message.Address {
	return message.Address{Local: "postmaster", Domain: "example.net"}
}

// all are the messages so far.
func (s *shelf) all() []*shelved {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

func (m *shelved) Write(p []byte) {
	if m.door.panicking {
		panic("the door fell")
	}
	m.text = append(m.text, p...)
}

func (m *shelved) Refuse(r message.Reply) {
	if m.refusal == nil {
		m.refusal = &r
	}
}

func (m *shelved) Refused() bool { return m.refusal != nil }

func (m *shelved) Abort() { m.aborted = true }

func (m *shelved) AnswerEach() {}

func (m *shelved) End(context.Context) intake.Answer {
	m.ended = true
	if m.door.answer != nil {
		return m.door.answer(m)
	}
	if m.refusal != nil {
		return intake.Answer{Reply: *m.refusal}
	}
	m.tx.Size = int64(len(m.text))
	return intake.Answer{Reply: message.NewReply(250, "2.0.0", "Ok: queued as "+m.tx.ID), Queued: true}
}

// story is a recorder that remembers.
type story struct {
	mu       sync.Mutex
	open     int
	verdicts []string
	refusals []string
	runs     []string
	totals   hooks.Totals
}

func (s *story) Connected(*hooks.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

func (s *story) Disconnected(one *hooks.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.totals = one.Totals
}

func (s *story) Stage(tx *hooks.Transaction, run hooks.StageRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = append(s.runs, fmt.Sprintf("%s %s %s", run.Stage, run.Handlers[0].Policy, run.Handlers[0].Reason))
}

func (s *story) Refused(_ *hooks.Transaction, at hooks.Stage, by string, r message.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, fmt.Sprintf("%s %s %d", at, by, r.Code))
}

func (s *story) Verdict(tx *hooks.Transaction, v record.Verdict, r message.Reply, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what := "message"
	if tx.ID == "" {
		what = "connection"
	}
	s.verdicts = append(s.verdicts, fmt.Sprintf("%s %v %d %s", what, v, r.Code, reason))
}

// told are the verdicts so far.
func (s *story) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.verdicts)
}

// connect connects without reading anything.
func (r *rig) connect() *client {
	near, far := net.Pipe()
	r.conns <- placed{far, r.peer}
	r.t.Cleanup(func() { _ = near.Close() })
	return &client{t: r.t, nc: near}
}

// deaf is a connection that gives its text and takes all.
type deaf struct {
	net.Conn
	text string
}

func (d *deaf) Read(p []byte) (int, error) {
	n := copy(p, d.text)
	d.text = d.text[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
func (d *deaf) Write(p []byte) (int, error)      { return len(p), nil }
func (d *deaf) SetReadDeadline(time.Time) error  { return nil }
func (d *deaf) SetWriteDeadline(time.Time) error { return nil }
