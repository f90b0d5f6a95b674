package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/queue"
)

// swept is what a sweep of the quarantine found, to tell when the next is due.
type swept struct {
	at     time.Time
	limits config.Quarantine
	left   int       // messages
	next   time.Time // when the oldest of them expires
}

const (
	lookEvery  = time.Minute      // at numbers alone, which costs nothing
	sweepEvery = time.Hour        // where nothing speaks for it
	sweepPause = 10 * time.Minute // while messages come in, since a sweep reads the whole queue
)

// pause is the least time between two sweeps, shorter where little is kept.
func pause(q config.Quarantine) time.Duration {
	return max(min(sweepPause, q.Keep/10), time.Second)
}

// due tells whether a sweep may find something.
func (s swept) due(now time.Time, q config.Quarantine, messages int) bool {
	switch {
	case messages == 0:
		return false
	case q != s.limits, !now.Before(s.next):
		return true
	case messages != s.left:
		return now.Sub(s.at) >= pause(q)
	}
	return now.Sub(s.at) >= sweepEvery
}

// sweepQuarantine removes what has been in quarantine too long, or is too much,
// until ctx is done.
func (d *daemon) sweepQuarantine(ctx context.Context) {
	var last swept
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		q := d.config.Load().Quarantine
		if last.due(time.Now(), q, d.queue.Totals().Quarantined) {
			last = d.sweep(ctx, q)
		}
		timer.Reset(min(lookEvery, pause(q)))
	}
}

// sweep reads the quarantine, the oldest first: once for the age, and, where what
// is left is too much, once more. An error ends it; the next one goes on.
func (d *daemon) sweep(ctx context.Context, q config.Quarantine) swept {
	s := swept{at: time.Now(), limits: q}
	s.next = s.at.Add(q.Keep)
	var size int64
	old := "older than " + config.FormatDuration(q.Keep)
	d.eachQuarantined(ctx, func(m *queue.Message) bool {
		ends := m.Arrived.Add(q.Keep)
		if !s.at.Before(ends) {
			return d.expire(ctx, m.ID, old)
		}
		s.left++
		size += m.Size
		if ends.Before(s.next) {
			s.next = ends
		}
		return true
	})
	if size <= q.MaxSize {
		return s
	}
	much := fmt.Sprintf("more than %d bytes are in quarantine", q.MaxSize)
	d.eachQuarantined(ctx, func(m *queue.Message) bool {
		if size <= q.MaxSize || !d.expire(ctx, m.ID, much) {
			return false
		}
		size -= m.Size
		s.left--
		return true
	})
	return s
}

// eachQuarantined walks the quarantine by age until f has enough.
func (d *daemon) eachQuarantined(ctx context.Context, f func(*queue.Message) bool) {
	there := func(m *queue.Message) bool { return m.Place == queue.Quarantined }
	for m, err := range d.queue.All(there) {
		if err != nil {
			d.log.Error("reading the quarantine", "error", err)
			return
		}
		if ctx.Err() != nil || !f(m) {
			return
		}
	}
}

// expire removes one message. It reports false where the queue refuses.
func (d *daemon) expire(ctx context.Context, id, why string) bool {
	err := d.takeOut(ctx, id, "expired", "quarantine", why)
	if err == nil || errors.Is(err, queue.ErrNotFound) || errors.Is(err, console.ErrNotQuarantined) {
		return true // or an operator was sooner
	}
	d.log.Error("a message can't be removed from the quarantine", "id", id, "error", err)
	return false
}
