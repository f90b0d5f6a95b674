package gate

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/postern-mta/postern/hooks"
)

// Open is how many connections of one listener are open, and where they stand.
type Open struct {
	Listener string
	Stages   map[hooks.Stage]int // those that have any
	TLS      int                 // over TLS
}

// census counts a listener's connections by the stage that they stand at. It is
// moved by the connections themselves, so that nobody has to walk over them.
type census struct {
	name   string
	stages [hooks.Queued + 1]atomic.Int64
	tls    atomic.Int64
}

// census finds or makes a listener's.
func (g *Gate) census(listener string) *census {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.byListener[listener]
	if c == nil {
		c = &census{name: listener}
		g.byListener[listener] = c
	}
	return c
}

// Open counts the connections that are served now, by listener. It holds up none
// of them; what moves meanwhile may be counted at either place.
func (g *Gate) Open() []Open {
	g.mu.Lock()
	all := make([]*census, 0, len(g.byListener))
	for _, c := range g.byListener {
		all = append(all, c)
	}
	g.mu.Unlock()
	slices.SortFunc(all, func(a, b *census) int { return cmp.Compare(a.name, b.name) })
	list := make([]Open, 0, len(all))
	for _, c := range all {
		one := Open{Listener: c.name, Stages: map[hooks.Stage]int{}, TLS: int(c.tls.Load())}
		for at := range c.stages {
			if n := c.stages[at].Load(); n > 0 {
				one.Stages[hooks.Stage(at)] = int(n)
			}
		}
		list = append(list, one)
	}
	return list
}

// Stands tells that the conversation has come to a stage, connect to queued. It is
// called by the goroutine that serves.
func (c *Conn) Stands(at hooks.Stage) {
	if c.census == nil || at == c.at || int(at) >= len(c.census.stages) {
		return
	}
	if c.at != 0 {
		c.census.stages[c.at].Add(-1)
	}
	c.census.stages[at].Add(1)
	c.at = at
}

// Secured tells that the conversation is over TLS from now on.
func (c *Conn) Secured() {
	if c.census != nil && !c.tls {
		c.tls = true
		c.census.tls.Add(1)
	}
}

// gone takes the connection out of the census.
func (c *Conn) gone() {
	if c.at != 0 {
		c.census.stages[c.at].Add(-1)
		c.at = 0
	}
	if c.tls {
		c.tls = false
		c.census.tls.Add(-1)
	}
}
