package send

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// TestPriorities: of what waits for one destination, the highest priority goes first,
// in the order of coming within one; senders take turns where none is set.
func TestPriorities(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.c.PerDestination = 1
		r.answer = func(ctx context.Context, j *Job, rcpt string) Outcome {
			time.Sleep(time.Second)
			return ok(ctx, j, rcpt)
		}
	}, func(r *rig) {
		for i, priority := range []int{0, -1, 0, 5, 0, 9, 5, -3, 0} {
			m := &queue.Message{Sender: sender}
			if priority != 0 {
				m.Facts, _ = json.Marshal(hooks.Facts{Priority: priority})
			}
			r.s.Accepted(m, r.put(m, fmt.Sprintf("m%d@x.example", i)))
		}
		time.Sleep(time.Minute)
		var order []string
		for _, one := range r.tries() {
			order = append(order, strings.TrimSuffix(one.rcpts[0], "@x.example"))
		}
		if got := strings.Join(order, " "); got != "m0 m5 m3 m6 m2 m4 m8 m1 m7" {
			t.Errorf("order %s", got)
		}
		if r.left() != 0 {
			t.Errorf("%d left", r.left())
		}
	})
}
