package send

import (
	"errors"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/queue"
)

// This file is what happens while the queue has failed and when it is open again.
// Nothing is tried meanwhile: no outcome could be kept. What the attempts come to
// that were under way is remembered with their messages, which rest. Then the
// messages are read anew, since nobody knows which writes reached the disk, what
// is missing there is written, and all goes on. A process that ends before that
// loses those outcomes: the mail is tried again.

// active tells whether anything may be tried; s.mu is held.
func (s *Sender) active() bool { return s.running && !s.failed }

// rest keeps e for the time when the queue is open again.
func (s *Sender) rest(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting = append(s.resting, e)
	if err := s.o.Queue.Failed(); err != nil {
		s.halt(err)
	}
	s.kick()
}

// halt stops all further attempts; s.mu is held.
func (s *Sender) halt(err error) {
	if !s.failed {
		s.failed = true
		s.o.Log.Error("no deliveries: the queue failed", "error", err)
	}
}

// follow takes in whether the queue works. It is Run's own.
func (s *Sender) follow(failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed != nil {
		s.halt(failed)
		return
	}
	for _, e := range s.resting {
		e.pending++
		s.tasks.Go(func() {
			s.resume(e)
			s.finish(e)
		})
	}
	s.resting = nil
	if s.failed {
		s.failed = false
		s.o.Log.Warn("deliveries go on: the queue is open again")
		s.more, s.rewind = true, true
		s.tasks.Go(s.findOwed)
		s.dispatch(s.o.Now())
	}
}

// resume brings e and its message on disk together again.
func (s *Sender) resume(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, err := s.o.Queue.Load(e.id)
	switch {
	case errors.Is(err, queue.ErrFailed):
		s.rest(e)
		return
	case err != nil && !errors.Is(err, queue.ErrNotFound): // it is damaged, and set aside
		s.o.Log.Error("reading a queued message", "id", e.id, "error", err)
		e.unsettled, e.told = nil, nil
		fallthrough
	case err != nil: // the write that seemed to fail took it out, or somebody did
		e.removed = true
		m = ended(e.m)
	}
	e.stuck, e.m = false, m
	verdicts, told, now := e.unsettled, e.told, s.o.Now()
	e.unsettled, e.told = nil, nil
	verdicts = slices.DeleteFunc(verdicts, func(v verdict) bool {
		kept := e.removed || v.kept(&m.Recipients[v.rcpt])
		if kept {
			s.publish(e, m, &v, now)
		}
		return kept
	})
	if e.removed {
		s.farewell(e)
		return
	}
	s.settle(e, verdicts)
	s.retell(e, told)
}

// ended is m with nothing left to do.
func ended(m *queue.Message) *queue.Message {
	n := *m
	n.Recipients = slices.Clone(m.Recipients)
	for i := range n.Recipients {
		n.Recipients[i].State, n.Recipients[i].Next = queue.Failed, time.Time{}
	}
	return &n
}

// kept tells whether the verdict is in the stored recipient.
func (v *verdict) kept(r *queue.Recipient) bool {
	return r.State.Final() || !v.untried && r.State == v.state && r.Tried.Equal(v.at)
}

// retell has recipients count as told about whom a notice is queued already.
func (s *Sender) retell(e *entry, list []int) {
	list = slices.DeleteFunc(list, func(i int) bool { return !owedFor(e.m.Recipients[i]) })
	if e.stuck || len(list) == 0 {
		e.told = list
		return
	}
	m := *e.m
	m.Recipients = slices.Clone(m.Recipients)
	for _, i := range list {
		m.Recipients[i].Next = time.Time{}
	}
	if !s.write(e, &m, nil) {
		e.told = list
		return
	}
	s.farewell(e)
}
