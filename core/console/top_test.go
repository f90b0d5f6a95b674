package console

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/hooks"
)

// One answer holds what the scheduler, the queue, the counters and the gate know,
// joined by destination.
func TestTop(t *testing.T) {
	g := newRig(t)
	till := now.Add(time.Hour)
	g.s.o.Open = func() []Open { return []Open{{Listener: "mx", TLS: 1, Stages: map[string]int{"data": 2}}} }
	g.s.o.Ways = func(int) ([]send.View, int, send.Channels) {
		return []send.View{
			{Name: "b.example", Ready: 1, Outside: 2, InFlight: 3, Window: 4, Limit: 20, Failures: 3, Rest: till, Last: message.NewReply(451, "4.4.1", "refused")},
			{Name: "busy.example", Ready: 9, Paced: true},
		}, 2, send.Channels{Remote: 3, RemoteLimit: 200}
	}
	later := rcpt("b@b.example", 1, "older")
	later.Next = time.Now().Add(time.Hour)
	g.put(t, "0MESSAGE1", "a@a.example", later, rcpt("c@c.example", 0, ""))
	tx := hooks.NewTransaction(&hooks.Session{ID: "s"}, "0MESSAGE1")
	g.r.Verdict(tx, record.Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	g.r.Stage(tx, hooks.StageRun{Stage: hooks.Rcpt, Handlers: []hooks.HandlerRun{{Policy: "greylist", Verb: hooks.Defer, Duration: time.Second}}})
	top, err := g.client.Top(t.Context(), 0, true)
	if err != nil {
		t.Fatal(err)
	}
	b, busy, c := top.Ways[1], top.Ways[0], top.Ways[2]
	switch {
	case top.Version != "1.2.3" || top.Queue.Messages != 1 || top.Queue.Recipients != 2 || top.Open[0].Stages["data"] != 2:
		t.Errorf("%+v", top)
	case top.Counters.Accepted != 1 || top.Counters.Verdicts["queued"] != 1:
		t.Errorf("%+v", top.Counters)
	case len(top.Ways) != 3 || top.WaysMore != 0 || busy.Destination != "busy.example" || busy.Health != HealthPaced:
		t.Errorf("%+v", top.Ways)
	case b.Ready != 3 || b.InFlight != 3 || b.Window != 4 || b.Waiting != 1 || b.Deferred != 1 || b.Health != HealthDown || !b.Until.Equal(till) || b.LastError != "451 4.4.1 refused" || b.Oldest.IsZero():
		t.Errorf("%+v", b)
	case c.Destination != "c.example" || c.Health != HealthIdle || c.Waiting != 1 || c.Deferred != 0 || c.Next.IsZero():
		t.Errorf("%+v", c)
	case len(top.Oldest) != 1 || top.Oldest[0].Recipient != "b@b.example" || top.Oldest[0].Recipients != 2 || top.Oldest[0].LastError != "451 4.3.0 older" || top.Oldest[0].Destination != "b.example":
		t.Errorf("%+v", top.Oldest)
	case len(top.Calls) != 1 || top.Calls[0].Stage != "rcpt" || top.Calls[0].P99 < 1 || top.Calls[0].Decisions["defer"] != 1 || top.Calls[0].Times.Calls() != 1:
		t.Errorf("%+v", top.Calls)
	case top.Attempts.RemoteLimit != 200 || top.Walked.At.IsZero() || top.Process.Heap == 0 || top.Process.Goroutines == 0:
		t.Errorf("%+v %+v", top.Walked, top.Process)
	}
	if few, err := g.client.Top(t.Context(), 1, false); err != nil || len(few.Ways) != 1 || few.WaysMore != 2 || len(few.Oldest) != 1 {
		t.Errorf("one row: %+v, %v", few.Ways, err)
	}
	if res, body := get(t, g.s, "GET", "/"); res.StatusCode != 200 || strings.Contains(body, "cpu_seconds") {
		t.Error("the page is another thing")
	}
}

// With nothing to tell every list is one, for programs.
func TestTopOfNothing(t *testing.T) {
	g := newRig(t)
	text, err := json.Marshal(g.s.look(t.Context(), topRows, true))
	for _, want := range []string{`"open":[]`, `"calls":[]`, `"destinations":[]`, `"oldest":[]`, `"verdicts":{}`} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("lacks %s: %s, %v", want, text, err)
		}
	}
}

