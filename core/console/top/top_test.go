package top

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/clipperhouse/displaywidth"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/send"
)

var update = flag.Bool("update", false, "write the screens of testdata anew")

var start = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

const hostile = "\x1b]0;owned\x07\x1b[2J\u202eevil\r\n\x9b31m\xff"

// sample is an answer after so many seconds, with addresses of all kinds.
func sample(second int) console.Top {
	n := uint64(second)
	at := start.Add(time.Duration(second) * time.Second)
	return console.Top{
		Status: console.Status{
			Version: "1.2.3", PID: 77, Started: start.Add(-3 * time.Hour), Generation: 4, Connections: 12,
			Listeners: []console.Listener{{Name: "mx", Protocol: "smtp", Address: "127.0.0.1:25"}, {Name: "submission", Protocol: "submission", Address: "127.0.0.1:587"}},
			Queue:     console.QueueState{Messages: 1234, Recipients: 2345, Held: 2},
		},
		Time:     at,
		Open:     []console.Open{{Listener: "mx", TLS: 3, Stages: map[string]int{"mail": 6, "data": 4}}, {Listener: "submission", TLS: 2, Stages: map[string]int{"auth": 2}}},
		Counters: console.Counters{Accepted: 100 * n, Refused: 3 * n * n, Deferred: n / 2, Delivered: 90 * n, PutOff: n, Failed: 0, Bytes: 4096 * n, Verdicts: map[string]uint64{"queued": 90 * n, "rejected": 3}},
		Calls: []console.Calls{
			{Policy: "greylist", Stage: "rcpt", Mode: "enforce", Calls: 50 * n, Decisions: map[string]uint64{"pass": 40 * n, "defer": 10 * n, "accept": 2}, Times: record.Times{{20, 50 * n}}},
			{Policy: "spam", Stage: "message", Mode: "shadow", Calls: 10 * n, Failures: n, Decisions: map[string]uint64{"quarantine": 3, "reject": 5}, Times: record.Times{{60, 9 * n}, {80, n}}},
		},
		Attempts: send.Channels{Remote: 5, RemoteLimit: 200, Local: 1, LocalLimit: 10},
		Ways: []console.Way{
			{Destination: "example.net", Ready: 3, InFlight: 5, Window: 8, Limit: 20, Waiting: 900, Deferred: 890, Health: console.HealthOK, Oldest: start.Add(-2 * time.Hour), Next: at.Add(time.Minute)},
			{Destination: "点看点看点看.例え", Waiting: 70, Deferred: 70, Window: 1, Limit: 20, Health: console.HealthDown, Until: at.Add(45 * time.Second), Oldest: start.Add(-30 * time.Hour), Next: at.Add(time.Hour), LastError: "451 4.4.1 " + hostile},
			{Destination: hostile, Waiting: 1, Health: console.HealthIdle, Oldest: start.Add(-time.Minute)},
		},
		WaysMore: 4,
		Oldest: []console.Old{
			{ID: "0MESSAGE1", Arrived: start.Add(-30 * time.Hour), Sender: "añb@example.org", Recipient: "用户@例え.jp", Recipients: 3, Destination: "例え.jp", Attempts: 7, Next: at.Add(time.Hour), LastError: "450 4.2.1 " + hostile},
			{ID: "0MESSAGE2", Arrived: start.Add(-20 * time.Hour), Sender: "", Recipient: "👩‍👩‍👧@x.example", Recipients: 1, Next: at.Add(-time.Second)},
		},
		Walked:  console.Walked{At: at.Add(-time.Second)},
		Process: console.Process{Resident: 84 << 20, Heap: 20 << 20, CPU: float64(second) / 4, Goroutines: 123},
	}
}

func watched(t *testing.T) *Model {
	t.Helper()
	zone := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = zone })
	m := NewModel(time.Second)
	for i := range 20 {
		m.Take(sample(i), start.Add(time.Duration(i)*time.Second))
	}
	return m
}

