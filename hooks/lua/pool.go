package lua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// DefaultStates is how many Lua states a Pool allows where nothing else is said.
const DefaultStates = 512

// idleFor is how long a state that nobody needs is kept.
const idleFor = time.Minute

var errClosed = errors.New("the policy's generation is over")

// Pool bounds the Lua states of all policies that share it. A policy's states
// grow in number while calls wait in look-ups; no policy holds more than a
// quarter of all, and where policies that wait have three quarters in use, one of
// them that has a state in use gets no further one than those it has idle. Who gets none waits for one. It is safe
// for concurrent use.
type Pool struct {
	limit, share int

	mu     sync.Mutex
	live   int // states there are
	asleep int // of them, in look-ups
	held   int // of them, in use by policies that are known to wait
	users  []*Policy
	queue  []*waiter
}

// waiter is a call that needs a state.
type waiter struct {
	p     *Policy
	ready chan *state // a state, or nil: the place for one, already counted
}

// NewPool makes a pool of at most so many states; 0: DefaultStates.
func NewPool(states int) *Pool {
	if states <= 0 {
		states = DefaultStates
	}
	return &Pool{limit: states, share: max(1, states/4)}
}

// States tells how many Lua states there are now.
func (pool *Pool) States() int {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	return pool.live
}

// members of a Policy that its pool keeps, under its lock.
type pooled struct {
	idle   []*state
	since  []time.Time // when each of them became idle
	live   int
	used   int // of them, not idle
	asleep int
	waits  bool // a call of it was in a look-up before
	closed bool
}

func (pool *Pool) join(p *Policy, first *state) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	pool.users = append(pool.users, p)
	pool.live++
	p.live++
	p.idle, p.since = append(p.idle, first), append(p.since, time.Now())
}

// acquire gives a state of the policy, making one or waiting for one.
func (pool *Pool) acquire(ctx context.Context, p *Policy) (*state, error) {
	pool.mu.Lock()
	if p.closed {
		pool.mu.Unlock()
		return nil, errClosed
	}
	if n := len(p.idle); n > 0 {
		st := p.idle[n-1]
		p.idle, p.since = p.idle[:n-1], p.since[:n-1]
		pool.use(p, 1)
		pool.mu.Unlock()
		return st, nil
	}
	if pool.room(p) {
		pool.live++
		p.live++
		pool.use(p, 1)
		pool.mu.Unlock()
		return pool.grow(ctx, p)
	}
	w := &waiter{p, make(chan *state, 1)}
	pool.queue = append(pool.queue, w)
	pool.mu.Unlock()
	select {
	case st, ok := <-w.ready:
		return pool.given(ctx, p, st, ok)
	case <-ctx.Done():
	}
	pool.mu.Lock()
	if i := slices.Index(pool.queue, w); i >= 0 {
		pool.queue = slices.Delete(pool.queue, i, i+1)
		pool.mu.Unlock()
		return nil, fmt.Errorf("waiting for a Lua state: %w", ctx.Err())
	}
	pool.mu.Unlock()
	st, ok := <-w.ready // it came just now
	return pool.given(ctx, p, st, ok)
}

func (pool *Pool) given(ctx context.Context, p *Policy, st *state, ok bool) (*state, error) {
	switch {
	case !ok:
		return nil, errClosed
	case st == nil:
		return pool.grow(ctx, p)
	}
	return st, nil
}

// grow makes a state whose place is counted already.
func (pool *Pool) grow(ctx context.Context, p *Policy) (*state, error) {
	st, err := newState(context.WithoutCancel(ctx), p.script, p, p.values)
	if err != nil {
		pool.release(p, nil)
	}
	return st, err
}

// use counts states of the policy that begin or end to be in use.
func (pool *Pool) use(p *Policy, n int) {
	p.used += n
	if p.waits {
		pool.held += n
	}
}

// room tells whether the policy may have one more state, and makes room by
// taking an idle one from another policy where that helps.
func (pool *Pool) room(p *Policy) bool {
	if p.live >= pool.share || p.waits && p.used > 0 && pool.held >= pool.limit-pool.limit/4 {
		return false
	}
	if pool.live < pool.limit {
		return true
	}
	for _, other := range pool.users {
		if len(other.idle) > 0 && other != p {
			pool.shrink(other)
			return true
		}
	}
	return false
}

// shrink drops the state of the policy that is idle for the longest time.
func (pool *Pool) shrink(p *Policy) {
	p.idle[0].L.Close()
	p.idle, p.since = slices.Delete(p.idle, 0, 1), slices.Delete(p.since, 0, 1)
	p.live--
	pool.live--
}

// release takes a state back; nil says that it is gone.
func (pool *Pool) release(p *Policy, st *state) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if st != nil && !p.closed {
		if w := pool.next(func(w *waiter) bool { return w.p == p }); w != nil {
			w.ready <- st
			return
		}
	}
	pool.use(p, -1)
	switch {
	case st != nil && !p.closed:
		p.idle, p.since = append(p.idle, st), append(p.since, time.Now())
	case st != nil:
		st.L.Close()
		fallthrough
	default:
		p.live--
		pool.live--
	}
	if len(pool.queue) == 0 {
		if len(p.idle) > 1 && time.Since(p.since[0]) > idleFor {
			pool.shrink(p)
		}
		return
	}
	pool.serve()
}

// serve gives places to waiting calls as far as there is room.
func (pool *Pool) serve() {
	for {
		w := pool.next(func(w *waiter) bool { return pool.room(w.p) })
		if w == nil {
			return
		}
		pool.live++
		w.p.live++
		pool.use(w.p, 1)
		w.ready <- nil
	}
}

// next takes the first waiting call that fits out of the queue.
func (pool *Pool) next(fits func(*waiter) bool) *waiter {
	i := slices.IndexFunc(pool.queue, fits)
	if i < 0 {
		return nil
	}
	w := pool.queue[i]
	pool.queue = slices.Delete(pool.queue, i, i+1)
	return w
}

// waiting counts a call that begins or ends a look-up.
func (pool *Pool) waiting(p *Policy, n int) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	p.asleep += n
	pool.asleep += n
	if !p.waits {
		p.waits = true
		pool.held += p.used
	}
}

// leave closes the policy's states; those in use are closed when they come back.
func (pool *Pool) leave(p *Policy) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for len(p.idle) > 0 {
		pool.shrink(p)
	}
	if i := slices.Index(pool.users, p); i >= 0 {
		pool.users = slices.Delete(pool.users, i, i+1)
	}
	for w := pool.next(func(w *waiter) bool { return w.p == p }); w != nil; w = pool.next(func(w *waiter) bool { return w.p == p }) {
		close(w.ready)
	}
	pool.serve()
}
