package remote

import (
	"container/list"
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// CalloutSettings bound what is asked of next hops and remembered of it. A zero
// field is its default.
type CalloutSettings struct {
	Positive    time.Duration // how long somebody exists; 24 h
	Negative    time.Duration // how long nobody does, and a host that takes everybody is not asked; 1 h
	Entries     int           // answers remembered; 100,000
	Concurrency int           // questions at a time; 20
	Timeout     time.Duration // of one question, waiting for its turn included; 30 s
}

func (s CalloutSettings) complete() CalloutSettings {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&s.Positive, 24 * time.Hour}, {&s.Negative, time.Hour}, {&s.Timeout, 30 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	if s.Entries <= 0 {
		s.Entries = 100_000
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 20
	}
	return s
}

// unclear is how long a failure to get an answer stands for one: a host in
// trouble is not asked by every client anew.
const unclear = 15 * time.Second

// Callouts asks next hops whether recipients exist, by MAIL FROM:<> and RCPT
// without a message. It implements intake.Verifier and is safe for concurrent
// use. Only servers that a route names are asked. A host that takes an address
// that surely does not exist knows no recipients: then all are taken, and for a
// while nobody is asked.
type Callouts struct {
	c *Client

	mu      sync.Mutex
	set     CalloutSettings
	busy    int           // questions under way
	turn    chan struct{} // closed when one has ended
	known   map[question]*list.Element
	recent  *list.List // of *answer, the one used last in front
	flights map[question]*flight
	counts  CalloutCounts
}

// CalloutCounts is what callouts did since the start.
type CalloutCounts struct {
	Entries    int // answers remembered now
	Asked      int // questions that a next hop was asked
	Remembered int // answered from memory, or by another client's question
	Late       int // given up while all turns were taken
}

// Counts tells what was done.
func (v *Callouts) Counts() CalloutCounts {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.counts
	n.Entries = v.recent.Len()
	return n
}

// question is about one address at one next hop; with Local "" about all of the
// domain there.
type question struct {
	way send.Way
	to  message.Address
}

// answer is what is remembered.
type answer struct {
	question
	reply intake.Verdict
	until time.Time
}

// flight is a question under way; whoever has the same one waits for its answer.
type flight struct {
	done  chan struct{}
	reply intake.Verdict
}

// NewCallouts makes a Callouts that asks by c.
func NewCallouts(c *Client, s CalloutSettings) *Callouts {
	return &Callouts{
		c: c, set: s.complete(), turn: make(chan struct{}),
		known: map[question]*list.Element{}, recent: list.New(), flights: map[question]*flight{},
	}
}

// Reconfigure replaces the settings. Answers keep the time they were given.
func (v *Callouts) Reconfigure(s CalloutSettings) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.set = s.complete()
	v.shrink()
	close(v.turn)
	v.turn = make(chan struct{})
}

// Forget drops everything that was remembered.
func (v *Callouts) Forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.known)
	v.recent.Init()
}

// Timeout bounds Verify.
func (v *Callouts) Timeout() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.set.Timeout
}

// Verify implements intake.Verifier.
func (v *Callouts) Verify(ctx context.Context, w intake.Way, to message.Address) intake.Verdict {
	way, _ := w.(send.Way)
	q := question{way, to}
	ctx, done := context.WithTimeout(ctx, v.Timeout())
	defer done()
	v.mu.Lock()
	if got, ok := v.recall(q); ok {
		v.counts.Remembered++
		v.mu.Unlock()
		return got
	}
	if f := v.flights[q]; f != nil {
		v.counts.Remembered++
		v.mu.Unlock()
		select {
		case <-f.done:
			return f.reply
		case <-ctx.Done():
			return intake.Verdict{Reply: errNoAnswer}
		}
	}
	f := &flight{done: make(chan struct{}), reply: intake.Verdict{Reply: errNoAnswer}}
	v.flights[q] = f
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.flights, q)
		v.mu.Unlock()
		close(f.done)
	}()
	if v.enter(ctx, q) {
		f.reply = v.ask(ctx, q)
		v.leave()
	}
	return f.reply
}

var (
	errNoAnswer = message.NewReply(451, "4.4.2", "The next hop did not say in time whether the recipient exists, please try again later")
	errNoAsking = message.NewReply(451, "4.3.5", "The next hop can't be asked about recipients: it refuses the null sender")
)

// enter waits for a turn to ask.
func (v *Callouts) enter(ctx context.Context, q question) bool {
	end, bounded := ctx.Deadline()
	for {
		v.mu.Lock()
		if v.busy < v.set.Concurrency && (!bounded || time.Now().Before(end)) {
			v.busy++
			v.counts.Asked++
			v.mu.Unlock()
			return true
		}
		turn := v.turn
		v.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			v.mu.Lock()
			v.counts.Late++
			v.mu.Unlock()
			v.c.o.Log.Warn("no turn to ask a next hop about a recipient: all are taken", "next_hop", q.way.String(), "recipient", q.to.String())
			return false
		}
	}
}

func (v *Callouts) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.busy--
	close(v.turn)
	v.turn = make(chan struct{})
}

