package send

import (
	"context"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

func TestGreylistingTexts(t *testing.T) {
	for _, test := range []struct {
		code int
		text string
		want time.Duration
	}{
		{450, "<u@example.net>: Recipient address rejected: Greylisted for 300 seconds (see http://example.net/)", 300 * time.Second},
		{451, "Greylisting in action, please come back in 00:05:00", 5 * time.Minute},
		{450, "graylisted, try again in 10 minutes", 10 * time.Minute},
		{451, "Temporary greylist: wait 20s", time.Minute}, // less is no wait
		{450, "Greylisted, see http://postgrey.example/help/300.html", 0},
		{450, "Greylisted, come back in 23:00:00", 0},
		{450, "Greylisted for 99999 minutes", 0},
		{450, "Try again in 300 seconds", 0},
		{550, "Greylisted for 300 seconds", 0},
		{450, "Mailbox greylady full, 5 minutes", 0},
	} {
		got, ok := greylisted(message.Reply{Code: test.code, Text: test.text})
		if ok != (test.want > 0) || got != test.want {
			t.Errorf("%d %s: %v, %v, want %v", test.code, test.text, got, ok, test.want)
		}
	}
}

// A greylisting server's wait comes before the schedule, but not for ever.
func TestGreylistingServerIsTriedWhenItSays(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.answer = func(_ context.Context, _ *Job, _ string) Outcome {
			return Outcome{Result: Deferred, Reply: message.NewReply(450, "4.2.0", "Greylisted for 300 seconds")}
		}
	}, func(r *rig) {
		r.accept("a@x.example")
		time.Sleep(40 * time.Minute)
		r.expect("0s mx a@x.example", "5m0s mx a@x.example", "10m0s mx a@x.example", "15m0s mx a@x.example", "20m0s mx a@x.example", "25m0s mx a@x.example")
		time.Sleep(time.Hour)
		if n := r.count(); n != 7 {
			t.Errorf("%d attempts, want 7: after the first five the schedule holds", n)
		}
	})
}
