// Package send decides what is tried when. It takes messages from the queue (or
// from intake, in memory), asks the routes and the policies of the delivery
// stages where each recipient goes, hands attempts to Deliverers, and writes
// what came of them back into the queue before anybody is told.
//
//   - Sender, Options, Config (send.go); Run and the search for what is due
//     (scan.go). Memory holds a window of messages, never the queue.
//   - A message in the window is an entry (entry.go). Its pass: plan (plan.go)
//     sorts its due recipients into jobs by destination; each job is an attempt
//     (attempt.go); verdicts are settled in the queue (settle.go), one durable
//     step for each attempt; the end of the pass sends notices (notice.go,
//     report.go) and lets go of the message.
//   - A destination (destination.go) has a ready list that is fair between
//     senders, a concurrency window, a rate and a mark for when it is down; two
//     channels (dispatch.go), local and remote, start jobs of their destinations
//     in turn.
//   - Routes (route.go) and Retry (retry.go) are pure functions of their input.
//   - Operators: RetryNow, RetryAll, Withdraw (operate.go).
//
// The order that nothing is lost by: outcomes are durable, then a bounce is
// queued, then the failed recipient counts as told, then the message is removed.
// A crash between two of them repeats the second and loses nothing. A failed
// recipient whose Next is set is one whose sender is still to be told, and so is a
// delivered one, where the sender asked for that (NOTIFY=SUCCESS, RFC 3461).
package send

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Bounds of the scheduler that are not worth a setting.
const (
	defaultWindow = 10_000
	defaultGrace  = 10 * time.Second
	maxPlanning   = 256      // messages whose routes are being asked for
	maxKept       = 64 << 20 // bytes of bodies that wait in memory for their first attempt
	maxPerJob     = 100      // recipients of one transaction (RFC 5321 section 4.5.3.1.8)
)

// Options of New: what does not change while the daemon runs.
type Options struct {
	Queue  *queue.Queue
	Record *record.Recorder
	// Chain is the current generation, acquired; send releases it.
	Chain func() *hooks.Chain
	// Deliver makes the attempts, by the scheme of the next hop.
	Deliver map[string]Deliverer
	// Bounce queues a notice. A positive reply means that it is durable (or that a
	// policy discarded it), a temporary one that it is to be tried again.
	Bounce func(ctx context.Context, n *Notice) message.Reply
	Log    *slog.Logger // nil: none
	// Window is how many messages may be in memory; 0: 10,000.
	Window int
	// Grace is how long running attempts may go on after Run was told to stop; 0: 10 s.
	Grace time.Duration
	// Now is the clock; nil: time.Now. Where it is moved by hand, Step takes the place
	// of Run, which waits for the machine's.
	Now func() time.Time
}

// Config is what a reload may change.
type Config struct {
	Hostname    string
	Routes      Routes
	RetryLocal  Retry // of next hops on this host; nil: qmail's schedule
	RetryRemote Retry // of all others; nil: qmail's schedule
	Lifetime    time.Duration
	DelayNotice time.Duration // the age at which a sender is told that mail waits; 0: never

	ConcurrencyLocal  int // attempts at once on this host; 0: none, deliveries wait
	ConcurrencyRemote int // attempts at once to other hosts; 0: none
	PerDestination    int // of those, to one destination; 0: 20
	// LocalApart: each recipient on this host is an attempt of its own, since what it
	// leads to may take its time, or leave us.
	LocalApart bool
	Rules      []DestinationRule

	// DoubleBounceTo hears of bounces that fail; the null address: nobody does.
	DoubleBounceTo message.Address

	// Tagged tells whether what a client of ours sends to rcpt gets a sender with a
	// tag (BATV); nil: nothing does.
	Tagged func(sender, rcpt message.Address) bool
	// ReturnPath is what MAIL says on the way w at the time now in the place of a
	// sender; nil: the sender itself. An error is why that can't be made, and the
	// address what is said instead.
	ReturnPath func(w Way, sender message.Address, now time.Time) (message.Address, error)
	// Again signs copies of single recipients of a message that we had signed; nil: they
	// go without our signature.
	Again intake.Again
}

// DestinationRule limits the destinations that one of its patterns names.
type DestinationRule struct {
	// Destination holds domains as a route's ToDomain does, names or addresses of
	// next hops, and whole next hops such as smtp://192.0.2.1:25.
	Destination []string
	Concurrency int           // attempts at once; 0: as for every destination
	Count       int           // attempts started in each Per; 0: no bound
	Per         time.Duration // of Count
}

