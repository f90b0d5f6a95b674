package send

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// maxReroutes bounds how often a recipient goes elsewhere at once after a failed
// attempt; then the schedule applies.
const maxReroutes = 10

// attempt makes one attempt and settles what came of it.
func (s *Sender) attempt(j *job) {
	e := j.e
	defer s.finish(e)
	chain := s.o.Chain()
	defer chain.Release()
	started := s.o.Now()
	e.mu.Lock()
	m := e.m
	if chain.Has(hooks.Attempt) {
		if verdicts, stop := s.before(j, chain, started); stop {
			s.ended(j, nil)
			s.settle(e, verdicts)
			e.mu.Unlock()
			return
		}
	}
	stuck := e.stuck
	e.mu.Unlock()
	if stuck || s.work.Err() != nil {
		s.ended(j, nil)
		return
	}
	first, end := s.begin(j, m)
	defer end()
	outcomes := s.deliver(j, m)
	s.ended(j, outcomes)
	e.mu.Lock()
	defer e.mu.Unlock()
	c, now := s.conf.Load(), s.o.Now()
	cut := s.work.Err() != nil
	verdicts := make([]verdict, 0, len(outcomes))
	for i := range outcomes {
		if cut && outcomes[i].Result == Deferred {
			continue // put back: it is due at the next start
		}
		v := s.judge(j, chain, c, &outcomes[i], started, now)
		if first > 0 {
			v.number = first + uint64(i)
		}
		verdicts = append(verdicts, v)
	}
	s.settle(e, verdicts)
}

// begin tells qmail's log, where there is one, that j is tried, and what is to be called
// once it is settled; first is the number of its first delivery.
func (s *Sender) begin(j *job, m *queue.Message) (first uint64, end func()) {
	if !s.o.Record.Deliveries() {
		return 0, func() {}
	}
	to := make([]string, len(j.rcpts))
	for i, r := range j.rcpts {
		to[i] = m.Recipients[r].Address.String()
	}
	here := channelOf(j.hop.Scheme) == local
	return s.o.Record.Begin(m.ID, here, to), func() { s.o.Record.End(here) }
}

