package send

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// The clock of the host is set forward and back by a day, again and again. Each
// message is served once, none is tried without end, and what is due by the clock as
// it is now is tried within a minute.
func TestClockJumps(t *testing.T) {
	var offset atomic.Int64
	inBubble(t, func(r *rig) {
		r.o.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			if j.Message.Recipients[j.Recipients[0]].Attempts < 3 {
				return later(ctx, j, rcpt)
			}
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		random := rand.New(rand.NewPCG(1, 2))
		served := 0
		for range 100 {
			r.accept("a@x.example")
			served++
			time.Sleep(time.Duration(random.IntN(3600)) * time.Second)
			offset.Store(int64(random.IntN(3)-1) * int64(24*time.Hour))
			if random.IntN(4) == 0 {
				time.Sleep(24 * time.Hour)
			}
		}
		offset.Store(0)
		time.Sleep(9 * 24 * time.Hour)
		if r.left() != 0 {
			t.Errorf("%d are left", r.left())
		}
		tries := map[string]int{}
		for _, a := range r.tries() {
			tries[a.id]++
		}
		for id, n := range tries {
			if n != 4 {
				t.Errorf("%s was tried %d times", id, n)
			}
		}
		if len(tries) != served || len(r.told()) > 0 {
			t.Errorf("%d of %d were tried, %d notices", len(tries), served, len(r.told()))
		}

		// Two tries, the next one in more than half an hour; then the clock is set.
		r.setAnswer(later)
		m := r.accept("b@x.example")
		time.Sleep(time.Hour)
		before := r.count()
		next := r.load(m.ID).Recipients[0].Next
		offset.Store(int64(next.Sub(r.o.Now())))
		time.Sleep(time.Minute)
		if r.count() != before+1 {
			t.Errorf("%d tries within a minute of its time", r.count()-before)
		}
		r.setAnswer(ok)
		time.Sleep(9 * 24 * time.Hour)
	})
}
