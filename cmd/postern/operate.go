package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// This file is what operators order to be done to one queued message.

// operator is who did it, in the log and in stories.
const operator = "operator"

// retry has one message tried now; a held one stays held.
func (d *daemon) retry(id string) error {
	m, err := d.queue.Load(id)
	if err != nil {
		return err
	}
	if m.Place != queue.Active {
		return fmt.Errorf("the message is %s, it is not tried", m.Place)
	}
	d.sender.RetryNow(id)
	return nil
}

// remove deletes one message, after an attempt under way has ended.
func (d *daemon) remove(ctx context.Context, id string) error {
	release, err := d.sender.Withdraw(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if err := d.queue.Remove(ctx, id); err != nil {
		return err
	}
	d.record.Operated(id, "deleted", operator, "")
	return nil
}

// hold keeps one message from being tried until it is released, after an attempt
// under way has ended.
func (d *daemon) hold(ctx context.Context, id string) error {
	giveBack, err := d.sender.Withdraw(ctx, id)
	if err != nil {
		return err
	}
	defer giveBack()
	err = d.change(ctx, id, func(m *queue.Message) error {
		if m.Place != queue.Active || m.Done() {
			return fmt.Errorf("the message is %s, there is nothing to hold", placeOf(m))
		}
		m.Place, m.Reason = queue.Held, "held by an operator"
		return nil
	})
	if err == nil {
		d.record.Operated(id, "held", operator, "")
	}
	return err
}

// giveUp gives one message up: its senders hear of it as of any failure.
func (d *daemon) giveUp(ctx context.Context, id string, o *console.Order) error {
	text := cmp.Or(o.Text, "Returned by the postmaster")
	// RFC 3463 section 3.8: 7.1, delivery not authorised; 5.0.0 would say nothing.
	if err := d.sender.GiveUp(ctx, id, message.NewReply(550, "5.7.1", "%s", text)); err != nil {
		return err
	}
	d.record.Operated(id, "returned", operator, text)
	return nil
}

// reroute has the recipients of one message that are not final go to another
// next hop, or by the configured routes again, and tries it at once.
func (d *daemon) reroute(ctx context.Context, id string, o *console.Order) error {
	giveBack, err := d.sender.Withdraw(ctx, id)
	if err != nil {
		return err
	}
	err = d.change(ctx, id, func(m *queue.Message) error {
		if m.Done() {
			return send.ErrSettled
		}
		for i := range m.Recipients {
			if r := &m.Recipients[i]; !r.State.Final() {
				r.Route = o.To
			}
		}
		return nil
	})
	giveBack()
	if err != nil {
		return err
	}
	d.record.Operated(id, "rerouted", operator, "to "+cmp.Or(o.To, "the configured routes"))
	d.sender.RetryNow(id) // one that is held is passed over
	return nil
}

// errThere refuses an import that would replace a message.
var errThere = errors.New("a message of that id is in the queue already")

// importMessage puts a message into the queue as it was exported. It is durable
// on nil. Policies are not asked again: they judged it where it came in.
func (d *daemon) importMessage(ctx context.Context, m *queue.Message, body io.Reader) error {
	d.placing.Lock()
	defer d.placing.Unlock()
	switch _, err := d.queue.Load(m.ID); {
	case err == nil:
		return errThere
	case !errors.Is(err, queue.ErrNotFound):
		return err
	}
	draft := d.queue.Begin(m.ID)
	defer draft.Abort()
	n, err := io.Copy(draft, body)
	if err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	if m.Signed.To > n {
		return fmt.Errorf("signed: it ends at %d, and the message has %d bytes", m.Signed.To, n)
	}
	stored, err := draft.Commit(ctx, m, nil, 0)
	if err != nil {
		return err
	}
	if r, ok := stored.(message.Retainer); ok {
		r.Release()
	}
	d.record.Operated(m.ID, "imported", operator, "")
	if at, ok := m.Next(); ok {
		d.sender.Noticed(at)
	}
	return nil
}

// placeOf says where a message is, also one whose recipients are all settled.
func placeOf(m *queue.Message) string {
	if m.Place == queue.Active && m.Done() {
		return "settled"
	}
	return m.Place.String()
}

// release has a message tried again that waits on hold, or recipients of it that do.
func (d *daemon) release(ctx context.Context, id string) error {
	return d.free(ctx, id, operator, func(m *queue.Message) error {
		if m.Place != queue.Held && !(m.Place == queue.Active && slices.ContainsFunc(m.Recipients, isHeld)) {
			return fmt.Errorf("the message is %s, not held", placeOf(m))
		}
		return nil
	})
}

func isHeld(r queue.Recipient) bool { return r.Held }

// releaseQuarantined sends a message on that is in quarantine.
func (d *daemon) releaseQuarantined(ctx context.Context, id string) error {
	return d.free(ctx, id, operator, inQuarantine)
}

func inQuarantine(m *queue.Message) error {
	if m.Place != queue.Quarantined {
		return console.ErrNotQuarantined
	}
	return nil
}

// free makes a message active that may, and hands it to the scheduler. Its age
// starts anew: it was not its destination that kept it waiting.
func (d *daemon) free(ctx context.Context, id, by string, may func(*queue.Message) error) error {
	giveBack, err := d.sender.Withdraw(ctx, id)
	if err != nil {
		return err
	}
	why := ""
	err = d.change(ctx, id, func(m *queue.Message) error {
		if err := may(m); err != nil {
			return err
		}
		why = m.Reason
		now := time.Now()
		if m.Place != queue.Active {
			m.Place, m.Reason, m.Arrived = queue.Active, "", now
		}
		for i := range m.Recipients {
			if r := &m.Recipients[i]; !r.State.Final() {
				r.Held, r.Next = false, now
			}
		}
		return nil
	})
	giveBack()
	if err != nil {
		return err
	}
	d.record.Operated(id, "released", by, why)
	d.sender.RetryNow(id)
	return nil
}

// change is queue.Update with the plain error of what refuses the change. Acts
// upon a place exclude each other, so that what was checked still holds.
func (d *daemon) change(ctx context.Context, id string, change func(*queue.Message) error) error {
	d.placing.Lock()
	defer d.placing.Unlock()
	var refused error
	err := d.queue.Update(ctx, id, func(m *queue.Message) error {
		refused = change(m)
		return refused
	})
	if refused != nil {
		return refused
	}
	return err
}

// deleteQuarantined removes a message that is in quarantine.
func (d *daemon) deleteQuarantined(ctx context.Context, id string) error {
	return d.takeOut(ctx, id, "deleted", operator, "")
}

// takeOut removes a message from quarantine and tells of it.
func (d *daemon) takeOut(ctx context.Context, id, event, by, why string) error {
	d.placing.Lock()
	defer d.placing.Unlock()
	m, err := d.queue.Load(id)
	if err != nil {
		return err
	}
	if err := inQuarantine(m); err != nil {
		return err
	}
	if err := d.queue.Remove(ctx, id); err != nil {
		return err
	}
	d.record.Operated(id, event, by, why)
	return nil
}
