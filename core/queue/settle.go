package queue

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Change is what became of a message in an attempt.
type Change struct {
	Message *Message
	Remove  bool // it leaves the queue, its body too
}

// Settle makes the changes durable in one step, all or none. It writes what
// delivery decides: of each recipient State, Attempts, Next, Tried, Last, Peer
// and Relayed, of the message Notified. What operators decide (Place, Reason, Held,
// Route) is not written but read back into the Messages, so that neither undoes
// the other. A message that is not in the queue any more is passed over. Once
// the write has begun, ctx no longer stops it. After an error that is ErrFailed it
// is unknown whether they are stored.
func (q *Queue) Settle(ctx context.Context, changes ...Change) error {
	h := q.handle.Load()
	if err := h.explain(h.settle(ctx, changes)); err != nil {
		return fmt.Errorf("queue: settle: %w", err)
	}
	return nil
}

func (h *handle) settle(ctx context.Context, changes []Change) error {
	if err := h.mayWrite(ctx); err != nil {
		return err
	}
	var rows uint64
	for i, c := range changes {
		if slices.ContainsFunc(changes[:i], func(o Change) bool { return o.Message.ID == c.Message.ID }) {
			return fmt.Errorf("message %s is there twice", c.Message.ID)
		}
		rows |= 1 << rowOf(c.Message.ID)
	}
	damaged, err := h.settleRows(rows, changes)
	for id, why := range damaged {
		h.setAside(id, why)
	}
	return err
}

// settleRows is settle with every row of the messages locked, in order. Damaged
// messages are told and passed over.
func (h *handle) settleRows(rows uint64, changes []Change) (damaged map[string]error, err error) {
	for set := rows; set != 0; set &= set - 1 {
		mu := &h.rows[bits.TrailingZeros64(set)]
		mu.Lock()
		defer mu.Unlock()
	}
	s := step{h: h}
	for _, c := range changes {
		err := s.settle(c)
		switch {
		case errors.Is(err, ErrNotFound):
		case errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnreadable):
			if damaged == nil {
				damaged = map[string]error{}
			}
			damaged[c.Message.ID] = err
		case err != nil:
			return damaged, fmt.Errorf("message %s: %w", c.Message.ID, err)
		}
	}
	return damaged, s.commit()
}

// mayWrite tells why a change cannot be begun.
func (h *handle) mayWrite(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return h.writable()
}

// Update changes a message as operators do. change gets the stored message and
// may change all of it but ID and Size; where it returns an error, nothing is
// written and that error is returned. It must not call the queue. ErrNotFound
// and ErrDamaged are possible, too.
func (q *Queue) Update(ctx context.Context, id string, change func(*Message) error) error {
	h := q.handle.Load()
	err := h.alter(ctx, id, func(s *step) error {
		m, old, err := h.get(id)
		if err != nil {
			return err
		}
		size := m.Size
		if err := change(m); err != nil {
			return err
		}
		if m.ID != id || m.Size != size || len(m.Recipients) == 0 {
			return errors.New("id, size and the last recipient cannot be changed")
		}
		s.replace(m, old)
		return nil
	})
	if err = h.explain(err); err != nil {
		return fmt.Errorf("queue: update %s: %w", id, err)
	}
	return nil
}

// Remove takes a message out of the queue, its body too, in one durable step.
func (q *Queue) Remove(ctx context.Context, id string) error {
	h := q.handle.Load()
	err := h.alter(ctx, id, func(s *step) error {
		old, err := h.head(id)
		if err != nil {
			return err
		}
		s.remove(id, old)
		return nil
	})
	if err = h.explain(err); err != nil {
		return fmt.Errorf("queue: remove %s: %w", id, err)
	}
	return nil
}

// alter commits what fill puts into a step, with the message's row locked.
func (h *handle) alter(ctx context.Context, id string, fill func(*step) error) error {
	if err := h.mayWrite(ctx); err != nil {
		return err
	}
	if h.pending.has(id) {
		return ErrNotFound
	}
	err := func() error {
		defer h.row(id)()
		s := step{h: h}
		if err := fill(&s); err != nil {
			return err
		}
		return s.commit()
	}()
	if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnreadable) {
		h.setAside(id, err)
	}
	return err
}

// step gathers the writes of one durable step and what follows it. The rows of
// its messages are locked.
type step struct {
	h      *handle
	writes []Write
	totals []Totals
	dues   []int64
	files  []string // to be unlinked afterwards
}

func (s *step) settle(c Change) error {
	if c.Remove {
		old, err := s.h.head(c.Message.ID)
		if err == nil {
			s.remove(c.Message.ID, old)
		}
		return err
	}
	stored, old, err := s.h.get(c.Message.ID)
	if err != nil {
		return err
	}
	m := c.Message
	if len(m.Recipients) != len(stored.Recipients) {
		return fmt.Errorf("%d recipients in place of %d", len(m.Recipients), len(stored.Recipients))
	}
	m.Place, m.Reason = stored.Place, stored.Reason
	stored.Notified = m.Notified
	for i := range m.Recipients {
		from, to := &m.Recipients[i], &stored.Recipients[i]
		from.Held, from.Route = to.Held, to.Route
		to.State, to.Attempts, to.Next, to.Tried = from.State, from.Attempts, from.Next, from.Tried
		to.Last, to.Peer, to.Relayed = from.Last, from.Peer, from.Relayed
	}
	s.replace(stored, old)
	return nil
}

func (s *step) replace(m *Message, old head) {
	now, key := headOf(m, old.flags&flagFile), recordKey(m.ID)
	s.writes = append(s.writes, put(key, appendRecord(nil, key, m, now)))
	if now.due != old.due {
		s.undue(m.ID, old)
		if now.due != noDue {
			s.writes = append(s.writes, put(dueKey(now.due, m.ID)))
		}
	}
	s.dues = append(s.dues, now.due)
	s.totals = append(s.totals, old.totals().negated(), now.totals())
}

func (s *step) remove(id string, old head) {
	s.writes = append(s.writes, del(recordKey(id)), del(bodyKey(id)))
	s.undue(id, old)
	s.totals = append(s.totals, old.totals().negated())
	if old.flags&flagFile != 0 {
		s.files = append(s.files, id)
	}
}

func (s *step) undue(id string, old head) {
	if old.due != noDue {
		s.writes = append(s.writes, del(dueKey(old.due, id)))
	}
}

func (s *step) commit() error {
	if len(s.writes) == 0 {
		return nil
	}
	if err := s.h.engine.Commit(s.writes); err != nil {
		return err
	}
	for _, t := range s.totals {
		s.h.totals.add(t)
	}
	for _, at := range s.dues {
		s.h.floor.lower(at)
	}
	for _, id := range s.files {
		s.h.q.unlink(id)
	}
	return nil
}
