package smtpd

import (
	"net"
	"sync"
	"time"
)

// alarm owns a connection's read deadline. The conversation sets it; the
// server's stop and the end of stage connect may bring it forward from another
// goroutine.
type alarm struct {
	grace  time.Duration
	cancel func() // ends the work for the client

	mu      sync.Mutex
	nc      net.Conn
	want    time.Time // what the conversation asked for
	limit   time.Time // after a stop: nothing is waited for beyond it
	busy    bool      // a transaction is under way
	stopped bool
	hushed  bool // nothing more is to be read for now
	ended   bool
	timer   *time.Timer
}

// past is a deadline that makes a waiting read return.
func past() time.Time { return time.Unix(1, 0) }

func (a *alarm) start(nc net.Conn, grace time.Duration, cancel func()) {
	a.nc, a.grace, a.cancel = nc, grace, cancel
}

// set asks for a deadline of the reads that follow.
func (a *alarm) set(t time.Time) {
	a.mu.Lock()
	a.want = t
	a.apply()
	a.mu.Unlock()
}

// apply is called with mu held.
func (a *alarm) apply() {
	t := a.want
	switch {
	case a.hushed, a.stopped && !a.busy:
		t = past()
	case a.stopped && a.limit.Before(t):
		t = a.limit
	}
	_ = a.nc.SetReadDeadline(t) // fails on a closed connection only, which the next read says
}

// setBusy tells whether a transaction is under way, which a stop lets end.
func (a *alarm) setBusy(busy bool) {
	a.mu.Lock()
	a.busy = busy
	a.mu.Unlock()
}

// hush makes a read of another goroutine return, and later ones too, until it
// is ended by hush(false).
func (a *alarm) hush(on bool) {
	a.mu.Lock()
	a.hushed = on
	if on {
		a.apply()
	}
	a.mu.Unlock()
}

// stopping tells whether the server stops.
func (a *alarm) stopping() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped
}

// stop begins the end: at once where no transaction is under way, else after
// the grace.
func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.stopped, a.limit = true, time.Now().Add(a.grace)
	a.apply()
	_ = a.nc.SetWriteDeadline(a.limit.Add(lastWrite))
	a.timer = time.AfterFunc(a.grace, a.cancel)
}

// lastWrite bounds a write to a client that does not read, once the server stops.
const lastWrite = time.Second

// write sets the deadline of a write that may take as long as most.
func (a *alarm) write(most time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := time.Now().Add(most)
	if last := a.limit.Add(lastWrite); a.stopped && last.Before(t) {
		t = last
		if floor := time.Now().Add(lastWrite); t.Before(floor) {
			t = floor
		}
	}
	_ = a.nc.SetWriteDeadline(t) // as above
}

// end is the end of the connection: a stop has nothing to do any more.
func (a *alarm) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
