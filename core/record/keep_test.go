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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/disk"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

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
