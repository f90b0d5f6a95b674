package qmqp

import (
	"net"
	"sync"
	"time"
)

// timed is a connection with the deadline of a request: DataTimeout from begin on, and
// what each byte received adds to it.
type timed struct {
	net.Conn
	limits *Limits

	mu    sync.Mutex
	until time.Time // of the request; the zero time: between requests
	last  time.Time // after a stop: nothing is waited for beyond it
	timer *time.Timer
}

// begin starts a request.
func (t *timed) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(t.limits.DataTimeout)
	t.apply(t.until)
}

// idle waits for the next request, which may never come.
func (t *timed) idle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Time{}
	t.apply(time.Now().Add(t.limits.IdleTimeout))
}

// apply is called with mu held.
func (t *timed) apply(at time.Time) {
	switch {
	case t.last.IsZero():
	case t.until.IsZero():
		at = time.Unix(1, 0) // what has not begun does not begin any more
	case t.last.Before(at):
		at = t.last
	}
	_ = t.SetReadDeadline(at) // fails on a closed connection only, which the next read says
}

func (t *timed) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.mu.Lock()
		if !t.until.IsZero() {
			t.until = t.until.Add(time.Duration(n) * time.Second / time.Duration(t.limits.MinDataRate))
			t.apply(t.until)
		}
		t.mu.Unlock()
	}
	return n, err
}

// stop lets a request that is under way end within grace, and cancel the work for it
// then.
func (t *timed) stop(grace time.Duration, cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now().Add(grace)
	t.apply(t.until)
	t.timer = time.AfterFunc(grace, cancel)
}

// writeBy sets the deadline of a write.
func (t *timed) writeBy(most time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Now().Add(most)
	if !t.last.IsZero() {
		at = time.Now().Add(time.Second)
	}
	_ = t.SetWriteDeadline(at) // as above
}