// recall is what is remembered of q; v.mu is held.
func (v *Callouts) recall(q question) (intake.Verdict, bool) {
	for _, k := range [...]question{{q.way, message.Address{Domain: q.to.Domain}}, q} {
		e := v.known[k]
		if e == nil {
			continue
		}
		a := e.Value.(*answer)
		if time.Now().After(a.until) {
			v.recent.Remove(e)
			delete(v.known, k)
			continue
		}
		v.recent.MoveToFront(e)
		if k != q && !a.reply.Any {
			continue // that the host does know recipients
		}
		return a.reply, true
	}
	return intake.Verdict{}, false
}

// remember keeps an answer.
func (v *Callouts) remember(q question, reply intake.Verdict, life time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.known[q]; e != nil {
		v.recent.Remove(e)
	}
	v.known[q] = v.recent.PushFront(&answer{q, reply, time.Now().Add(life)})
	v.shrink()
}

// shrink drops what is beyond the bound; v.mu is held.
func (v *Callouts) shrink() {
	for v.recent.Len() > v.set.Entries {
		e := v.recent.Back()
		v.recent.Remove(e)
		delete(v.known, e.Value.(*answer).question)
	}
}

// knows tells whether the domain's host is known to know its recipients.
func (v *Callouts) knows(q question) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.known[question{q.way, message.Address{Domain: q.to.Domain}}]
	return e != nil && time.Now().Before(e.Value.(*answer).until)
}

// ask puts the question to the host and remembers the answer.
func (v *Callouts) ask(ctx context.Context, q question) intake.Verdict {
	v.mu.Lock()
	set := v.set
	v.mu.Unlock()
	p := probe{v: v, to: q.to, random: !v.knows(q)}
	reply := p.run(ctx, q.way)
	all := question{q.way, message.Address{Domain: q.to.Domain}}
	got := intake.Verdict{Reply: reply, Any: p.any}
	switch {
	case p.any:
		v.c.o.Log.Warn("a next hop takes every recipient, so that all are taken here too: write recipients = \"@file.txt\", or have it refuse unknown ones",
			"next_hop", q.way.String(), "domain", q.to.Domain)
		v.remember(all, got, set.Negative)
	case p.none:
		v.remember(all, intake.Verdict{Reply: reply}, set.Positive)
		v.remember(q, got, set.Positive)
	case reply.Positive():
		life := set.Positive
		if p.random { // the host did not say whether it knows: ask again soon
			life = unclear
		}
		v.remember(q, got, life)
	case reply.Permanent():
		v.remember(q, got, set.Negative)
	case ctx.Err() == nil || ctx.Err() == context.DeadlineExceeded:
		v.remember(q, got, unclear)
	}
	return got
}

// probe is one visit at a host.
type probe struct {
	v      *Callouts
	to     message.Address
	random bool // whether the host takes everybody is to be found out
	any    bool // it does
	none   bool // it does not
}

// run is the host's answer about the recipient; 451 where it gives none.
func (p *probe) run(ctx context.Context, way send.Way) message.Reply {
	c := p.v.c
	m := &queue.Message{ID: message.NewID(time.Now()), SMTPUTF8: !p.to.IsASCII(), Recipients: []queue.Recipient{{Address: p.to}}}
	j := jobFor(way, m, nil)
	hosts, nobody := c.servers(ctx, j)
	if nobody != nil {
		return nobody.reply
	}
	var reply message.Reply
	fail := c.reach(ctx, j, hosts, func(cn *conn) (err error) {
		reply, err = p.open(ctx, cn, j)
		return err
	})
	if fail != nil {
		c.o.Log.Info("next hop not asked about a recipient", "next_hop", way.String(), "recipient", p.to.String(), "error", fail.reply)
		return nameless(way.NextHop, fail.reply)
	}
	return reply
}

// open has the dialogue. An error means that the connection was lost.
func (p *probe) open(ctx context.Context, cn *conn, j *send.Job) (message.Reply, error) {
	q := passage{c: p.v.c}
	reply, err := q.open(ctx, cn, j)
	if err != nil {
		return reply, err
	}
	defer q.Close()
	if q.cn == nil {
		if q.no.Permanent() && reply == q.no {
			p.v.c.o.Log.Warn("a next hop can't be asked about recipients: it refuses the null sender", "peer", cn.peer(), "reply", q.no)
			return errNoAsking, nil
		}
		return reply, nil
	}
	if reply.Positive() && p.random {
		p.ask(ctx, &q, j.Message)
	}
	return reply, nil
}

// ask finds out whether the host takes an address that nobody has.
func (p *probe) ask(ctx context.Context, q *passage, m *queue.Message) {
	nobody := message.Address{Local: "postern-probe-" + strings.ToLower(rand.Text()[:16]), Domain: p.to.Domain}
	two := *m
	two.Recipients = append(two.Recipients[:1:1], queue.Recipient{Address: nobody})
	switch r, err := q.further(ctx, &two); {
	case err != nil:
		q.cn.close()
		q.cn = nil
	case r.Positive():
		p.any = true
	case r.Permanent():
		p.none = true
	}
}
