package qmqp

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A request has DataTimeout, and what its bytes add; between requests there is
// IdleTimeout, and after a stop nothing begins any more.
func TestDeadlines(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*timed)
		want time.Duration
	}{
		"a request":              {func(d *timed) { d.begin() }, 10 * time.Minute},
		"between requests":       {func(d *timed) { d.idle() }, 5 * time.Minute},
		"a request, then a stop": {func(d *timed) { d.begin(); d.stop(time.Second, func() {}) }, time.Second},
		"a stop, then nothing":   {func(d *timed) { d.stop(time.Second, func() {}); d.idle() }, 0},
		"bytes": {func(d *timed) {
			d.begin()
			if n, err := d.Read(make([]byte, 100)); n != 100 || err != nil {
				t.Error(n, err)
			}
		}, 10*time.Minute + 10*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				defer there.Close()
				defer here.Close()
				if name == "bytes" {
					go func() { _, _ = there.Write(make([]byte, 100)) }()
				}
				d := &timed{Conn: here, limits: &Limits{IdleTimeout: 5 * time.Minute, DataTimeout: 10 * time.Minute, MinDataRate: 10}}
				start := time.Now()
				c.do(d)
				if _, err := d.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != c.want {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				if d.timer != nil {
					d.timer.Stop()
				}
			})
		})
	}
}
