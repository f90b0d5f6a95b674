package record

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func scrape(r *Recorder) string {
	w := httptest.NewRecorder()
	r.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func after(s, what string) string {
	_, rest, _ := strings.Cut(s, what)
	return rest
}
