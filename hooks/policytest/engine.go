package policytest

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"github.com/postern-mta/postern/core/queue"
)

// engine is a queue.Engine in memory, for the few messages of a test.
type engine struct {
	mu   sync.Mutex
	rows map[string][]byte
}

func openEngine(string, queue.EngineOptions) (queue.Engine, error) {
	return &engine{rows: map[string][]byte{}}, nil
}

// Commit implements queue.Engine.
func (e *engine) Commit(writes []queue.Write) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range writes {
		if w.Delete {
			delete(e.rows, string(w.Key))
		} else {
			e.rows[string(w.Key)] = bytes.Join(w.Value, nil)
		}
	}
	return nil
}

// Get implements queue.Engine.
func (e *engine) Get(key []byte) (value []byte, done func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, ok := e.rows[string(key)]
	if !ok {
		return nil, nil, queue.ErrNotFound
	}
	return v, func() {}, nil
}

// Range implements queue.Engine.
func (e *engine) Range(from, to []byte) (queue.Cursor, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &cursor{rows: map[string][]byte{}}
	for k, v := range e.rows {
		if k >= string(from) && k < string(to) {
			c.rows[k] = v
		}
	}
	c.keys = slices.Sorted(maps.Keys(c.rows))
	return c, nil
}

// Failed implements queue.Engine.
func (*engine) Failed() error { return nil }

// Ended implements queue.Engine.
func (*engine) Ended() <-chan struct{} { return nil }

// Fail implements queue.Engine: memory does not fail.
func (*engine) Fail(error) {}

// Flush implements queue.Engine.
func (*engine) Flush() error { return nil }

// Damaged implements queue.Engine.
func (*engine) Damaged() int { return 0 }

// Close implements queue.Engine.
func (*engine) Close() error { return nil }

// cursor walks the rows as they were when it was made.
type cursor struct {
	rows map[string][]byte
	keys []string
	next int
}

// Next implements queue.Cursor.
func (c *cursor) Next() bool { c.next++; return c.next <= len(c.keys) }

// Key implements queue.Cursor.
func (c *cursor) Key() []byte { return []byte(c.keys[c.next-1]) }

// Value implements queue.Cursor.
func (c *cursor) Value() ([]byte, error) { return c.rows[c.keys[c.next-1]], nil }

// Err implements queue.Cursor.
func (*cursor) Err() error { return nil }

// Close implements queue.Cursor.
func (*cursor) Close() error { return nil }
