package dns

import (
	"container/list"
	"time"
)

// cache keeps answers until their time is up, the least recently used going
// first where space is short. It has no lock and no clock of its own.
type cache struct {
	limit int // bytes, by the estimate of cost
	size  int
	items map[question]*list.Element
	order *list.List // of *cached, the most recently used in front
}

type cached struct {
	q       question
	a       *answer
	expires time.Time
	cost    int
}

func newCache(limit int) *cache {
	return &cache{limit: limit, items: map[question]*list.Element{}, order: list.New()}
}

// get returns the answer to q, nil where none is kept or its time is up.
func (c *cache) get(q question, now time.Time) *answer {
	e, ok := c.items[q]
	if !ok {
		return nil
	}
	item := e.Value.(*cached)
	if !now.Before(item.expires) {
		c.remove(e)
		return nil
	}
	c.order.MoveToFront(e)
	return item.a
}

// put keeps a, which answers q, for a.ttl.
func (c *cache) put(q question, a *answer, now time.Time) {
	if e, ok := c.items[q]; ok {
		c.remove(e)
	}
	item := &cached{q: q, a: a, expires: now.Add(a.ttl), cost: cost(q, a)}
	if item.cost > c.limit {
		return
	}
	c.items[q] = c.order.PushFront(item)
	c.size += item.cost
	for c.size > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	item := c.order.Remove(e).(*cached)
	delete(c.items, item.q)
	c.size -= item.cost
}

// cost estimates the bytes that an answer holds, map and list entries included.
func cost(q question, a *answer) int {
	n := 300 + len(q.name) + 24*len(a.addrs)
	for _, mx := range a.mx {
		n += 24 + len(mx.Host)
	}
	for _, t := range a.text {
		n += 16 + len(t)
	}
	if a.err != nil {
		n += 100 + len(a.err.Text)
	}
	return n
}
