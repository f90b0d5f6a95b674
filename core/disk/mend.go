package disk

import (
	"fmt"
	"sync"
	"time"
)

// The pause before a failed database is opened again: the first one, and the
// longest, to which it doubles. One that held for the longest begins anew.
const (
	FirstPause = time.Second
	lastPause  = time.Minute
)

// Trouble is why a database takes nothing at present.
type Trouble struct {
	Err   error     // what failed
	Since time.Time // when that was
	Tries int       // how often it was opened since, in vain
	Last  error     // why the last of those openings failed; nil: there was none
	Next  time.Time // when it is opened again
}

// String is the trouble in words.
func (t Trouble) String() string {
	s := t.Err.Error()
	if t.Last != nil {
		s += fmt.Sprintf("; opened again %d times in vain, the last time: %v", t.Tries, t.Last)
	}
	return s + "; it will be opened again at " + t.Next.UTC().Format(time.RFC3339)
}

// Mender knows when a database that failed is to be opened again. It is safe for
// concurrent use. The zero value is one for a database that was just opened.
type Mender struct {
	mu       sync.Mutex
	trouble  *Trouble
	failures int
	pause    time.Duration
	opened   time.Time
}

// Trouble tells what is wrong; ok is false where nothing is.
func (m *Mender) Trouble() (t Trouble, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.trouble == nil {
		return t, false
	}
	return *m.trouble, true
}

// Failures is how often the database failed.
func (m *Mender) Failures() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failures
}

// Failed notes a failure, once, and returns how long to wait.
func (m *Mender) Failed(err error) (t Trouble, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.pause == 0 || now.Sub(m.opened) >= lastPause {
		m.pause = FirstPause
	}
	m.failures++
	m.trouble = &Trouble{Err: err, Since: now}
	return m.wait(now)
}

// Again notes that the database could not be opened, and returns how long to wait.
func (m *Mender) Again(err error) (t Trouble, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble.Tries++
	m.trouble.Last = err
	return m.wait(time.Now())
}

func (m *Mender) wait(now time.Time) (t Trouble, pause time.Duration) {
	pause = m.pause
	m.pause = min(2*m.pause, lastPause)
	m.trouble.Next = now.Add(pause)
	return *m.trouble, pause
}

// Mended notes that the database is open again, and returns what was wrong.
func (m *Mender) Mended() Trouble {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := *m.trouble
	m.trouble, m.opened = nil, time.Now()
	return t
}
