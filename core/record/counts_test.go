package record

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Every duration lies in its class: at or above the end of the one before, below
// its own.
func TestClasses(t *testing.T) {
	last := 0
	for d := time.Duration(0); d < 70*time.Second; d += max(time.Microsecond, d/50) {
		k := classOf(d)
		if k < last || k > last+1 {
			t.Fatalf("%v is in class %d, after %d", d, k, last)
		}
		last = k
		if d >= upTo(k) || k > 0 && d.Truncate(time.Microsecond) < upTo(k-1) {
			t.Fatalf("%v is in class %d, which is %v to %v", d, k, upTo(k-1), upTo(k))
		}
	}
	if last < classes-8 || classOf(time.Hour) != classes-1 || classOf(-time.Second) != 0 {
		t.Errorf("70 s is in class %d of %d, an hour in %d", last, classes, classOf(time.Hour))
	}
}

func TestQuantiles(t *testing.T) {
	var g timing
	for range 10_000 {
		g.observe(time.Duration(rand.N(1_000_000)) * time.Microsecond)
	}
	first := g.load()
	for _, q := range []float64{.5, .9, .99} {
		if got := first.Quantile(q).Seconds(); got < q*.95 || got > q*1.3 {
			t.Errorf("quantile %v of times up to a second is %v", q, got)
		}
	}
	for range 100 {
		g.observe(3 * time.Second)
	}
	since := g.load().Since(first)
	if since.Calls() != 100 || since.Quantile(.5) < 3*time.Second || since.Quantile(.5) > 3600*time.Millisecond {
		t.Errorf("what came since: %v", since)
	}
	if (Times{}).Quantile(.5) != 0 {
		t.Error("no calls have a quantile")
	}
}

func TestCounts(t *testing.T) {
	r, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &hooks.Session{ID: "s", Listener: "mx"}
	tx := hooks.NewTransaction(s, "")
	r.Refused(tx, hooks.Helo, "", message.NewReply(501, "5.5.4", "no"))
	r.Refused(tx, hooks.Connect, "gate", message.NewReply(421, "4.7.0", "later"))
	r.Stage(tx, hooks.StageRun{Stage: hooks.Helo, Handlers: []hooks.HandlerRun{
		{Policy: "a", Verb: hooks.Reject, Duration: 5 * time.Millisecond}, {Policy: "b", Shadow: true},
	}})
	r.Attempt("id", Attempt{Outcome: "bounced"})
	r.Verdict(hooks.NewTransaction(s, "id"), Queued, message.NewReply(250, "2.0.0", "ok"), "")
	c := r.Counts()
	if c.Refused != 1 || c.Deferred != 1 || c.Bounced != 1 || c.Delivered != 0 || c.Verdicts["queued"] != 1 || len(c.Policies) != 2 {
		t.Fatalf("%+v", c)
	}
	a, b := c.Policies[0], c.Policies[1]
	if a.Policy != "a" || a.Calls != 1 || a.Decisions["reject"] != 1 || a.Times.Quantile(.99) < 5*time.Millisecond || !b.Shadow || b.Stage != hooks.Helo {
		t.Errorf("%+v %+v", a, b)
	}
}
