package send

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

func TestDeliveredAtOnceFromMemory(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		m := r.accept("a@x.example", "b@x.example", "c@here.example", "d@s.hub.example")
		got := r.attempts()
		slices.Sort(got)
		want := []string{"0s local c@here.example", "0s mx a@x.example,b@x.example", "0s smtp://192.0.2.25 d@s.hub.example"}
		if !slices.Equal(got, want) {
			t.Errorf("attempts %q", got)
		}
		if r.tries()[0].body != "Subject: "+m.ID+"\r\n\r\nbody\r\n" {
			t.Errorf("body %q", r.tries()[0].body)
		}
		if r.left() != 0 {
			t.Error("it is still in the queue")
		}
		// One commit at intake, one for each attempt's outcomes, the last with the removal.
		if r.engine.commits != 1+1+3 { // the first marks the format
			t.Errorf("%d commits", r.engine.commits)
		}
	})
}

func TestOneRecipientIsOneStep(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		before := r.engine.commits
		r.accept("a@x.example")
		r.attempts()
		if n := r.engine.commits - before; n != 2 {
			t.Errorf("%d commits for a message that is delivered at once", n)
		}
	})
}

func TestScheduleAndLastTry(t *testing.T) {
	for _, test := range []struct {
		to   string
		want []time.Duration // of the first attempts
	}{
		{"a@x.example", []time.Duration{0, 400 * time.Second, 1600 * time.Second, 3600 * time.Second, 6400 * time.Second}},
		{"a@here.example", []time.Duration{0, 100 * time.Second, 400 * time.Second, 900 * time.Second}},
	} {
		inBubble(t, func(r *rig) { r.answer = later }, func(r *rig) {
			m := r.accept(test.to)
			time.Sleep(8 * 24 * time.Hour)
			r.attempts()
			for i, want := range test.want {
				if got := r.tries()[i].after; got != want {
					t.Errorf("%s: attempt %d after %v, want %v", test.to, i, got, want)
				}
			}
			if last := r.tries()[r.count()-1].after; last != r.c.Lifetime {
				t.Errorf("the last try was after %v", last)
			}
			if r.left() != 0 || len(r.told()) != 1 {
				t.Fatalf("%d left, %d notices", r.left(), len(r.told()))
			}
			n := r.told()[0]
			if n.Kind != Failure || n.To != sender || n.About.ID != m.ID {
				t.Errorf("notice %+v", n)
			}
			for _, part := range []string{"Status: 4.4.7\r\n", "Diagnostic-Code: smtp; 450 4.2.0 later\r\n", "Action: failed\r\n"} {
				if !strings.Contains(string(n.Body), part) {
					t.Errorf("no %q in\n%s", part, n.Body)
				}
			}
		})
	}
}

func TestRetryList(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = later
		r.c.RetryRemote = Delays([]time.Duration{time.Minute, 5 * time.Minute, time.Hour})
		r.c.Lifetime = 3 * time.Hour
	}, func(r *rig) {
		r.accept("a@x.example")
		time.Sleep(4 * time.Hour)
		r.expect("0s mx a@x.example", "1m0s mx a@x.example", "6m0s mx a@x.example", "1h6m0s mx a@x.example", "2h6m0s mx a@x.example", "3h0m0s mx a@x.example")
	})
}

// Recipients of one message fare differently; failures are told at the end of
// the pass, not at the end of the message.
func TestEachRecipientForItself(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			switch rcpt[0] {
			case 'g':
				return ok(ctx, j, rcpt)
			case 'b':
				return refuse(ctx, j, rcpt)
			}
			return later(ctx, j, rcpt)
		}
	}, func(r *rig) {
		m := r.accept("good@x.example", "bad@x.example", "late@x.example", "bad@y.example")
		synctest.Wait()
		if len(r.told()) != 1 || !strings.Contains(string(r.told()[0].Body), "bad@x.example") || !strings.Contains(string(r.told()[0].Body), "bad@y.example") ||
			strings.Contains(string(r.told()[0].Body), "late@") {
			t.Fatalf("notices %+v", r.told())
		}
		for i, want := range []queue.State{queue.Delivered, queue.Failed, queue.Deferred, queue.Failed} {
			on := r.atNotice[0].Recipients[i]
			if on.State != want || on.Attempts != 1 {
				t.Errorf("at the notice the queue held %+v", on)
			}
		}
		m = r.load(m.ID)
		if owed(m) || m.Recipients[2].Next != m.Arrived.Add(400*time.Second) || m.Recipients[2].Last.Code != 450 || m.Recipients[2].Peer == "" {
			t.Errorf("left: %+v", m.Recipients)
		}
		r.setAnswer(ok)
		time.Sleep(time.Hour)
		if r.left() != 0 || len(r.told()) != 1 {
			t.Errorf("%d left, %d notices", r.left(), len(r.told()))
		}
		if got := r.attempts(); got[len(got)-1] != "6m40s mx late@x.example" {
			t.Errorf("attempts %q", got)
		}
	})
}

