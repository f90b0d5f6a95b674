package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/postern-mta/postern/core/message"
)

// Fault is what a Check found wrong. ID is the message's, or the name of a file.
type Fault struct {
	ID   string `json:"id"`
	What string `json:"what"`
}

// Checked is how much a Check looked at.
type Checked struct {
	Messages   int   `json:"messages"`
	Bytes      int64 `json:"bytes"`      // of stored bodies, each read and checked
	Due        int   `json:"due"`        // entries of the due index
	Aside      int   `json:"aside"`      // damaged messages that were set aside before
	Unnamed    int   `json:"unnamed"`    // body files of drafts, or of messages that left
	Faults     int   `json:"faults"`     // what fault was called for
	InFiles    int   `json:"in_files"`   // messages whose body has a file of its own
	Recipients int   `json:"recipients"` // recipients that are not final
}

// Check proves the contract of the stored queue while it is in use: each
// message's record has its checksum and makes sense, its body is there whole with
// its checksum, it is in the due index if and only if something of it is to be
// tried, at the time that its record says, and no body and no due entry is
// without its message. It changes nothing. What looks wrong is looked at again
// with the message locked, since messages come and go meanwhile. fault is called
// for each fault, step now and then with the number of messages done; both by the
// calling goroutine. The error is ctx's or the store's.
func (q *Queue) Check(ctx context.Context, fault func(Fault), step func(messages int)) (Checked, error) {
	h := q.handle.Load()
	c := checker{h: h, ctx: ctx, fault: fault, step: step}
	err := h.readable()
	for _, part := range []func() error{c.messages, c.bodies, c.due, c.aside, c.files} {
		if err == nil {
			err = part()
		}
	}
	if err = h.explain(err); err != nil {
		err = fmt.Errorf("queue: check: %w", err)
	}
	return c.done, err
}

type checker struct {
	h     *handle
	ctx   context.Context
	fault func(Fault)
	step  func(int)
	done  Checked
}

func (c *checker) complain(id string, err error) {
	c.done.Faults++
	c.fault(Fault{ID: id, What: err.Error()})
}

// each walks the keys of a range.
func (c *checker) each(from, to []byte, visit func(Cursor) error) error {
	cur, err := c.h.engine.Range(from, to)
	if err != nil {
		return err
	}
	defer cur.Close()
	for cur.Next() {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if err := visit(cur); err != nil {
			return err
		}
	}
	return cur.Err()
}

// messages checks every record with its body and its due entry.
func (c *checker) messages() error {
	return c.each([]byte{recordRange}, []byte{recordRange + 1}, func(cur Cursor) error {
		id := string(cur.Key()[1:])
		if c.h.pending.has(id) {
			return nil
		}
		v, err := cur.Value()
		if err != nil {
			return err
		}
		m, its, err := decodeRecord(cur.Key(), v)
		if err == nil {
			err = c.h.whole(m, its)
		}
		if err != nil {
			if err = c.again(id); err != nil {
				c.complain(id, err)
			}
		}
		if err == nil && m != nil {
			c.done.Bytes += m.Size
			c.done.Recipients += its.open
			if its.flags&flagFile != 0 {
				c.done.InFiles++
			}
		}
		c.done.Messages++
		c.step(c.done.Messages)
		return nil
	})
}

// again looks at a message with its row locked: the state that is wrong then is
// wrong. One that left is right.
func (c *checker) again(id string) error {
	defer c.h.row(id)()
	m, h, err := c.h.get(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = c.h.whole(m, h)
	}
	return err
}

// whole tells what a record's message lacks.
func (h *handle) whole(m *Message, its head) error {
	body, closer, err := h.openBody(m.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return errors.New("its body is gone")
	case err != nil:
		return fmt.Errorf("its body: %w", err)
	}
	size := body.Size()
	if err := closer.Close(); err != nil {
		return err
	}
	if size != m.Size {
		return fmt.Errorf("its body has %d bytes, and its record says %d", size, m.Size)
	}
	if at, ok := m.Next(); ok && nanos(at) != its.due || !ok && its.due != noDue {
		return errors.New("its record has another due time than its recipients")
	}
	if its.due == noDue {
		return nil
	}
	_, done, err := h.engine.Get(dueKey(its.due, m.ID))
	if errors.Is(err, ErrNotFound) {
		return errors.New("it is missing in the due index: nobody would try it")
	}
	if err == nil {
		done()
	}
	return err
}

// bodies looks for bodies without a record.
func (c *checker) bodies() error {
	return c.each([]byte{bodyRange}, []byte{bodyRange + 1}, func(cur Cursor) error {
		return c.owned(string(cur.Key()[1:]), "a body whose message is gone", func(head) bool { return true })
	})
}

// due looks for entries of the due index that no record has.
func (c *checker) due() error {
	return c.each([]byte{dueRange}, []byte{dueRange + 1}, func(cur Cursor) error {
		c.done.Due++
		at, id, ok := parseDueKey(cur.Key())
		if !ok {
			c.complain(fmt.Sprintf("%x", cur.Key()), errors.New("a key of the due index that makes no sense"))
			return nil
		}
		key := dueKey(at, id)
		return c.owned(id, "an entry of the due index that its message does not have", func(h head) bool {
			if h.due == at {
				return true
			}
			_, done, err := c.h.engine.Get(key) // it may have moved on
			if err == nil {
				done()
			}
			return err != nil
		})
	})
}

// owned complains where the message is not there, or does not fit.
func (c *checker) owned(id, what string, fits func(head) bool) error {
	if c.h.pending.has(id) {
		return nil
	}
	if h, err := c.h.head(id); err == nil && fits(h) {
		return nil
	}
	defer c.h.row(id)()
	h, err := c.h.head(id)
	switch {
	case errors.Is(err, ErrDamaged):
		return nil // told by messages
	case errors.Is(err, ErrNotFound):
		if !c.left(id) {
			c.complain(id, errors.New(what))
		}
		return nil
	case err != nil:
		return err
	}
	if !fits(h) {
		c.complain(id, errors.New(what))
	}
	return nil
}

// left tells whether a message that has no record has nothing else either.
func (c *checker) left(id string) bool {
	_, done, err := c.h.engine.Get(bodyKey(id))
	if err == nil {
		done()
		return false
	}
	keys, err := c.h.dueKeysOf(id)
	return err == nil && len(keys) == 0
}

// aside counts what was set aside before.
func (c *checker) aside() error {
	return c.each([]byte{damagedRange, recordRange}, []byte{damagedRange, recordRange + 1}, func(Cursor) error {
		c.done.Aside++
		return nil
	})
}

// files looks at the names in the directory of bodies. Those that no record
// names belong to drafts, or to messages that left: the next Open removes them.
func (c *checker) files() error {
	for name, err := range c.h.q.disk.Names() {
		switch {
		case err != nil:
			return err
		case c.ctx.Err() != nil:
			return context.Cause(c.ctx)
		case !message.ValidID(name):
			c.complain(name, errors.New("a file in the directory of bodies that is not the queue's"))
			continue
		}
		named, err := c.h.named(name)
		if err != nil {
			return err
		}
		if !named {
			c.done.Unnamed++
		}
	}
	return nil
}
