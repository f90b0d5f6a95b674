package send

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// entry is a message in the window, from the start of its pass to the end.
type entry struct {
	id     string
	sender string    // key of its lane
	began  time.Time // when the pass did

	// Guarded by Sender.mu.
	pending   int    // plans under way, jobs that wait or run
	jobs      []*job // those that wait
	withdrawn bool   // an operator wants it: no job starts any more
	waiters   []chan struct{}
	kept      int64        // bytes of body counted in Sender.kept
	scanned   bool         // it was found on disk
	wait      *destination // it has enough ready: the message goes to its queue
	pause     *time.Timer  // until the next try of a notice
	again     *asked       // what an operator asked for while the pass ran

	mu sync.Mutex // serialises what follows: policies, settling, notices

	m       *queue.Message // as it is on disk; replaced, never changed
	body    message.Body   // in memory, nil: on disk; set until the pass ends
	tx      *hooks.Transaction
	facts   []byte // m.Facts as the policies left them, nil: unchanged
	effort  effort
	since   time.Time // with an effort beyond due: recipients that were tried since then are left alone
	detour  int       // how often policies sent it elsewhere in this pass
	stuck   bool      // the queue could not be written: it stays untouched (rest.go)
	removed bool      // it left the queue
	notify  bool      // the delay notice is to be sent at the end of the pass

	unsettled []verdict // what could not be written
	told      []int     // recipients of whom the sender was told, as could not be written
}

// effort says which recipients a pass takes on.
type effort uint8

const (
	due    effort = iota // those whose time has come
	every                // all that are neither final nor held; a destination that is down is left alone
	urgent               // all, and a destination that is down is tried
)

// asked is what an operator wants tried, and since when.
type asked struct {
	id     string
	effort effort
	at     time.Time
}

// parked is a message of which only the id is in memory: the destination that it
// waits for, and which of its recipients are wanted.
type parked struct {
	d      *destination
	effort effort
	since  time.Time // as in entry
}

// letGo gives back the body in memory; attempts read it from disk then.
func (e *entry) letGo() {
	if r, ok := e.body.(message.Retainer); ok {
		r.Release()
	}
	e.body = nil
}

// open is the message's body for one attempt.
func (s *Sender) open(e *entry) (message.Body, io.Closer, error) {
	if e.body != nil {
		return e.body, nil, nil
	}
	return s.o.Queue.Body(e.id)
}

// transaction is the message as policies see it; e.mu is held. It has neither
// header nor body: those were judged when it came in.
func (s *Sender) transaction(e *entry) *hooks.Transaction {
	if e.tx != nil {
		return e.tx
	}
	facts := factsOf(e.m, func(err error) {
		s.o.Log.Warn("facts of a queued message are damaged", "id", e.id, "error", err)
	})
	tx := facts.Restore(e.id)
	tx.Sender, tx.Size = e.m.Sender, e.m.Size
	tx.Recipients = make([]*hooks.Recipient, len(e.m.Recipients))
	for i := range e.m.Recipients {
		r := &e.m.Recipients[i]
		tx.Recipients[i] = &hooks.Recipient{Address: r.Address, Given: r.Address, Route: r.Route, Notes: facts.Rcpts[i].Notes, Edits: facts.Rcpts[i].Edits, Params: paramsOf(r)}
	}
	e.tx = tx
	return tx
}

// paramsOf is what RCPT said of a recipient (RFC 3461).
func paramsOf(r *queue.Recipient) (list []hooks.Param) {
	if r.Notify != "" {
		list = append(list, hooks.Param{Key: "NOTIFY", Value: r.Notify})
	}
	if strings.Contains(r.Original, ";") { // else it is an address that a policy replaced
		list = append(list, hooks.Param{Key: "ORCPT", Value: r.Original})
	}
	return list
}

func factsOf(m *queue.Message, complain func(error)) hooks.Facts {
	var f hooks.Facts
	if len(m.Facts) > 0 {
		if err := json.Unmarshal(m.Facts, &f); err != nil {
			complain(err)
			return hooks.Facts{}
		}
	}
	return f
}

// routeFacts reads the client and the tags of m when a route first asks.
func routeFacts(m *queue.Message) routeAsk {
	return sync.OnceValues(func() (netip.Addr, []string) {
		f := factsOf(m, func(error) {})
		return f.Client.Addr(), f.Tags
	})
}

// finish ends one piece of work on e, and with the last one the pass.
func (s *Sender) finish(e *entry) {
	s.mu.Lock()
	e.pending--
	last := e.pending == 0
	s.mu.Unlock()
	if last {
		s.endPass(e)
	}
}

// leave takes e out of the window.
func (s *Sender) leave(e *entry) {
	next, again := e.m.Next()
	gone := e.m.Done() && !owed(e.m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept -= e.kept
	e.kept = 0
	e.letGo()
	if e.stuck {
		return // stays known, so that nothing is sent twice
	}
	delete(s.messages, e.id)
	if e.scanned && s.o.Now().Sub(e.m.Arrived) < recentAge {
		s.recent.add(e.id)
	}
	for _, w := range e.waiters {
		close(w)
	}
	switch {
	case !again || gone:
	case e.again != nil && !e.withdrawn && s.running:
		s.asked = append(s.asked, *e.again)
		s.kick()
	case e.wait != nil && !e.withdrawn && s.running:
		s.outside[e.id] = parked{e.wait, e.effort, e.since}
		e.wait.queue.push(e.id)
		s.feed(e.wait)
	default:
		s.rewind = s.rewind || !next.After(s.o.Now())
		s.dueAt(next)
	}
	if s.more && len(s.messages) <= s.o.Window/2 || len(s.messages) == 0 {
		s.kick()
	}
}

// dueAt makes Run look at the queue at that time; s.mu is held.
func (s *Sender) dueAt(at time.Time) {
	if s.nextDue.IsZero() || at.Before(s.nextDue) {
		s.nextDue = at
		s.kick()
	}
}

// recent remembers messages that Run found on disk so soon that intake had not
// handed them over yet. When it then does, they are old news.
type recent struct {
	ids  map[string]struct{}
	line fifo[string]
}

const (
	recentAge = 10 * time.Minute
	recentMax = 8192
)

func (r *recent) add(id string) {
	if r.ids == nil {
		r.ids = map[string]struct{}{}
	}
	if len(r.ids) >= recentMax {
		delete(r.ids, r.line.pop())
	}
	if _, known := r.ids[id]; !known {
		r.ids[id] = struct{}{}
		r.line.push(id)
	}
}

// has tells whether the scheduler was done with id a short while ago.
func (r *recent) has(id string) bool {
	_, ok := r.ids[id]
	return ok
}