// The bounce can't be queued, the daemon dies, and the next one sends it.
func TestBounceSurvivesCrash(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = refuse
		r.bounceR = message.NewReply(451, "4.3.1", "disk full")
	}, func(r *rig) {
		r.accept("a@x.example")
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if len(r.atNotice) != 4 { // at once, and each minute
			t.Errorf("%d tries of the notice", len(r.atNotice))
		}
		if r.left() != 1 || r.count() != 1 {
			t.Fatalf("%d left, attempts %v", r.left(), r.tries())
		}
		r.stop()
		if r.left() != 1 {
			t.Fatal("it did not survive")
		}
		r.bounceR = message.NewReply(250, "2.0.0", "queued")
		r.start()
		if r.left() != 0 || len(r.told()) != 1 || r.count() != 1 {
			t.Errorf("%d left, %d notices, attempts %v", r.left(), len(r.told()), r.tries())
		}
	})
}

func TestWhoIsTold(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*rig, *queue.Message)
		kind   string // "" nobody
		to     string
	}{
		{"a sender", func(*rig, *queue.Message) {}, "bounce", "s@client.example"},
		{"null sender", func(_ *rig, m *queue.Message) { m.Sender = message.Address{} }, "double bounce", "postmaster@here.example"},
		{"null sender, no postmaster", func(r *rig, m *queue.Message) { m.Sender = message.Address{}; r.c.DoubleBounceTo = message.Address{} }, "", ""},
		{"double bounce", func(_ *rig, m *queue.Message) { m.Sender, m.Double = message.Address{}, true }, "", ""},
		{"NOTIFY=NEVER", func(_ *rig, m *queue.Message) { m.Recipients[0].Notify = "NEVER" }, "", ""},
		{"NOTIFY=DELAY", func(_ *rig, m *queue.Message) { m.Recipients[0].Notify = "DELAY" }, "", ""},
		{"NOTIFY=success,failure", func(_ *rig, m *queue.Message) { m.Recipients[0].Notify = "success,failure" }, "bounce", "s@client.example"},
	} {
		inBubble(t, func(r *rig) { r.answer = refuse }, func(r *rig) {
			m := &queue.Message{Sender: sender, Recipients: []queue.Recipient{{Address: message.Address{Local: "a", Domain: "x.example"}, Next: time.Now()}}}
			test.change(r, m)
			r.s.Reconfigure(r.c)
			r.s.Accepted(m, r.put(m))
			if r.left() != 0 {
				t.Errorf("%s: it is still there", test.name)
			}
			switch {
			case test.kind == "" && len(r.told()) == 0:
			case len(r.told()) == 1 && r.told()[0].Kind.String() == test.kind && r.told()[0].To.String() == test.to:
			default:
				t.Errorf("%s: notices %+v", test.name, r.told())
			}
		})
	}
}

// A bounce that is refused for good goes to the postmaster as a double bounce.
func TestRefusedBounce(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = refuse
		r.o.Bounce = func(ctx context.Context, n *Notice) message.Reply {
			if n.Kind == Failure {
				return message.NewReply(550, "5.1.1", "unknown sender")
			}
			return r.bounce(ctx, n)
		}
	}, func(r *rig) {
		r.accept("a@x.example")
		if r.left() != 0 || len(r.told()) != 1 || r.told()[0].Kind != Double {
			t.Errorf("%d left, notices %+v", r.left(), r.told())
		}
	})
}

func TestDelayNoticeOnce(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = later
		r.c.DelayNotice = 4 * time.Hour
	}, func(r *rig) {
		m := r.accept("a@x.example", "b@x.example")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if len(r.told()) != 0 {
			t.Fatal("too early")
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if len(r.told()) != 1 || r.told()[0].Kind != Delay || !r.load(m.ID).Notified {
			t.Fatalf("notices %+v", r.told())
		}
		body := string(r.told()[0].Body)
		if !strings.Contains(body, "Action: delayed\r\n") || !strings.Contains(body, "Status: 4.2.0\r\n") || strings.Contains(body, "Hi. This is the") {
			t.Errorf("%s", body)
		}
	})
}

