package queue

import "sync"

// Totals are counted in memory. A message is in one of Held and Quarantined at
// most; Recipients are those that are not final yet.
type Totals struct {
	Messages, Recipients, Held, Quarantined int
	Damaged                                 int // messages set aside
}

// Totals returns the present counts; after a failure, those from before it.
func (q *Queue) Totals() Totals { return q.handle.Load().totals.load() }

// counter is the totals.
type counter struct {
	mu sync.Mutex
	t  Totals
}

func (c *counter) add(t Totals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Messages += t.Messages
	c.t.Recipients += t.Recipients
	c.t.Held += t.Held
	c.t.Quarantined += t.Quarantined
	c.t.Damaged += t.Damaged
}

func (c *counter) load() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// totals is what a message with this head adds.
func (h head) totals() Totals {
	t := Totals{Messages: 1, Recipients: h.open}
	switch h.place {
	case Held:
		t.Held = 1
	case Quarantined:
		t.Quarantined = 1
	}
	return t
}

func (t Totals) negated() Totals {
	return Totals{-t.Messages, -t.Recipients, -t.Held, -t.Quarantined, -t.Damaged}
}
