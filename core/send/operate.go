package send

import (
	"context"
	"fmt"
)

// RetryNow has messages tried at once, whatever their schedule says and even
// where their destination counts as down. It returns without waiting; messages
// that are being tried, held or not in the queue are passed over.
func (s *Sender) RetryNow(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urgent = append(s.urgent, ids...)
	s.kick()
}

// RetryAll has everything tried at once and forgets which destinations were
// down, as SIGALRM asks for. It returns without waiting. Nothing is written: a
// restart ends it.
func (s *Sender) RetryAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = true
	s.kick()
}

// Withdraw takes a message out of the scheduler's hands, so that it can be
// changed or removed: attempts under way end first, waiting ones are called
// off, and until release is called, once, nothing is tried. The error is ctx's,
// where that ends sooner.
func (s *Sender) Withdraw(ctx context.Context, id string) (release func(), err error) {
	for {
		s.mu.Lock()
		e := s.messages[id]
		if e == nil {
			delete(s.outside, id)
			s.messages[id] = &entry{id: id, withdrawn: true}
			s.mu.Unlock()
			return func() { s.giveBack(id) }, nil
		}
		gone := make(chan struct{})
		e.waiters = append(e.waiters, gone)
		e.withdrawn = true
		if e.pause != nil {
			e.pause.Reset(0)
		}
		called := len(e.jobs)
		for _, j := range e.jobs {
			j.dropped = true
			j.d.ready--
		}
		e.jobs = nil
		last := called > 0 && e.pending == called
		e.pending -= called
		s.mu.Unlock()
		if last {
			s.endPass(e)
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, fmt.Errorf("send: message %s is being tried: %w", id, context.Cause(ctx))
		}
	}
}

// giveBack ends a Withdraw.
func (s *Sender) giveBack(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.messages[id].waiters {
		close(w)
	}
	delete(s.messages, id)
	s.more, s.rewind = true, true
	s.kick()
}
