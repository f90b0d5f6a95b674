package queue

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/postern-mta/postern/core/message"
)

// recoverBatch is how many writes a repair gathers before it commits them.
const recoverBatch = 1000

// recover makes the store consistent and counts it. Readers only count.
func (h *handle) recover() error {
	due, damaged, err := h.count()
	if err != nil {
		return err
	}
	if err := h.countDamaged(); err != nil {
		return err
	}
	if h.q.o.ReadOnly {
		h.totals.add(Totals{Damaged: len(damaged)})
		return nil
	}
	for id, d := range damaged {
		h.totals.add(d.head.totals()) // setting it aside takes them off
		h.setAside(id, d.why)
	}
	if err := h.checkDue(due); err != nil {
		return err
	}
	return h.removeOrphans()
}

// damage is what is known of a damaged record.
type damage struct {
	why  error
	head head
}

// guess is the head of a record that may be damaged: what it says where it still
// makes sense. The totals rest on it until the next Open.
func guess(stored []byte) head {
	h, err := parseHead(stored[min(sealLen, len(stored)):])
	if err != nil {
		return head{due: noDue}
	}
	return h
}

// count reads every record: its checksum and its head. due is how many of them
// have a due entry. Damaged ones are not counted.
func (h *handle) count() (due int, damaged map[string]damage, err error) {
	damaged = map[string]damage{}
	c, err := h.engine.Range([]byte{recordRange}, []byte{recordRange + 1})
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	var t Totals
	for c.Next() {
		v, err := c.Value()
		if err != nil {
			return 0, nil, err
		}
		one := head{}
		b, err := unseal(c.Key(), v)
		if err == nil {
			one, err = parseHead(b)
		}
		if err != nil {
			damaged[string(c.Key()[1:])] = damage{err, guess(v)}
			continue
		}
		if one.due != noDue {
			due++
		}
		its := one.totals()
		t.Messages += its.Messages
		t.Recipients += its.Recipients
		t.Held += its.Held
		t.Quarantined += its.Quarantined
	}
	h.totals.add(t)
	return due, damaged, c.Err()
}

// countDamaged counts the records that were set aside before.
func (h *handle) countDamaged() error {
	c, err := h.engine.Range([]byte{damagedRange, recordRange}, []byte{damagedRange, recordRange + 1})
	if err != nil {
		return err
	}
	defer c.Close()
	n := 0
	for c.Next() {
		n++
	}
	h.totals.add(Totals{Damaged: n + h.engine.Damaged()})
	return c.Err()
}

// setAside moves a damaged message to the damaged range, where nothing looks at
// it but a person, and takes it off the due index. It looks again with the row
// locked, since the message may have been removed meanwhile.
func (h *handle) setAside(id string, why error) {
	if h.q.o.ReadOnly {
		return
	}
	moved, err := h.moveAside(id)
	switch {
	case err != nil:
		h.q.log.Error("queue: a damaged message could not be set aside", "id", id, "damage", why, "error", err)
	case moved:
		h.q.log.Error("queue: a damaged message was set aside", "id", id, "damage", why)
	}
}

// moveAside tells whether there was anything to move.
func (h *handle) moveAside(id string) (moved bool, err error) {
	defer h.row(id)()
	var writes []Write
	totals := Totals{Damaged: 1}
	for _, key := range [][]byte{recordKey(id), bodyKey(id)} {
		v, done, err := h.engine.Get(key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		writes = append(writes, put(damagedKey(key), append([]byte(nil), v...)), del(key))
		if key[0] == recordRange {
			totals = guess(v).totals().negated()
			totals.Damaged = 1
		}
		done()
	}
	if len(writes) == 0 {
		return false, nil
	}
	dues, err := h.dueKeysOf(id)
	if err != nil {
		return false, err
	}
	for _, key := range dues {
		writes = append(writes, del(key))
	}
	if err := h.engine.Commit(writes); err != nil {
		return false, err
	}
	h.totals.add(totals)
	return true, nil
}

// dueKeysOf searches the whole index: the record that knew the time is damaged.
func (h *handle) dueKeysOf(id string) (keys [][]byte, err error) {
	c, err := h.engine.Range([]byte{dueRange}, []byte{dueRange + 1})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for c.Next() {
		if k := c.Key(); len(k) >= 9 && string(k[9:]) == id {
			keys = append(keys, append([]byte(nil), k...))
		}
	}
	return keys, c.Err()
}

// checkDue compares the due index with the records, and makes it anew where it
// has another number of entries than the records ask for.
func (h *handle) checkDue(want int) error {
	c, err := h.engine.Range([]byte{dueRange}, []byte{dueRange + 1})
	if err != nil {
		return err
	}
	n := 0
	for c.Next() {
		n++
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil || n == want {
		return err
	}
	h.q.log.Error("queue: the due index does not match the records and is made anew", "entries", n, "expected", want)
	if err := h.rewrite(dueRange, func(c Cursor) []Write {
		return []Write{del(append([]byte(nil), c.Key()...))}
	}); err != nil {
		return err
	}
	return h.rewrite(recordRange, func(c Cursor) []Write {
		v, err := c.Value()
		if err != nil {
			return nil // Err of the cursor tells
		}
		b, err := unseal(c.Key(), v)
		if err != nil {
			return nil // could not be set aside
		}
		one, err := parseHead(b)
		if err != nil || one.due == noDue {
			return nil
		}
		return []Write{put(dueKey(one.due, string(c.Key()[1:])))}
	})
}

// rewrite commits what each key of a range calls for, in bounded steps.
func (h *handle) rewrite(kind byte, each func(Cursor) []Write) error {
	c, err := h.engine.Range([]byte{kind}, []byte{kind + 1})
	if err != nil {
		return err
	}
	defer c.Close()
	var writes []Write
	for c.Next() {
		writes = append(writes, each(c)...)
		if len(writes) >= recoverBatch {
			if err := h.engine.Commit(writes); err != nil {
				return err
			}
			writes = writes[:0]
		}
	}
	if err := c.Err(); err != nil || len(writes) == 0 {
		return err
	}
	return h.engine.Commit(writes)
}

// removeOrphans unlinks the body files that no record names: those of drafts
// that never came to their commit, and of messages that left.
func (h *handle) removeOrphans() error {
	n := 0
	for name, err := range h.q.disk.Names() {
		if err != nil {
			return err
		}
		if !message.ValidID(name) {
			h.q.log.Warn("queue: a file that is not the queue's", "dir", h.q.dir, "name", name)
			continue
		}
		named, err := h.named(name)
		if err != nil {
			return err
		}
		if !named {
			h.q.unlink(name)
			n++
		}
	}
	if n > 0 {
		h.q.log.Info("queue: removed the files of messages that were never accepted, or were gone already", "files", n)
	}
	return nil
}

// named tells whether a message, or a damaged one, has that body file.
func (h *handle) named(id string) (bool, error) {
	key := bodyKey(id)
	for _, k := range [][]byte{key, damagedKey(key)} {
		_, done, err := h.engine.Get(k)
		if err == nil {
			done()
			return true, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("look up the body file %s: %w", id, err)
		}
	}
	return false, nil
}

// unlink removes a body file that no record names. Where that fails, the next
// Open does it.
func (q *Queue) unlink(id string) {
	if err := q.disk.Remove(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.log.Warn("queue: a body file could not be removed", "id", id, "error", err)
	}
}
