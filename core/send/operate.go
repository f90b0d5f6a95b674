package send

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// RetryNow has messages tried at once, whatever their schedule says and even
// where their destination counts as down. It returns without waiting; messages
// that are held or not in the queue are passed over. One that is being tried is
// tried again right after, where that attempt fails: what the operator mended may
// have been mended too late for it.
func (s *Sender) RetryNow(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	for _, id := range ids {
		s.asked = append(s.asked, asked{id, urgent, now})
	}
	s.kick()
}

// RetryAll has everything tried at once and forgets which destinations were
// down, as SIGALRM asks for. It returns without waiting; what is being tried is
// tried again where that attempt fails. Nothing is written: a restart ends it.
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

// ErrSettled says that a message has no recipient left to give up.
var ErrSettled = errors.New("every recipient is delivered or failed already")

// GiveUp has every recipient fail that is not final, with reply, as if its next
// hop had refused it for good: who is to hear of it gets a bounce. Attempts under
// way end first. A message that is held is given up, too; one in quarantine is
// left alone.
func (s *Sender) GiveUp(ctx context.Context, id string, reply message.Reply) error {
	release, err := s.Withdraw(ctx, id)
	if err != nil {
		return err
	}
	c, now, tells, arrived := s.conf.Load(), s.o.Now(), false, time.Time{}
	var refused error
	err = s.o.Queue.Update(ctx, id, func(m *queue.Message) error {
		switch {
		case m.Place == queue.Quarantined:
			refused = errors.New("the message is in quarantine")
		case m.Done():
			refused = ErrSettled
		}
		if refused != nil {
			return refused
		}
		m.Place, m.Reason = queue.Active, ""
		for i := range m.Recipients {
			if r := &m.Recipients[i]; !r.State.Final() {
				s.apply(m, &verdict{rcpt: i, state: queue.Failed, untried: true, reply: reply}, c, now)
				r.Held = false
			}
		}
		tells, arrived = owed(m), m.Arrived
		return nil
	})
	switch {
	case refused != nil:
		err = refused
	case err == nil && !tells:
		if err = s.o.Queue.Remove(context.WithoutCancel(ctx), id); err == nil && s.o.Record != nil {
			s.o.Record.Left(id, now.Sub(arrived))
		}
	}
	release()
	if err == nil && tells {
		s.RetryNow(id)
	}
	return err
}

// Noticed tells of a message that came into the queue by another way than Accept:
// it is tried when it is due.
func (s *Sender) Noticed(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rewind = s.rewind || !at.After(s.o.Now())
	s.dueAt(at)
}
