package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

type world struct {
	in    *Intake
	queue *queue.Queue
	taken []*queue.Message
	text  string // of the last one handed over
}

func open(t *testing.T, change func(*Settings)) *world {
	t.Helper()
	dir := t.TempDir()
	q, err := queue.Open(filepath.Join(dir, "queue"), pebble.Open, queue.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := record.Open(filepath.Join(dir, "record"), record.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.Close(); _ = q.Close() })
	s := Settings{
		Hostname: "mx.example.net", MessageSize: 1 << 20, HeaderSize: 10 << 10, Hops: 5,
		Domains: NewDomains([]Domain{
			{Name: "example.net"},
			{Name: "*.wild.example"},
			{Name: "list.example", Known: func(_ context.Context, a message.Address) (bool, error) {
				if a.Local == "broken" {
					return false, errors.New("source down")
				}
				return a.Local == "known", nil
			}},
		}),
	}
	if change != nil {
		change(&s)
	}
	w := &world{queue: q}
	w.in = New(Options{Queue: q, Record: rec, Log: slog.New(slog.DiscardHandler), Accepted: func(m *queue.Message, body message.Body) {
		w.taken = append(w.taken, m)
		b, err := io.ReadAll(message.NewReader(body))
		if err != nil {
			t.Error(err)
		}
		w.text = string(b)
		if r, ok := body.(message.Retainer); ok {
			r.Release()
		}
	}}, s)
	return w
}

func transaction(rcpts ...string) *hooks.Transaction {
	s := &hooks.Session{ID: message.NewID(time.Now()), Protocol: "smtp", Extended: true, Helo: "client.example", Client: netip.MustParseAddrPort("192.0.2.7:4711")}
	tx := hooks.NewTransaction(s, message.NewID(time.Now()))
	tx.Sender = message.Address{Local: "s", Domain: "client.example"}
	for _, r := range rcpts {
		a, _ := message.ParseAddress(r)
		tx.Recipients = append(tx.Recipients, &hooks.Recipient{Address: a, Given: a})
	}
	return tx
}

// at is a policy for one stage.
type at struct {
	stage hooks.Stage
	say   func(tx *hooks.Transaction) hooks.Decision
}

func (a at) Name() string          { return "test" }
func (a at) Stages() []hooks.Stage { return []hooks.Stage{a.stage} }
func (a at) Handle(_ context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	return a.say(tx), nil
}

func chain(list ...at) *hooks.Chain {
	var entries []hooks.Entry
	for i, a := range list {
		entries = append(entries, hooks.Entry{Name: fmt.Sprintf("test%d", i), Handler: a})
	}
	return hooks.NewChain(entries, hooks.Options{})
}

func (w *world) take(t *testing.T, c *hooks.Chain, tx *hooks.Transaction, text string, piece int) Answer {
	t.Helper()
	m := w.in.Begin(t.Context(), c, tx)
	for len(text) > 0 {
		n := min(piece, len(text))
		m.Write([]byte(text[:n]))
		text = text[n:]
	}
	return m.End(t.Context())
}

// What is relayed is byte for byte what came in, behind our Received field.
func TestByteForByte(t *testing.T) {
	for _, text := range []string{
		"Subject: x\r\n\r\nbody\r\n", "", "\r\n", "\r\nno header\r\n", "Subject: only header\r\n", "no header, no blank line\r\n",
		"A: b\r\n folded\r\n\r\n\r\n\r\n", strings.Repeat("text without a header or a blank line\r\n", 1000), strings.Repeat("x", 20<<10) + "\r\n", "Subject: " + strings.Repeat("x", 990) + "\r\n\r\n.\r\n..\r\n",
	} {
		for _, piece := range []int{1, 3, 1 << 20} {
			w := open(t, nil)
			tx := transaction("a@example.net")
			a := w.take(t, chain(), tx, text, piece)
			if !a.Queued || a.Reply.String() != "250 2.0.0 Ok: queued as "+tx.ID {
				t.Fatalf("%q: %+v", text, a)
			}
			head, ok := strings.CutSuffix(w.text, text)
			if !ok || !strings.HasPrefix(head, "Received: from client.example (unknown [192.0.2.7])\r\n\tby mx.example.net with ESMTP id "+tx.ID+";\r\n\t") || strings.Count(head, "\r\n") != 3 {
				t.Errorf("%q in pieces of %d became %q", text, piece, w.text)
			}
		}
	}
}