// Run finds a message in the queue before intake hands it over.
func TestHandedOverLate(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		m := &queue.Message{Sender: sender}
		body := r.put(m, "a@x.example")
		r.s.RetryNow(m.ID)
		if r.left() != 0 {
			t.Fatal("it was not found")
		}
		r.s.Accepted(m, body)
		if r.attempts(); r.count() != 1 {
			t.Errorf("%d attempts", r.count())
		}
	})
}

func TestHeldIsNotTried(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		for _, place := range []queue.Place{queue.Held, queue.Quarantined} {
			m := &queue.Message{Sender: sender, Place: place}
			r.s.Accepted(m, r.put(m, "a@x.example"))
		}
		r.s.RetryAll()
		time.Sleep(time.Hour)
		if r.expect(); r.left() != 2 {
			t.Errorf("%d left", r.left())
		}
	})
}

func TestNoRoute(t *testing.T) {
	inBubble(t, func(r *rig) { r.c.Routes = r.c.Routes[:1]; r.c.Lifetime = time.Hour }, func(r *rig) {
		m := r.accept("a@x.example")
		if to := r.load(m.ID).Recipients[0]; to.State != queue.Deferred || to.Last.Status() != "4.3.5" || to.Attempts != 0 {
			t.Errorf("%+v", to)
		}
		time.Sleep(2 * time.Hour)
		if r.left() != 0 || len(r.told()) != 1 || r.count() != 0 {
			t.Errorf("%d left, %d notices", r.left(), len(r.told()))
		}
	})
}

func TestRetryNow(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = unreached }, func(r *rig) {
		var ids []string
		for range 10 {
			ids = append(ids, r.accept("a@x.example").ID)
			synctest.Wait()
		}
		before := r.count()
		r.setAnswer(ok)
		time.Sleep(time.Second)
		r.s.RetryNow(ids[3], ids[9], "0000000000nosuch")
		// The others go where these found somebody.
		if tries := r.tries(); r.left() != 0 || len(tries) != before+10 || !slices.Contains([]string{ids[3], ids[9]}, tries[before].id) {
			t.Errorf("%d left, %d attempts", r.left(), r.count()-before)
		}
	})
}

// TestAllGoWhenOneGotThrough: what waits for a next hop that is down goes when somebody
// answers there again, not when the schedule of each says, which is later the longer it
// was down.
func TestAllGoWhenOneGotThrough(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			if strings.HasSuffix(rcpt, "@y.example") {
				return later(ctx, j, rcpt)
			}
			return unreached(ctx, j, rcpt)
		}
		r.c.Lifetime = 7 * 24 * time.Hour
	}, func(r *rig) {
		const many = 300
		for i := range many {
			r.accept(fmt.Sprintf("u%d@x.example", i))
			time.Sleep(10 * time.Second)
		}
		r.accept("elsewhere@y.example")
		time.Sleep(12 * time.Hour)
		up, before := time.Now(), r.count()
		if r.left() != many+1 {
			t.Fatalf("%d left", r.left())
		}
		r.setAnswer(ok)
		var first, last time.Time
		for time.Since(up) < 2*time.Hour && r.left() > 1 {
			time.Sleep(time.Second)
			if r.count() > before && first.IsZero() {
				first = time.Now()
			}
			last = time.Now()
		}
		if r.left() > 1 || last.Sub(first) > 2*time.Second {
			t.Errorf("%d left; the first went %v after the next hop came back, the last %v after the first", r.left(), first.Sub(up), last.Sub(first))
		}
		if r.s.left != 0 {
			t.Errorf("%d messages still count as waiting", r.s.left)
		}
	})
}

func TestRetryAllTriesEachOnce(t *testing.T) {
	inBubble(t, func(r *rig) { r.answer = later; r.o.Window = 10 }, func(r *rig) {
		for i := range 100 {
			r.accept(fmt.Sprintf("a@d%d.example", i))
		}
		time.Sleep(200 * time.Second)
		r.attempts()
		before := r.count()
		r.s.RetryAll()
		time.Sleep(100 * time.Second)
		if r.attempts(); r.count() != before+100 {
			t.Errorf("%d attempts", r.count()-before)
		}
	})
}

