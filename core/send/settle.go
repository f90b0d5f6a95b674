package send

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
)

// verdict is what becomes of one recipient, to be settled in the queue.
type verdict struct {
	rcpt    int
	state   queue.State
	next    time.Time // of Ready and Deferred
	hold    bool      // it waits for an operator
	untried bool      // there was no attempt to count
	quiet   bool      // put back only: nothing happened that anybody wants to read of

	reply  message.Reply
	peer   string
	tls    string
	hop    NextHop
	at     time.Time // when the attempt started
	took   time.Duration
	result Result
	reach  Reach  // of a delivery
	number uint64 // of the delivery, in qmail's log
	tell   func() // what is told once it is durable
}

// owed tells whether a sender is still to be told of a failure, or of a success.
func owed(m *queue.Message) bool {
	return slices.ContainsFunc(m.Recipients, owedFor)
}

func owedFor(r queue.Recipient) bool { return r.State.Final() && !r.Next.IsZero() }

// settle makes the verdicts durable in one step, then records and tells them.
// e.mu is held.
func (s *Sender) settle(e *entry, verdicts []verdict) {
	if e.stuck {
		e.unsettled = append(e.unsettled, verdicts...)
		return
	}
	if len(verdicts) == 0 {
		return
	}
	c, now := s.conf.Load(), s.o.Now()
	m := *e.m
	m.Recipients = slices.Clone(e.m.Recipients)
	for i := range verdicts {
		s.apply(&m, &verdicts[i], c, now)
	}
	if noticeDue(&m, c, now) {
		m.Notified, e.notify = true, true
	}
	if !s.write(e, &m, verdicts) {
		e.unsettled = append(e.unsettled, verdicts...)
		return
	}
	for i := range verdicts {
		s.publish(e, &m, &verdicts[i], now)
	}
	s.farewell(e)
}

// publish records and tells a verdict that is durable in m.
func (s *Sender) publish(e *entry, m *queue.Message, v *verdict, now time.Time) {
	if s.o.Record != nil && !v.quiet && !(v.hold && v.untried) {
		s.o.Record.Attempt(e.id, v.record(m, now))
	}
	if v.tell != nil {
		v.tell()
	}
}

// farewell tells, last of all, that a message left the queue.
func (s *Sender) farewell(e *entry) {
	if e.removed && s.o.Record != nil {
		if e.m.Double && slices.ContainsFunc(e.m.Recipients, func(r queue.Recipient) bool { return r.State == queue.Failed }) {
			s.o.Record.Dropped(e.id)
		}
		s.o.Record.Left(e.id, s.o.Now().Sub(e.m.Arrived))
	}
}

// apply puts a verdict into the recipient's state.
func (s *Sender) apply(m *queue.Message, v *verdict, c *Config, now time.Time) {
	r := &m.Recipients[v.rcpt]
	r.State, r.Next, r.Last = v.state, v.next, v.reply
	if v.hold && v.next.IsZero() {
		r.Next = now
	}
	if !v.untried {
		r.Attempts++
		r.Tried, r.Peer = v.at, v.peer
	}
	switch v.state {
	case queue.Delivered:
		r.Relayed = v.reach == Relayed
		r.Next = time.Time{}
		if v.reach != Handed && tellsSuccess(m, r) {
			r.Next = now
		}
	case queue.Failed:
		r.Next = time.Time{}
		if c.tells(m, r) {
			r.Next = now
		} else {
			s.o.Log.Info("failure not reported", "id", m.ID, "recipient", r.Address.String(), "reply", r.Last)
		}
	}
}

// write makes m the message's durable state, or removes the message where
// nothing is left to do, and then makes it e's. Where that fails, nothing more is
// tried with this message, so that nothing is done twice by us: until the queue is
// open again, if that failed (rest.go), else until a restart. e.mu is held.
func (s *Sender) write(e *entry, m *queue.Message, verdicts []verdict) bool {
	ctx, facts := context.WithoutCancel(s.work), e.facts
	var err error
	switch remove := m.Done() && !owed(m); {
	case !remove && s.decided(e, verdicts):
		err = s.o.Queue.Update(ctx, e.id, func(stored *queue.Message) error {
			e.merge(stored, m, verdicts)
			return nil
		})
	default:
		err = s.o.Queue.Settle(ctx, queue.Change{Message: m, Remove: remove})
		e.removed = err == nil && remove
	}
	switch {
	case errors.Is(err, queue.ErrFailed):
		s.o.Log.Warn("an outcome can't be kept now; the message rests until the queue is open again", "id", e.id, "error", err)
		e.stuck, e.facts = true, facts
		s.rest(e)
		return false
	case err != nil:
		s.o.Log.Error("an outcome can't be kept; the message rests until a restart", "id", e.id, "error", err)
		e.stuck = true
		return false
	}
	e.m = m
	return true
}

