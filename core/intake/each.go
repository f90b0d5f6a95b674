package intake

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// This file is recipients that policies judge one by one at stages message and
// queue (hooks.Decision.Each).
//
//   - Whoever was refused or discarded leaves the transaction, so that later stages
//     judge the rest; whoever is to be kept stays, and may still be refused.
//   - Where the client takes a reply for each recipient (LMTP, PRDR), each has its
//     own. Where it takes one for all, Settings.Mixed says what becomes of a message
//     that some are refused.
//   - A recipient in quarantine beside others that are not gets a message of its own
//     in the queue, which is committed first: where the other one then fails, the
//     client is told so and the first is taken back.

// Mixed is [server] mixed_recipients: what a message gets whose recipients are
// judged differently, and whose client takes one reply for all.
type Mixed uint8

// The ways to settle it. A deferral of one is a deferral of all in each but the
// first, where a refusal for good goes before it: to drop what is deferred would lose
// mail.
const (
	Strictest      Mixed = iota // all get the strictest verdict
	Split                       // those refused are dropped, with a trace and without a bounce
	QuarantineRest              // those refused are kept in quarantine
)

// ParseMixed reads the configuration's word.
func ParseMixed(s string) Mixed {
	return Mixed(max(0, slices.Index([]string{"strictest", "split", "quarantine"}, s)))
}

// mixedName is who acts in traces where Settings.Mixed does.
const mixedName = "mixed_recipients"

// apart is what was decided of single recipients.
type apart struct {
	gone []*hooks.Recipient // refused and discarded ones, which have left the transaction
	own  map[*hooks.Recipient]hooks.Decision
	each bool // the client takes a reply for each recipient
	hang bool // close after the reply

	aside   *hooks.Transaction // the message in quarantine of those that are kept alone
	stored  bool               // it is ours
	because string
}

// AnswerEach says that the client takes a reply for each recipient.
func (m *Mail) AnswerEach() { m.apart.each = true }

// decide carries out what a stage, or the score, decided.
func (m *Mail) decide(at hooks.Stage, d hooks.Decision) (ended bool) {
	switch {
	case len(d.Each) == 0 && (d.Verb == hooks.Pass || d.Verb == hooks.Accept):
	case len(d.Each) > 0 || len(m.apart.gone) > 0:
		m.part(at, d)
		return len(m.tx.Recipients) == 0
	default:
		m.settle(d)
	}
	return m.refusal != nil
}

// part applies a decision recipient by recipient.
func (m *Mail) part(at hooks.Stage, d hooks.Decision) {
	a := &m.apart
	if a.own == nil {
		a.own = map[*hooks.Recipient]hooks.Decision{}
	}
	rest := d
	rest.Each, rest.Edits = nil, nil
	left := make([]*hooks.Recipient, 0, len(m.tx.Recipients))
	for i, r := range m.tx.Recipients {
		one, alone := d.Each[i]
		if !alone {
			one = rest
		}
		switch was := a.own[r].Verb; one.Verb {
		case hooks.Reject, hooks.Defer, hooks.Drop, hooks.Discard:
			a.own[r] = one
			a.gone = append(a.gone, r)
			a.hang = a.hang || one.Disconnect
			if one.Verb.Refuses() {
				m.tx.Current = r
				m.in.o.Record.Refused(m.tx, at, one.By, one.Reply)
				m.tx.Current = nil
			}
			continue
		case hooks.Quarantine:
			a.own[r] = one
		case hooks.Hold:
			if was != hooks.Quarantine {
				a.own[r] = one
			}
		}
		left = append(left, r)
	}
	m.tx.Recipients = left
}

// holds tells whether a recipient waits for an operator while others don't.
func (a *apart) holds() bool {
	for _, d := range a.own {
		if d.Verb == hooks.Hold {
			return true
		}
	}
	return false
}

// refused are those that were refused, and the decision that all get who share a
// reply: the first for good, or where calm is set the first for now.
func (a *apart) refused(calm bool) (list []*hooks.Recipient, worst *hooks.Decision) {
	for _, r := range a.gone {
		d := a.own[r]
		if !d.Verb.Refuses() {
			continue
		}
		list = append(list, r)
		if worst == nil || worst.Reply.Temporary() != calm && d.Reply.Temporary() == calm {
			worst = &d
		}
	}
	return list, worst
}

// settleApart brings what was decided of single recipients to what the message as a
// whole gets. It leaves in the transaction those whose copy goes on.
func (m *Mail) settleApart() {
	a := &m.apart
	calm := m.set.Mixed != Strictest || a.each
	list, worst := a.refused(calm)
	taken := len(m.tx.Recipients) > 0 || len(list) < len(a.gone)
	switch {
	case worst == nil, a.each && taken:
	case a.each, !taken, m.set.Mixed == Strictest, worst.Reply.Temporary():
		m.refuseAll(*worst)
		return
	default:
		m.dropRefused(list)
	}
	m.setAside()
}

// refuseAll refuses the message as a whole.
func (m *Mail) refuseAll(d hooks.Decision) {
	m.tx.Recipients = slices.Concat(m.apart.gone, m.tx.Recipients)
	d.Disconnect = m.apart.hang
	m.settle(d)
}