// The screens are what testdata holds, at sizes of all kinds.
func TestScreens(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 60}, {100, 40}} {
		for p := Destinations; p < paneEnd; p++ {
			m := watched(t)
			m.Key(string(rune('1' + p)))
			got := m.Draw(size[0], size[1]).String()
			name := filepath.Join("testdata", fmt.Sprintf("%dx%d-%d.txt", size[0], size[1], p+1))
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil || got != string(want) {
				t.Errorf("%s (%v):\n%s", name, err, got)
			}
		}
	}
}

// whole fails where a frame has a line of another width than its own, or a
// character that a terminal obeys.
func whole(t *testing.T, f *Frame) {
	t.Helper()
	for y := range f.H {
		n := 0
		for x := range f.W {
			text, _ := f.At(x, y)
			w := displaywidth.String(text)
			n += w
			for _, r := range text {
				if unicode.IsControl(r) || !unicode.IsPrint(r) && r != '\u200d' && r != '\ufe0f' {
					t.Fatalf("%dx%d: %q in line %d", f.W, f.H, text, y)
				}
			}
			if w == 2 && (x+1 >= f.W) {
				t.Fatalf("%dx%d: line %d: half of %q", f.W, f.H, y, text)
			}
			if w == 2 {
				if next, _ := f.At(x+1, y); next != "" {
					t.Fatalf("%dx%d: line %d: %q has %q in its second cell", f.W, f.H, y, text, next)
				}
			}
		}
		if n != f.W {
			t.Fatalf("%dx%d: line %d has %d cells", f.W, f.H, y, n)
		}
	}
}

// At every size, in every state, the frame is whole.
func TestNothingWrapsOrEscapes(t *testing.T) {
	states := map[string]func(*Model){
		"plain":  func(*Model) {},
		"help":   func(m *Model) { m.Key("?") },
		"typing": func(m *Model) { m.Key("/"); m.Key("例"); m.Key("x") },
		"filter": func(m *Model) { m.filter = hostile },
		"lost":   func(m *Model) { m.Lose(errors.New(hostile), start) },
		"failed": func(m *Model) { m.last.Queue.Failure = hostile },
		"end":    func(m *Model) { m.Draw(80, 24); m.Key(KeyEnd) },
	}
	for name, enter := range states {
		for p := Destinations; p < paneEnd; p++ {
			for _, w := range []int{1, 2, 5, 17, 40, 65, 79, 80, 149, 150, 300} {
				for _, h := range []int{1, 2, 5, 10, 17, 18, 33, 34, 60} {
					m := watched(t)
					m.pane = p
					enter(m)
					f := m.Draw(w, h)
					if f.W != w || f.H != h {
						t.Fatalf("%s: a frame of %dx%d for %dx%d", name, f.W, f.H, w, h)
					}
					whole(t, f)
				}
			}
		}
	}
	whole(t, NewModel(time.Second).Draw(80, 24))
	if f := watched(t).Draw(0, 0); f.W != 0 {
		t.Error("nothing is something")
	}
}

// What a place is given is cut to its cells, whatever it holds.
func FuzzFrame(f *testing.F) {
	f.Add("例え\x1b[2J", 3, 5)
	f.Add("👩‍👩‍👧‍👦 flags 🇩🇪🇩", 0, 4)
	f.Add("e\u0301\u0301\u200b\u200dx\u1100\u1161", 2, 3)
	f.Fuzz(func(t *testing.T, text string, x, width int) {
		frame := newFrame(10, 1)
		frame.put(x%10, 0, width%20, text, Plain)
		frame.right(0, 0, 10, text, Plain)
		n := 0
		for i := range frame.W {
			s, _ := frame.At(i, 0)
			for _, r := range s {
				if unicode.IsControl(r) {
					t.Fatalf("%q is shown", s)
				}
			}
			n += displaywidth.String(s)
		}
		if n > frame.W {
			t.Fatalf("%q takes %d cells of 10: %q", text, n, frame.String())
		}
	})
}

