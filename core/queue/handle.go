package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
)

// handle is the store from one opening to its failure, or to the queue's Close,
// with what is known of it in memory. A call stays with the handle it began with:
// what was read before a failure is not written after it.
type handle struct {
	q       *Queue
	engine  Engine
	pending pending
	floor   floor
	totals  counter
	rows    [64]sync.Mutex // serialise the changes of one message, by a hash of its id
}

// ErrFailed is what errors are whose call met the failure of the store: whether
// it was done is unknown until the store is opened again (see Queue.Watch).
var ErrFailed = errors.New("the store failed")

// met is an error of a call that met the failure.
type met struct{ error }

func (met) Is(target error) bool { return target == ErrFailed }
func (m met) Unwrap() error      { return m.error }

// explain marks an error of a call on a handle that failed.
func (h *handle) explain(err error) error {
	if err != nil && h.engine.Failed() != nil {
		return met{err}
	}
	return err
}

// openHandle opens the store and recovers. Of refused nothing is kept: these are
// messages whose commit met a failure, so that whoever sent them was told so.
func (q *Queue) openHandle(existing bool, refused map[string]struct{}) (*handle, error) {
	h := &handle{q: q}
	h.floor.at = math.MinInt64
	var err error
	h.engine, err = q.open(q.storeDir(), EngineOptions{Log: q.log, ReadOnly: q.o.ReadOnly, NoSync: q.o.NoSync, Existing: existing})
	if err != nil {
		return nil, err
	}
	if err = h.checkFormat(existing); err == nil {
		if err = h.forget(refused); err == nil {
			err = h.recover()
		}
	}
	if failed := h.engine.Failed(); failed != nil {
		err = failed // what was read after it means nothing
	}
	if err != nil {
		return nil, errors.Join(err, h.engine.Close())
	}
	return h, nil
}

// checkFormat refuses a store of a newer version, and marks a new one.
func (h *handle) checkFormat(existing bool) error {
	v, done, err := h.engine.Get(formatKey)
	if errors.Is(err, ErrNotFound) {
		if existing || h.q.o.ReadOnly {
			return fmt.Errorf("it was never written: %w", fs.ErrNotExist)
		}
		return h.writeFormat()
	}
	if err != nil {
		return err
	}
	defer done()
	b, err := unseal(formatKey, v)
	if err != nil || len(b) != 4 {
		return fmt.Errorf("its format version cannot be read: %w", ErrDamaged)
	}
	n := binary.LittleEndian.Uint32(b)
	if n > formatVersion {
		return fmt.Errorf("%w: it was written by a newer Postern with format %d, this one knows formats up to %d", ErrFormat, n, formatVersion)
	}
	if n < formatVersion && !h.q.o.ReadOnly {
		h.q.log.Info("queue: the store is brought to a newer format; earlier versions won't open it", "from", n, "to", formatVersion)
		return h.writeFormat()
	}
	return nil
}

// writeFormat marks the store, so that a version that does not know this one's way of
// committing refuses it.
func (h *handle) writeFormat() error {
	if err := h.engine.Commit([]Write{put(formatKey, formatValue())}); err != nil {
		return err
	}
	return h.engine.Flush()
}

func formatValue() []byte {
	return seal(formatKey, binary.LittleEndian.AppendUint32(nil, formatVersion))
}

// forget removes what a failed commit may have left of messages.
func (h *handle) forget(refused map[string]struct{}) error {
	for id := range refused {
		s := step{h: h}
		old, err := h.head(id)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrDamaged): // the latter is set aside
			continue
		case err != nil:
			return err
		}
		s.remove(id, old)
		// What is counted is not yet in memory, and the file is an orphan for recover.
		if err := h.engine.Commit(s.writes); err != nil {
			return err
		}
		h.q.log.Info("queue: removed a message that was refused when the store failed", "id", id)
	}
	return nil
}

// writable tells why nothing can be written.
func (h *handle) writable() error {
	switch {
	case h.q.closed.Load():
		return ErrClosed
	case h.q.o.ReadOnly:
		return ErrReadOnly
	}
	return h.engine.Failed()
}

// readable tells why nothing can be read.
func (h *handle) readable() error {
	if h.q.closed.Load() {
		return ErrClosed
	}
	return h.engine.Failed()
}

// row locks a message against other changes until the returned function is called.
func (h *handle) row(id string) func() {
	mu := &h.rows[rowOf(id)]
	mu.Lock()
	return mu.Unlock
}

func rowOf(id string) int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return int(h % 64)
}
