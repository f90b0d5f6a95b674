package intake

import (
	"slices"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Through says that the recipients were offered to next hops by r, which may be
// nil.
func (m *Mail) Through(r *Relay) { m.relay = r }

// passOn hands the message to its next hop and makes its answer ours. Nothing of
// it is kept. It is not ended where the message goes into the queue after all.
func (m *Mail) passOn(place queue.Place) (answer Answer, ended bool) {
	way, mixed := m.relay.final()
	switch {
	case mixed:
		m.in.o.Log.Warn("policies gave a message several ways, one of them in proxy mode; it is put off", "id", m.tx.ID)
		m.refuse(hooks.Queue, errMixed)
	case way == nil:
		return Answer{}, false
	case place == queue.Held || m.apart.holds():
		m.in.o.Log.Warn("a message can't be held in proxy mode; it is put off", "id", m.tx.ID)
		m.refuse(hooks.Queue, errHold)
	case (way.Each() && !m.relay.each || m.tx.Sender.IsVERP()) && len(m.tx.Recipients) > 1:
		m.refuse(hooks.Queue, errTogether)
	case m.copiesDiffer():
		m.in.o.Log.Warn("policies gave recipients copies of their own in proxy mode; the message is put off", "id", m.tx.ID)
		m.refuse(hooks.Queue, errCopies)
	default:
		return m.relayed(way), true
	}
	return m.answer(), true
}

// copiesDiffer tells whether the message is not the same for all its recipients.
func (m *Mail) copiesDiffer() bool {
	return slices.ContainsFunc(m.tx.Recipients, func(r *hooks.Recipient) bool {
		return !slices.EqualFunc(r.Edits, m.tx.Recipients[0].Edits, SameCopy)
	})
}

// relayed is the answer of the next hop.
func (m *Mail) relayed(way Way) Answer {
	if !m.rewritten() {
		return m.answer()
	}
	now := time.Now()
	q := m.envelope(now)
	sender := q.Sender.For(q.Recipients[0].Address) // the only one where it makes a difference
	sender, err := m.set.returnPath(way, sender, now)
	if err != nil {
		m.in.o.Log.Warn("a sender can't be rewritten", "id", m.tx.ID, "sender", sender.String(), "error", err)
	}
	if sender.Domain != q.Sender.Domain {
		q.Unicode = ""
	}
	q.Sender = sender
	body, span, err := m.copied(now)
	if err != nil {
		m.failed("quarantine", err)
		return m.answer()
	}
	q.Size, q.Signed = body.Size(), span
	sent := m.relay.send(m.ctx, way, q, body)
	m.noteAside()
	answer := m.nextHopSaid(way, sent)
	m.endAside(answer.Reply.Positive() || m.apart.each)
	m.tell(way, q, sent, now)
	if way.Each() {
		answer.Each = m.relay.replies(m.each(sent))
	}
	return answer
}

// copied is the message as its recipients, whose copies are the same, are to get it, and
// where its signatures stand. What is kept aside of it is stored.
func (m *Mail) copied(now time.Time) (message.Body, queue.Span, error) {
	whole := m.stamped(now)
	own, err := Copy(whole, m.tx.Recipients[0].Edits, m.tx.Said("SMTPUTF8"))
	if err != nil {
		return nil, queue.Span{}, err
	}
	body, span, err := m.signed(own.(message.Edited), now)
	if err != nil || m.apart.aside == nil {
		return body, span, err
	}
	whole, all, err := m.signed(whole, now)
	if err != nil {
		return nil, span, err
	}
	return body, span, m.storeAside(now, whole, all)
}

// nextHopSaid is the answer to the whole.
func (m *Mail) nextHopSaid(way Way, sent []Sent) Answer {
	whole := wholeReply(sent)
	if way.Each() {
		whole.Text = "The next hop has answered for each recipient"
		if len(sent) == 1 {
			whole.Text = sent[0].Reply.Text
		}
	}
	whole = withID(whole, m.tx.ID)
	if whole.Negative() {
		m.refuseBy(hooks.Queue, byNextHop, whole)
	}
	answer := Answer{Reply: whole}
	if m.refusal != nil {
		answer = m.answer()
	} else {
		m.in.o.Record.Verdict(m.tx, record.Relayed, whole, "")
	}
	return answer
}

// each is the replies as clients get them that take one for each recipient; the
// refusals among them pass stage deny.
func (m *Mail) each(sent []Sent) []Sent {
	for i := range sent {
		r := &sent[i].Reply
		*r = withID(*r, m.tx.ID)
		if r.Negative() {
			m.tx.Current = m.tx.Recipients[i]
			*r, _ = m.chain.Refuse(m.ctx, hooks.Queue, m.tx, *r)
		}
	}
	m.tx.Current = nil
	return sent
}

// tell records the attempt, and tells the policies of stage delivered.
func (m *Mail) tell(way Way, q *queue.Message, sent []Sent, at time.Time) {
	for i := range sent {
		s, to := &sent[i], m.tx.Recipients[i]
		outcome := "deferred"
		switch {
		case s.Reply.Positive():
			outcome = "delivered"
		case s.Reply.Permanent():
			outcome = "bounced"
		}
		m.in.o.Record.Attempt(m.tx.ID, record.Attempt{
			Time: at, Recipient: to.Address.String(), Sender: m.tx.Sender.String(), NextHop: way.String(), Peer: s.Peer, TLS: s.TLS,
			Reply: s.Reply, Outcome: outcome, Duration: s.Took, Attempt: 1, Size: q.Size, Age: time.Since(at),
		})
		if s.Reply.Positive() && m.chain.Has(hooks.Delivered) {
			m.tx.Current = to
			m.tx.Try = &hooks.Try{Attempt: 1, NextHop: way.String(), Peer: s.Peer, Reply: s.Reply, Age: time.Since(at)}
			m.chain.Tell(hooks.Delivered, m.tx)
			m.tx.Current, m.tx.Try = nil, nil
		}
	}
}