// Wide characters leave the columns behind them in their places.
func TestColumnsStand(t *testing.T) {
	f := watched(t).Draw(120, 30)
	at := -1
	for y := range f.H {
		var line strings.Builder
		for x := range f.W {
			s, _ := f.At(x, y)
			if s == "" {
				s = "\x00" // the second cell of a wide one
			}
			line.WriteString(string([]rune(s)[:1]))
		}
		runes := []rune(line.String())
		for _, word := range []string{"HEALTH", "ok  ", "down ", "idle "} {
			if i := strings.Index(string(runes), word); i >= 0 && (strings.Contains(string(runes), "/") || word == "HEALTH" || word == "idle ") {
				col := len([]rune(string(runes)[:i]))
				if at < 0 {
					at = col
				}
				if col != at {
					t.Errorf("line %d: %q stands in column %d, not %d: %s", y, word, col, at, string(runes))
				}
			}
		}
	}
	if at < 0 {
		t.Error("there is no column of health")
	}
}

func TestRatesAndChanges(t *testing.T) {
	m := watched(t)
	r := m.rate()
	if r.Accepted != 100 || r.Delivered != 90 || r.Failed != 0 || r.PutOff != 1 || r.CPU != .25 || r.Refused != 3*(19*19-18*18) {
		t.Errorf("%+v", r)
	}
	calls := m.callsNow()
	if c := calls[0]; c.rate != 50 || c.old || c.p50 != 256*time.Microsecond && c.p50 > time.Millisecond {
		t.Errorf("%+v", c)
	}
	if c := calls[1]; c.p99 <= c.p50 || c.errors != 19 {
		t.Errorf("%+v", c)
	}
	next := sample(20)
	next.Generation = 5
	m.Take(next, start.Add(20*time.Second))
	if !strings.Contains(m.trouble(), "configuration 5 was loaded") {
		t.Error(m.trouble())
	}
	m.Lose(errors.New("no daemon answers"), start.Add(21*time.Second))
	m.Lose(errors.New("no daemon answers"), start.Add(25*time.Second))
	if text := m.Draw(120, 24).String(); !strings.Contains(text, "NOT ANSWERING since 12:00:21, trying again: no daemon answers") || !strings.Contains(text, "example.net") {
		t.Error(text)
	}
	anew := sample(2)
	anew.PID, anew.Started, anew.Time = 99, start.Add(26*time.Second), start.Add(27*time.Second)
	n := len(m.rates)
	m.Take(anew, start.Add(27*time.Second))
	if !strings.Contains(m.trouble(), "started anew: process 99, before 77") || len(m.rates) != n {
		t.Error("after a restart: ", m.trouble())
	}
	for _, c := range m.callsNow() {
		if c.rate != 0 {
			t.Errorf("a rate over a restart: %+v", c)
		}
	}
	m.Tick(start.Add(time.Minute))
	if m.trouble() != "" {
		t.Error("a note stays for ever: ", m.trouble())
	}
}

// Only the last minute is in the quantiles; who was not called in it shows what was
// before.
func TestQuantilesForget(t *testing.T) {
	m := NewModel(time.Second)
	for i := range 300 {
		s := sample(0)
		s.Time = start.Add(time.Duration(i) * time.Second)
		times := record.Times{{20, uint64(i)}}
		if i > 100 {
			times = record.Times{{20, 100}, {80, uint64(i - 100)}}
		}
		s.Calls = []console.Calls{{Policy: "a", Stage: "rcpt", Mode: "enforce", Times: times}, {Policy: "b", Stage: "rcpt", Mode: "enforce", Times: record.Times{{20, 9}}}}
		m.Take(s, s.Time)
	}
	calls := m.callsNow()
	if a := calls[0]; a.p50 < 100*time.Millisecond || a.old || a.rate < .9 || a.rate > 1.1 {
		t.Errorf("%+v", a)
	}
	if b := calls[1]; !b.old || b.p50 == 0 || b.rate != 0 {
		t.Errorf("%+v", b)
	}
	if len(m.past) > 65 || len(m.rates) > keptRates {
		t.Errorf("%d looks and %d rates are kept", len(m.past), len(m.rates))
	}
}