// decided tells whether policies changed what Settle leaves to operators.
func (s *Sender) decided(e *entry, verdicts []verdict) bool {
	if e.facts != nil || slices.ContainsFunc(verdicts, func(v verdict) bool { return v.hold }) {
		return true
	}
	for i := range e.m.Recipients {
		if e.routeOf(i) != e.m.Recipients[i].Route {
			return true
		}
	}
	return false
}

// merge puts what delivery and its policies decided into the stored message, and
// what operators decided meanwhile into m.
func (e *entry) merge(stored, m *queue.Message, verdicts []verdict) {
	for _, v := range verdicts {
		if v.hold {
			stored.Recipients[v.rcpt].Held = true
		}
	}
	for i := range m.Recipients {
		to, from := &stored.Recipients[i], &m.Recipients[i]
		if route := e.routeOf(i); route != e.m.Recipients[i].Route {
			to.Route = route
		}
		to.State, to.Attempts, to.Next, to.Tried = from.State, from.Attempts, from.Next, from.Tried
		to.Last, to.Peer, to.Relayed = from.Last, from.Peer, from.Relayed
		from.Held, from.Route = to.Held, to.Route
	}
	if e.facts != nil {
		stored.Facts, m.Facts, e.facts = e.facts, e.facts, nil
	}
	stored.Notified = m.Notified
	m.Place, m.Reason = stored.Place, stored.Reason
}

func (v *verdict) record(m *queue.Message, now time.Time) record.Attempt {
	r := &m.Recipients[v.rcpt]
	outcome := Deferred
	switch v.state {
	case queue.Delivered:
		outcome = Delivered
	case queue.Failed:
		outcome = Bounced
	}
	return record.Attempt{
		Time: v.at, Recipient: r.Address.String(), Sender: m.Sender.String(), NextHop: v.hop.String(), Peer: v.peer, TLS: v.tls,
		Queued: true, Delivery: v.number, Reply: v.reply, Outcome: outcome.String(), Duration: v.took, Attempt: max(r.Attempts, 1), Size: m.Size, Age: now.Sub(m.Arrived),
	}
}

// endPass is the last of a pass: notices that are owed, then e leaves memory.
func (s *Sender) endPass(e *entry) {
	e.mu.Lock()
	wait := false
	if !e.stuck && s.work.Err() == nil {
		if e.notify {
			e.notify = false
			s.delayNotice(e)
		}
		wait = owed(e.m) && !s.report(e)
	}
	e.mu.Unlock()
	if wait && s.again(e) {
		return
	}
	s.leave(e)
}

// bouncePause is how long a notice waits that the queue refused for now.
const bouncePause = time.Minute

// again keeps e for another try of its notice. It reports false where the
// scheduler stops or an operator wants the message; then the notice is sent
// after the next start or pass.
func (s *Sender) again(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || e.withdrawn {
		return false
	}
	e.pending++
	t := time.NewTimer(bouncePause)
	e.pause = t
	s.tasks.Go(func() {
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.stop:
		}
		s.finish(e)
	})
	return true
}

// tells tells whether anybody is to hear of r's failure.
func (c *Config) tells(m *queue.Message, r *queue.Recipient) bool {
	if !notifies(r.Notify, "FAILURE") {
		return false
	}
	if m.Double || m.Sender.IsNull() {
		return !m.Double && !c.DoubleBounceTo.IsNull()
	}
	return true
}

// tellsSuccess tells whether the sender asked to hear of r's delivery (RFC 3461
// section 4.1).
func tellsSuccess(m *queue.Message, r *queue.Recipient) bool {
	return r.Notify != "" && notifies(r.Notify, "SUCCESS") && !m.Double && !m.Sender.IsNull()
}

// noticeDue tells whether the sender is to hear now that mail waits.
func noticeDue(m *queue.Message, c *Config, now time.Time) bool {
	if m.Notified || c.DelayNotice <= 0 || m.Double || m.Sender.IsNull() || now.Sub(m.Arrived) < c.DelayNotice {
		return false
	}
	return slices.ContainsFunc(m.Recipients, delayed)
}

// delayed tells whether a recipient belongs into a delay notice (RFC 3461
// section 4.1: by default it does). One that was not tried because its
// destination is down waits, too.
func delayed(r queue.Recipient) bool {
	return !r.State.Final() && !r.Last.IsZero() && !r.Held && notifies(r.Notify, "DELAY")
}

// notifies tells whether a NOTIFY parameter asks for the event; where there is
// none, failures and delays are told.
func notifies(notify, event string) bool {
	if notify == "" {
		return true
	}
	for word := range strings.SplitSeq(notify, ",") {
		if strings.EqualFold(strings.TrimSpace(word), event) {
			return true
		}
	}
	return false
}
