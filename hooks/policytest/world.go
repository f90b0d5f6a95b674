package policytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/core/smtpd"
	"github.com/postern-mta/postern/hooks"
)

// Config is what t:config says, as the daemon understands it.
type Config struct {
	Hostname string
	Intake   intake.Settings
	Limits   smtpd.Limits
	Send     send.Config
	// Entries are the policies that it lists.
	Entries []hooks.Entry
}

// world is the mail path of one test: the gate, the protocol engine, intake, queue
// and scheduler that the daemon has, on connections and a store in memory. It is
// made at the first session.
type world struct {
	h        *harness
	config   Config
	dir      string // of the queue's lock, large bodies and the password file
	queue    *queue.Queue
	intake   *intake.Intake
	server   *smtpd.Server
	gate     *gate.Gate
	sender   *send.Sender
	chain    *hooks.Chain
	conns    chan net.Conn
	cancel   context.CancelFunc
	done     sync.WaitGroup
	facts    func(*hooks.Session) // of the session to come
	listener *gate.Listener       // of the session to come
	seen     map[string]bool      // messages that t:delivered or t:quarantined lists

	mu     sync.Mutex
	fresh  []fresh    // accepted, not handed to the scheduler yet
	opened []net.Conn // the clients' ends
}

// hostname is the server's where t:config names none.
const hostname = "mx.example.net"

func (h *harness) defaults() Config {
	var domains []intake.Domain
	for _, name := range h.domains {
		domains = append(domains, intake.Domain{Name: name})
	}
	return Config{
		Hostname: hostname,
		Intake: intake.Settings{
			Hostname: hostname, Domains: intake.NewDomains(domains), MessageSize: 25 << 20, HeaderSize: 1 << 20, Hops: 100,
		},
		Send: send.Config{
			Hostname: hostname, Routes: send.Routes{{NextHop: send.NextHop{Scheme: send.SchemeMX}, TLS: "may"}}, Lifetime: 5 * 24 * time.Hour,
			ConcurrencyLocal: 1, ConcurrencyRemote: 1,
		},
	}
}

// path is the mail path of the test, made when it is first needed.
func (h *harness) path() (*world, error) {
	if h.world != nil {
		return h.world, nil
	}
	w := &world{h: h, config: h.defaults(), conns: make(chan net.Conn), seen: map[string]bool{}}
	if h.configured != nil {
		w.config = *h.configured
	}
	var err error
	if w.dir, err = os.MkdirTemp(h.options.Scratch, "postern-test-"); err != nil {
		return nil, err
	}
	h.world = w
	if w.queue, err = queue.Open(filepath.Join(w.dir, "queue"), openEngine, queue.Options{NoSync: true, Reserve: -1}); err != nil {
		return nil, err
	}
	logins, err := w.logins()
	if err != nil {
		return nil, err
	}
	w.intake = intake.New(intake.Options{Queue: w.queue, Now: h.time, Accepted: w.accepted, Log: h.discard}, w.config.Intake)
	deliver := map[string]send.Deliverer{}
	for _, scheme := range []string{send.SchemeSMTP, send.SchemeSMTPS, send.SchemeLMTP, send.SchemeMX, send.SchemeQMQP, send.SchemeLocal, send.SchemePipe, send.SchemeDiscard} {
		deliver[scheme] = (*nextHop)(h)
	}
	w.sender = send.New(send.Options{Queue: w.queue, Chain: w.acquire, Deliver: deliver, Bounce: w.bounce, Now: h.time, Log: h.discard}, w.config.Send)
	w.server = smtpd.New(smtpd.Options{Hostname: w.config.Hostname, Limits: w.config.Limits, Intake: w.intake, TLS: h.options.secrets.server, Auth: logins, Now: h.time, Log: h.discard})
	w.gate = gate.New(gate.Options{
		Hostname: w.config.Hostname, Limits: gate.Limits{Connections: 1 << 20, PerClient: 1 << 20}, Chain: w.acquire, DNS: (*resolver)(h), Log: h.discard,
	})
	ctx, cancel := context.WithCancel(h.ctx)
	w.cancel = cancel
	w.done.Go(func() {
		_ = w.gate.Serve(ctx, pipes{w.conns, ctx.Done()}, func() *gate.Listener { return w.listener }, w.serve)
	})
	return w, nil
}

// logins is the back-end of AUTH: the users of t:users.
func (w *world) logins() (*auth.Authenticator, error) {
	var files []string
	if len(w.h.users) > 0 {
		file := filepath.Join(w.dir, "users")
		if err := os.WriteFile(file, []byte(w.h.users), 0o600); err != nil {
			return nil, err
		}
		files = []string{file}
	}
	return auth.New(auth.Options{Files: files, Log: w.h.discard, Pause: func(_ context.Context, d time.Duration) { w.h.pass(d) }})
}

