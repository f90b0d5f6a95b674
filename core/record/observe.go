package record

import (
	"slices"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Connected tells of a new connection: its id, client and listener are known.
func (r *Recorder) Connected(s *hooks.Session) {
	if r == nil {
		return
	}
	r.connections.Add(1)
	r.metrics.connected(s.Listener)
	r.logConnected(s)
	if r.o.ReadOnly {
		return
	}
	sh := r.shard(s.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	one := sh.sessions[s.ID]
	if one == nil {
		one = &session{}
		sh.sessions[s.ID] = one
	} else if !one.known {
		sh.loose--
	}
	one.known, one.touched, one.facts = true, s.Started, factsOf(s)
}

// Disconnected tells that a connection is over. A transaction under way is
// written with the verdict that its refusals amount to.
func (r *Recorder) Disconnected(s *hooks.Session) {
	if r == nil {
		return
	}
	r.connections.Add(-1)
	r.logDisconnected(s)
	sh := r.shard(s.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if one := sh.sessions[s.ID]; one != nil {
		one.facts = factsOf(s)
		r.end(one, s.ID)
		r.forget(sh, s.ID, one)
	}
}

// Stage implements hooks.Observer. Stages of the delivery, observers and shadow
// policies may report after the verdict: they are written at once and joined
// with their story by Why.
func (r *Recorder) Stage(tx *hooks.Transaction, run hooks.StageRun) {
	if r == nil {
		return
	}
	if len(run.Handlers) == 0 {
		return
	}
	r.metrics.stage(&run)
	r.showRun(tx, &run)
	if r.o.ReadOnly || run.Stage.Row().Scope == hooks.OfPolicy { // a policy's own life is no message's story
		return
	}
	beside := run.Stage >= hooks.Route || run.Stage.Row().Observe || run.Handlers[0].Shadow
	k := key(tx)
	sh := r.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[k]
	if beside {
		switch {
		case s != nil && tx.ID != "" && s.open != nil && s.open.id == tx.ID && run.Stage < hooks.Route:
			s.open.add(run)
		case s != nil && tx.ID == "" && !s.told:
			s.add(run)
		default:
			r.list.add(&late{id: tx.ID, session: tx.Session.ID, run: run}, r)
		}
		return
	}
	if s == nil {
		s = r.session(sh, tx, k, run.Time)
	}
	s.touched = run.Time
	if tx.ID == "" {
		s.add(run)
		return
	}
	r.transaction(s, tx, k, run.Time).add(run)
}

// Refused tells of a negative reply that does not end the transaction, or comes
// where there is none (tx.ID is empty): a recipient, a HELO, a command. by is the
// policy, "" for the protocol engine.
func (r *Recorder) Refused(tx *hooks.Transaction, stage hooks.Stage, by string, reply message.Reply) {
	if r == nil {
		return
	}
	now := time.Now()
	r.metrics.refused(stage, by, reply)
	e := eventOf(tx, now)
	e.Verdict, e.Policy, e.Stage, e.Reply = "refused", by, stage.String(), reply
	f := refusal{stage: stage, time: now, by: by, reply: reply}
	if tx.Current != nil {
		f.recipient = tx.Current.Address.String()
		e.Recipient, e.More = f.recipient, 0
	}
	r.logRefused(tx, &e)
	r.show(&e)
	if r.o.ReadOnly {
		return
	}
	k := key(tx)
	sh := r.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if tx.ID == "" && sh.sessions[k] == nil {
		// Turned away before it was a connection at all: nothing more will come.
		r.record(turnedAway(k, &session{facts: factsOf(tx.Session), refusals: []refusal{f}}))
		return
	}
	s := r.session(sh, tx, k, now)
	s.touched = now
	if tx.ID == "" {
		if len(s.refusals) < maxRefusals {
			s.refusals = append(s.refusals, f)
		}
		return
	}
	o := r.transaction(s, tx, k, now)
	if stage == hooks.Rcpt {
		o.rcpts++
		if f.recipient != "" {
			o.see(f.recipient)
		}
	}
	if len(o.refusals) >= maxRefusals {
		o.unkept++
		return
	}
	o.refusals = append(o.refusals, f)
}

// Verdict tells the end of a transaction, or, where tx.ID is empty, of a
// connection that was refused; reply is what the client is told, reason why where
// that is not in the reply. What tx holds is read before Verdict returns; its
// body is read only where Options.Bodies is set.
func (r *Recorder) Verdict(tx *hooks.Transaction, v Verdict, reply message.Reply, reason string) {
	if r == nil {
		return
	}
	now := time.Now()
	d := &draft{
		id: tx.Subject(), session: tx.Session.ID, ended: now, verdict: v, reply: reply, reason: reason,
		facts: factsOf(tx.Session), sender: tx.Sender, size: tx.Size,
		scores: tx.Scores, tags: tx.Tags, route: tx.Route,
	}
	d.recipients = addresses(tx.Recipients)
	if tx.Header != nil {
		d.subject, _ = tx.Header.Get("Subject")
	}
	switch {
	case r.o.ReadOnly:
	case tx.CameBody:
		d.message = tx.Came
	case r.o.Bodies && tx.Body != nil:
		d.message = keepBody(tx.Body)
	default:
		d.header = tx.Came[:min(len(tx.Came), maxHeader)]
	}
	d.params = tx.Params
	r.take(d, tx)
	if at := d.decided; at.by != "" && !v.Good() && (!v.Refuses() || at.reply == reply || at.by == reason) {
		d.by, d.at = at.by, at.at
	}
	if d.reason == d.by {
		d.reason = ""
	}
	known := slices.ContainsFunc(d.refusals, func(f refusal) bool { return f.reply == reply })
	if v.Refuses() && !known {
		r.metrics.refused(d.at, d.by, reply)
	}
	r.tell(tx, d, known)
	if !r.o.ReadOnly {
		r.list.add(d, r)
	}
}
