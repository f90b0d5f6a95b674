package hooks

import (
	"context"
	"sync"
	"time"
)

// patience is a context that ends at a time, like context.WithDeadline's. Its timer
// is made when somebody waits for the end: most handlers answer without, and would
// spend more on the timer than on the answer.
type patience struct {
	outer context.Context
	until time.Time

	mu    sync.Mutex
	inner context.Context // with the timer; nil: nobody waited yet
	stop  context.CancelFunc
	ended bool
}

// end releases the timer; the context is cancelled.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.stop != nil {
		p.stop()
	}
}

// Deadline implements context.Context.
func (p *patience) Deadline() (time.Time, bool) {
	if at, ok := p.outer.Deadline(); ok && at.Before(p.until) {
		return at, true
	}
	return p.until, true
}

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inner == nil {
		p.inner, p.stop = context.WithDeadline(p.outer, p.until)
		if p.ended {
			p.stop()
		}
	}
	return p.inner.Done()
}

// Err implements context.Context.
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.inner != nil:
		return p.inner.Err()
	case p.outer.Err() != nil:
		return p.outer.Err()
	case !time.Now().Before(p.until):
		return context.DeadlineExceeded
	case p.ended:
		return context.Canceled
	}
	return nil
}

// Value implements context.Context. The inner one knows itself, so that contexts
// made of this one end with it without a goroutine.
func (p *patience) Value(key any) any {
	p.mu.Lock()
	inner := p.inner
	p.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return p.outer.Value(key)
}
