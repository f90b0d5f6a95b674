package hooks

import (
	"context"
	"sync"
)

// maxFindings bounds what a transaction remembers.
const maxFindings = 64

// Findings is what was found out about a transaction by work that is worth doing
// once, such as a check of SPF: whoever asks again is given the same. It is safe for
// concurrent use, and shared by copies of the transaction. A nil *Findings
// remembers nothing.
type Findings struct {
	mu    sync.Mutex
	found map[string]*finding
}

// finding is an answer, or one under way.
type finding struct {
	done  chan struct{}
	value any
	keep  bool
}

// Once is the answer to what key stands for: that of find, which runs once however
// many ask. keep false says that the answer is not worth remembering, as where ctx
// ended first; the next one to ask finds anew. Of more than 64 keys the rest are
// not remembered. An answer belongs to all who ask, and is not changed.
func (f *Findings) Once(ctx context.Context, key string, find func(context.Context) (value any, keep bool)) any {
	for f != nil {
		f.mu.Lock()
		one := f.found[key]
		if one == nil && len(f.found) >= maxFindings {
			f.mu.Unlock()
			break
		}
		if one == nil {
			one = &finding{done: make(chan struct{})}
			if f.found == nil {
				f.found = map[string]*finding{}
			}
			f.found[key] = one
			f.mu.Unlock()
			return f.find(ctx, key, one, find)
		}
		f.mu.Unlock()
		select {
		case <-one.done:
			if one.keep {
				return one.value
			}
		case <-ctx.Done():
			value, _ := find(ctx) // which ends at once, and says why
			return value
		}
	}
	value, _ := find(ctx)
	return value
}

// find answers for all who wait; where find panics they ask for themselves.
func (f *Findings) find(ctx context.Context, key string, one *finding, find func(context.Context) (any, bool)) any {
	defer func() {
		if !one.keep {
			f.mu.Lock()
			delete(f.found, key)
			f.mu.Unlock()
		}
		close(one.done)
	}()
	one.value, one.keep = find(ctx)
	return one.value
}
