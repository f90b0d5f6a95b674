package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// memoryEngine is a queue.Engine in memory that can be made to fail.
type memoryEngine struct {
	mu      sync.Mutex
	rows    map[string][]byte
	commits int
	reads   int
	err     error // of the disk: every commit and every opening fails with it
	stored  bool  // commits are on the disk in spite of it
	at      int   // the commit that fails, if there is nothing wrong with the disk; 0: none
}

// memoryHandle is one opening of it.
type memoryHandle struct {
	*memoryEngine
	once  sync.Once
	ended chan struct{}
	err   error
}

func (e *memoryEngine) open(string, queue.EngineOptions) (queue.Engine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &memoryHandle{memoryEngine: e, ended: make(chan struct{})}, e.err
}

func (e *memoryEngine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (h *memoryHandle) Fail(err error) { h.once.Do(func() { h.err = err; close(h.ended) }) }

func (h *memoryHandle) Flush() error { return nil }

func (h *memoryHandle) Damaged() int { return 0 }

func (h *memoryHandle) Ended() <-chan struct{} { return h.ended }

func (h *memoryHandle) Failed() error {
	select {
	case <-h.ended:
		return h.err
	default:
		return nil
	}
}

func (h *memoryHandle) Get(key []byte) ([]byte, func(), error) {
	if err := h.Failed(); err != nil {
		return nil, nil, err
	}
	return h.memoryEngine.Get(key)
}

func (h *memoryHandle) Range(from, to []byte) (queue.Cursor, error) {
	if err := h.Failed(); err != nil {
		return nil, err
	}
	return h.memoryEngine.Range(from, to)
}

func (h *memoryHandle) Commit(writes []queue.Write) error {
	if err := h.Failed(); err != nil {
		return err
	}
	e := h.memoryEngine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commits++
	err := e.err
	if e.commits == e.at {
		err = errDisk
	}
	if err != nil {
		h.Fail(err)
		if !e.stored {
			return err
		}
	}
	for _, w := range writes {
		if w.Delete {
			delete(e.rows, string(w.Key))
		} else {
			e.rows[string(w.Key)] = bytes.Join(w.Value, nil)
		}
	}
	return err
}

func (e *memoryEngine) Get(key []byte) ([]byte, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	if v, ok := e.rows[string(key)]; ok {
		return v, func() {}, nil
	}
	return nil, nil, queue.ErrNotFound
}

func (e *memoryEngine) Range(from, to []byte) (queue.Cursor, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	c := &memoryCursor{}
	for k, v := range e.rows {
		if k >= string(from) && k < string(to) {
			c.keys, c.values = append(c.keys, k), append(c.values, v)
		}
	}
	sort.Sort(c)
	return c, nil
}

func (e *memoryEngine) Close() error { return nil }

type memoryCursor struct {
	keys   []string
	values [][]byte
	next   int
}

func (c *memoryCursor) Len() int           { return len(c.keys) }
func (c *memoryCursor) Less(i, k int) bool { return c.keys[i] < c.keys[k] }
func (c *memoryCursor) Swap(i, k int) {
	c.keys[i], c.keys[k] = c.keys[k], c.keys[i]
	c.values[i], c.values[k] = c.values[k], c.values[i]
}
func (c *memoryCursor) Next() bool             { c.next++; return c.next <= len(c.keys) }
func (c *memoryCursor) Key() []byte            { return []byte(c.keys[c.next-1]) }
func (c *memoryCursor) Value() ([]byte, error) { return c.values[c.next-1], nil }
func (c *memoryCursor) Err() error             { return nil }
func (c *memoryCursor) Close() error           { return nil }

// tried is one attempt as the fake Deliverer saw it.
type tried struct {
	after  time.Duration // since the rig was made
	id     string
	hop    string
	rcpts  []string
	sender string
	body   string
}

// rig is a Sender over a real queue with a fake Deliverer, in a synctest bubble.
type rig struct {
	t       *testing.T
	engine  *memoryEngine
	q       *queue.Queue
	o       Options
	c       Config
	s       *Sender
	began   time.Time
	stop    func() // ends Run and waits
	chain   *hooks.Chain
	bounceR message.Reply

	mu       sync.Mutex
	log      []tried
	running  int
	peak     int
	notices  []Notice
	atNotice []*queue.Message // as it was on disk when the notice was queued

	// answer is what the attempt for a recipient gets; it may wait.
	answer func(ctx context.Context, j *Job, rcpt string) Outcome
}

func ok(context.Context, *Job, string) Outcome {
	return Outcome{Result: Delivered, Reply: message.NewReply(250, "2.0.0", "ok")}
}

func later(context.Context, *Job, string) Outcome {
	return Outcome{Reply: message.NewReply(450, "4.2.0", "later"), Peer: "mx.example [192.0.2.1]:25"}
}

func refuse(context.Context, *Job, string) Outcome {
	return Outcome{Result: Bounced, Reply: message.NewReply(550, "5.1.1", "no such user"), Peer: "mx.example [192.0.2.1]:25"}
}

func unreached(context.Context, *Job, string) Outcome {
	return Outcome{Reply: message.NewReply(451, "4.4.1", "connection refused"), Unreached: true}
}

// newRig makes a rig whose mail to here.example is local, to *.hub.example goes
// to a given server, and all else to mail exchangers.
func newRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, engine: &memoryEngine{rows: map[string][]byte{}}, began: time.Now(), answer: ok, bounceR: message.NewReply(250, "2.0.0", "queued")}
	r.chain = hooks.NewChain(nil, hooks.Options{})
	r.c = Config{
		Hostname: "mx.here.example",
		Routes: Routes{
			{ToDomain: []string{"here.example"}, NextHop: NextHop{Scheme: SchemeLocal}},
			{ToDomain: []string{"*.hub.example"}, NextHop: NextHop{Scheme: SchemeSMTP, Host: "192.0.2.25"}, TLS: "none"},
			{NextHop: NextHop{Scheme: SchemeMX}, TLS: "may"},
		},
		Lifetime: 7 * 24 * time.Hour, ConcurrencyLocal: 10, ConcurrencyRemote: 200, PerDestination: 20,
		DoubleBounceTo: message.Address{Local: "postmaster", Domain: "here.example"},
	}
	r.o = Options{
		Chain: func() *hooks.Chain { r.chain.Acquire(); return r.chain },
		Deliver: map[string]Deliverer{
			SchemeSMTP: r, SchemeMX: r, SchemeLocal: r,
		},
		Bounce: r.bounce,
	}
	if change != nil {
		change(r)
	}
	var err error
	if r.q, err = queue.Open(t.TempDir(), r.engine.open, queue.Options{Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.q.Close() })
	r.o.Queue = r.q
	r.start()
	return r
}