func TestEditsOfTheHeader(t *testing.T) {
	edit := func(tx *hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{
			{Kind: hooks.AddHeader, Name: "X-Top", Value: "1"}, {Kind: hooks.AppendHeader, Name: "X-End", Value: "2"}, {Kind: hooks.RemoveHeader, Name: "Gone"},
		}}
	}
	for text, want := range map[string]string{
		"Gone: x\r\nSubject: y\r\n\r\nbody\r\n": "X-Top: 1\r\nSubject: y\r\nX-End: 2\r\n\r\nbody\r\n",
		"\r\nbody\r\n":                          "X-Top: 1\r\nX-End: 2\r\n\r\nbody\r\n",
		"Subject: y\r\n":                        "X-Top: 1\r\nSubject: y\r\nX-End: 2\r\n",
		"":                                      "X-Top: 1\r\nX-End: 2\r\n",
	} {
		for _, stage := range []hooks.Stage{hooks.Headers, hooks.Message, hooks.Queue} {
			w := open(t, nil)
			if a := w.take(t, chain(at{stage, edit}), transaction("a@example.net"), text, 7); !a.Queued {
				t.Fatalf("%+v", a)
			}
			if _, got, _ := strings.Cut(w.text, "+0000\r\n"); got != want {
				t.Errorf("%q at %s: %q, want %q", text, stage, got, want)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	say := func(stage hooks.Stage, v hooks.Verb) *hooks.Chain {
		return chain(at{stage, func(*hooks.Transaction) hooks.Decision { return hooks.Decision{Verb: v, Reason: "why"} }})
	}
	simple := "Subject: x\r\n\r\nbody\r\n"
	for _, c := range []struct {
		name  string
		chain *hooks.Chain
		text  string
		want  string
	}{
		{"size", chain(), simple + strings.Repeat("x", 1<<20), "552 5.3.4"},
		{"header size", chain(), strings.Repeat("X-Flood: h\r\n", 2000) + "\r\n", "552 5.3.4"},
		{"one long header line", chain(), "X: " + strings.Repeat("h", 20<<10), "552 5.3.4"},
		{"hops", chain(), strings.Repeat("Received: x\r\n", 6) + "\r\n", "554 5.4.6"},
		{"headers", say(hooks.Headers, hooks.Reject), simple, "554 5.7.1"},
		{"message", say(hooks.Message, hooks.Reject), simple, "554 5.7.1"},
		{"queue", say(hooks.Queue, hooks.Defer), simple, "451 4.7.1"},
		{"disconnect", say(hooks.Message, hooks.Drop), simple, "421 4.7.0"},
	} {
		w := open(t, nil)
		a := w.take(t, c.chain, transaction("a@example.net"), c.text, 1000)
		if !strings.HasPrefix(a.Reply.String(), c.want) || a.Queued || a.Disconnect != (c.name == "disconnect") {
			t.Errorf("%s: %+v, want %s", c.name, a, c.want)
		}
		if n := w.queue.Totals().Messages; n != 0 || len(w.taken) != 0 {
			t.Errorf("%s: %d messages in the queue", c.name, n)
		}
	}
}

func TestKeptAndDiscarded(t *testing.T) {
	for _, c := range []struct {
		stage                      hooks.Stage
		verb                       hooks.Verb
		messages, held, quarantine int
	}{
		{hooks.Headers, hooks.Quarantine, 1, 0, 1},
		{hooks.Message, hooks.Quarantine, 1, 0, 1},
		{hooks.Queue, hooks.Hold, 1, 1, 0},
		{hooks.Message, hooks.Discard, 0, 0, 0},
		{hooks.Headers, hooks.Discard, 0, 0, 0},
	} {
		w := open(t, nil)
		ch := chain(at{c.stage, func(*hooks.Transaction) hooks.Decision { return hooks.Decision{Verb: c.verb, Reason: "why"} }})
		tx := transaction("a@example.net")
		a := w.take(t, ch, tx, "Subject: x\r\n\r\nwhole body\r\n", 5)
		if a.Reply.String() != "250 2.0.0 Ok: queued as "+tx.ID {
			t.Errorf("%s at %s: %s", c.verb, c.stage, a.Reply)
		}
		n := w.queue.Totals()
		if n.Messages != c.messages || n.Held != c.held || n.Quarantined != c.quarantine || len(w.taken) != 0 {
			t.Errorf("%s at %s: %+v, %d handed over", c.verb, c.stage, n, len(w.taken))
		}
		if c.messages == 0 {
			continue
		}
		body, closer, err := w.queue.Body(tx.ID)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(message.NewReader(body)); !strings.HasSuffix(string(b), "whole body\r\n") {
			t.Errorf("kept only %q", b)
		}
		_ = closer.Close()
	}
	// A refusal of a later stage wins over a quarantine.
	w := open(t, nil)
	ch := chain(at{hooks.Headers, func(*hooks.Transaction) hooks.Decision { return hooks.Decision{Verb: hooks.Quarantine} }}, at{hooks.Message, func(*hooks.Transaction) hooks.Decision { return hooks.Decision{Verb: hooks.Reject} }})
	if a := w.take(t, ch, transaction("a@example.net"), "\r\n", 9); a.Reply.Code != 554 {
		t.Errorf("quarantine, then reject: %+v", a)
	}
}

func TestScore(t *testing.T) {
	five, eight, fifteen := 5.0, 8.0, 15.0
	for points, want := range map[float64]string{4.9: "pass", 5: "tag", 8: "quarantine", 15: "reject"} {
		w := open(t, func(s *Settings) { s.Score = Score{Tag: &five, Quarantine: &eight, Reject: &fifteen} })
		ch := chain(at{hooks.Message, func(*hooks.Transaction) hooks.Decision {
			return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.AddScore, Name: "sym", Number: points, Value: "because"}}}
		}})
		a := w.take(t, ch, transaction("a@example.net"), "X-Spam-Flag: NO\r\n\r\n", 9)
		got := "pass"
		switch {
		case a.Reply.Permanent():
			got = "reject"
		case w.queue.Totals().Quarantined == 1:
			got = "quarantine"
		case strings.Contains(w.text, "X-Spam-Flag: YES\r\n") && strings.Contains(w.text, "X-Spam-Score: 5 (sym=5)\r\n") && !strings.Contains(w.text, "NO"):
			got = "tag"
		}
		if got != want {
			t.Errorf("%v points: %s, want %s (%s, %q)", points, got, want, a.Reply, w.text)
		}
	}
}

