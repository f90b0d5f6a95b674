package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

func TestStoryJSON(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	story := one(t, r, "0MESSAGE0000001")
	if story.Left == nil || story.Ended.IsZero() {
		t.Errorf("left %v, ended %v", story.Left, story.Ended)
	}
	story.Left, story.Ended = nil, noon.Add(25*time.Millisecond)
	got, err := json.MarshalIndent(story, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "story.json", append(got, '\n'))
	var b bytes.Buffer
	story.Print(&b, false)
	if strings.ContainsRune(b.String(), '\x1b') {
		t.Error("colours in plain text")
	}
	for _, want := range []string{
		"0MESSAGE0000001  queued", "<Sender@a.example>", "<b@b.example>", "Grüße", "250 2.0.0 Ok: queued as 0MESSAGE0000001", "greylist",
		"edit notes seen = {a = [x, true], b = 1.5}", "failed: boom", "(shadow: no effect)", "451 4.3.0 Later", "delivered", "+1.5 FUNNY is funny", "+10 ms",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the printed story lacks %q:\n%s", want, b.String())
		}
	}
}

func TestWhyFinds(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example", "C@c.example"))
	other := newSession("0SESSION0000002")
	other.Client = netip.MustParseAddrPort("[::ffff:192.0.2.8]:1")
	tell(r, other, transaction(other, "0MESSAGE0000002", "d@d.example"))
	for query, want := range map[string]int{
		"0MESSAGE0000001": 1, "0SESSION0000001": 1, "b@b.example": 1, "B@B.EXAMPLE": 1, "<c@c.example>": 1, "sender@a.example": 2, "192.0.2.7": 1,
		"192.0.2.8": 1, "::ffff:192.0.2.8": 1, "192.0.2.9": 0, "x@b.example": 0, "0MESSAGE0000003": 0, "b.example": 1, "@a.example": 2, "192.0.2.0/29": 1, "192.0.2.0/28": 2,
	} {
		list, err := r.Why(t.Context(), Query{Subjects: []string{query}})
		if err != nil || len(list) != want {
			t.Errorf("%q: %d stories, error %v, want %d", query, len(list), err, want)
		}
	}
}

func TestNewestFirstAndBounded(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	r.Connected(s)
	for i := range UsualLimit + 20 {
		tx := transaction(s, fmt.Sprintf("0MESSAGE%07d", i), "b@b.example")
		r.Stage(tx, at(hooks.Mail, i, hooks.HandlerRun{Policy: "p"}))
		r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
		if i%7 == 0 {
			r.Flush()
		}
	}
	list, err := r.Why(t.Context(), Query{Subjects: []string{"b@b.example"}})
	if err != nil || len(list) != UsualLimit {
		t.Fatalf("%d stories, %v", len(list), err)
	}
	for i := 1; i < len(list); i++ {
		if list[i].Time.After(list[i-1].Time) {
			t.Fatalf("story %d is newer than the one before", i)
		}
	}
}

