package send

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

func TestConcurrency(t *testing.T) {
	slow := func(ctx context.Context, j *Job, rcpt string) Outcome {
		time.Sleep(10 * time.Second)
		return ok(ctx, j, rcpt)
	}
	for _, test := range []struct {
		name   string
		change func(*rig)
		to     func(i int) string
		peak   int
	}{
		{"channel", func(r *rig) { r.c.ConcurrencyRemote = 7 }, func(i int) string { return fmt.Sprintf("a@d%d.example", i) }, 7},
		{"local channel", func(r *rig) { r.c.ConcurrencyLocal = 3 }, func(i int) string { return fmt.Sprintf("a%d@here.example", i) }, 3},
		{"destination", func(r *rig) { r.c.PerDestination = 12 }, func(int) string { return "a@x.example" }, 12},
		{"rule", func(r *rig) {
			r.c.Rules = []DestinationRule{{Destination: []string{"*.example"}, Concurrency: 2}}
		}, func(int) string { return "a@x.example" }, 2},
		{"rule for a next hop", func(r *rig) {
			r.c.Rules = []DestinationRule{{Destination: []string{"192.0.2.25"}, Concurrency: 1}}
		}, func(int) string { return "a@x.hub.example" }, 1},
	} {
		inBubble(t, func(r *rig) { r.answer = slow; test.change(r) }, func(r *rig) {
			for i := range 100 {
				r.accept(test.to(i))
			}
			time.Sleep(time.Hour)
			if r.left() != 0 || r.count() != 100 || r.peak != test.peak {
				t.Errorf("%s: %d left, %d attempts, %d at once, want %d", test.name, r.left(), r.count(), r.peak, test.peak)
			}
		})
	}
}

func TestRate(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.c.Rules = []DestinationRule{{Destination: []string{"slow.example"}, Count: 30, Per: time.Minute}}
	}, func(r *rig) {
		for range 4 {
			r.accept("a@slow.example")
		}
		r.accept("a@fast.example")
		time.Sleep(time.Minute)
		got := r.attempts()
		slices.Sort(got)
		want := []string{"0s mx a@fast.example", "0s mx a@slow.example", "2s mx a@slow.example", "4s mx a@slow.example", "6s mx a@slow.example"}
		if !slices.Equal(got, want) {
			t.Errorf("attempts %q", got)
		}
	})
}

// A destination that takes for ever holds back nobody else, on disk or in memory.
func TestTarpitHoldsOnlyItself(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.o.Window = 40
		r.c.ConcurrencyRemote = 30
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			if j.Domain == "tar.example" {
				time.Sleep(20 * time.Minute)
			}
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		for range 200 {
			r.accept("a@tar.example")
		}
		for i := range 200 {
			r.accept(fmt.Sprintf("a@d%d.example", i))
		}
		time.Sleep(5 * time.Minute)
		n := 0
		for _, a := range r.attempts() {
			if !strings.Contains(a, "tar.example") {
				n++
			}
		}
		if n != 200 {
			t.Errorf("%d of 200 others were delivered", n)
		}
		time.Sleep(24 * time.Hour)
		if r.left() != 0 || r.count() != 400 {
			t.Errorf("%d left, %d attempts", r.left(), r.count())
		}
	})
}

// A long list of one sender does not keep back another sender's single mail.
func TestFairBetweenSenders(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.c.PerDestination = 1
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			time.Sleep(time.Second)
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		for range 50 {
			r.accept("a@x.example")
		}
		m := &queue.Message{Sender: message.Address{Local: "single", Domain: "client.example"}}
		r.s.Accepted(m, r.put(m, "b@x.example"))
		time.Sleep(10 * time.Minute)
		at := slices.IndexFunc(r.attempts(), func(s string) bool { return strings.HasSuffix(s, "b@x.example") })
		if at > 2 || r.count() != 51 {
			t.Errorf("the single mail was number %d of %d", at, r.count())
		}
	})
}

// Of a destination that is down nobody knows but a few probes; the rest stays
// untouched and is delivered when it is back.
func TestDeadDestination(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = unreached }, func(r *rig) {
		for range 300 {
			r.accept("a@down.example")
			synctest.Wait()
		}
		if n := r.count(); n != deadAfter {
			t.Fatalf("%d attempts at once", n)
		}
		untried := 0
		for m, err := range r.q.All() {
			if err != nil {
				t.Fatal(err)
			}
			if to := m.Recipients[0]; to.Attempts == 0 && to.State == queue.Ready && to.Last.Status() == "4.4.1" && to.Next.After(time.Now()) {
				untried++
			}
		}
		if untried != 297 {
			t.Errorf("%d untried", untried)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := r.count(); n > 20 {
			t.Errorf("%d attempts in two hours", n)
		}
		r.setAnswer(ok)
		r.s.RetryAll()
		if r.left() != 0 {
			t.Errorf("%d left when it was back", r.left())
		}
	})
}

