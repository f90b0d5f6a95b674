package console

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

func TestStatus(t *testing.T) {
	g := newRig(t)
	g.put(t, "0MESSAGE1", "a@a.example", rcpt("b@b.example", 0, ""))
	// Since the start, at all stages, whatever the present generation counted.
	tx := hooks.NewTransaction(&hooks.Session{ID: "0SESSION1"}, "0MESSAGE2")
	for n := range 9 {
		run := hooks.HandlerRun{Policy: "greylist"}
		switch n {
		case 0:
			run.Err = errors.New("boom")
		case 1, 2:
			run.Verb = hooks.Defer
		}
		g.r.Stage(tx, hooks.StageRun{Stage: hooks.Mail + hooks.Stage(n%2), Handlers: []hooks.HandlerRun{run, {Policy: "greylist", Shadow: true}, {Policy: "gone"}}})
	}
	st, err := g.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st.PID = 77
	got, err := json.Marshal(st)
	want := `{"version":"1.2.3","pid":77,"started":"2026-11-03T12:00:00Z","generation":4,"connections":0,"listeners":[{"name":"mx","protocol":"smtp","address":"127.0.0.1:2525"}],` +
		`"queue":{"messages":1,"recipients":1,"held":0,"quarantined":0,"damaged":0},"policies":[{"name":"greylist","mode":"enforce","calls":9,"failures":1,"decisions":{"defer":2,"pass":7}}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	var b bytes.Buffer
	st.Print(&b)
	for _, want := range []string{"postern 1.2.3, process 77", "1 messages for 1 recipients", "mx (smtp) on 127.0.0.1:2525", "greylist", "defer 2"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}

func TestSummaryTop(t *testing.T) {
	g := newRig(t)
	g.put(t, "0MESSAGE1", "a@a.example", rcpt("x@big.example", 0, ""), rcpt("y@big.example", 0, ""), rcpt("z@big.example", 0, ""))
	g.put(t, "0MESSAGE2", "a@a.example", rcpt("b@mid.example", 0, ""), rcpt("c@mid.example", 0, ""), rcpt("d@small.example", 0, ""))
	g.put(t, "0MESSAGE3", "a@a.example", rcpt("b@tiny.example", 0, ""))
	for limit, want := range map[int]string{
		0: `[big.example 3] [mid.example 2] [small.example 1] [tiny.example 1]`,
		2: `[big.example 3] [mid.example 2] and 2 with 2`,
		9: `[big.example 3] [mid.example 2] [small.example 1] [tiny.example 1]`,
	} {
		s, err := g.client.QueueSummary(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for _, d := range s.Destinations {
			parts = append(parts, fmt.Sprintf("[%s %d]", d.Destination, d.Recipients))
		}
		if s.Others != nil {
			parts = append(parts, fmt.Sprintf("and %d with %d", s.Others.Destinations, s.Others.Recipients))
			var b bytes.Buffer
			s.Print(&b, now)
			if !strings.Contains(b.String(), "(2 others)") || s.Others.Oldest.IsZero() {
				t.Errorf("%+v\n%s", s.Others, b.String())
			}
		}
		if got := strings.Join(parts, " "); got != want || s.Recipients != 7 {
			t.Errorf("limit %d: %s, %d in all", limit, got, s.Recipients)
		}
	}
}

func TestReload(t *testing.T) {
	g := newRig(t)
	if st, err := g.client.Reload(t.Context()); err != nil || st.Generation != 4 {
		t.Errorf("%+v, %v", st, err)
	}
	g.reload = errors.New("postern.toml:3: one\npostern.toml:9: two")
	_, err := g.client.Reload(t.Context())
	if r, ok := errors.AsType[*Refusal](err); !ok || r.Text != g.reload.Error() || r.Status != http.StatusUnprocessableEntity {
		t.Errorf("error %v", err)
	}
}

func TestQueueSummary(t *testing.T) {
	g := newRig(t)
	g.put(t, "0MESSAGE1", "a@a.example", rcpt("b@b.example", 1, "older"), rcpt("c@c.example", 0, ""))
	g.put(t, "0MESSAGE2", "a@a.example", rcpt("d@b.example", 2, "newer"), queue.Recipient{Address: message.Address{Local: "x", Domain: "b.example"}, State: queue.Delivered})
	sum, err := g.client.QueueSummary(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(sum)
	want := `{"messages":2,"recipients":3,"held":0,"quarantined":0,"destinations":[` +
		`{"destination":"b.example","recipients":2,"oldest":"2026-11-03T12:00:00Z","next":"2026-11-03T13:00:00Z","last_error":"451 4.3.0 newer"},` +
		`{"destination":"c.example","recipients":1,"oldest":"2026-11-03T12:00:00Z","next":"2026-11-03T13:00:00Z","last_error":""}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	var b bytes.Buffer
	sum.Print(&b, now.Add(30*time.Minute))
	if !strings.Contains(b.String(), "30m") || !strings.Contains(b.String(), "451 4.3.0 newer") {
		t.Error(b.String())
	}
	part, err := Summarize(g.q.All(), g.s.destination, 1)
	if err != nil || !part.Partial || part.Messages != 1 {
		t.Errorf("%+v, %v", part, err)
	}
}

func TestQueueListShowBody(t *testing.T) {
	g := newRig(t)
	g.put(t, "0MESSAGE1", "a@a.example", rcpt("b@b.example", 1, "Later"))
	g.put(t, "0MESSAGE2", "", rcpt("c@c.example", 0, ""))
	rows := collect(t, g.client.QueueList(t.Context(), Filter{}))
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	got, err := json.Marshal(rows[0])
	want := `{"id":"0MESSAGE1","sender":"a@a.example","size":29,"arrived":"2026-11-03T12:00:00Z","place":"active","recipients":[` +
		`{"address":"b@b.example","state":"deferred","attempts":1,"next":"2026-11-03T13:00:00Z","last_reply":"451 4.3.0 Later","tried":"2026-11-03T12:01:00Z"}]}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{IDs: []string{"0MESSAGE2", "0MESSAGE9"}}, "0MESSAGE2"},
		{Filter{Sender: "A@A.example"}, "0MESSAGE1"},
		{Filter{Sender: "<>"}, "0MESSAGE2"},
		{Filter{Recipient: "@c.example"}, "0MESSAGE2"},
		{Filter{Domain: "*.example", Reason: "later"}, "0MESSAGE1"},
		{Filter{Before: now}, ""},
		{Filter{Before: now.Add(1), MinSize: 30}, ""},
		{Filter{Held: true}, ""},
		{Filter{Quarantined: true}, ""},
		{Filter{Domain: "c.example", Recipient: "b@b.example"}, ""},
	} {
		var ids []string
		for _, row := range collect(t, g.client.QueueList(t.Context(), c.f)) {
			ids = append(ids, row.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
	for range g.client.QueueList(t.Context(), Filter{}) {
		break // an early end must not hang
	}
	d, err := g.client.QueueShow(t.Context(), "0MESSAGE1")
	if err != nil || string(d.Facts) != `{"helo":"x"}` || d.ID != "0MESSAGE1" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := g.client.QueueShow(t.Context(), "0MESSAGE9"); !IsNotFound(err) {
		t.Errorf("error %v", err)
	}
	if _, err := g.client.QueueShow(t.Context(), "../../etc/passwd"); err == nil {
		t.Error("a path is no id")
	}
	body, err := g.client.QueueBody(t.Context(), "0MESSAGE1")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || string(b) != "Subject: 0MESSAGE1\r\n\r\nhello\r\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// An order to the quarantine reaches nothing outside of it, and says so.
func TestQuarantineAct(t *testing.T) {
	g := newRig(t)
	for i := range 3 {
		g.put(t, fmt.Sprintf("0MESSAGE%d", i), "a@a.example", rcpt("b@b.example", 0, ""))
	}
	err := g.q.Update(t.Context(), "0MESSAGE1", func(m *queue.Message) error { m.Place, m.Reason = queue.Quarantined, "why"; return nil })
	if err != nil {
		t.Fatal(err)
	}
	act := func(f Filter) []Done {
		f.Quarantined = true
		return collect(t, g.client.QueueAct(t.Context(), "delete", Order{Filter: f, DryRun: true}))
	}
	list := act(Filter{IDs: []string{"0MESSAGE0", "0MESSAGE1", "0MESSAGE7"}})
	if len(list) != 3 || list[0].Problem != ErrNotQuarantined.Error() || list[0].Unknown || list[1] != (Done{ID: "0MESSAGE1", Sender: "a@a.example", Recipients: 1}) || !list[2].Unknown {
		t.Errorf("%+v", list)
	}
	if list := act(Filter{All: true}); len(list) != 1 || list[0].ID != "0MESSAGE1" {
		t.Errorf("%+v", list)
	}
}

func TestQueueAct(t *testing.T) {
	g := newRig(t)
	for i := range 3 {
		g.put(t, fmt.Sprintf("0MESSAGE%d", i), "a@a.example", rcpt("b@b.example", 1, "Later"))
	}
	act := func(name string, o Order) []Done { return collect(t, g.client.QueueAct(t.Context(), name, o)) }
	refused := func(name string, o Order) {
		t.Helper()
		for _, err := range g.client.QueueAct(t.Context(), name, o) {
			if _, ok := errors.AsType[*Refusal](err); !ok {
				t.Errorf("%s %+v: error %v", name, o, err)
			}
			return
		}
		t.Errorf("%s %+v was done", name, o)
	}
	refused("delete", Order{})
	refused("explode", Order{Filter: Filter{All: true}})
	refused("delete", Order{Filter: Filter{IDs: []string{"../x"}}})
	if list := act("delete", Order{Filter: Filter{All: true}, DryRun: true}); len(list) != 3 || g.q.Totals().Messages != 3 {
		t.Errorf("dry run: %+v, %d messages are left", list, g.q.Totals().Messages)
	}
	if list := act("retry", Order{Filter: Filter{Sender: "a@a.example"}}); len(list) != 3 || list[0].Problem != "not today" {
		t.Errorf("%+v", list)
	}
	list := act("delete", Order{Filter: Filter{IDs: []string{"0MESSAGE1", "0MESSAGE8"}}})
	if len(list) != 2 || list[0].Problem != "" || !list[1].Unknown || g.q.Totals().Messages != 2 {
		t.Errorf("%+v, %d messages are left", list, g.q.Totals().Messages)
	}
	if list := act("delete", Order{Filter: Filter{All: true}}); len(list) != 2 || g.q.Totals().Messages != 0 {
		t.Errorf("%+v, %d messages are left", list, g.q.Totals().Messages)
	}
}

func TestWhyPluginsInject(t *testing.T) {
	g := newRig(t)
	s := &hooks.Session{ID: "0SESSION1", Client: netip.MustParseAddrPort("192.0.2.7:1"), Helo: evil}
	tx := hooks.NewTransaction(s, "0MESSAGE1")
	g.r.Verdict(tx, record.Rejected, message.NewReply(554, "5.7.1", "%s", evil), "")
	stories, err := g.client.Why(t.Context(), record.Query{Subjects: []string{"192.0.2.7"}})
	if err != nil || len(stories) != 1 || stories[0].Helo != evil {
		t.Errorf("%+v, %v", stories, err)
	}
	if none, err := g.client.Why(t.Context(), record.Query{Subjects: []string{"nobody@x.example"}}); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	if _, err := g.client.Why(t.Context(), record.Query{Verdicts: []string{"maybe"}}); err == nil || !strings.Contains(err.Error(), "no verdict") {
		t.Errorf("%v", err)
	}
	if err := g.client.TakeDrops(t.Context()); err != nil || g.drops != 1 {
		t.Errorf("%d times, %v", g.drops, err)
	}
	if list, err := g.client.Plugins(t.Context()); err != nil || len(list) != 1 || list[0].Name != "checker" {
		t.Errorf("%+v, %v", list, err)
	}

	large := strings.Repeat("line\r\n", 100000)
	reply, err := g.client.Inject(t.Context(), queue.Drop{Sender: message.Address{Local: "a", Domain: "a.example"}, Recipients: []message.Address{{Local: "x y", Domain: "b.example"}}}, strings.NewReader(large))
	if err != nil || reply.String() != "250 2.0.0 Ok: queued as X" {
		t.Errorf("%v, %v", reply, err)
	}
	if len(g.injected) != 1 || !strings.HasPrefix(g.injected[0], `a@a.example ["x y"@b.example] line`) || !strings.HasSuffix(g.injected[0], large) {
		t.Errorf("%d were injected", len(g.injected))
	}
	if reply, err := g.client.Inject(t.Context(), queue.Drop{Sender: message.Address{Local: "refused", Domain: "a.example"}, Recipients: []message.Address{{Local: "b", Domain: "b.example"}}}, strings.NewReader(large)); err != nil || reply.Code != 550 {
		t.Errorf("%v, %v", reply, err)
	}
	for _, e := range []queue.Drop{
		{},
		{Sender: message.Address{Local: "a", Domain: "a.example"}},
		{Sender: message.Address{Local: "a b"}, Recipients: []message.Address{{Local: "b", Domain: "b.example"}}},
		{Recipients: []message.Address{{}}},
		{Recipients: []message.Address{{Local: "x"}}},
	} {
		if _, err := g.client.Inject(t.Context(), e, strings.NewReader("x")); err == nil {
			t.Errorf("%+v was taken", e)
		}
	}
}

func TestDown(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for range 2 {
		_, err := Dial(path)
		down, ok := errors.AsType[*Down](err)
		if !ok || down.Socket != path {
			t.Fatalf("error %v, want a *Down", err)
		}
		// The second time, a socket is there, but nobody listens any more.
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			break
		}
		l.SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := ListenControl(path) // replaces the dead one
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenControl(path); !errors.Is(err, ErrSocketInUse) {
		t.Errorf("error %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	long := filepath.Join(dir, strings.Repeat("x", MaxSocketPath))
	if _, err := ListenControl(long); !errors.Is(err, ErrLongPath) {
		t.Errorf("error %v", err)
	}
	if _, err := Dial(long); !errors.Is(err, ErrLongPath) {
		t.Errorf("error %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ln, err := ListenControl(file); err == nil {
		ln.Close()
		t.Error("a plain file was replaced")
	}
}

func TestPrintIsHarmless(t *testing.T) {
	var b bytes.Buffer
	row := Row{ID: "0MESSAGE1", Sender: evil, Arrived: now, Place: "held", Reason: evil, Recipients: []RowRecipient{{Address: evil, State: "deferred", Attempts: 2, LastReply: evil, Peer: evil}}}
	Detail{Row: row, Ret: "FULL", EnvID: evil, Facts: json.RawMessage(`"` + evil + `"`)}.Print(&b, now)
	Summary{Destinations: []Destination{{Destination: evil, LastError: evil}}}.Print(&b, now)
	Status{Version: evil, Listeners: []Listener{{evil, evil, evil}}, Policies: []Policy{{Name: evil, Mode: evil}}, Queue: QueueState{Failure: evil}}.Print(&b)
	PrintPlugins(&b, []Plugin{{Name: evil, Path: evil, State: evil, Version: evil, Stages: []string{evil}, Error: evil}})
	if strings.ContainsAny(b.String(), "\x1b\a\u202e") {
		t.Errorf("control characters in\n%q", b.String())
	}
}

func TestAges(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m", 90 * time.Minute: "1h30m", 49 * time.Hour: "2d1h", -time.Hour: "0s"} {
		if got := Age(now.Add(-d), now); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	if Age(time.Time{}, now) != "-" {
		t.Error("never")
	}
	for at, want := range map[time.Time]string{{}: "held", now: "now", now.Add(time.Minute): "in 1m"} {
		if got := until(at, now); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("{\"sender\":\"a@b\",\"recipients\":[\"c@d\"]}\nbody"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		drop, err := envelope(bufio.NewReader(bytes.NewReader(b)), nil)
		if err == nil && len(drop.Recipients) == 0 {
			t.Fatal("no recipient and no error")
		}
	})
}

var errFailing = errors.New("input/output error <b>")

func TestHealthOfAFailedQueue(t *testing.T) {
	dir := t.TempDir()
	var engine queue.Engine
	q, err := queue.Open(filepath.Join(dir, "queue"), func(dir string, o queue.EngineOptions) (_ queue.Engine, err error) {
		engine, err = pebble.Open(dir, o)
		return engine, err
	}, queue.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r, err := record.Open(filepath.Join(dir, "record"), record.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := New(Options{Record: r, Queue: q})
	if resp, _ := get(t, s, "GET", "/healthz"); resp.StatusCode != 200 {
		t.Errorf("before: %s", resp.Status)
	}
	engine.Fail(errFailing)
	for _, path := range []string{"/healthz", "/readyz"} {
		if resp, text := get(t, s, "GET", path); resp.StatusCode != 503 || !strings.Contains(text, "input/output error") {
			t.Errorf("%s: %s %q", path, resp.Status, text)
		}
	}
	if _, page := get(t, s, "GET", "/"); !strings.Contains(page, "The queue failed") || strings.Contains(page, "<b>") && strings.Contains(page, "error <b>") {
		t.Error("the page does not say so, or not safely")
	}
}