func TestScoreRules(t *testing.T) {
	rule := func(when, name string, points float64) ScoreRule {
		r, err := hooks.ParseRule(when)
		if err != nil {
			t.Fatal(err)
		}
		return ScoreRule{When: r, Score: hooks.Score{Name: name, Points: points, Why: when}}
	}
	three := 3.0
	w := open(t, func(s *Settings) {
		s.Score = Score{Reject: &three, Rules: []ScoreRule{
			rule("dnsbl.listed >= 2", "two_lists", 2), rule("dnsbl.listed >= 9", "nine_lists", 50), rule("score.two_lists and not conn.tls", "clear", 1),
		}}
	})
	ch := chain(at{hooks.Message, func(*hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.SetResult, Name: "dnsbl", Any: map[string]any{"listed": 2.0}}}}
	}})
	tx := transaction("a@example.net")
	if a := w.take(t, ch, tx, "\r\n", 9); a.Reply.Code != 554 || !strings.Contains(a.Reply.Text, "scores 3, the limit is 3") {
		t.Errorf("%+v", a)
	}
	if got := symbols(tx.Scores); got != "two_lists=2, clear=1" {
		t.Errorf("%s", got)
	}
}

func TestRecipientRule(t *testing.T) {
	for _, c := range []struct {
		rcpt            string
		relaying, route bool
		want            string
	}{
		{"a@example.net", false, false, "accept"},
		{"a@sub.example.net", false, false, "550 5.7.1"},
		{"a@x.wild.example", false, false, "accept"},
		{"a@wild.example", false, false, "550 5.7.1"},
		{"known@list.example", false, false, "accept"},
		{"other@list.example", false, false, "550 5.1.1"},
		{"other@list.example", true, true, "550 5.1.1"},
		{"broken@list.example", false, false, "451 4.4.3"},
		{"Postmaster@list.example", false, false, "accept"},
		{"a@elsewhere.example", false, true, "550 5.7.1"},
		{"a@elsewhere.example", true, true, "accept"},
		{"a@elsewhere.example", true, false, "550 5.4.4"},
		{"a%elsewhere.example@example.net", false, false, "accept"},
	} {
		w := open(t, func(s *Settings) {
			s.Routed = func(*hooks.Transaction, message.Address) bool { return c.route }
		})
		tx := transaction(c.rcpt)
		tx.Current, tx.Session.Relaying = tx.Recipients[0], c.relaying
		d := hooks.NewChain([]hooks.Entry{{Handler: w.in.RecipientRule()}}, hooks.Options{}).Run(t.Context(), hooks.Rcpt, tx)
		got := d.Verb.String()
		if d.Verb.Refuses() {
			got = d.Reply.String()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s relaying %v: %s, want %s", c.rcpt, c.relaying, got, c.want)
		}
	}
}

