package pebble

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/journal"
)

// commit is a batch on its way. After a failure it may still be under way when its
// caller has the answer, so it is not used a second time then.
type commit struct {
	batch *pebble.Batch
	entry journal.Entry // of the batch's bytes
}

// Commit implements queue.Engine. The journal makes the batch durable, and then
// Pebble shows it to readers.
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
		c = &commit{}
	}
	c.batch = e.batch(writes)
	c.entry.Payload = c.batch.Repr()
	if err := e.journal.Append(&c.entry); err != nil {
		return err
	}
	if err := e.db.Apply(c.batch, pebble.NoSync); err != nil {
		return err
	}
	e.journal.Applied(&c.entry)
	if err := e.Failed(); err != nil {
		return err
	}
	err := c.batch.Close()
	c.batch, c.entry.Payload = nil, nil
	e.spare.Put(c)
	return err
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

// redo applies a batch that the journal kept.
func (e *engine) redo(payload []byte) error {
	b := e.db.NewBatch()
	if err := b.SetRepr(append([]byte(nil), payload...)); err != nil {
		return err
	}
	if err := e.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	return b.Close()
}

// Flush implements queue.Engine.
func (e *engine) Flush() error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	return e.flush()
}

// flush has everything that was applied in tables.
func (e *engine) flush() error {
	if err := e.db.Flush(); err != nil {
		return err
	}
	return e.Failed()
}