func TestKeys(t *testing.T) {
	m := watched(t)
	first := func() string {
		f := m.Draw(120, 24)
		for y, line := range strings.Split(f.String(), "\n") {
			if strings.HasPrefix(line, " 1 dest") {
				return strings.Fields(strings.Split(f.String(), "\n")[y+2])[0]
			}
		}
		return ""
	}
	if got := first(); got != "example.net" {
		t.Errorf("most mail first: %s", got)
	}
	for range 3 {
		m.Key("s")
	}
	if got := first(); !strings.HasPrefix(got, "点看") {
		t.Errorf("trouble first: %s", got)
	}
	m.Key("r")
	if got := first(); strings.HasPrefix(got, "点看") {
		t.Errorf("trouble last: %s", got)
	}
	for _, k := range []string{"/", "E", "x", "y", KeyBackspace, "A", "M", "\x1b", KeyEnter} {
		m.Key(k)
	}
	if m.filter != "ExAM" || first() != "example.net" || m.rows != 1 {
		t.Errorf("filter %q, first %s of %d", m.filter, first(), m.rows)
	}
	m.Key("/")
	m.Key("z")
	m.Key(KeyEscape)
	if m.filter != "ExAM" || m.typing {
		t.Error("Esc leaves the filter as it was")
	}
	m.Key(KeyEscape)
	if m.filter != "" {
		t.Error("Esc clears it")
	}
	m.Key(KeyBackTab)
	if m.pane != Connections || !strings.Contains(m.Draw(120, 24).String(), "submission") {
		t.Errorf("pane %d", m.pane)
	}
	m.Key(KeyTab)
	m.Key("p")
	if !m.Paused() || !strings.Contains(m.Draw(80, 24).String(), "PAUSED 12:00:19") {
		t.Error("paused is not told")
	}
	m.Key("-")
	if m.Interval() != 2*time.Second {
		t.Error(m.Interval())
	}
	m.Key("?")
	if !strings.Contains(m.Draw(80, 24).String(), "choose a pane") || m.Key("x") || m.help {
		t.Error("help")
	}
	for range 10 {
		m.Key(KeyPageDown)
		m.Draw(80, 12)
	}
	if m.scroll[Destinations] > m.rows {
		t.Errorf("scrolled to %d of %d", m.scroll[Destinations], m.rows)
	}
	m.Key(KeyHome)
	if m.scroll[Destinations] != 0 || !m.Key("q") || !m.Key(KeyInterrupt) {
		t.Error("the way home")
	}
}

