package send

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// While the queue has failed nothing is tried, and when it is open again nothing
// that was done is done again, whether or not the write that failed is there.
func TestQueueFails(t *testing.T) {
	for _, stored := range []bool{false, true} {
		inBubble(t, nil, func(r *rig) {
			r.engine.stored = stored
			waits := r.accept("later@x.example")
			r.attempts()
			r.setAnswer(func(ctx context.Context, j *Job, rcpt string) Outcome {
				r.engine.fail(errDisk)
				return ok(ctx, j, rcpt)
			})
			r.accept("a@x.example", "b@y.example")
			r.attempts()
			time.Sleep(24 * time.Hour)
			r.s.RetryAll()
			r.s.RetryNow(waits.ID)
			if got := r.attempts(); len(got) > 3 {
				t.Errorf("attempts without a queue: %q", got)
			}
			before := r.count()
			r.setAnswer(ok)
			r.engine.fail(nil)
			time.Sleep(2 * time.Minute)
			if r.left() != 0 {
				t.Errorf("%d are left", r.left())
			}
			seen := map[string]int{}
			for _, a := range r.tries() {
				seen[strings.Join(a.rcpts, ",")]++
			}
			for rcpt, n := range seen {
				if n > 1 {
					t.Errorf("%s was tried %d times; stored: %v", rcpt, n, stored)
				}
			}
			if before > r.count() || len(seen) != 3 {
				t.Errorf("tried: %v", seen)
			}
		})
	}
}

// The queue fails at each of its commits in turn, that being on the disk or not.
// In the end every recipient was served once and every sender told once.
func TestQueueFailsAtEachStep(t *testing.T) {
	for _, stored := range []bool{false, true} {
		for at := 1; ; at++ {
			last := false
			where := fmt.Sprintf("commit %d fails, stored %v", at, stored)
			inBubble(t, func(r *rig) {
				r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
					time.Sleep(time.Second)
					switch m := j.Message.Recipients[j.Recipients[0]]; {
					case strings.HasPrefix(rcpt, "bad"):
						return refuse(ctx, j, rcpt)
					case strings.HasPrefix(rcpt, "slow") && m.Attempts < 2:
						return later(ctx, j, rcpt)
					}
					return ok(ctx, j, rcpt)
				}
			}, func(r *rig) {
				r.engine.mu.Lock()
				r.engine.stored, r.engine.at = stored, r.engine.commits+at
				r.engine.mu.Unlock()
				taken := map[string]bool{}
				for n, rcpts := range [][]string{{"good@x.example"}, {"bad@x.example", "good@y.example"}, {"slow@y.example", "bad@x.example", "good@z.example"}} {
					m := &queue.Message{Sender: sender}
					for _, to := range rcpts {
						a, err := message.ParseAddress(to)
						if err != nil {
							t.Fatal(err)
						}
						q := queue.Recipient{Address: a, Next: time.Now()}
						if n == 1 && to[0] == 'g' {
							q.Notify = "SUCCESS"
						}
						m.Recipients = append(m.Recipients, q)
					}
					// As a client does: again until it is taken.
					for body := message.Body(nil); body == nil; time.Sleep(10 * time.Second) {
						m.ID, m.Arrived = message.NewID(time.Now()), time.Now()
						if body = r.tryPut(m); body != nil {
							taken[m.ID] = true
							r.s.Accepted(m, body)
						}
					}
				}
				time.Sleep(7 * time.Hour)
				if r.left() != 0 {
					t.Errorf("%s: %d are left", where, r.left())
				}
				served := map[string]int{}
				for _, a := range r.tries() {
					if !taken[a.id] {
						t.Errorf("%s: a refused message was tried", where)
					}
					for _, to := range a.rcpts {
						served[a.id+" "+to]++
					}
				}
				for to, n := range served {
					if want := map[bool]int{false: 1, true: 3}[strings.Contains(to, "slow")]; n != want {
						t.Errorf("%s: %s was tried %d times", where, to, n)
					}
				}
				var told []string
				for _, n := range r.told() {
					told = append(told, n.Kind.String())
				}
				slices.Sort(told)
				if want := []string{"bounce", "bounce", "success notice"}; !slices.Equal(told, want) || len(served) != 6 {
					t.Errorf("%s: told %v, served %v", where, told, served)
				}
				r.engine.mu.Lock()
				defer r.engine.mu.Unlock()
				last = r.engine.commits < r.engine.at
			})
			if last {
				if at < 12 {
					t.Errorf("only %d commits", at)
				}
				break
			}
			if at > 100 {
				t.Fatal("no end of commits")
			}
		}
	}
}
