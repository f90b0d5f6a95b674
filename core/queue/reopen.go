package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The pause before a failed store is opened again: the first one, and the longest,
// to which it doubles. A store that held for the longest begins anew.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Trouble is why the queue takes nothing at present.
type Trouble struct {
	Err   error     // the write or sync that failed
	Since time.Time // when that was
	Tries int       // how often the store was opened since, in vain
	Last  error     // why the last of those openings failed; nil: there was none
	Next  time.Time // when it is opened again; the zero time: that is under way
}

// String is the trouble in words.
func (t Trouble) String() string {
	s := t.Err.Error()
	if t.Last != nil {
		s += fmt.Sprintf("; opened again %d times in vain, the last time: %v", t.Tries, t.Last)
	}
	if t.Next.IsZero() {
		return s + "; it is being opened again and checked"
	}
	return s + "; it will be opened again and checked at " + t.Next.UTC().Format(time.RFC3339)
}

// condition is the queue's state as others see it.
type condition struct {
	mu       sync.Mutex
	trouble  *Trouble
	failures int
	changed  chan struct{} // closed when a failure is noticed, and when the store is open again
}

func (c *condition) set(t *Trouble, turn bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = t
	if turn {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// Trouble tells why the queue takes nothing; ok is false where it does.
func (q *Queue) Trouble() (t Trouble, ok bool) {
	q.condition.mu.Lock()
	defer q.condition.mu.Unlock()
	if q.condition.trouble != nil {
		return *q.condition.trouble, true
	}
	if err := q.Failed(); err != nil {
		return Trouble{Err: err, Since: time.Now()}, true
	}
	return t, false
}

// Failures is how often the store failed since Open.
func (q *Queue) Failures() int {
	q.condition.mu.Lock()
	defer q.condition.mu.Unlock()
	return q.condition.failures
}

// Failed is nil as long as the queue works; else the failed write or sync since
// which it takes and gives nothing, until the store is open again.
func (q *Queue) Failed() error { return q.handle.Load().engine.Failed() }

// Watch is Failed, and a channel that is closed when that changes: where it is
// nil, soon after the failure; else when the store is open again and checked.
func (q *Queue) Watch() (changed <-chan struct{}, failed error) {
	q.condition.mu.Lock()
	defer q.condition.mu.Unlock()
	return q.condition.changed, q.Failed()
}

// keep opens the store again whenever it has failed, until Close.
func (q *Queue) keep() {
	pause := firstPause
	for {
		h := q.handle.Load()
		opened := time.Now()
		select {
		case <-q.closing:
			return
		case <-h.engine.Ended():
		}
		if time.Since(opened) >= lastPause {
			pause = firstPause
		}
		if !q.mend(h, &pause) {
			return
		}
	}
}

// mend is keep for one failure. It reports false where Close came first.
func (q *Queue) mend(h *handle, pause *time.Duration) bool {
	t := Trouble{Err: h.engine.Failed(), Since: time.Now()}
	q.condition.mu.Lock()
	q.condition.failures++
	q.condition.mu.Unlock()
	for turn := true; ; turn = false {
		t.Next = time.Now().Add(*pause)
		q.condition.set(&Trouble{t.Err, t.Since, t.Tries, t.Last, t.Next}, turn)
		if turn {
			q.log.Error("queue: the store failed; nothing is accepted until it is opened again", "error", t.Err, "next_try", *pause)
		} else {
			q.log.Error("queue: the store can't be opened again yet", "error", t.Last, "tries", t.Tries, "next_try", *pause)
		}
		timer := time.NewTimer(*pause)
		select {
		case <-q.closing:
			timer.Stop()
			return false
		case <-timer.C:
		}
		*pause = min(2**pause, lastPause)
		q.condition.set(&Trouble{t.Err, t.Since, t.Tries, t.Last, time.Time{}}, false)
		next, err := q.reopen(h)
		if err == nil {
			q.handle.Store(next)
			totals := next.totals.load()
			q.log.Warn("queue: the store is open again and checked", "after", time.Since(t.Since).Round(time.Millisecond), "tries", t.Tries+1, "messages", totals.Messages, "damaged", totals.Damaged)
			q.condition.set(nil, true)
			return true
		}
		t.Tries, t.Last = t.Tries+1, err
	}
}

// reopen makes a new handle in the place of one that failed.
func (q *Queue) reopen(old *handle) (*handle, error) {
	if err := old.engine.Close(); err != nil { // waits for what it had begun
		return nil, err
	}
	old.pending.refuse(q.refused)
	if err := q.sameDir(); err != nil {
		return nil, err
	}
	h, err := q.openStore(true, q.refused, old.engine.Failed())
	if err != nil {
		return nil, err
	}
	clear(q.refused)
	return h, nil
}

// sameDir sees to it that the directory is still the one that is locked, and not
// the empty place where a file system was mounted.
func (q *Queue) sameDir() error {
	now, err := os.Stat(filepath.Join(q.dir, "lock"))
	if err != nil {
		return err
	}
	mine, err := q.lock.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, mine) {
		return errors.New("another directory is in the queue's place")
	}
	return nil
}