// generation is the chain of the policies that the test has by now.
func (w *world) generation() *hooks.Chain {
	if w.chain != nil {
		return w.chain
	}
	w.h.mu.Lock()
	entries := append([]hooks.Entry{{Name: factsName, Handler: facts{w.h}}}, w.config.Entries...)
	entries = append(entries, w.h.entries...)
	w.h.mu.Unlock()
	entries = append(entries, hooks.Entry{Handler: w.intake.RecipientRule()})
	w.chain = hooks.NewChain(entries, hooks.Options{Generation: 1, Observer: w.h, Log: w.h.discard})
	w.chain.Ask(w.h.ctx, hooks.Load, "")
	return w.chain
}

// renew makes the policies that the test names by now the ones of sessions to come.
func (w *world) renew() {
	if w.chain != nil {
		w.chain.Wait()
		w.chain.Ask(w.h.ctx, hooks.Unload, "")
		w.chain = nil
	}
	w.generation()
}

func (w *world) acquire() *hooks.Chain {
	c := w.chain
	c.Acquire()
	return c
}

// serve gives a session the facts of t:connect.
func (w *world) serve(ctx context.Context, c *gate.Conn) {
	c.Session.Started = w.h.time()
	if w.facts != nil {
		w.facts(c.Session)
	}
	w.server.Serve(ctx, c)
}

// fresh is a message that was accepted.
type fresh struct {
	m    *queue.Message
	body message.Body
}

// accepted keeps mail for the scheduler until the client has its answer.
func (w *world) accepted(m *queue.Message, body message.Body) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fresh = append(w.fresh, fresh{m, body})
}

func (w *world) takeFresh() []fresh {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.fresh
	w.fresh = nil
	return list
}

// bounce queues a notice, about which no policy is asked.
func (w *world) bounce(ctx context.Context, n *send.Notice) message.Reply {
	protocol := "bounce"
	if n.Kind == send.Double {
		protocol = intake.DoubleBounce
	}
	tx := intake.NewLocal(protocol, message.Address{}, []message.Address{n.To})
	w.h.noticed(n)
	return w.intake.Inject(ctx, hooks.NewChain(nil, hooks.Options{}), tx, bytes.NewReader(n.Body))
}

// deliver notes what came in, and does what is due in the queue. It returns when
// something is due next, the zero time where nothing is.
func (w *world) deliver() (next time.Time, err error) {
	w.chain.Wait()
	for {
		if err := w.note(); err != nil {
			return next, err
		}
		list := w.takeFresh()
		for _, f := range list {
			w.sender.Accepted(f.m, f.body)
		}
		next = w.sender.Step(w.h.ctx)
		w.chain.Wait()
		if w.mu.Lock(); len(w.fresh) == 0 {
			w.mu.Unlock()
			return next, nil
		}
		w.mu.Unlock()
	}
}

// note takes down the messages that came into the queue.
func (w *world) note() error {
	for m, err := range w.queue.All(func(m *queue.Message) bool { return !w.seen[m.ID] }) {
		if err != nil {
			return err
		}
		w.seen[m.ID] = true
		var f hooks.Facts
		if err := json.Unmarshal(m.Facts, &f); err != nil {
			return err
		}
		body, closer, err := w.queue.Body(m.ID)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(message.NewReader(body))
		if err := errors.Join(err, closer.Close()); err != nil {
			return err
		}
		w.h.noteMessage(m, f, text)
	}
	return nil
}

// dial connects a client whose session gets these facts.
func (w *world) dial(l *gate.Listener, remote, local netip.AddrPort, facts func(*hooks.Session)) (near net.Conn, far *serverEnd, err error) {
	near, conn := net.Pipe()
	far = newServerEnd(conn, remote, local)
	w.listener, w.facts = l, facts
	select {
	case w.conns <- far:
	case <-w.h.ctx.Done():
		return nil, nil, context.Cause(w.h.ctx)
	}
	w.opened = append(w.opened, near)
	return near, far, nil
}

// close ends the sessions and everything else, in that order.
func (w *world) close() error {
	for _, nc := range w.opened {
		_ = nc.Close() // a pipe
	}
	if w.cancel != nil {
		w.cancel()
	}
	w.done.Wait()
	if w.chain != nil {
		w.chain.Wait()
		w.chain.Ask(w.h.ctx, hooks.Unload, "")
	}
	if w.sender != nil {
		w.sender.Stop()
	}
	var err error
	if w.queue != nil {
		err = w.queue.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// facts is the first handler of every chain: it holds a session to what t:connect
// or s:starttls said of TLS, where the handshake agreed on something else.
type facts struct{ h *harness }

// Name implements hooks.Handler.
func (facts) Name() string { return factsName }

// Stages implements hooks.Handler.
func (facts) Stages() []hooks.Stage { return []hooks.Stage{hooks.Connect, hooks.TLS} }

// Handle implements hooks.Handler.
func (f facts) Handle(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if said, now := f.h.tls[tx.Session.Client], tx.Session.TLS; said != nil && now != nil {
		if said.Version != "" {
			now.Version = said.Version
		}
		if said.Cipher != "" {
			now.Cipher = said.Cipher
		}
		now.Client = said.Client
	}
	return hooks.Decision{}, nil
}

// factsName is left out of the trace.
const factsName = "facts of t:connect"