// dropRefused is what becomes of refused recipients whose client hears 250 for the
// others.
func (m *Mail) dropRefused(list []*hooks.Recipient) {
	for _, r := range list {
		d := m.apart.own[r]
		h := hooks.HandlerRun{Policy: mixedName, Verb: hooks.Discard, Reason: fmt.Sprintf("%s refused this recipient with %s; the client hears one reply for all", d.By, d.Reply)}
		if m.set.Mixed == QuarantineRest {
			h.Verb = hooks.Quarantine
			m.apart.own[r] = hooks.Decision{Verb: hooks.Quarantine, By: d.By, Reason: "refused with " + d.Reply.String()}
			m.apart.gone = slices.DeleteFunc(m.apart.gone, func(o *hooks.Recipient) bool { return o == r })
			m.tx.Recipients = append(m.tx.Recipients, r)
		}
		m.in.o.Record.Stage(m.tx, hooks.StageRun{Stage: hooks.Queue, Time: time.Now(), Recipient: r.Address.String(), Handlers: []hooks.HandlerRun{h}})
	}
}

// setAside takes those out of the transaction that are kept in quarantine while
// others are not.
func (m *Mail) setAside() {
	a := &m.apart
	kept := func(r *hooks.Recipient) bool { return a.own[r].Verb == hooks.Quarantine }
	n := 0
	for _, r := range m.tx.Recipients {
		if kept(r) {
			n++
		}
	}
	switch {
	case n == 0 || m.kept != nil && m.kept.Verb == hooks.Quarantine:
		return
	case n == len(m.tx.Recipients):
		d := a.own[m.tx.Recipients[0]]
		m.kept = &d
		return
	}
	tx := *m.tx
	tx.ID, tx.Recipients = message.NewID(time.Now()), nil
	rest := make([]*hooks.Recipient, 0, len(m.tx.Recipients)-n)
	for _, r := range m.tx.Recipients {
		if kept(r) {
			tx.Recipients = append(tx.Recipients, r)
			a.because = cmp.Or(a.because, a.own[r].By+": "+a.own[r].Reason)
		} else {
			rest = append(rest, r)
		}
	}
	a.aside, m.tx.Recipients = &tx, rest
}

// storeAside makes the message of setAside durable.
func (m *Mail) storeAside(now time.Time, body message.Body, signed queue.Span) error {
	tx := m.apart.aside
	if tx == nil {
		return nil
	}
	facts, err := json.Marshal(tx.Facts())
	if err != nil {
		return err
	}
	q := m.envelope(now)
	q.ID, q.Recipients, q.Signed = tx.ID, nil, signed
	envelopeOf(q, tx, tx.Recipients)
	q.Place, q.Reason, q.Facts = queue.Quarantined, m.apart.because, facts
	d := m.in.o.Queue.Begin(tx.ID)
	defer d.Abort()
	if err := d.Replace(body); err != nil {
		return err
	}
	stored, err := d.Commit(context.WithoutCancel(m.ctx), q, nil, 0)
	if r, ok := stored.(message.Retainer); ok && err == nil {
		r.Release()
	}
	return err
}

// noteAside puts the message of setAside into the story of the other one.
func (m *Mail) noteAside() {
	if tx := m.apart.aside; tx != nil {
		m.traceAside(m.tx, "single recipients are kept in quarantine, as the message "+tx.ID)
	}
}

func (m *Mail) traceAside(tx *hooks.Transaction, why string) {
	m.in.o.Record.Stage(tx, hooks.StageRun{Stage: hooks.Queue, Time: time.Now(), Handlers: []hooks.HandlerRun{{Policy: mixedName, Reason: why}}})
}

// endAside tells of the message of setAside, or takes it back where the client is
// told that the whole failed. It comes after the verdict on the other one: a session
// has one story under way.
func (m *Mail) endAside(keep bool) {
	tx := m.apart.aside
	switch {
	case tx == nil:
	case !keep:
		if err := m.in.o.Queue.Remove(context.WithoutCancel(m.ctx), tx.ID); err != nil {
			m.in.o.Log.Error("taking back a message in quarantine", "id", tx.ID, "error", err)
		}
	default:
		m.apart.stored = true
		m.traceAside(tx, "kept for these recipients alone; the others have the message "+m.tx.ID)
		m.in.o.Record.Verdict(tx, record.Quarantined, queuedAs(tx.ID), m.apart.because)
		m.chain.Tell(hooks.Queued, tx)
	}
}

// answerEach adds the replies to those recipients that were judged by themselves,
// for a client that takes them.
func (m *Mail) answerEach(answer Answer) Answer {
	a := &m.apart
	answer.Disconnect = answer.Disconnect || a.hang
	if !a.each || len(a.own) == 0 {
		return answer
	}
	if answer.Each == nil {
		answer.Each = map[*hooks.Recipient]message.Reply{}
	}
	for _, r := range a.gone {
		if d := a.own[r]; d.Verb.Refuses() {
			answer.Each[r] = d.Reply
		} else {
			answer.Each[r] = queuedAs(m.tx.ID)
		}
	}
	if a.aside != nil && a.stored {
		for _, r := range a.aside.Recipients {
			answer.Each[r] = queuedAs(a.aside.ID)
		}
	}
	return answer
}
