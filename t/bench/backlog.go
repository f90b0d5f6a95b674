//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
)

// scene is a part of the backlog benchmark.
type scene struct {
	name string
	run  func(ctx context.Context, b *bench, r *report) (section, error)
}

func scenes() []scene {
	return []scene{
		{"start", startScene}, {"drain", drainScene}, {"slow", slowScene}, {"idle", idleScene}, {"large", largeScene},
	}
}

func runBacklog(ctx context.Context, args []string) error {
	b := &bench{}
	f := b.flags("backlog")
	names := f.String("scenes", "start,drain,slow,idle,large", "what is measured: a long queue, a next hop that comes back, slow next hops, idle connections, large messages")
	f.IntVar(&b.messages, "messages", 1_000_000, "deferred messages; the other scenes are as much smaller as this is")
	f.IntVar(&b.rounds, "rounds", 3, "how often what is short is measured")
	_ = f.Parse(args) // it exits
	shut, err := b.open()
	if err != nil {
		return err
	}
	defer shut()
	r := b.report("backlog", fmt.Sprintf("%d deferred messages of %d octets, and what the size of the other parts follows from.", b.messages, b.size))
	for _, name := range strings.Split(*names, ",") {
		i := slices.IndexFunc(scenes(), func(s scene) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("there is no scene %q", name)
		}
		s, err := scenes()[i].run(ctx, b, r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.Sections = append(r.Sections, s)
	}
	return b.tell(r)
}

// share is the part of n that belongs to the size of this run, at least the least.
func (b *bench) share(n, least int) int {
	return max(int(float64(n)*min(float64(b.messages)/1_000_000, 1)), least)
}

// most adds a target: a figure of at most that.
func (r *report) most(what, unit string, limit, got float64) {
	r.Targets = append(r.Targets, target{what, unit, limit, false, got})
}

// least adds one of at least that.
func (r *report) least(what, unit string, limit, got float64) {
	r.Targets = append(r.Targets, target{what, unit, limit, true, got})
}

// one is a figure that was measured once.
func one(name, unit string, value float64) figure { return figure{name, unit, []float64{value}} }

// fill makes n messages in the queue of a server that does not run; each gets the
// i-th. It does not wait for the disk, which `serve` finds whole all the same.
func (b *bench) fill(ctx context.Context, s *server, n int, each func(i int) *queue.Message) error {
	q, err := queue.Open(filepath.Join(s.dir, "var/queue"), pebble.Open, queue.Options{NoSync: true})
	if err != nil {
		return err
	}
	text, next := noise(1<<20+b.size), make(chan int, 1000)
	var wg sync.WaitGroup
	failed := make(chan error, 4)
	for range cap(failed) {
		wg.Go(func() {
			for i := range next {
				m := each(i)
				d := q.Begin(m.ID)
				at := rand.IntN(1 << 20)
				_, err := d.Write(text[at : at+b.size])
				var stored message.Body
				if err == nil {
					stored, err = d.Commit(ctx, m, []byte("Received: from bench; Fri, 27 Nov 2026 10:00:00 +0000\r\n"), 0)
				}
				if err != nil {
					d.Abort()
					failed <- err
					return
				}
				if r, ok := stored.(message.Retainer); ok {
					r.Release()
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case err = <-failed:
		}
		break
	}
	close(next)
	wg.Wait()
	if closed := q.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	// Mail that waits for hours has long left the store's log for its tables: so it does
	// when the log is read at an Open.
	if q, err = queue.Open(filepath.Join(s.dir, "var/queue"), pebble.Open, queue.Options{NoSync: true}); err != nil {
		return err
	}
	return q.Close()
}

// noise is text that does not compress well, as attachments do not.
func noise(size int) []byte {
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(rand.Uint32())
	}
	return []byte(base64.StdEncoding.EncodeToString(raw))[:size]
}

// deferred is a message to that address that was tried in vain at some time, and is
// due then.
func deferred(i int, to string, arrived, due time.Time) *queue.Message {
	local, domain, _ := strings.Cut(to, "@")
	return &queue.Message{
		ID: message.NewID(arrived), Sender: message.Address{Local: fmt.Sprintf("sender%d", i%500), Domain: "src.example"}, Arrived: arrived,
		Facts: []byte(`{"helo":"client.src.example","ip":"192.0.2.7","protocol":"smtp"}`),
		Recipients: []queue.Recipient{{
			Address: message.Address{Local: local, Domain: domain}, State: queue.Deferred, Attempts: 3, Next: due, Tried: arrived.Add(time.Minute),
			Last: message.NewReply(451, "4.4.1", "connect to the mail exchanger: connection timed out"), Peer: "mx.dest.example[192.0.2.25]",
		}},
	}
}

// stopped is Postern in a folder of its own, configured, but not started.
func (b *bench) stopped(more string) (*server, error) {
	p, err := peerNamed("postern")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "postern-")
	if err != nil {
		return nil, err
	}
	return &server{peer: p, dir: dir, more: more}, nil
}

// postern runs a command of the gateway's, and returns what it printed.
func (b *bench) postern(ctx context.Context, s *server, args ...string) (string, error) {
	exe, err := b.binary(ctx, "")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, exe, append(args, "-c", filepath.Join(s.dir, "postern.toml"))...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("postern %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// arrivals notes when messages were begun and when they came to a next hop. Their
// recipients are mNUMBER@….
type arrivals struct {
	mu    sync.Mutex
	begun []time.Time
	came  []time.Time
	left  int
	all   chan struct{} // closed when the last one came
}

func newArrivals(n int) *arrivals {
	return &arrivals{begun: make([]time.Time, n), came: make([]time.Time, n), left: n, all: make(chan struct{})}
}

func (a *arrivals) begin(i int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun[i] = time.Now()
}

func (a *arrivals) take(rcpt string) {
	var i int
	if n, _ := fmt.Sscanf(rcpt, "m%d@", &i); n != 1 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i < len(a.came) && a.came[i].IsZero() {
		a.came[i] = time.Now()
		if a.left--; a.left == 0 {
			close(a.all)
		}
	}
}

// expect tells that only so many are to come.
func (a *arrivals) expect(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = n
}

func (a *arrivals) wait(ctx context.Context, patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-a.all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("%d messages did not come within %s", a.left, patience)
	}
}

// between are the times from begin to take of those begun in an interval.
func (a *arrivals) between(from, to time.Time) (list []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, t := range a.begun {
		if !t.IsZero() && !a.came[i].IsZero() && !t.Before(from) && t.Before(to) {
			list = append(list, a.came[i].Sub(t))
		}
	}
	return list
}

// latencies are the figures of such times.
func latencies(list []time.Duration) []figure {
	return []figure{one("p50", "ms", quantile(list, 0.5)), one("p99", "ms", quantile(list, 0.99)), one("most", "ms", quantile(list, 1)), one("messages", "", float64(len(list)))}
}
