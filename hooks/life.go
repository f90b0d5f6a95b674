package hooks

import (
	"context"
	"io"
	"math/rand/v2"
	"time"
)

// This file is the life of a generation: load at its start, tick while it is the
// present one, and, when its last user is gone, unload and the end.

// Start asks the policies' handlers of stage load, in their order, and begins
// their ticks, which end with Retire. It is called once, before the generation
// gets its first connection, and returns when load is done: a policy that fails
// there is logged and counted, and stays. ctx bounds load alone.
func (c *Chain) Start(ctx context.Context) {
	c.live(ctx, Load)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return
	}
	stop, cancel := context.WithCancel(context.Background())
	c.stop, c.loaded = cancel, true
	for _, l := range c.stages[Tick] {
		if l.Every > 0 {
			c.ticks.Go(func() { c.tick(stop, l) })
		}
	}
}

// tick asks one policy again and again. The first time is somewhere within the
// interval, so that policies don't tick together after a start; a call that takes
// longer than the interval is waited for.
func (c *Chain) tick(stop context.Context, l *link) {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(l.Every))) + 1)
	defer t.Stop()
	for {
		select {
		case <-stop.Done():
			return
		case <-t.C:
		}
		c.liveOne(stop, Tick, l)
		t.Reset(l.Every)
	}
}

// live asks every policy about the generation itself.
func (c *Chain) live(ctx context.Context, at Stage) {
	for _, l := range c.stages[at] {
		c.liveOne(ctx, at, l)
	}
}

// liveOne asks one policy. It sees a transaction of nothing, and its edits go
// nowhere. When, sample and immune are about mail.
func (c *Chain) liveOne(ctx context.Context, at Stage, l *link) {
	tx, start := &Transaction{Session: &Session{}}, time.Now()
	d, _, err := c.call(ctx, l, at, tx)
	if err == nil {
		err = apply(at, tx, d.Edits)
	}
	if err != nil && ctx.Err() != nil {
		return // the generation is over
	}
	h := HandlerRun{Policy: l.Name, Duration: time.Since(start), Shadow: l.Mode == Shadow, Err: err}
	if err != nil {
		c.failed(l, at, tx, err)
	}
	l.calls.Add(1)
	l.verbs[Pass].Add(1)
	if c.observer != nil {
		c.observer.Stage(tx, StageRun{Stage: at, Time: start, Handlers: []HandlerRun{h}})
	}
}

// Ask asks the policies' handlers of load, tick or unload now, those of one policy
// where name is not empty. It is for those who move the clock by hand, in the place
// of Start.
func (c *Chain) Ask(ctx context.Context, at Stage, name string) {
	for _, l := range c.stages[at] {
		if name == "" || name == l.Name {
			c.liveOne(ctx, at, l)
		}
	}
}

// Acquire keeps the generation's handlers open until Release. It reports false
// where the chain is retired and closed already.
func (c *Chain) Acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired && c.users == 0 {
		return false
	}
	c.users++
	return true
}

// Release ends an Acquire.
func (c *Chain) Release() {
	c.mu.Lock()
	c.users--
	last := c.retired && c.users == 0
	c.mu.Unlock()
	if last {
		c.close()
	}
}

// Retire says that no new user will come: ticks end, and when the last user has
// released, stage unload is told and the handlers are closed.
func (c *Chain) Retire() {
	c.mu.Lock()
	last := !c.retired && c.users == 0
	c.retired = true
	if c.stop != nil {
		c.stop()
	}
	c.mu.Unlock()
	if last {
		c.close()
	}
}

// Wait returns when no shadow or observer call is under way.
func (c *Chain) Wait() { c.aside.Wait() }

func (c *Chain) close() {
	c.ticks.Wait()
	c.aside.Wait()
	if c.loaded {
		c.live(context.Background(), Unload)
	}
	for _, l := range c.entries {
		if h, ok := l.Handler.(io.Closer); ok {
			if err := h.Close(); err != nil {
				c.log.Warn("closing a policy", "policy", l.Name, "error", err)
			}
		}
	}
}
