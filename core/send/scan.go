package send

import (
	"context"
	"errors"
	"time"

	"github.com/postern-mta/postern/core/queue"
)

// farFuture is later than anything is due.
var farFuture = time.Unix(1<<33, 0)

// scanPause is how long Run waits after the due index could not be read.
const scanPause = time.Minute

// clockPause is how long Run waits at most for a time to come: the clock may be set
// meanwhile.
const clockPause = time.Minute

// flushStep is how many entries of the due index are read at once in a retry of everything.
const flushStep = 1000

// dueStep is how many entries of it are read at most in one search for what is due.
const dueStep = 100_000

// flush is a retry of everything under way: a walk over the due index.
type flush struct {
	began time.Time
	after queue.DueEntry
}

// Run schedules until ctx ends. Then nothing new is tried; what runs may go on
// for the grace of Options, and is put back if it does not end in it. When Run
// returns, nothing of it is left, and every outcome is durable. It is called once.
func (s *Sender) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running, s.more = true, true
	s.mu.Unlock()
	s.tasks.Go(s.findOwed)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		changed, failed := s.o.Queue.Watch()
		s.follow(failed)
		now := s.o.Now()
		s.scan(ctx, now)
		if next := earlier(s.awaken(now), s.nextScan()); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(min(max(next.Sub(s.o.Now()), 0), clockPause))
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-changed:
		case <-timer.C:
		}
	}
	s.shut()
	return s.o.Queue.Failed()
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Step does all that is due by Options.Now and returns when nothing is under way:
// when something is due next, the zero time where nothing is. It is for those who
// move the clock by hand, in the place of Run, in one goroutine, and not while mail
// is handed over. Stop ends it.
func (s *Sender) Step(ctx context.Context) time.Time {
	s.mu.Lock()
	if !s.running {
		s.running, s.more = true, true
		s.tasks.Go(s.findOwed)
	}
	s.mu.Unlock()
	for {
		s.tasks.Wait()
		s.follow(s.o.Queue.Failed())
		now := s.o.Now()
		s.scan(ctx, now)
		next := earlier(s.awaken(now), s.nextScan())
		s.tasks.Wait()
		select {
		case <-s.wake:
			continue
		default:
		}
		if ctx.Err() != nil || next.IsZero() || next.After(s.o.Now()) {
			return next
		}
	}
}

// Stop ends what Step began.
func (s *Sender) Stop() { s.shut() }

// shut ends everything within the grace.
func (s *Sender) shut() {
	s.mu.Lock()
	s.running = false
	var idle []*entry
	for _, e := range s.messages {
		for _, j := range e.jobs {
			j.dropped = true
		}
		if n := len(e.jobs); n > 0 {
			if e.pending -= n; e.pending == 0 {
				idle = append(idle, e)
			}
			e.jobs = nil
		}
	}
	s.mu.Unlock()
	s.o.Record.Stopping()
	defer s.o.Record.Stopped()
	close(s.stop)
	for _, e := range idle {
		s.leave(e)
	}
	grace := time.AfterFunc(s.o.Grace, s.cut)
	s.tasks.Wait()
	grace.Stop()
	s.cut()
}

// nextScan is when the queue has to be looked at, the zero time for not before a kick.
func (s *Sender) nextScan() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more && s.roomy() {
		return s.o.Now()
	}
	if s.more {
		return time.Time{} // the end of a pass gives the kick
	}
	return s.nextDue
}

// roomy tells whether it is worth looking for more messages; s.mu is held.
func (s *Sender) roomy() bool {
	return s.active() && len(s.messages) <= s.o.Window/2 && s.planning <= maxPlanning/2
}

// full tells whether no message more fits in; s.mu is held.
func (s *Sender) full() bool {
	return !s.active() || len(s.messages) >= s.o.Window || s.planning >= maxPlanning
}

// scan takes in messages from the queue as long as there is room: those that an
// operator wants tried, those of a retry of everything, and those that are due.
func (s *Sender) scan(ctx context.Context, now time.Time) {
	s.mu.Lock()
	if s.all {
		s.all, s.flight = false, &flush{began: now}
		for id, p := range s.outside { // those wait for their destination, whatever their time
			p.effort, p.since = max(p.effort, every), now
			s.outside[id] = p
		}
		for _, d := range s.dests {
			d.revive()
			s.enqueue(d)
		}
	}
	look := s.active() && (len(s.asked) > 0 || len(s.hungry) > 0 || s.roomy() && (s.flight != nil || s.more || !s.nextDue.IsZero() && !s.nextDue.After(now)))
	s.mu.Unlock()
	if !look {
		return
	}
	for ctx.Err() == nil {
		a, ok := s.nextAsked()
		if !ok {
			break
		}
		s.load(a)
	}
	if !s.feedAll(ctx) || s.wants() || s.flight != nil && !s.scanAll(ctx) {
		s.mu.Lock()
		s.more = true
		s.mu.Unlock()
		return
	}
	s.scanDue(ctx, now)
}

// wants tells whether there are still messages that an operator wants tried.
func (s *Sender) wants() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked) > 0
}