// start runs a Sender over the queue, as a daemon's start does.
func (r *rig) start() {
	r.s = New(r.o, r.c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := r.s
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	r.stop = func() { cancel(); <-done }
	synctest.Wait()
}

func (r *rig) Deliver(ctx context.Context, j *Job) []Outcome {
	body := make([]byte, j.Body.Size())
	_, _ = j.Body.ReadAt(body, 0)
	a := tried{after: time.Since(r.began), id: j.Message.ID, hop: j.NextHop.String(), body: string(body), sender: j.Message.Sender.String()}
	for _, i := range j.Recipients {
		a.rcpts = append(a.rcpts, j.Message.Recipients[i].Address.String())
	}
	r.mu.Lock()
	r.log = append(r.log, a)
	r.running++
	r.peak = max(r.peak, r.running)
	answer := r.answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.running--
		r.mu.Unlock()
	}()
	var list []Outcome
	for _, i := range j.Recipients {
		o := answer(ctx, j, j.Message.Recipients[i].Address.String())
		o.Recipient = i
		list = append(list, o)
	}
	return list
}

func (r *rig) bounce(_ context.Context, n *Notice) message.Reply {
	m, err := r.q.Load(n.About.ID)
	if err != nil {
		r.t.Errorf("at the notice the message is gone: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.atNotice = append(r.atNotice, m)
	if r.bounceR.Positive() {
		r.notices = append(r.notices, *n)
	}
	return r.bounceR
}

// put commits a message without telling the Sender.
func (r *rig) put(m *queue.Message, rcpts ...string) message.Body {
	r.t.Helper()
	return r.putBody(m, "", rcpts...)
}

// putBody is put with a message; "": a small one.
func (r *rig) putBody(m *queue.Message, body string, rcpts ...string) message.Body {
	r.t.Helper()
	if m.ID == "" {
		m.ID = message.NewID(time.Now())
	}
	if m.Arrived.IsZero() {
		m.Arrived = time.Now()
	}
	for _, a := range rcpts {
		to, err := message.ParseAddress(a)
		if err != nil {
			r.t.Fatal(err)
		}
		m.Recipients = append(m.Recipients, queue.Recipient{Address: to, Next: m.Arrived})
	}
	if body == "" {
		body = "Subject: " + m.ID + "\r\n\r\nbody\r\n"
	}
	d := r.q.Begin(m.ID)
	if _, err := d.Write([]byte(body)); err != nil {
		r.t.Fatal(err)
	}
	stored, err := d.Commit(context.Background(), m, nil, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return stored
}

// tryPut commits a small message as it is; nil where the queue does not take it.
func (r *rig) tryPut(m *queue.Message) message.Body {
	d := r.q.Begin(m.ID)
	defer d.Abort()
	if _, err := d.Write([]byte("Subject: x\r\n\r\nbody\r\n")); err != nil {
		r.t.Fatal(err)
	}
	stored, err := d.Commit(context.Background(), m, nil, 0)
	if err != nil {
		return nil
	}
	return stored
}

var sender = message.Address{Local: "s", Domain: "client.example"}

// accept is what intake does: commit, then hand over.
func (r *rig) accept(rcpts ...string) *queue.Message {
	r.t.Helper()
	m := &queue.Message{Sender: sender}
	r.s.Accepted(m, r.put(m, rcpts...))
	return m
}

// tries is the log so far.
func (r *rig) tries() []tried {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *rig) count() int { return len(r.tries()) }

// told are the notices so far.
func (r *rig) told() []Notice {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.notices)
}

// attempts are the log so far, each as "after hop recipients".
func (r *rig) attempts() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, a := range r.log {
		list = append(list, fmt.Sprintf("%v %s %s", a.after, a.hop, strings.Join(a.rcpts, ",")))
	}
	return list
}

func (r *rig) expect(want ...string) {
	r.t.Helper()
	if got := r.attempts(); !slices.Equal(got, want) {
		r.t.Errorf("attempts:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *rig) setAnswer(f func(context.Context, *Job, string) Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// left is how many messages the queue holds, and none in memory that should not be.
func (r *rig) left() int {
	synctest.Wait()
	n := 0
	for _, err := range r.q.All() {
		if err != nil {
			r.t.Fatal(err)
		}
		n++
	}
	return n
}

func (r *rig) load(id string) *queue.Message {
	r.t.Helper()
	synctest.Wait()
	m, err := r.q.Load(id)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// inBubble runs a test with virtual time. Run has ended before it does.
func inBubble(t *testing.T, change func(*rig), test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change)
		defer func() { r.stop() }()
		test(r)
		synctest.Wait()
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		for id, e := range r.s.messages {
			if e.pending == 0 && !e.stuck && !e.withdrawn {
				t.Errorf("message %s is forgotten in memory", id)
			}
		}
	})
}

var errDisk = errors.New("disk")
