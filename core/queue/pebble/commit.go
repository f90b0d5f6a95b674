package pebble

import (
	"cmp"

	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/queue"
)

// commit is a batch on its way. After a failure it may still be under way when its
// caller has the answer, so it is not used a second time then.
type commit struct {
	batch *pebble.Batch
	done  chan error // has room for the answer
}

// Commit implements queue.Engine. The caller copies its writes into a batch; the
// engine's own goroutines do what may hang with the disk.
func (e *engine) Commit(writes []queue.Write) error {
	if e.readOnly {
		return queue.ErrReadOnly
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	c, ok := e.spare.Get().(*commit)
	if !ok {
		c = &commit{done: make(chan error, 1)}
	}
	c.batch = e.batch(writes)
	select {
	case e.commits <- c:
	case <-e.failure.failed:
		return e.failure.get()
	}
	select {
	case err := <-c.done:
		if err != nil {
			return err
		}
		err = c.batch.Close()
		c.batch = nil
		e.spare.Put(c)
		return err
	case <-e.failure.failed:
		return e.failure.get()
	}
}

// batch copies the writes, each byte once.
func (e *engine) batch(writes []queue.Write) *pebble.Batch {
	const header, perWrite = 12, 12 // more than Pebble adds
	size := header
	for _, w := range writes {
		size += perWrite + len(w.Key)
		for _, p := range w.Value {
			size += len(p)
		}
	}
	b := e.db.NewBatchWithSize(size)
	for _, w := range writes {
		if w.Delete {
			op := b.DeleteDeferred(len(w.Key))
			copy(op.Key, w.Key)
			_ = op.Finish() // it has no index that could refuse
			continue
		}
		n := 0
		for _, p := range w.Value {
			n += len(p)
		}
		op := b.SetDeferred(len(w.Key), n)
		copy(op.Key, w.Key)
		v := op.Value
		for _, p := range w.Value {
			v = v[copy(v, p):]
		}
		_ = op.Finish() // as above
	}
	return b
}

// apply writes batches to the log and to memory, in turn, until Close.
func (e *engine) apply() {
	defer close(e.waiting)
	for {
		select {
		case c := <-e.commits:
			e.applyOne(c)
		case <-e.closing:
			return // Close waited for the callers
		}
	}
}

func (e *engine) applyOne(c *commit) {
	if err := e.failure.get(); err != nil {
		c.done <- err
		return
	}
	if e.noSync {
		err := e.db.Apply(c.batch, pebble.NoSync)
		c.done <- cmp.Or(e.failure.get(), err)
		return
	}
	if err := e.db.ApplyNoSyncWait(c.batch, pebble.Sync); err != nil {
		c.done <- err
		return
	}
	e.waiting <- c
}

// await answers each caller when the log is synced as far as its batch. After a
// failure Pebble believes in syncs that never were, so the failure is looked at
// behind it. An error of its own here would be one that the guard let through.
func (e *engine) await() {
	for c := range e.waiting {
		if err := c.batch.SyncWait(); err != nil {
			e.failure.set(err)
		}
		c.done <- e.failure.get()
	}
}
