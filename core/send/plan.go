package send

import (
	"math/rand/v2"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// maxDetours bounds how often policies of stage attempt may send a message
// elsewhere in one pass.
const maxDetours = 5

// group is recipients with one destination.
type group struct {
	key   key
	hop   Way
	rcpts []int
}

// park is why and how long a job is put back onto the disk, untried.
type park struct {
	until time.Time     // zero: a while, because the destination has enough ready
	reply message.Reply // why, zero: leave the recipient's last reply
}

// planAside plans e beside whoever found it.
func (s *Sender) planAside(e *entry) {
	chain := s.o.Chain()
	s.plan(e, chain, false)
	chain.Release()
	s.mu.Lock()
	s.planning--
	if s.more && s.planning == maxPlanning/2 {
		s.kick()
	}
	s.mu.Unlock()
}

// plan begins e's pass: it asks where the due recipients go and hands out jobs.
// With inline it doesn't wait for the disk.
func (s *Sender) plan(e *entry, chain *hooks.Chain, inline bool) {
	now := s.o.Now()
	e.mu.Lock()
	verdicts := s.planFor(e, chain, dueRecipients(e, now), now)
	e.mu.Unlock()
	conclude := func() {
		e.mu.Lock()
		s.settle(e, verdicts)
		e.mu.Unlock()
		s.finish(e)
	}
	if inline && len(verdicts) > 0 {
		s.tasks.Go(conclude)
		return
	}
	conclude()
}

// dueRecipients are the indices of those that the pass takes on.
func dueRecipients(e *entry, now time.Time) []int {
	list := make([]int, 0, len(e.m.Recipients))
	if e.m.Place != queue.Active {
		return list
	}
	for i := range e.m.Recipients {
		r := &e.m.Recipients[i]
		if !r.State.Final() && !r.Held && (!r.Next.After(now) || e.effort != due && r.Tried.Before(e.since)) {
			list = append(list, i)
		}
	}
	return list
}

// planFor routes the recipients and hands out their jobs; what needs no attempt
// comes back as verdicts. e.mu is held.
func (s *Sender) planFor(e *entry, chain *hooks.Chain, rcpts []int, now time.Time) (verdicts []verdict) {
	c := s.conf.Load()
	var groups []group
	type place struct {
		key         key
		retry       string
		srs, tagged bool
	}
	index := map[place]int{}
	facts := routeFacts(e.m)
	for _, i := range rcpts {
		h, v := s.route(e, chain, c, i, facts, now)
		if v != nil {
			verdicts = append(verdicts, *v)
			continue
		}
		k := place{keyOf(h, e.m.Recipients[i].Address.Domain), h.Retry, h.SRS, h.Tagged}
		g, ok := index[k]
		if !ok {
			g = len(groups)
			index[k] = g
			groups = append(groups, group{key: k.key, hop: h})
		}
		groups[g].rcpts = append(groups[g].rcpts, i)
	}
	return append(verdicts, s.admit(e, c, groups, now)...)
}

// route decides where recipient i goes, or that it goes nowhere now.
func (s *Sender) route(e *entry, chain *hooks.Chain, c *Config, i int, facts routeAsk, now time.Time) (Way, *verdict) {
	r := &e.m.Recipients[i]
	h, err := c.hop(e.m, r.Address, e.routeOf(i), facts)
	if chain.Has(hooks.Route) {
		try := hooks.Try{Attempt: r.Attempts + 1, TLS: h.TLS, Source: h.source(), Retry: h.Retry, Age: now.Sub(e.m.Arrived)}
		was := try
		if err == nil {
			try.NextHop = h.NextHop.String()
		}
		before := e.routeOf(i)
		switch d := s.ask(e, chain, hooks.Route, i, &try); d.Verb {
		case hooks.Reject:
			return h, &verdict{rcpt: i, state: queue.Failed, untried: true, reply: d.Reply, hop: h.NextHop, at: now}
		case hooks.Defer:
			return h, s.postpone(e, c, i, h, d, now)
		case hooks.Hold:
			return h, &verdict{rcpt: i, state: r.State, untried: true, hold: true, reply: r.Last, hop: h.NextHop, at: now}
		}
		if after := e.routeOf(i); after != before {
			h, err = c.hop(e.m, r.Address, after, facts)
		}
		if err == nil {
			h, err = h.planned(&was, &try)
		}
	}
	if err != nil {
		d := hooks.Decision{Reply: message.NewReply(451, "4.3.5", "No way to the recipient: %v", err)}
		return h, s.postpone(e, c, i, h, d, now)
	}
	return h, nil
}

// postpone is the verdict on a recipient that is not tried now, by a policy or
// for want of a route; at the end of the message's life it is given up.
func (s *Sender) postpone(e *entry, c *Config, i int, h Way, d hooks.Decision, now time.Time) *verdict {
	v := verdict{rcpt: i, state: queue.Deferred, untried: true, reply: d.Reply, hop: h.NextHop, at: now}
	switch {
	case d.After > 0:
		v.next = now.Add(d.After)
	case c.expired(e.m, now):
		v.state = queue.Failed
	default:
		v.next = c.nextTry(e.m, h, now)
	}
	return &v
}

// routeOf is the next hop that a policy set for recipient i, "" for none.
func (e *entry) routeOf(i int) string {
	if e.tx != nil {
		return e.tx.Recipients[i].Route
	}
	return e.m.Recipients[i].Route
}

// expired tells whether an attempt that starts now is the message's last.
func (c *Config) expired(m *queue.Message, now time.Time) bool {
	return !now.Before(m.Arrived.Add(c.Lifetime))
}

// nextTry is when a message that was not delivered now is tried next: when the
// schedule says, and once more at the end of its life.
func (c *Config) nextTry(m *queue.Message, h Way, now time.Time) time.Time {
	plan := c.RetryRemote
	if channelOf(h.Scheme) == local {
		plan = c.RetryLocal
	}
	if own, err := ParseRetry(h.Retry, h.Scheme); err == nil && own != nil {
		plan = own
	}
	next := plan(m.Arrived, now)
	if end := m.Arrived.Add(c.Lifetime); now.Before(end) && next.After(end) {
		next = end
	}
	return next
}

// admit puts a job for each group into its destination's ready list. Where the
// destination is down, or has enough waiting, its recipients come back as
// verdicts that put them back untried. e.mu is held.
func (s *Sender) admit(e *entry, c *Config, groups []group, now time.Time) (verdicts []verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || e.withdrawn {
		return nil // they stay as they are and are found again
	}
	more := e.extra()
	verp := more.apart
	for _, g := range groups {
		d := s.destination(g.key, g.hop)
		if e.effort == urgent {
			d.revive()
		}
		var p *park
		switch {
		case d.resting(now):
			p = &park{until: d.restTill, reply: d.notTried()}
			s.leaveWaiting(d, e.id, now)
		case d.ready < s.fill() || more.Priority > 0:
		case len(s.outside) < outsideShare*s.o.Window:
			e.wait = d
			continue
		default:
			p = &park{}
		}
		if p != nil {
			verdicts = append(verdicts, e.parked(c, g.hop, g.rcpts, *p, now)...)
			continue
		}
		more.apart = verp || g.hop.Scheme == SchemePipe || g.hop.Scheme == SchemeLocal && c.LocalApart
		for rcpts, edits := range more.transactions(g.rcpts) {
			j := &job{e: e, d: d, hop: g.hop, rcpts: rcpts, edits: edits, priority: more.Priority}
			d.push(j)
			e.jobs = append(e.jobs, j)
			e.pending++
		}
		s.enqueue(d)
	}
	s.dispatch(now)
	return verdicts
}

// parked are the verdicts that put recipients back untried. A destination that
// is down keeps them as long as a failed attempt would have, and no longer than
// they live: the failed attempts of others stand for their last one.
func (e *entry) parked(c *Config, h Way, rcpts []int, p park, now time.Time) []verdict {
	list := make([]verdict, 0, len(rcpts))
	for _, i := range rcpts {
		r := &e.m.Recipients[i]
		v := verdict{rcpt: i, state: r.State, untried: true, quiet: true, reply: p.reply, hop: h.NextHop, at: now}
		switch {
		case e.effort == every && r.Next.After(now):
			continue
		case p.until.IsZero():
			v.reply = r.Last
			pause := min(max(now.Sub(e.m.Arrived)/8, crowdedMin), crowdedMax)
			v.next = now.Add(pause + rand.N(pause))
		case c.expired(e.m, now):
			v.state, v.quiet = queue.Failed, false
			if r.Last.Temporary() {
				v.reply = r.Last
			}
		default:
			v.next = c.nextTry(e.m, h, now)
			if v.next.Before(p.until) {
				v.next = p.until
			}
		}
		list = append(list, v)
	}
	return list
}

// parkJob puts back the recipients of a job whose destination went down while
// it waited.
func (s *Sender) parkJob(j *job, p park) {
	j.e.mu.Lock()
	s.settle(j.e, j.e.parked(s.conf.Load(), j.hop, j.rcpts, p, s.o.Now()))
	j.e.mu.Unlock()
	s.finish(j.e)
}