func TestDeadDestinationComesBackByItself(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = unreached }, func(r *rig) {
		for range 50 {
			r.accept("a@down.example")
		}
		time.Sleep(30 * time.Minute)
		r.setAnswer(ok)
		time.Sleep(2 * time.Hour)
		if r.left() != 0 || len(r.told()) != 0 {
			t.Errorf("%d left", r.left())
		}
	})
}

// Messages that outlive their time while their destination is down come back.
func TestDeadDestinationAtTheEndOfLife(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = unreached; r.c.Lifetime = 24 * time.Hour }, func(r *rig) {
		for range 50 {
			r.accept("a@down.example")
		}
		time.Sleep(25 * time.Hour)
		if r.left() != 0 || len(r.told()) != 50 {
			t.Errorf("%d left, %d notices", r.left(), len(r.told()))
		}
	})
}

func TestBacklogThroughSmallWindow(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.o.Window = 16
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			time.Sleep(time.Second)
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		r.stop()
		for i := range 500 {
			m := &queue.Message{Sender: sender}
			b := r.put(m, fmt.Sprintf("a@d%d.example", i%40), fmt.Sprintf("b@e%d.example", i%3))
			b.(message.Retainer).Release()
		}
		r.start()
		r.s.mu.Lock()
		if n := len(r.s.messages); n > 16 {
			t.Errorf("%d messages in memory", n)
		}
		r.s.mu.Unlock()
		time.Sleep(time.Hour)
		if r.left() != 0 || r.count() != 1000 {
			t.Errorf("%d left, %d attempts", r.left(), r.count())
		}
		if len(r.s.dests) > 43 || r.s.kept != 0 || r.s.planning != 0 {
			t.Errorf("left in memory: %d destinations, %d bytes, %d plans", len(r.s.dests), r.s.kept, r.s.planning)
		}
	})
}

// Who waits for a destination that is down is told so, tried or not.
func TestDeadDestinationIsTold(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = unreached; r.c.DelayNotice = time.Hour }, func(r *rig) {
		for range 10 {
			r.accept("a@down.example")
			synctest.Wait()
		}
		time.Sleep(3 * time.Hour)
		if n := len(r.told()); n != 10 {
			t.Errorf("%d notices for 10 messages", n)
		}
	})
}

// An idle scheduler over many deferred messages does nothing at all.
func TestIdleQueueRests(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = later; r.c.RetryRemote = Delays([]time.Duration{24 * time.Hour}) }, func(r *rig) {
		for i := range 500 {
			r.accept(fmt.Sprintf("a@d%d.example", i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.engine.mu.Lock()
		before := r.engine.reads
		r.engine.mu.Unlock()
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		r.engine.mu.Lock()
		defer r.engine.mu.Unlock()
		if n := r.engine.reads - before; n != 0 {
			t.Errorf("%d reads of the store in 20 hours without work", n)
		}
	})
}

// One destination takes all the mail there is, much more than fits into memory,
// at its full rate: nothing is put back for later.
func TestOneDestinationDrainsAtFullRate(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.o.Window = 40
		r.c.PerDestination = 5
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			time.Sleep(time.Second)
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		for range 1000 {
			r.accept("a@s.hub.example")
		}
		time.Sleep(201 * time.Second) // 1000 messages, five at once, a second each
		if r.left() != 0 || r.count() != 1000 {
			t.Errorf("%d left, %d attempts", r.left(), r.count())
		}
		if len(r.s.outside) != 0 {
			t.Errorf("%d ids left in memory", len(r.s.outside))
		}
	})
}

func BenchmarkAcceptAndDeliver(b *testing.B) {
	engine := &memoryEngine{rows: map[string][]byte{}}
	q, err := queue.Open(b.TempDir(), engine.open, queue.Options{Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	chain := hooks.NewChain(nil, hooks.Options{})
	done := make(chan struct{}, 100)
	s := New(Options{
		Queue: q, Chain: func() *hooks.Chain { chain.Acquire(); return chain },
		Deliver: map[string]Deliverer{SchemeMX: deliverFunc(func(_ context.Context, j *Job) []Outcome {
			done <- struct{}{}
			return []Outcome{{Result: Delivered, Reply: message.NewReply(250, "2.0.0", "ok")}}
		})},
	}, Config{Routes: Routes{{NextHop: NextHop{Scheme: SchemeMX}}}, ConcurrencyRemote: 100, Lifetime: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for running := false; !running; {
		s.mu.Lock()
		running = s.running
		s.mu.Unlock()
	}
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		m := &queue.Message{ID: message.NewID(now), Sender: sender, Arrived: now, Recipients: []queue.Recipient{{Address: message.Address{Local: "a", Domain: "x.example"}, Next: now}}}
		d := q.Begin(m.ID)
		_, _ = d.Write([]byte("Subject: x\r\n\r\nbody\r\n"))
		stored, err := d.Commit(ctx, m, nil, 0)
		if err != nil {
			b.Fatal(err)
		}
		s.Accepted(m, stored)
		<-done
	}
	cancel()
	<-ended
}

type deliverFunc func(context.Context, *Job) []Outcome

func (f deliverFunc) Deliver(ctx context.Context, j *Job) []Outcome { return f(ctx, j) }