func TestPostmaster(t *testing.T) {
	w := open(t, nil)
	if got := w.in.Postmaster().String(); got != "postmaster@example.net" {
		t.Error(got)
	}
	w.in.Reconfigure(Settings{Hostname: "mx.example.org", Domains: NewDomains(nil)})
	if got := w.in.Postmaster().String(); got != "postmaster@mx.example.org" {
		t.Error(got)
	}
}

func TestInject(t *testing.T) {
	w := open(t, nil)
	tx := NewLocal("local", message.Address{Local: "me", Domain: "here.example"}, []message.Address{{Local: "a", Domain: "example.net"}})
	r := w.in.Inject(t.Context(), chain(), tx, strings.NewReader("Subject: x\n\n.\nbody\r\nlast"))
	if r.Code != 250 {
		t.Fatal(r)
	}
	_, got, _ := strings.Cut(w.text, "Subject")
	want := ": x\r\nMessage-ID: <" + tx.ID + "@mx.example.net>\r\nDate: "
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\nFrom: <me@here.example>\r\n\r\n.\r\nbody\r\nlast\r\n") || !strings.HasPrefix(w.text, "Received: by mx.example.net with local id ") {
		t.Errorf("%q", w.text)
	}
	var f hooks.Facts
	if err := json.Unmarshal(w.taken[0].Facts, &f); err != nil || f.Protocol != "local" || !f.Relaying {
		t.Errorf("facts %s %v", w.taken[0].Facts, err)
	}
	refuse := chain(at{hooks.Rcpt, func(*hooks.Transaction) hooks.Decision { return hooks.Decision{Verb: hooks.Reject} }})
	tx = NewLocal("local", message.Address{}, []message.Address{{Local: "a", Domain: "example.net"}})
	if r := w.in.Inject(t.Context(), refuse, tx, strings.NewReader("")); r.Code != 550 || !strings.Contains(r.Text, "<a@example.net>") {
		t.Error(r)
	}
}

// TestInjectRefusesWhatLinesMayNotHold: as from the wire; a CR at the end is a
// line's end.
func TestInjectRefusesWhatLinesMayNotHold(t *testing.T) {
	for text, code := range map[string]int{"a: b\n\nx\x00y\n": 554, "a: b\n\nx\ry\n": 554, "a: b\rc\n\nx\n": 554, "a: b\n\nx\r\r\n": 554, "a: b\n\nx\r": 250, "a: b\r\n\r\nx": 250} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			w := open(t, nil)
			tx := NewLocal("local", message.Address{}, []message.Address{{Local: "a", Domain: "example.net"}})
			if got := w.in.Inject(t.Context(), chain(), tx, r); got.Code != code || code == 250 && strings.ContainsAny(strings.ReplaceAll(w.text, "\r\n", ""), "\r\n\x00") {
				t.Errorf("%q: %s, %q", text, got, w.text)
			}
		}
	}
}

func TestRecipientsAndFactsAreStored(t *testing.T) {
	w := open(t, nil)
	tx := transaction("a@example.net", "b@example.net")
	tx.Params = []hooks.Param{{Key: "BODY", Value: "8BITMIME"}}
	ch := chain(at{hooks.Queue, func(*hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{
			{Kind: hooks.ReplaceRecipient, Name: "a@example.net", Value: "z@example.net"},
			{Kind: hooks.SetRoute, Name: "z@example.net", Value: "local"},
			{Kind: hooks.SetRoute, Value: "discard"},
			{Kind: hooks.SetNote, Name: "n", Any: "v"},
		}}
	}})
	w.take(t, ch, tx, "\r\n", 9)
	m, err := w.queue.Load(tx.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Recipients) != 2 || m.Recipients[0].Address.Local != "z" || m.Recipients[0].Route != "local" || m.Recipients[0].Original != "a@example.net" || m.Recipients[1].Route != "discard" || !m.EightBit {
		t.Errorf("%+v", m)
	}
	var f hooks.Facts
	if err := json.Unmarshal(m.Facts, &f); err != nil || f.Notes["n"] != "v" || f.Helo != "client.example" {
		t.Errorf("facts %s", m.Facts)
	}
}