func (s *Sender) nextAsked() (a asked, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 || s.full() {
		return asked{}, false
	}
	a, s.asked = s.asked[0], s.asked[1:]
	return a, true
}

// scanAll goes on with a retry of everything. It reports true at its end.
func (s *Sender) scanAll(ctx context.Context) (done bool) {
	f := s.flight
	for ctx.Err() == nil {
		n, room := 0, true
		for d, err := range s.o.Queue.DueAfter(f.after, farFuture, flushStep) {
			if errors.Is(err, queue.ErrFailed) {
				return false // it goes on where it is when the queue is open again
			}
			if err != nil {
				s.o.Log.Error("reading what is due", "error", err)
				s.flight = nil
				return true
			}
			if room = s.hasRoom(); !room {
				break
			}
			n++
			f.after = d
			s.load(asked{d.ID, every, f.began})
		}
		if !room {
			return false
		}
		if n < flushStep {
			s.flight = nil
			return true
		}
	}
	return false
}

func (s *Sender) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.full()
}

// scanDue takes in what is due, and notes when the next message will be.
func (s *Sender) scanDue(ctx context.Context, now time.Time) {
	s.mu.Lock()
	if s.rewind || now.Before(s.after.At) { // or the clock went back
		s.after = queue.DueEntry{}
	}
	s.more, s.rewind, s.nextDue = false, false, time.Time{}
	s.mu.Unlock()
	// Up to s.after all that is due is in memory, or was put there for good.
	left := dueStep
	for d, err := range s.o.Queue.DueAfter(s.after, farFuture, left) {
		left--
		if err != nil {
			if !errors.Is(err, queue.ErrFailed) {
				s.o.Log.Error("reading what is due", "error", err)
			}
			s.later(now.Add(scanPause))
			return
		}
		if d.At.After(now) {
			s.later(d.At)
			return
		}
		if s.has(d.ID) {
			s.after = d
			continue
		}
		if !s.hasRoom() || ctx.Err() != nil {
			s.mu.Lock()
			s.more = true
			s.mu.Unlock()
			return
		}
		s.load(asked{id: d.ID})
		s.after = d
	}
	if left == 0 {
		s.later(now)
	}
}

// feedAll loads messages for the destinations that want more. It reports false
// where there was no room for all of them.
func (s *Sender) feedAll(ctx context.Context) bool {
	for ctx.Err() == nil {
		s.mu.Lock()
		if len(s.hungry) == 0 {
			s.mu.Unlock()
			return true
		}
		d := s.hungry[0]
		var list []asked
		for n := min(s.fill()-d.ready, maxPlanning-s.planning, s.o.Window-len(s.messages)); n > 0 && !d.queue.empty(); {
			id := d.queue.pop()
			if p := s.outside[id]; p.d == d {
				delete(s.outside, id)
				list = append(list, asked{id, p.effort, p.since})
				n--
			}
		}
		done := d.queue.empty() || d.ready+len(list) > s.fill()/2
		if done {
			d.eager, s.hungry = false, s.hungry[1:]
		}
		s.mu.Unlock()
		for _, a := range list {
			s.load(a)
		}
		if !done {
			return false
		}
	}
	return false
}

func (s *Sender) later(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dueAt(at)
}

func (s *Sender) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messages[id] != nil || s.outside[id].d != nil
}

// load takes a message from the queue into the window. One that is there already
// remembers that it was asked for.
func (s *Sender) load(a asked) {
	s.mu.Lock()
	if a.effort == urgent {
		delete(s.outside, a.id)
	}
	e := s.messages[a.id]
	if e != nil && a.effort > due && e.began.Before(a.at) && (e.again == nil || a.effort >= e.again.effort) {
		e.again = &a
	}
	known := e != nil || s.outside[a.id].d != nil
	s.mu.Unlock()
	if known {
		return
	}
	m, err := s.o.Queue.Load(a.id)
	if err != nil {
		switch {
		case errors.Is(err, queue.ErrFailed) && a.effort > due:
			s.mu.Lock()
			s.asked = append(s.asked, a)
			s.mu.Unlock()
		case !errors.Is(err, queue.ErrNotFound) && !errors.Is(err, queue.ErrFailed):
			s.o.Log.Error("reading a queued message", "id", a.id, "error", err)
		}
		return
	}
	if m.Place != queue.Active {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.messages[a.id] != nil || !s.active() {
		return
	}
	e = &entry{id: a.id, sender: senderKey(m), began: s.o.Now(), m: m, pending: 1, effort: a.effort, since: a.at, scanned: true}
	s.messages[a.id] = e
	s.planning++
	s.tasks.Go(func() { s.planAside(e) })
}

// findOwed looks once for messages that a crash left between their last outcome
// and its bounce. They are not in the due index.
func (s *Sender) findOwed() {
	var ids []string
	for id, err := range s.o.Queue.Settled() {
		if err != nil {
			if !errors.Is(err, queue.ErrFailed) { // after that they are looked for again
				s.o.Log.Error("looking for bounces that are owed", "error", err)
			}
			break
		}
		select {
		case <-s.stop:
			return
		default:
		}
		ids = append(ids, id)
	}
	if len(ids) > 0 {
		s.RetryNow(ids...)
	}
}