// A transaction whose recipients are all refused gets no verdict from the engine.
func TestRefusedTransaction(t *testing.T) {
	for _, c := range []struct {
		name    string
		verdict string
		tell    func(r *Recorder, tx *hooks.Transaction)
	}{
		{"a recipient deferred", "deferred", func(r *Recorder, tx *hooks.Transaction) {
			refuseRcpt(r, tx, "b@b.example", message.NewReply(450, "4.7.1", "Greylisted"))
		}},
		{"a recipient refused", "rejected", func(r *Recorder, tx *hooks.Transaction) {
			refuseRcpt(r, tx, "b@b.example", message.NewReply(550, "5.1.1", "Nobody"))
		}},
		{"one of two", "abandoned", func(r *Recorder, tx *hooks.Transaction) {
			run := at(hooks.Rcpt, 3, hooks.HandlerRun{Policy: "greylist", Verb: hooks.Accept})
			run.Recipient = "c@b.example"
			r.Stage(tx, run)
			refuseRcpt(r, tx, "b@b.example", message.NewReply(550, "5.1.1", "Nobody"))
		}},
		{"the sender, said by the engine", "rejected", func(r *Recorder, tx *hooks.Transaction) {
			r.Refused(tx, hooks.Mail, "", message.NewReply(552, "5.3.4", "Too large"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open1(t, Options{})
			s := newSession("0SESSION0000001")
			r.Connected(s)
			tx := transaction(s, "0MESSAGE0000001")
			c.tell(r, tx)
			r.Disconnected(s)
			if v := one(t, r, tx.ID).Verdict; v != c.verdict {
				t.Errorf("verdict %s, want %s", v, c.verdict)
			}
			if c.name != "the sender, said by the engine" {
				one(t, r, "b@b.example")
			}
		})
	}
}

func refuseRcpt(r *Recorder, tx *hooks.Transaction, to string, reply message.Reply) {
	verb := hooks.Reject
	if reply.Temporary() {
		verb = hooks.Defer
	}
	tx.Current = &hooks.Recipient{Address: address(to)}
	run := at(hooks.Rcpt, 5, hooks.HandlerRun{Policy: "greylist", Verb: verb, Reply: reply})
	run.Recipient = to
	r.Stage(tx, run)
	r.Refused(tx, hooks.Rcpt, "greylist", reply)
	tx.Current = nil
}

func TestRefusedConnection(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	tx := &hooks.Transaction{Session: s}
	reply := message.NewReply(554, "5.7.1", "Listed")
	r.Connected(s)
	r.Stage(tx, at(hooks.Connect, 0, hooks.HandlerRun{Policy: "dnsbl", Verb: hooks.Reject, Reply: reply}))
	r.Verdict(tx, Rejected, reply, "")
	r.Disconnected(s)
	got := one(t, r, "192.0.2.7")
	if got.ID != s.ID || got.Verdict != "rejected" || got.Policy != "dnsbl" || len(got.Stages) != 1 {
		t.Errorf("%+v", got)
	}

	helo := newSession("0SESSION0000002")
	helo.Client = netip.MustParseAddrPort("192.0.2.66:1")
	r.Connected(helo)
	r.Refused(&hooks.Transaction{Session: helo}, hooks.Helo, "helo", message.NewReply(550, "5.7.1", "Say your name"))
	r.Disconnected(helo)
	if got := one(t, r, "192.0.2.66"); got.Verdict != "rejected" || len(got.Refusals) != 1 || got.Refusals[0].Policy != "helo" {
		t.Errorf("%+v", got)
	}
}

// Shadow policies and observers answer when they like.
func TestLateStages(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	r.Connected(s)
	conn := &hooks.Transaction{Session: s}
	tx := transaction(s, "0MESSAGE0000001", "b@b.example")
	shadow := hooks.HandlerRun{Policy: "slow", Shadow: true}
	r.Stage(tx, at(hooks.Mail, 1, hooks.HandlerRun{Policy: "p"}))
	r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	r.Stage(tx, at(hooks.Mail, 2, shadow))
	r.Stage(conn, at(hooks.Connect, 0, shadow))
	next := transaction(s, "0MESSAGE0000002", "b@b.example")
	r.Stage(next, at(hooks.Mail, 5, hooks.HandlerRun{Policy: "p"}))
	r.Stage(tx, at(hooks.Data, 3, shadow))
	r.Verdict(next, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	r.Disconnected(s)
	r.Stage(conn, at(hooks.Disconnect, 9, hooks.HandlerRun{Policy: "farewell"}))
	r.Stage(transaction(s, tx.ID), at(hooks.Delivered, 8, hooks.HandlerRun{Policy: "counter"}))
	want := "connect mail mail data delivered disconnect"
	var names []string
	for _, step := range one(t, r, tx.ID).Stages {
		names = append(names, step.Stage)
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("stages %q, want %q", got, want)
	}
	if n := len(r.shard(s.ID).sessions); n != 0 {
		t.Errorf("%d sessions were begun by late stages", n)
	}
}

func TestInjectedMail(t *testing.T) {
	r := open1(t, Options{})
	tx := transaction(&hooks.Session{Protocol: "local"}, "0MESSAGE0000001", "b@b.example")
	r.Stage(tx, at(hooks.Mail, 1, hooks.HandlerRun{Policy: "p"}))
	r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	if got := one(t, r, tx.ID); got.Client != "" || got.Protocol != "local" || len(got.Stages) != 1 {
		t.Errorf("%+v", got)
	}
	if n := len(r.shard(tx.ID).sessions); n != 0 || r.shard(tx.ID).loose != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// The gate turns connections away before anybody announces them.
func TestTurnedAwayAndForgotten(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	r.Refused(&hooks.Transaction{Session: s}, hooks.Connect, "gate", message.NewReply(421, "4.7.0", "Too many"))
	if got := one(t, r, "192.0.2.7"); got.ID != s.ID || got.Verdict != "deferred" || got.Policy != "gate" {
		t.Errorf("%+v", got)
	}
	tx := transaction(&hooks.Session{Protocol: "local"}, "0MESSAGE0000001")
	r.Stage(tx, at(hooks.Mail, 1, hooks.HandlerRun{Policy: "p"}))
	r.dropQuiet(noon)
	if n := len(r.shard(tx.ID).sessions); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	r.dropQuiet(noon.Add(time.Second))
	if n := len(r.shard(tx.ID).sessions); n != 0 || r.shard(tx.ID).loose != 0 {
		t.Errorf("%d sessions", n)
	}
	if got := one(t, r, tx.ID); got.Verdict != "abandoned" {
		t.Errorf("%+v", got)
	}
}

// The engine tells of each negative reply, and of the last one again as verdict.
func TestRefusalIsCountedOnce(t *testing.T) {
	var live bytes.Buffer
	r := open1(t, Options{})
	r.Live(&live, false)
	s := newSession("0SESSION0000001")
	r.Connected(s)
	tx := transaction(s, "0MESSAGE0000001")
	reply := message.NewReply(450, "4.7.1", "Greylisted")
	refuseRcpt(r, tx, "b@b.example", reply)
	r.Verdict(tx, Deferred, reply, "greylist")
	r.Disconnected(s)
	got := one(t, r, tx.ID)
	if got.Verdict != "deferred" || got.Policy != "greylist" || got.Reason != "" || len(got.Recipients) != 1 {
		t.Errorf("%+v", got)
	}
	got.Refusals = append(got.Refusals, Refusal{Stage: "data", Time: noon, Reply: "503 5.5.1 No recipient"})
	var b bytes.Buffer
	got.Print(&b, false)
	if n := strings.Count(b.String(), "Greylisted"); n != 2 || !strings.Contains(b.String(), "503 5.5.1") { // the answer, and the handler's
		t.Errorf("printed %d times:\n%s", n, b.String())
	}
	text := scrape(r)
	for _, want := range []string{`postern_refusals_total{code="450",policy="greylist",stage="rcpt"} 1`, `postern_messages_total{verdict="deferred"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if n := strings.Count(live.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, live.String())
	}
}

func TestMetrics(t *testing.T) {
	r := open1(t, Options{})
	r.Gauge("postern_queue_messages", "Messages in the queue.", func() float64 { return 42 })
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	refused := transaction(s, "0MESSAGE0000002")
	refuseRcpt(r, refused, "c@c.example", message.NewReply(450, "4.7.1", "Greylisted"))
	for i := range 2 * maxLabels {
		r.Refused(refused, hooks.Rcpt, fmt.Sprintf("p%d\xff", i), message.NewReply(550, "5.7.1", "No"))
		r.Stage(refused, at(hooks.Mail, 0, hooks.HandlerRun{Policy: fmt.Sprintf("p%d\xff", i)}))
	}
	got := scrape(r)
	for _, want := range []string{
		`postern_connections_total{listener="mx"} 1`, `postern_connections 0`, `postern_messages_total{verdict="queued"} 1`,
		`postern_refusals_total{code="450",policy="greylist",stage="rcpt"} 1`, `postern_policy_calls_total{mode="shadow",policy="strict",stage="message"} 1`,
		`postern_policy_decisions_total{decision="defer",mode="enforce",policy="greylist",stage="rcpt"} 1`,
		`postern_policy_failures_total{mode="enforce",policy="broken",stage="message"} 1`,
		`postern_delivery_attempts_total{outcome="delivered"} 1`, `postern_queue_messages 42`, `postern_message_bytes_total 1234`,
		`go_goroutines`, `policy="other"`, `postern_queue_seconds_count 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if n := strings.Count(got, "postern_refusals_total{"); n > maxLabels+10 {
		t.Errorf("%d sets of labels", n)
	}
}

func TestLogAndLive(t *testing.T) {
	var log, live, colour bytes.Buffer
	r := open1(t, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	r.Live(&live, false)
	s := newSession("0SESSION0000001")
	s.Helo = "evil\nlevel=INFO msg=queued \x1b[2J"
	s.Forwarded = &hooks.Forwarded{Name: "spike.example", Addr: "2001:db8::1"}
	tx := transaction(s, "0MESSAGE0000001", "b@b.example")
	tell(r, s, tx)
	next := transaction(s, "0MESSAGE0000002")
	refuseRcpt(r, next, "c@c.example", message.NewReply(450, "4.7.1", "Wait\x1b[31m\u202e"))
	r.Live(&colour, true)
	refuseRcpt(r, next, "c@c.example", message.NewReply(550, "5.7.1", "No"))
	r.Live(nil, false)
	refuseRcpt(r, next, "c@c.example", message.NewReply(550, "5.7.1", "unseen"))
	if !strings.Contains(log.String(), ` origin="name=spike.example addr=2001:db8::1" `) {
		t.Errorf("no origin in the log:\n%s", log.String())
	}
	if strings.ContainsAny(live.String(), "\x1b\u202e") || !strings.Contains(live.String(), `Wait\x1b[31m\u202e`) || strings.Contains(live.String(), "unseen") {
		t.Errorf("live lines:\n%s", live.String())
	}
	if n := strings.Count(live.String(), "\n"); n != 6 {
		t.Errorf("%d live lines, want 6:\n%s", n, live.String())
	}
	if !strings.Contains(colour.String(), "\x1b[31mrefused") {
		t.Errorf("no colour: %q", colour.String())
	}
	for _, want := range []string{"msg=connected", "msg=queued id=0MESSAGE0000001 session=0SESSION0000001 client=192.0.2.7", "msg=deferred id=0MESSAGE0000001", "next_hop=", "msg=delivered", "msg=left id=0MESSAGE0000001", "msg=refused id=0MESSAGE0000002", "policy=greylist", "msg=disconnected"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "\nlevel=INFO msg=queued \x1b") {
		t.Error("a client wrote a log line")
	}
	if list := r.Recent(); len(list) != 1 || list[0].Verdict != "queued" {
		t.Errorf("recent %+v", list)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "Grüße": "Grüße", "a\x1b[2Jb": `a\x1b[2Jb`, "\r\n\t": `\x0d\x0a\x09`, "\xff": `\xff`, "\u202e": `\u202e`, "\u0085": `\u0085`, "": "", "\ufffd": "\ufffd",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPrintIsHarmless(t *testing.T) {
	bad := "x\x1b]0;owned\x07\n\x9b\u202ey"
	s := Story{
		ID: "0MESSAGE0000001", Session: bad, Client: bad, Sender: bad, Recipients: []string{bad}, Verdict: bad, Helo: bad, TLS: bad, User: bad, Subject: bad, Reply: bad, Policy: bad,
		Reason: bad, Route: bad, Tags: []string{bad}, Listener: bad, Message: bad, Scores: []Symbol{{bad, 1, bad}},
		Stages:   []Step{{bad, noon, bad, []Answer{{bad, bad, bad, bad, 1, []string{bad}, true, bad, []Lookup{{bad, bad, bad, bad}, {bad, bad, bad, ""}}}}}},
		Attempts: []Try{{Recipient: bad, NextHop: bad, Peer: bad, TLS: bad, Reply: bad, Outcome: bad}}, Refusals: []Refusal{{bad, noon, bad, bad, bad}},
	}
	var b bytes.Buffer
	s.Print(&b, false)
	if strings.ContainsAny(b.String(), "\x1b\a\u202e") || bytes.IndexByte(b.Bytes(), 0x9b) >= 0 {
		t.Errorf("control characters in\n%q", b.String())
	}
}

// Everything at once, for the race detector.
func TestConcurrent(t *testing.T) {
	r := open1(t, Options{Keep: time.Hour})
	r.Live(io.Discard, true)
	const workers, each = 8, 50
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			s := newSession(fmt.Sprintf("0SESSION%07d", w))
			for i := range each {
				tell(r, s, transaction(s, fmt.Sprintf("0MSG%03d%08d", w, i), "b@b.example"))
			}
		})
		all.Go(func() {
			for range 5 {
				if _, err := r.Why(t.Context(), Query{Subjects: []string{fmt.Sprintf("0SESSION%07d", w)}}); err != nil {
					t.Error(err)
				}
				if err := r.expire(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
				r.Recent()
				scrape(r)
			}
		})
	}
	all.Wait()
	for w := range workers {
		list, err := r.Why(t.Context(), Query{Subjects: []string{fmt.Sprintf("0SESSION%07d", w)}})
		if err != nil || len(list) != each {
			t.Fatalf("%d stories, %v", len(list), err)
		}
		for _, story := range list {
			if len(story.Attempts) != 2 || story.Verdict != "queued" || len(story.Stages) < 5 {
				t.Fatalf("%+v", story)
			}
		}
	}
	if r.Connections() != 0 {
		t.Errorf("%d connections", r.Connections())
	}
}

func TestIDTime(t *testing.T) {
	at := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	if got := idTime(message.NewID(at)); got != uint64(at.Add(-time.Minute).UnixNano()) {
		t.Errorf("%d", got)
	}
	for _, id := range []string{"", "short123", "zzzzzzzzzzzzzzz", "000000000000000"} {
		if got := idTime(id); got != 0 {
			t.Errorf("%q: %d", id, got)
		}
	}
}