// before asks the policies of stage attempt about the job, with its first
// recipient for the current one. stop tells that there is nothing to try: the
// verdicts say why, or the recipients went elsewhere. e.mu is held.
func (s *Sender) before(j *job, chain *hooks.Chain, now time.Time) (verdicts []verdict, stop bool) {
	e, first := j.e, j.rcpts[0]
	r := &e.m.Recipients[first]
	was := e.routeOf(first)
	d := s.ask(e, chain, hooks.Attempt, first, &hooks.Try{
		Attempt: r.Attempts + 1, NextHop: j.hop.NextHop.String(), TLS: j.hop.TLS, Source: j.hop.source(), Retry: j.hop.Retry, Age: now.Sub(e.m.Arrived),
	})
	to := e.routeOf(first)
	for _, i := range j.rcpts {
		e.tx.Recipients[i].Route = to
		v := verdict{rcpt: i, untried: true, reply: d.Reply, hop: j.hop.NextHop, at: now}
		switch d.Verb {
		case hooks.Reject:
			v.state = queue.Failed
		case hooks.Defer:
			v = *s.postpone(e, s.conf.Load(), i, j.hop, d, now)
		case hooks.Hold:
			v.state, v.hold, v.reply = e.m.Recipients[i].State, true, e.m.Recipients[i].Last
		default:
			continue
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) > 0 {
		return verdicts, true
	}
	if to == was || e.detour >= maxDetours {
		return nil, false
	}
	e.detour++
	return s.planFor(e, chain, j.rcpts, now), true
}

// deliver calls the Deliverer and sees to it that each recipient has one outcome.
func (s *Sender) deliver(j *job, m *queue.Message) []Outcome {
	outcomes := make([]Outcome, 0, len(j.rcpts))
	started := s.o.Now()
	all := func(r message.Reply) []Outcome {
		for _, i := range j.rcpts {
			outcomes = append(outcomes, Outcome{Recipient: i, Reply: r, Duration: s.o.Now().Sub(started)})
		}
		return outcomes
	}
	by := s.o.Deliver[j.hop.Scheme]
	if by == nil {
		return all(message.NewReply(451, "4.3.5", "Nothing delivers by %s", j.hop.Scheme))
	}
	body, closer, err := s.open(j.e)
	if errors.Is(err, queue.ErrFailed) {
		return nil // it was not tried
	}
	if err != nil {
		s.o.Log.Error("opening a queued message", "id", j.e.id, "error", err)
		return all(message.NewReply(451, "4.3.0", "The queued message can't be read"))
	}
	if closer != nil {
		defer func() {
			if err := closer.Close(); err != nil {
				s.o.Log.Warn("closing a queued message", "id", j.e.id, "error", err)
			}
		}()
	}
	signed := !m.Signed.Empty()
	if m, body, err = s.copyFor(j, s.conf.Load(), m, body, started); err != nil {
		s.o.Log.Error("making a recipient's copy", "id", j.e.id, "error", err)
		return all(message.NewReply(451, "4.3.0", "The recipient's copy of the message can't be made"))
	}
	if signed && m.Signed.Empty() {
		s.o.Log.Warn("a recipient's copy goes without our signature, which no key can make now", "id", j.e.id)
	}
	got := s.call(by, &Job{Message: m, Recipients: j.rcpts, Body: body, NextHop: j.hop.NextHop, Domain: j.domain(m), TLS: j.hop.TLS, Auth: j.hop.Auth, Source: j.hop.Source})
	for _, i := range j.rcpts {
		o := Outcome{Recipient: i, Reply: message.NewReply(451, "4.3.0", "The delivery gave no answer"), Duration: s.o.Now().Sub(started)}
		for k := range got {
			if got[k].Recipient == i {
				o = got[k]
				break
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// call is the Deliverer's own time, safe from its panics: one message must not
// take the others down.
func (s *Sender) call(by Deliverer, j *Job) (got []Outcome) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("delivery failed", "id", j.Message.ID, "next_hop", j.NextHop.String(), "error", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
			got = nil
		}
	}()
	return by.Deliver(s.work, j)
}

func (j *job) domain(m *queue.Message) string {
	if j.hop.Scheme != SchemeMX {
		return ""
	}
	return m.Recipients[j.rcpts[0]].Address.Domain
}

// ask runs the policies of a stage about recipient i and keeps what they changed.
// e.mu is held.
func (s *Sender) ask(e *entry, chain *hooks.Chain, at hooks.Stage, i int, try *hooks.Try) hooks.Decision {
	tx := s.transaction(e)
	tx.Current, tx.Try = tx.Recipients[i], try
	d := chain.Run(s.work, at, tx)
	if tx.Route != "" {
		tx.Recipients[i].Route, tx.Route = tx.Route, ""
	}
	*try = *tx.Try // an edited plan is another one
	tx.Current, tx.Try = nil, nil
	s.keepFacts(e, at)
	return d
}

// keepFacts has the next settling keep what policies changed. e.mu is held.
func (s *Sender) keepFacts(e *entry, at hooks.Stage) {
	tx := e.tx
	if facts, err := json.Marshal(tx.Facts()); err != nil {
		s.o.Log.Warn("notes of a policy can't be kept", "id", e.id, "stage", at.String(), "error", err)
	} else if !bytes.Equal(facts, e.m.Facts) && (len(e.m.Facts) > 0 || string(facts) != "{}") {
		e.facts = facts
	}
}

// judge turns an outcome into a verdict: by the policies of stages deferred and
// bounced, else by the schedule and the message's life. e.mu is held.
func (s *Sender) judge(j *job, chain *hooks.Chain, c *Config, o *Outcome, started, now time.Time) verdict {
	e, i := j.e, o.Recipient
	r := &e.m.Recipients[i]
	v := verdict{rcpt: i, reply: bounded(o.Reply), peer: o.Peer, tls: o.TLS, hop: j.hop.NextHop, at: started, took: o.Duration, result: o.Result}
	try := &hooks.Try{Attempt: r.Attempts + 1, NextHop: j.hop.NextHop.String(), TLS: j.hop.TLS, Source: j.hop.source(), Retry: j.hop.Retry, Peer: o.Peer, Reply: v.reply, Age: now.Sub(e.m.Arrived)}
	if o.Result == Delivered {
		v.state, v.reach = queue.Delivered, o.Reach
		if chain.Has(hooks.Delivered) {
			v.tell = func() { s.tellDelivered(e, chain, i, try) }
		}
		return v
	}
	at := hooks.Deferred
	if o.Result == Bounced || c.expired(e.m, started) {
		at = hooks.Bounced
	}
	var d hooks.Decision
	moved := false
	if chain.Has(at) {
		was := e.routeOf(i)
		d = s.ask(e, chain, at, i, try)
		moved = e.routeOf(i) != was && r.Attempts < maxReroutes
	}
	v.state = queue.Deferred
	switch {
	case d.Verb == hooks.Hold:
		v.hold, v.next = true, now
	case d.Verb == hooks.Defer && d.After > 0:
		v.next = now.Add(d.After)
	case moved && d.Verb != hooks.Reject:
		v.next = now
	case d.Verb == hooks.Reject && at == hooks.Deferred:
		v.state, v.reply = queue.Failed, d.Reply
	case at == hooks.Bounced && d.Verb != hooks.Defer:
		v.state = queue.Failed
	default:
		v.next = c.nextTry(e.m, j.hop, now)
		if wait, ok := greylisted(v.reply); ok && r.Attempts < greyTries {
			v.next = now.Add(wait)
		}
	}
	return v
}

// tellDelivered tells those who only observe. e.mu is held.
func (s *Sender) tellDelivered(e *entry, chain *hooks.Chain, i int, try *hooks.Try) {
	tx := s.transaction(e)
	tx.Current, tx.Try = tx.Recipients[i], try
	chain.Tell(hooks.Delivered, tx)
	tx.Current, tx.Try = nil, nil
}

// maxReplyText bounds what is kept of another server's words.
const maxReplyText = 1 << 10

func bounded(r message.Reply) message.Reply {
	if len(r.Text) > maxReplyText {
		r.Text = r.Text[:maxReplyText]
	}
	return r
}