func TestStopWaitsAndPutsBack(t *testing.T) {
	for _, long := range []bool{false, true} {
		inBubble(t, func(r *rig) {
			r.c.PerDestination = 1
			r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
				wait := 5 * time.Second
				if long {
					wait = time.Hour
				}
				select {
				case <-time.After(wait):
					return ok(ctx, j, rcpt)
				case <-ctx.Done():
					return later(ctx, j, rcpt)
				}
			}
		}, func(r *rig) {
			first := r.accept("a@x.example")
			second := r.accept("b@x.example") // waits
			synctest.Wait()
			start := time.Now()
			r.stop()
			took := time.Since(start)
			if r.load(second.ID).Recipients[0].State != queue.Ready || r.count() != 1 {
				t.Error("the waiting one was tried")
			}
			if !long {
				if r.left() != 1 || took != 5*time.Second {
					t.Errorf("%d left after %v", r.left(), took)
				}
				return
			}
			to := r.load(first.ID).Recipients[0]
			if took != defaultGrace || to.State != queue.Ready || to.Attempts != 0 || to.Next.After(time.Now()) {
				t.Errorf("after %v: %+v", took, to)
			}
			r.setAnswer(ok)
			r.start()
			if r.left() != 0 {
				t.Errorf("%d left after the restart", r.left())
			}
		})
	}
}

func TestWithdraw(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.c.PerDestination = 1
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			time.Sleep(10 * time.Second)
			return later(ctx, j, rcpt)
		}
	}, func(r *rig) {
		tried, waiting := r.accept("a@x.example"), r.accept("b@x.example")
		synctest.Wait()
		// One that waits comes at once, and is removed.
		start := time.Now()
		release, err := r.s.Withdraw(context.Background(), waiting.ID)
		if err != nil || time.Since(start) != 0 {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		if err := r.q.Remove(context.Background(), waiting.ID); err != nil {
			t.Fatal(err)
		}
		release()
		// One that is being tried takes as long as the attempt.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if _, err := r.s.Withdraw(ctx, tried.ID); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		cancel()
		release, err = r.s.Withdraw(context.Background(), tried.ID)
		if err != nil || time.Since(start) != 10*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		time.Sleep(time.Hour)
		r.expect("0s mx a@x.example")
		release()
		time.Sleep(time.Hour)
		if r.attempts(); r.count() < 2 {
			t.Error("it is not tried any more")
		}
	})
}

func TestReconfigure(t *testing.T) {
	inBubble(t, func(r *rig) { r.c.ConcurrencyRemote = 0 }, func(r *rig) {
		r.accept("a@x.example")
		time.Sleep(time.Hour)
		r.expect()
		r.c.ConcurrencyRemote = 1
		r.s.Reconfigure(r.c)
		r.expect("1h0m0s mx a@x.example")
	})
}

func TestPanicIsADeferral(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = func(context.Context, *Job, string) Outcome { panic("oops") }
	}, func(r *rig) {
		m := r.accept("a@x.example")
		if to := r.load(m.ID).Recipients[0]; to.State != queue.Deferred || to.Last.Status() != "4.3.0" {
			t.Errorf("%+v", to)
		}
		r.running = 0
	})
}

func TestManyRecipientsAreSplit(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		var to []string
		for i := range 250 {
			to = append(to, fmt.Sprintf("r%d@x.example", i))
		}
		r.accept(to...)
		r.attempts()
		var sizes []int
		for _, a := range r.tries() {
			sizes = append(sizes, len(a.rcpts))
		}
		slices.Sort(sizes)
		if !slices.Equal(sizes, []int{50, 100, 100}) || r.left() != 0 {
			t.Errorf("transactions of %v", sizes)
		}
	})
}

// TestRetryWhileAnAttemptRuns: what an operator mended may have been mended too late
// for an attempt that is under way. Where it fails, the next one comes at once.
func TestRetryWhileAnAttemptRuns(t *testing.T) {
	for name, retry := range map[string]func(s *Sender, id string){
		"everything":  func(s *Sender, _ string) { s.RetryAll() },
		"one message": func(s *Sender, id string) { s.RetryNow(id) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r *rig) {
				r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
					time.Sleep(10 * time.Second)
					return later(ctx, j, rcpt)
				}
			}, func(r *rig) {
				m := r.accept("a@x.example")
				time.Sleep(5 * time.Second)
				retry(r.s, m.ID)
				time.Sleep(time.Minute)
				r.expect("0s mx a@x.example", "10s mx a@x.example") // and that one is no reason for a third
			})
		})
	}
}
