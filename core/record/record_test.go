package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/disk"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func open1(t testing.TB, o Options) *Recorder {
	t.Helper()
	r, err := Open(filepath.Join(t.TempDir(), "record"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newSession(id string) *hooks.Session {
	return &hooks.Session{
		ID: id, Listener: "mx", Protocol: "smtp", Client: netip.MustParseAddrPort("192.0.2.7:4711"), Started: noon,
		Helo: "client.example", TLS: &hooks.TLSFact{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
	}
}

func address(s string) message.Address {
	a, err := message.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func transaction(s *hooks.Session, id string, to ...string) *hooks.Transaction {
	tx := hooks.NewTransaction(s, id)
	tx.Sender = address("Sender@a.example")
	for _, one := range to {
		tx.Recipients = append(tx.Recipients, &hooks.Recipient{Address: address(one)})
	}
	return tx
}

// at is a StageRun with one answer, ms after noon.
func at(stage hooks.Stage, ms int, h hooks.HandlerRun) hooks.StageRun {
	return hooks.StageRun{Stage: stage, Time: noon.Add(time.Duration(ms) * time.Millisecond), Handlers: []hooks.HandlerRun{h}}
}

func one(t *testing.T, r *Recorder, query string) Story {
	t.Helper()
	list, err := r.Why(t.Context(), Query{Subjects: []string{query}})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 {
		t.Fatalf("%d stories of %q, want 1", len(list), query)
	}
	return list[0]
}

// tell goes through a message's whole life.
func tell(r *Recorder, s *hooks.Session, tx *hooks.Transaction) {
	conn := &hooks.Transaction{Session: s}
	r.Connected(s)
	r.Stage(conn, at(hooks.Connect, 0, hooks.HandlerRun{Policy: "earlytalker", Duration: 1500 * time.Microsecond}))
	run := at(hooks.Rcpt, 10, hooks.HandlerRun{
		Policy: "greylist", Duration: 250 * time.Microsecond,
		Edits: []hooks.Edit{{Kind: hooks.SetNote, Name: "seen", Any: map[string]any{"b": 1.5, "a": []any{"x", true}}}},
	})
	run.Recipient = "b@b.example"
	r.Stage(tx, run)
	r.Stage(tx, at(hooks.Message, 20, hooks.HandlerRun{Policy: "broken", Err: errors.New("boom\nstack")}))
	shadow := at(hooks.Message, 21, hooks.HandlerRun{Policy: "strict", Verb: hooks.Reject, Reply: message.NewReply(554, "5.7.1", "No"), Shadow: true})
	r.Stage(tx, shadow)
	tx.Scores = append(tx.Scores, hooks.Score{Name: "FUNNY", Points: 1.5, Why: "is funny"})
	tx.Size = 1234
	tx.Header = message.ParseHeader([]byte("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"))
	r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok: queued as %s", tx.ID), "")
	r.Stage(tx, at(hooks.Queued, 30, hooks.HandlerRun{Policy: "observer"}))
	r.Disconnected(s)
	r.Attempt(tx.ID, Attempt{
		Time: noon.Add(time.Second), Recipient: "b@b.example", Sender: "Sender@a.example", NextHop: "smtp://127.0.0.1:2526", Peer: "[127.0.0.1]:2526",
		Reply: message.NewReply(451, "4.3.0", "Later"), Outcome: "deferred", Duration: 12 * time.Millisecond, Attempt: 1,
	})
	r.Attempt(tx.ID, Attempt{
		Time: noon.Add(time.Minute), Recipient: "b@b.example", NextHop: "smtp://127.0.0.1:2526", Peer: "[127.0.0.1]:2526", TLS: "TLSv1.3 X",
		Reply: message.NewReply(250, "2.0.0", "Ok"), Outcome: "delivered", Duration: 8 * time.Millisecond, Attempt: 2,
	})
	r.Left(tx.ID, time.Minute)
}

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

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s", name, got)
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

// What is under way must not stay when its verdict never comes.
func TestMemoryIsBounded(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	r.Connected(s)
	tx := transaction(s, "0MESSAGE0000001")
	for i := range 5000 {
		run := at(hooks.Rcpt, i, hooks.HandlerRun{Policy: "p", Verb: hooks.Accept})
		run.Recipient = fmt.Sprintf("u%d@b.example", i)
		r.Stage(tx, run)
		r.Stage(&hooks.Transaction{Session: s}, at(hooks.Helo, i, hooks.HandlerRun{Policy: "p"}))
		r.Refused(tx, hooks.Data, "", message.NewReply(503, "5.5.1", "No"))
	}
	sh := r.shard(s.ID)
	o, entry := sh.sessions[s.ID].open, sh.sessions[s.ID]
	if len(o.runs) > maxRuns || len(o.seen) > maxRecipients || len(o.refusals) > maxRefusals || len(entry.runs) > maxSession {
		t.Errorf("%d runs, %d recipients, %d refusals, %d runs of the session", len(o.runs), len(o.seen), len(o.refusals), len(entry.runs))
	}
	r.Stage(tx, at(hooks.Message, 5000, hooks.HandlerRun{Policy: "late", Verb: hooks.Accept}))
	r.Disconnected(s)
	if n := len(sh.sessions); n != 0 {
		t.Errorf("%d sessions after the end", n)
	}
	got := one(t, r, tx.ID)
	if got.LeftOut == 0 || got.Stages[len(got.Stages)-1].Stage != "message" {
		t.Errorf("left out %d, the last stage is %s", got.LeftOut, got.Stages[len(got.Stages)-1].Stage)
	}
	for i := range 2 * shardCount * maxLoose { // sessions that nobody announces or ends
		s := newSession(fmt.Sprintf("0LOOSE%09d", i))
		r.Stage(transaction(s, fmt.Sprintf("0MSG%011d", i)), at(hooks.Mail, i, hooks.HandlerRun{Policy: "p"}))
	}
	n := 0
	for i := range r.shards {
		n += len(r.shards[i].sessions)
	}
	if n > shardCount*maxLoose {
		t.Errorf("%d sessions are kept", n)
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

func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "record")
	if _, err := Open(dir, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v, want fs.ErrNotExist", err)
	}
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	if _, err := Open(dir, Options{ReadOnly: true}); err == nil {
		t.Error("opened what another has open")
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Why(t.Context(), Query{Subjects: []string{"0MESSAGE0000001"}}); !errors.Is(err, errClosed) {
		t.Errorf("a closed recorder says %v", err)
	}
	r.Stage(transaction(s, "0MESSAGE0000009"), at(hooks.Mail, 0, hooks.HandlerRun{}))
	r.Verdict(transaction(s, "0MESSAGE0000009"), Queued, message.Reply{}, "") // counts, and is dropped
	for range 2 {
		ro, err := Open(dir, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := one(t, ro, "b@b.example"); len(got.Attempts) != 2 {
			t.Errorf("%d attempts", len(got.Attempts))
		}
		if err := ro.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A copy of the files under a running recorder is what a killed one leaves.
func TestSurvivesKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "record")
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	r.Flush()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(copied, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	one(t, again, "0MESSAGE0000001")
}

func TestExpiryByAge(t *testing.T) {
	r := open1(t, Options{Keep: time.Hour})
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	r.Flush()
	written := time.Now()
	if err := r.expire(t.Context(), written.Add(59*time.Minute)); err != nil {
		t.Fatal(err)
	}
	one(t, r, "b@b.example")
	if err := r.expire(t.Context(), written.Add(61*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if list, err := r.Why(t.Context(), Query{Subjects: []string{"b@b.example"}}); err != nil || len(list) != 0 {
		t.Errorf("%d stories, %v", len(list), err)
	}
	if first, _, err := r.span(); first != 0 || err != nil {
		t.Errorf("page %d is left, %v", first, err)
	}
}

func TestExpiryBySize(t *testing.T) {
	r := open1(t, Options{MaxSize: 1 << 20, Bodies: true})
	s := newSession("0SESSION0000001")
	r.Connected(s)
	noise := make([]byte, 48<<10)
	state := uint32(1)
	for i := range 60 {
		for j := range noise { // hard to compress
			state = state*1664525 + 1013904223
			noise[j] = byte(state >> 24)
		}
		tx := transaction(s, fmt.Sprintf("0MESSAGE%07d", i), "b@b.example")
		tx.Body = message.Bytes(noise)
		r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
		r.Flush()
	}
	if err := r.db.Flush(); err != nil {
		t.Fatal(err)
	}
	// Bisection is to the second: spread the pages over virtual time is not
	// needed, since within one second everything may go but the newest half.
	if err := r.expire(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	size, err := r.usage(0, 1<<63)
	if err != nil || size > 1<<20 {
		t.Errorf("%d bytes after expiry, %v", size, err)
	}
}

func TestDropsWhenFull(t *testing.T) {
	r := open1(t, Options{})
	r.list.mu.Lock()
	r.list.weight = maxWeight
	r.list.mu.Unlock()
	s := newSession("0SESSION0000001")
	r.Verdict(transaction(s, "0MESSAGE0000001", "b@b.example"), Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	if got := scrape(r); !strings.Contains(got, "postern_recorder_dropped_total 1\n") {
		t.Error("the dropped story was not counted")
	}
	r.Flush()
	one1 := transaction(s, "0MESSAGE0000002", "b@b.example")
	r.Verdict(one1, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	one(t, r, one1.ID)
}

func TestStoreFailureLeavesMailAlone(t *testing.T) {
	var log bytes.Buffer
	r, err := Open(filepath.Join(t.TempDir(), "record"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.db.Fail(errors.New("disk gone"))
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	// The story is lost, or kept where the store was opened again before it was told.
	if list, err := r.Why(t.Context(), Query{Subjects: []string{"b@b.example"}}); err != nil || len(list) > 1 {
		t.Errorf("%v, error %v", list, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "disk gone") {
		t.Errorf("log %q", log.String())
	}
}

// TestHold is no test: it holds a store open until its standard input ends.
func TestHold(t *testing.T) {
	dir := os.Getenv("RECORD_TEST_HOLD")
	if dir == "" {
		t.Skip("for TestTwoReaders")
	}
	r, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	r.Close()
}

// A question of another process holds the store for a moment.
func TestTwoReaders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "record")
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	other := exec.Command(os.Args[0], "-test.run=^TestHold$")
	other.Env = append(os.Environ(), "RECORD_TEST_HOLD="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if lock, err := disk.Lock(vfs.Default, dir); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("locked %v, %v, while another process has it", lock, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	mine, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(mine.Close(), other.Wait()); err != nil {
		t.Error(err)
	}
}

func TestBodies(t *testing.T) {
	r := open1(t, Options{Bodies: true})
	tx := transaction(newSession("0SESSION0000001"), "0MESSAGE0000001", "b@b.example")
	tx.Body = message.Bytes("Subject: x\r\n\r\n" + strings.Repeat("y", 2*maxMessage))
	r.Verdict(tx, Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	got := one(t, r, tx.ID).Message
	if len(got) != maxMessage || !strings.HasPrefix(got, "Subject: x\r\n") {
		t.Errorf("%d bytes kept", len(got))
	}
}

func scrape(r *Recorder) string {
	w := httptest.NewRecorder()
	r.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
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

func FuzzDecode(f *testing.F) {
	s := newSession("0SESSION0000001")
	tx := transaction(s, "0MESSAGE0000001", "b@b.example")
	run := at(hooks.Rcpt, 10, hooks.HandlerRun{Policy: "p", Verb: hooks.Defer, Reply: message.NewReply(450, "4.7.1", "Wait"), Edits: []hooks.Edit{{Kind: hooks.AddTag, Value: "x"}}})
	d := &draft{
		id: tx.ID, session: s.ID, started: noon, ended: noon, facts: factsOf(s), sender: tx.Sender, recipients: addresses(tx.Recipients),
		runs: []hooks.StageRun{run}, scores: []hooks.Score{{Name: "A", Points: 1}}, tags: []string{"t"}, message: []byte("x"),
		refusals: []refusal{{hooks.Rcpt, noon, "p", "c@c.example", message.NewReply(550, "5.1.1", "Nobody")}},
	}
	for _, e := range []entry{d, &late{tx.ID, s.ID, run}, &attempted{tx.ID, Attempt{Time: noon, Outcome: "delivered"}}, &left{tx.ID, noon}} {
		f.Add(e.encode(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decode(b)
		if err != nil {
			return
		}
		if _, err := json.Marshal(got.story); err != nil {
			t.Fatalf("a decoded story is no JSON: %v", err)
		}
		if _, err := json.Marshal(got.step); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(got.try); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzPage(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 1, 1}, []byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, page, index []byte) {
		n := 0
		records(page, func(one []byte) bool {
			n += len(one)
			return true
		})
		if n > len(page) {
			t.Fatal("more than there is")
		}
		indexHas(index, []uint32{1, 7, 1 << 31})
	})
}

// BenchmarkMessage is what recording costs a message with ten stage runs: the
// mail path's part and, on other cores, the writer's.
func BenchmarkMessage(b *testing.B) {
	r := open1(b, Options{})
	s := newSession("0SESSION0000001")
	r.Connected(s)
	benchMessages(b, r, s)
	b.StopTimer()
	dropped := 0.0
	if _, err := fmt.Sscanf(after(scrape(r), "\npostern_recorder_dropped_total "), "%g", &dropped); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(dropped/float64(b.N), "dropped/op")
}

// BenchmarkMailPath is the mail path's part alone: of a closed recorder nothing
// reaches the writer.
func BenchmarkMailPath(b *testing.B) {
	r, err := Open(filepath.Join(b.TempDir(), "record"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	r.Connected(s)
	benchMessages(b, r, s)
}

// BenchmarkWriter is the writer's part alone: encoding and storing.
func BenchmarkWriter(b *testing.B) {
	r := open1(b, Options{})
	s := newSession("0SESSION0000001")
	var runs []hooks.StageRun
	for i := range 10 {
		runs = append(runs, at(hooks.Mail+hooks.Stage(i%5), i, hooks.HandlerRun{Policy: fmt.Sprintf("policy%d", i), Duration: time.Millisecond}))
	}
	var p page
	items := make([]entry, 64)
	b.ReportAllocs()
	defer reportCPU(b, cpuTime())
	for n := 0; b.Loop(); n++ {
		items[n%64] = &draft{
			id: message.NewID(noon.Add(time.Duration(n))), session: s.ID, started: noon, ended: noon, facts: factsOf(s), sender: message.Address{Local: "a", Domain: "a.example"},
			recipients: []message.Address{{Local: fmt.Sprint("u", n), Domain: "b.example"}}, runs: runs, subject: "the usual thing", reply: message.NewReply(250, "2.0.0", "Ok"),
		}
		if n%64 == 63 {
			r.writeAll(&p, items)
		}
	}
}

func after(s, what string) string {
	_, rest, _ := strings.Cut(s, what)
	return rest
}

func TestDamagedStoreIsSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "record")
	r, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession("0SESSION0000001")
	tell(r, s, transaction(s, "0MESSAGE0000001", "b@b.example"))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatal(manifests, err)
	}
	for _, m := range manifests {
		if err := os.WriteFile(m, bytes.Repeat([]byte("garbage!"), 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if list, err := again.Why(t.Context(), Query{Subjects: []string{"b@b.example"}}); err != nil || len(list) != 0 {
		t.Errorf("%d stories, %v", len(list), err)
	}
	if _, err := os.Stat(dir + damaged); err != nil {
		t.Error(err)
	}
}

func benchMessages(b *testing.B, r *Recorder, s *hooks.Session) {
	reply := message.NewReply(250, "2.0.0", "Ok: queued as 0MESSAGE0000001")
	runs := make([]hooks.HandlerRun, 10)
	for i := range runs {
		runs[i] = hooks.HandlerRun{Policy: fmt.Sprintf("policy%d", i), Duration: time.Millisecond}
	}
	to := []*hooks.Recipient{{Address: address("b@b.example")}}
	b.ReportAllocs()
	defer reportCPU(b, cpuTime())
	for b.Loop() {
		tx := hooks.NewTransaction(s, message.NewID(time.Now()))
		tx.Sender, tx.Recipients = message.Address{Local: "a", Domain: "a.example"}, to
		for i := range runs {
			r.Stage(tx, hooks.StageRun{Stage: hooks.Mail + hooks.Stage(i%5), Time: noon, Handlers: runs[i : i+1]})
		}
		r.Verdict(tx, Queued, reply, "")
	}
}

// cpuTime is what the process used so far: other than the clock, it says the
// same on a busy machine.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
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

// BenchmarkWhy asks a recorder of 200,000 stories, written a hundred to a page,
// for an address that is in one of them.
func BenchmarkWhy(b *testing.B) {
	r := open1(b, Options{})
	s := newSession("0SESSION0000001")
	var p page
	items := make([]entry, 100)
	for n := range 200000 {
		items[n%100] = &draft{
			id: message.NewID(noon.Add(time.Duration(n))), session: s.ID, started: noon, ended: noon, facts: factsOf(s), sender: message.Address{Local: "a", Domain: "a.example"},
			recipients: []message.Address{{Local: fmt.Sprint("u", n), Domain: "b.example"}}, subject: "the usual thing", reply: message.NewReply(250, "2.0.0", "Ok"),
		}
		if n%100 == 99 {
			r.writeAll(&p, items)
		}
	}
	for b.Loop() {
		if list, err := r.Why(b.Context(), Query{Subjects: []string{"u77777@b.example"}}); err != nil || len(list) != 1 {
			b.Fatal(len(list), err)
		}
	}
}