// The queue is walked once for many who look, and not at all where a walk is fresh.
func TestTopWalksSeldom(t *testing.T) {
	g := newRig(t)
	g.put(t, "0MESSAGE1", "a@a.example", rcpt("b@b.example", 1, "older"))
	first := g.s.look(t.Context(), topRows, true).Walked.At
	for range 100 {
		if at := g.s.look(t.Context(), topRows, false).Walked.At; !at.Equal(first) {
			t.Fatal("a look walked over the queue again")
		}
	}
	if at := g.s.look(t.Context(), topRows, true).Walked.At; !at.After(first) {
		t.Error("who waits for a walk got an old one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.s.look(ctx, topRows, true) // does not hang
	g.s.walks.end()
	g.s.look(t.Context(), topRows, true)
}

// Texts from outside are bounded, at a character's border.
func TestTopTextsAreShort(t *testing.T) {
	if got := short(strings.Repeat("é", 400)); len(got) > topText+3 || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes", len(got))
	}
}

// A look costs the same with a queue of thousands: what walks is not what answers.
func BenchmarkLook(b *testing.B) {
	r, err := record.Open(b.TempDir(), record.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	q, err := queue.Open(b.TempDir(), pebble.Open, queue.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	tx := hooks.NewTransaction(&hooks.Session{ID: "s"}, "")
	for i := range 40 {
		for range 1000 {
			r.Stage(tx, hooks.StageRun{Stage: hooks.Rcpt, Handlers: []hooks.HandlerRun{{Policy: fmt.Sprint("policy", i), Verb: hooks.Pass, Duration: time.Duration(i) * time.Millisecond}}})
		}
	}
	s := New(Options{Record: r, Queue: q})
	defer s.walks.all.Wait()
	s.look(b.Context(), topRows, true)
	for b.Loop() {
		s.look(b.Context(), topRows, false)
	}
}

// Whoever counts the queue comes to the same numbers: the running totals of status
// and top, and the walk of queue summary and the panes.
func TestQueueNumbersAgree(t *testing.T) {
	g := newRig(t)
	done := rcpt("e@e.example", 1, "")
	done.State = queue.Delivered
	held := rcpt("h@b.example", 0, "")
	held.Held = true
	g.put(t, "0MESSAGE1", "a@a.example", rcpt("b@b.example", 1, "older"), rcpt("c@c.example", 0, ""), done, held)
	for i, place := range []queue.Place{queue.Held, queue.Quarantined, queue.Active} {
		id := fmt.Sprintf("0MESSAGE%d", i+2)
		g.put(t, id, "a@a.example", rcpt("b@b.example", 0, ""))
		if err := g.q.Update(t.Context(), id, func(m *queue.Message) error { m.Place = place; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	top := g.s.look(t.Context(), topRows, true)
	sum, err := Summarize(g.q.All(), g.s.destination, 0)
	st := top.Queue
	if err != nil || st.Messages != 4 || st.Recipients != 6 || sum.Messages != st.Messages || sum.Recipients != st.Recipients || sum.Held != st.Held || sum.Quarantined != st.Quarantined || st.Held != 1 || st.Quarantined != 1 {
		t.Errorf("status %+v, summary %+v, %v", st, sum, err)
	}
	waiting := 0
	for _, w := range top.Ways {
		waiting += w.Waiting
	}
	if waiting != st.Recipients || len(top.Ways) != len(sum.Destinations) {
		t.Errorf("%d wait for %d destinations, %d recipients in the queue", waiting, len(top.Ways), st.Recipients)
	}
}