// Sender is the scheduler. It is safe for concurrent use.
type Sender struct {
	o    Options
	conf atomic.Pointer[Config]

	tasks  sync.WaitGroup     // plans, attempts and ends of passes
	stop   chan struct{}      // closed when nothing new is to be tried
	wake   chan struct{}      // something for Run to look at
	work   context.Context    // of attempts and policies; ends when the grace is over
	cut    context.CancelFunc // ends work
	flight *flush             // Run's own: a retry of everything under way
	after  queue.DueEntry     // Run's own: up to here the due index is in memory

	mu       sync.Mutex // guards what follows; never held while anything waits
	running  bool
	failed   bool     // the queue is: nothing is tried whose outcome could not be kept
	resting  []*entry // those with outcomes that could not be kept
	messages map[string]*entry
	recent   recent
	planning int
	kept     int64 // bytes of bodies in memory
	channels [2]channel
	dests    map[key]*destination
	waiting  map[*destination]struct{} // those with a time to wake up at
	swept    time.Time                 // when idle destinations were last forgotten
	nextDue  time.Time                 // of the first message on disk that is not in memory; zero: none
	more     bool                      // there are due messages on disk that did not fit in
	rewind   bool                      // some of them stand before the place that the search has come to
	outside  map[string]parked         // due messages that wait on disk, by id, for their destination to want more
	hungry   []*destination            // those that do
	left     int                       // messages that wait for destinations to come up, see leaveWaiting
	asked    []asked                   // what operators want tried now
	all      bool                      // an operator wants everything tried now
}

// New makes a scheduler that does nothing until Run.
func New(o Options, c Config) *Sender {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Window <= 0 {
		o.Window = defaultWindow
	}
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	s := &Sender{
		o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		messages: map[string]*entry{}, outside: map[string]parked{}, dests: map[key]*destination{}, waiting: map[*destination]struct{}{},
	}
	s.work, s.cut = context.WithCancel(context.Background())
	s.Reconfigure(c)
	return s
}

// Reconfigure replaces the configuration. Attempts under way keep what they
// started with.
func (s *Sender) Reconfigure(c Config) {
	if c.RetryLocal == nil {
		c.RetryLocal = Quadratic(SkipLocal)
	}
	if c.RetryRemote == nil {
		c.RetryRemote = Quadratic(SkipRemote)
	}
	if c.PerDestination <= 0 {
		c.PerDestination = 20
	}
	s.conf.Store(&c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels[local].limit, s.channels[remote].limit = c.ConcurrencyLocal, c.ConcurrencyRemote
	s.o.Record.Limits(c.ConcurrencyLocal, c.ConcurrencyRemote)
	for _, d := range s.dests {
		d.configure(&c)
		s.enqueue(d)
	}
	s.dispatch(s.o.Now())
	s.kick()
}

// Accepted takes a message that was just committed, with its body in memory,
// for its first attempt; both are the Sender's from then on. It never waits.
// Where there is no room, the message is found in the queue later.
func (s *Sender) Accepted(m *queue.Message, body message.Body) {
	e := &entry{id: m.ID, sender: senderKey(m), began: s.o.Now(), m: m, body: body, pending: 1}
	if m.Place != queue.Active {
		e.letGo()
		return
	}
	chain := s.o.Chain()
	defer chain.Release()
	inline := !chain.Has(hooks.Route)
	if !s.take(e, !inline) {
		e.letGo()
		return
	}
	if inline {
		s.plan(e, chain, true)
		s.tasks.Done()
	}
}

// take puts a fresh entry into the window and, where it is to be planned beside
// the caller, starts that. It reports false where the window is full, or where
// the scheduler met the message before.
func (s *Sender) take(e *entry, aside bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.active() {
		return false
	}
	if s.messages[e.id] != nil || s.outside[e.id].d != nil || s.recent.has(e.id) {
		return false
	}
	if len(s.messages) >= s.o.Window || aside && s.planning >= maxPlanning {
		s.more, s.rewind = true, true
		return false
	}
	s.messages[e.id] = e
	if e.body != nil {
		if s.kept+e.body.Size() > maxKept {
			e.letGo()
		} else {
			e.kept = e.body.Size()
			s.kept += e.kept
		}
	}
	if aside {
		s.planning++
		s.tasks.Go(func() { s.planAside(e) })
	} else {
		s.tasks.Add(1)
	}
	return true
}

// kick makes Run look around. s.mu may be held.
func (s *Sender) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
