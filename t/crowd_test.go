package t

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crowd is many clients that do nothing, or as little as they can, in every state
// of the dialogue. They come from the addresses of one /24.
type crowd struct {
	addr string

	mu    sync.Mutex
	conns []net.Conn
	lost  int // connections that the gateway ended

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// place is where a client of the crowd stays: what it says before, and what it
// then sends one octet of a second; "" is nothing.
type place struct {
	name, before, drip string
}

const crowdMail = "EHLO crowd.example\r\nMAIL FROM:<s@client.example>\r\n"

// places are the states of a session.
var places = []place{
	{"before EHLO", "", "EHLO crowd.example "},
	{"after EHLO", "EHLO crowd.example\r\n", "MAIL FROM:<someone"},
	{"after MAIL", crowdMail, "RCPT TO:<someone"},
	{"after RCPT", crowdMail + "RCPT TO:<r@example.net>\r\n", "NOOP and so on "},
	{"in DATA", crowdMail + "RCPT TO:<r@example.net>\r\nDATA\r\n", "Subject: slow\r\n\r\ntext\r\n"},
	{"in BDAT", crowdMail + "RCPT TO:<r@example.net>\r\nBDAT 1000000\r\n", "Subject: slow\r\n\r\ntext\r\n"},
	{"at an empty line", "EHLO crowd.example\r\nNOOP", ""},
	{"half-way in a command", crowdMail + "RCPT TO:<half", ""},
}

var idle = place{"idle", "EHLO crowd.example\r\n", ""}

func newCrowd(tb testing.TB, addr string) *crowd {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{addr: addr, stop: cancel}
	tb.Cleanup(c.leave)
	c.wg.Go(func() { c.drip(ctx) })
	return c
}

// seat is a client of the crowd in its place.
type seat struct {
	net.Conn
	place place
}

// come brings n clients into the places by turns.
func (c *crowd) come(tb testing.TB, n int, where ...place) {
	tb.Helper()
	next := make(chan int)
	failed := make(chan error, 8)
	var wg sync.WaitGroup
	for range cap(failed) {
		wg.Go(func() {
			for i := range next {
				if err := c.sit(i, where[i%len(where)]); err != nil {
					failed <- fmt.Errorf("client %d: %w", i, err)
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case err := <-failed:
			close(next)
			wg.Wait()
			tb.Fatal(err)
		}
	}
	close(next)
	wg.Wait()
}

// sit connects client number i and brings it into its place.
func (c *crowd) sit(i int, where place) error {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 77, 7, byte(1+i%250))}}
	nc, err := d.Dial("tcp", c.addr)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.conns = append(c.conns, &seat{nc, where})
	c.mu.Unlock()
	r := bufio.NewReaderSize(nc, 512)
	if _, err := readReply(r); err != nil {
		return err
	}
	if _, err := io.WriteString(nc, where.before); err != nil {
		return err
	}
	for range strings.Count(strings.ReplaceAll(where.before, "BDAT 1000000\r\n", ""), "\r\n") {
		if _, err := readReply(r); err != nil {
			return fmt.Errorf("%s: %w", where.name, err)
		}
	}
	return nil
}

// drip sends an octet from each client that drips, every second.
func (c *crowd) drip(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		list := slices.Clone(c.conns)
		c.mu.Unlock()
		for _, nc := range list {
			if s := nc.(*seat); s.place.drip != "" {
				if _, err := s.Write([]byte{s.place.drip[n%len(s.place.drip)]}); err != nil {
					c.mu.Lock()
					c.lost++
					c.mu.Unlock()
				}
			}
		}
	}
}

func (c *crowd) leave() {
	c.stop()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.conns {
		_ = nc.Close()
	}
	c.conns = nil
}

// fewFiles tells whether this process may not open as many files as that.
func fewFiles(n uint64) bool {
	var l syscall.Rlimit
	return syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil || l.Max < n
}

// TestCrowd: a thousand idle clients of one /24 and slow ones in every state of
// the dialogue: whoever comes then is served, and memory is bounded (checklist 10
// and 11). `go test -bench Crowd ./t` has ten times as many, and the figures.
func TestCrowd(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" {
		t.Skip("not in this process")
	}
	if fewFiles(4000) {
		missing(t.Skip, t.Fatal, "a limit of 4000 open files")
	}
	g := startBenched(t, "")
	before := g.resident(t)
	c := newCrowd(t, g.addr)
	c.come(t, 1000, idle)
	c.come(t, 400, places...)
	work := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := acceptSession(g.addr, benchBody(), work); err != nil {
				t.Error(err)
				for range work { // the others go on
				}
			}
		})
	}
	for range 200 {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	const most = 64 << 20
	if grown := g.resident(t) - before; grown > most {
		t.Errorf("1,400 clients took %.0f MiB", grown/(1<<20))
	}
	if c.lost > 0 {
		t.Errorf("%d slow clients were cut within seconds", c.lost)
	}
}

// BenchmarkCrowd is the time from MAIL to the 250 of a durable message of 4 KB, by
// four sessions, alone and while a crowd is there, and what the crowd costs.
func BenchmarkCrowd(b *testing.B) {
	for _, one := range []struct {
		name  string
		n     int
		where []place
	}{
		{"alone", 0, nil},
		{"idle=10000", 10000, []place{idle}},
		{"slow=2000", 2000, places},
		{"idle=10000+half-way=2000", 12000, []place{idle, idle, idle, idle, idle, places[7]}},
	} {
		b.Run(one.name, func(b *testing.B) {
			if fewFiles(14000) {
				b.Skip("a limit of 14000 open files is needed")
			}
			g := startBenched(b, "")
			before := g.resident(b)
			c := newCrowd(b, g.addr)
			if one.n > 0 {
				c.come(b, one.n, one.where...)
			}
			crowded := g.resident(b)
			b.ResetTimer()
			took := timedAccepts(b, g.addr, 4)
			b.StopTimer()
			if one.n > 0 {
				b.ReportMetric((crowded-before)/float64(one.n)/1024, "KiB/conn")
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
			b.ReportMetric(g.resident(b)/(1<<20), "MiB-RSS")
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "msgs/s")
			c.leave()
		})
	}
}

// timedAccepts sends b.N messages over some sessions and returns how long each
// took.
func timedAccepts(b *testing.B, addr string, sessions int) (took []time.Duration) {
	b.Helper()
	work := make(chan struct{})
	var mu sync.Mutex
	var all sync.WaitGroup
	for range sessions {
		all.Go(func() {
			for range work {
				one := make(chan struct{}, 1)
				one <- struct{}{}
				close(one)
				start := time.Now()
				err := acceptSession(addr, benchBody(), one)
				mu.Lock()
				if took = append(took, time.Since(start)); err != nil {
					b.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	return took
}