func TestSpark(t *testing.T) {
	for _, one := range []struct {
		values []float64
		width  int
		want   string
	}{
		{nil, 3, "   "},
		{[]float64{0, 1, 2, 4, 8}, 5, "▁▂▂▄█"},
		{[]float64{0, 1, 2, 4, 8}, 2, "▄█"},
		{[]float64{0, 0}, 4, "  ▁▁"},
		{[]float64{.001}, 1, "█"},
		{[]float64{1}, -1, ""},
	} {
		if got := spark(one.values, one.width); got != one.want {
			t.Errorf("%v in %d: %q", one.values, one.width, got)
		}
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		number(99_999): "99999", number(123_456): "123k", number(1_234_567): "1.23M", number(uint64(12_345_678)): "12M",
		perSecond(0): "0", perSecond(.001): "<0.01", perSecond(.25): "0.25", perSecond(12.34): "12.3", perSecond(1234): "1234", perSecond(45_678): "45.7k",
		size(12): "12 B", size(1536): "1.5 KiB", size(84 << 20): "84 MiB",
		took(0): "-", took(90 * time.Microsecond): "90µs", took(2500 * time.Microsecond): "2.5ms", took(250 * time.Millisecond): "250ms", took(1200 * time.Millisecond): "1.2s", took(5 * time.Minute): "300s",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// fake is a terminal that keeps what it was shown.
type fake struct {
	keys chan string
	w, h int
	last string
	n    int
}

func (f *fake) Size() (w, h int)    { return f.w, f.h }
func (f *fake) Draw(x *Frame)       { f.last = x.String(); f.n++ }
func (f *fake) Keys() <-chan string { return f.keys }

func TestShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{keys: make(chan string), w: 80, h: 24}
		n := 0
		var down atomic.Bool
		look := func(context.Context) (console.Top, error) {
			if n++; down.Load() {
				return console.Top{}, errors.New("no daemon answers")
			}
			return sample(n), nil
		}
		done := make(chan struct{})
		go func() { defer close(done); Show(t.Context(), f, NewModel(time.Second), look, 0) }()
		time.Sleep(2500 * time.Millisecond)
		if synctest.Wait(); n != 3 || !strings.Contains(f.last, "example.net") {
			t.Errorf("%d looks: %s", n, f.last)
		}
		f.w, f.h = 40, 10
		f.keys <- "" // the size changed
		if synctest.Wait(); strings.Count(f.last, "\n") != 10 {
			t.Errorf("after a change of the size: %s", f.last)
		}
		f.keys <- "p"
		time.Sleep(time.Minute)
		if synctest.Wait(); n != 3 || !strings.Contains(f.last, "PAUSED") {
			t.Errorf("%d looks while it is paused: %s", n, f.last)
		}
		f.keys <- "p"
		down.Store(true)
		time.Sleep(3 * time.Second)
		if synctest.Wait(); !strings.Contains(f.last, "NOT ANSWERING") {
			t.Error(f.last)
		}
		f.keys <- "q"
		<-done
	})
}

// A daemon that takes connections and answers nobody keeps no key waiting.
func TestShowOfAHangingDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{keys: make(chan string), w: 80, h: 24}
		look := func(ctx context.Context) (console.Top, error) { <-ctx.Done(); return console.Top{}, ctx.Err() }
		done := make(chan struct{})
		go func() { defer close(done); Show(t.Context(), f, NewModel(time.Second), look, 0) }()
		time.Sleep(7 * time.Second)
		if synctest.Wait(); !strings.Contains(f.last, "NOT ANSWERING") {
			t.Error(f.last)
		}
		before := time.Now()
		f.keys <- "q"
		if <-done; time.Since(before) != 0 {
			t.Errorf("it took %v to quit", time.Since(before))
		}
	})
}

func TestPrint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		look := func(context.Context) (console.Top, error) {
			if n++; n == 3 {
				return console.Top{}, errors.New("no daemon answers")
			}
			return sample(n), nil
		}
		var b strings.Builder
		if err := Print(t.Context(), &b, NewModel(time.Second), look, true, 3); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		var first, last report
		if len(lines) != 3 || !strings.Contains(lines[1], `"error":"no daemon answers"`) || json.Unmarshal([]byte(lines[0]), &first) != nil || json.Unmarshal([]byte(lines[2]), &last) != nil {
			t.Fatal(b.String())
		}
		if first.Rates.Accepted != 100 || last.Rates.Accepted != 100 || first.Ways[0].Destination != "example.net" || first.Calls[1].P99 == 0 || strings.Contains(lines[0], `"times"`) {
			t.Errorf("%+v", first)
		}
		n = 2
		if err := Print(t.Context(), &b, NewModel(time.Second), look, false, 1); err == nil {
			t.Error("a daemon that is down at the start is no error")
		}
		b.Reset()
		if err := Print(t.Context(), &b, NewModel(time.Second), look, false, 2); err != nil || strings.Count(b.String(), "accepted 100/s") != 2 {
			t.Errorf("%v: %s", err, b.String())
		}
		for _, r := range b.String() {
			if unicode.IsControl(r) && r != '\n' {
				t.Errorf("%q is printed", r)
			}
		}
		if err := Print(t.Context(), failing{}, NewModel(time.Second), look, false, 2); err == nil {
			t.Error("an error of the output is none")
		}
	})
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }
