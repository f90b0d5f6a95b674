package plugin

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/postern-mta/postern/hooks"
	wire "github.com/postern-mta/postern/hooks/proto"
)

func TestPauses(t *testing.T) {
	var p pauses
	for i, want := range []time.Duration{
		0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
		3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond, 30 * time.Second, 30 * time.Second,
	} {
		if got := p.next(59 * time.Second); got != want {
			t.Errorf("pause %d: %s, want %s", i, got, want)
		}
	}
	for range 100 {
		if got := p.next(0); got != longestPause {
			t.Errorf("later: %s", got)
		}
	}
	if got := p.next(time.Minute); got != 0 {
		t.Errorf("after a stable minute: %s", got)
	}
}

func TestReadDecision(t *testing.T) {
	list := func(depth int) *wire.Value {
		v := &wire.Value{}
		for range depth {
			v = &wire.Value{Kind: &wire.Value_List{List: &wire.List{Values: []*wire.Value{v}}}}
		}
		return v
	}
	edit := func(e *wire.Edit) *wire.Decision { return &wire.Decision{Edits: []*wire.Edit{e}} }
	for _, c := range []struct {
		name string
		x    *wire.Decision
		want string // of the error
	}{
		{"empty", &wire.Decision{}, ""},
		{"verb", &wire.Decision{Verb: "refuse"}, `"refuse" is no decision`},
		{"long verb", &wire.Decision{Verb: strings.Repeat("a", 1<<20)}, "is no decision"},
		{"code", &wire.Decision{Verb: "reject", Reply: &wire.Reply{Code: 250}}, "the reply code 250"},
		{"enhanced", &wire.Decision{Verb: "reject", Reply: &wire.Reply{Enhanced: "2.0.0"}}, "the enhanced status"},
		{"enhanced text", &wire.Decision{Verb: "reject", Reply: &wire.Reply{Enhanced: "no"}}, "the enhanced status"},
		{"text", &wire.Decision{Reply: &wire.Reply{Text: strings.Repeat("a", 2001)}}, "a reply text of 2001 bytes"},
		{"reason", &wire.Decision{Reason: strings.Repeat("a", 2001)}, "a reason of 2001 bytes"},
		{"after", &wire.Decision{AfterMs: -1}, "the next attempt"},
		{"far after", &wire.Decision{AfterMs: math.MaxInt64}, "the next attempt"},
		{"kind", edit(&wire.Edit{Kind: "body"}), `edit 1: the kind "body" does not exist`},
		{"no kind", edit(&wire.Edit{}), "does not exist"},
		{"nil edit", &wire.Decision{Edits: []*wire.Edit{nil}}, "does not exist"},
		{"infinite score", edit(&wire.Edit{Kind: "score", Number: math.Inf(1)}), "not finite"},
		{"no number", edit(&wire.Edit{Kind: "notes", Name: "a", Any: &wire.Value{Kind: &wire.Value_Number{Number: math.NaN()}}}), "not finite"},
		{"deep note", edit(&wire.Edit{Kind: "notes", Name: "a", Any: list(40)}), "too deeply"},
		{"flat note", edit(&wire.Edit{Kind: "notes", Name: "a", Any: list(20)}), ""},
		{"nameless note", edit(&wire.Edit{Kind: "notes"}), "the name is missing"},
		{"negative field", edit(&wire.Edit{Kind: "headers:remove", Name: "A", N: -1}), "out of range"},
		{"negative priority", edit(&wire.Edit{Kind: "priority", N: -5}), ""},
		{"long name", edit(&wire.Edit{Kind: "tag", Name: strings.Repeat("a", 1001)}), "a name of 1001 bytes"},
	} {
		_, err := readDecision(c.x)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || err != nil && len(err.Error()) > 300 {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	d, err := readDecision(&wire.Decision{Verb: "disconnect", Reply: &wire.Reply{Text: "a\r\n250 ok\x00"}, Reason: "a\nb"})
	if err != nil || d.Verb != hooks.Drop || d.Reply.Text != "a  250 ok " || d.Reason != "a b" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Every verb and every edit of the vocabulary has its name on the wire.
func TestWholeVocabulary(t *testing.T) {
	for _, row := range hooks.Stages() {
		for _, v := range row.Verbs {
			if d, err := readDecision(&wire.Decision{Verb: v.String()}); err != nil || d.Verb != v {
				t.Errorf("%s: %v, %v", v, d, err)
			}
		}
		for _, k := range row.Edits {
			if got, ok := parseEdit(k.String()); !ok || got != k {
				t.Errorf("edit %s: %v, %v", k, got, ok)
			}
		}
	}
}

func FuzzReadDecision(f *testing.F) {
	for _, x := range []*wire.Decision{
		{},
		{Verb: "reject", Reply: &wire.Reply{Code: 550, Enhanced: "5.7.1", Text: "no"}},
		{Edits: []*wire.Edit{{Kind: "score", Name: "a", Number: 2}, {Kind: "result", Name: "r", Any: wire.NewValue(map[string]any{"a": []any{1, "b"}})}}},
	} {
		b, err := proto.Marshal(x)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var x wire.Decision
		if proto.Unmarshal(b, &x) != nil {
			return
		}
		d, err := readDecision(&x)
		if err != nil {
			return
		}
		if len(d.Edits) > wire.MaxEdits || strings.ContainsAny(d.Reply.Text+d.Reason, "\r\n\x00") {
			t.Errorf("let through: %+v", d)
		}
	})
}

func TestDescribe(t *testing.T) {
	good := func() *wire.Description {
		return &wire.Description{Name: "good", Stages: []string{"rcpt"}, Settings: []*wire.Setting{{Name: "a", Type: "string"}}}
	}
	for _, c := range []struct {
		change func(*wire.Description)
		want   string
	}{
		{func(x *wire.Description) { x.Name = "A b" }, "its name"},
		{func(x *wire.Description) { x.Revision = 99 }, "it needs revision 99 of the plugin protocol, and this server has 3; update the server"},
		{func(x *wire.Description) { x.Stages = nil }, "no stage"},
		{func(x *wire.Description) { x.Stages = []string{"rcpt", "rcpt"} }, "twice"},
		{func(x *wire.Description) { x.Stages = []string{"never"} }, "does not exist"},
		{func(x *wire.Description) { x.Access = 9 }, "unknown way 9"},
		{func(x *wire.Description) { x.Access = wire.Access_ACCESS_PREFIX }, "0 bytes of the body"},
		{func(x *wire.Description) { x.OnFailure = "reject" }, "on_failure"},
		{func(x *wire.Description) { x.Immune = []string{"me"} }, "immune"},
		{func(x *wire.Description) { x.TimeoutMs = -1 }, "timeout"},
		{func(x *wire.Description) { x.Settings[0].Name = "timeout" }, `can't have the name "timeout"`},
		{func(x *wire.Description) { x.Settings[0].Name = "rcpt" }, `can't have the name "rcpt"`},
		{func(x *wire.Description) { x.Settings[0].Type = "thing" }, "unknown type"},
		{func(x *wire.Description) { x.Settings = append(x.Settings, x.Settings[0]) }, "twice"},
		{func(x *wire.Description) { x.Settings[0].Default = wire.NewValue(5) }, "default of setting"},
		{func(x *wire.Description) { x.Settings = make([]*wire.Setting, 201) }, "201 settings"},
		{func(x *wire.Description) { x.Settings = make([]*wire.Setting, 1) }, "can't have the name"},
	} {
		x := good()
		c.change(x)
		if _, err := describe(x); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if d, err := describe(good()); err != nil || !d.Settings[0].Required {
		t.Errorf("%+v, %v", d, err)
	}
	a, b := good(), good()
	if b.Version = "2"; !sameShape(a, b) {
		t.Error("another version is another shape")
	}
	if b.Stages = []string{"data"}; sameShape(a, b) {
		t.Error("other stages are the same shape")
	}
}

func TestLogBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		o := &output{log: slog.New(slog.NewTextHandler(&b, nil))}
		for range 2 {
			for range 250 {
				o.line("x\n")
			}
			time.Sleep(time.Second) // of the bubble: no time passes outside
		}
		o.line("last")
		if n := strings.Count(b.String(), "msg=x"); n != 200 {
			t.Errorf("%d lines", n)
		}
		if n := strings.Count(b.String(), "lines_left_out=150"); n != 2 {
			t.Errorf("told %d times:\n%s", n, b.String())
		}
	})
}

func TestCopyLines(t *testing.T) {
	var got []int
	long := strings.Repeat("y", maxLine-1) + "\n"
	copyLines(strings.NewReader("a\n"+strings.Repeat("x", 3*maxLine)+"\n\n"+long+"end"), func(line string) { got = append(got, len(line)) })
	want := []int{2, maxLine, 1, maxLine, 3}
	if len(got) != len(want) {
		t.Fatalf("lines of %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d has %d bytes, want %d", i, got[i], want[i])
		}
	}
}

func TestLineWriter(t *testing.T) {
	var b strings.Builder
	w := &lineWriter{out: &output{log: slog.New(slog.NewTextHandler(&b, nil))}}
	for _, part := range []string{"one\ntw", "o", "\n", strings.Repeat("z", 3*maxLine), "tail\nthree\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	for _, want := range []string{"msg=one\n", "msg=two\n", "msg=three\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"plain", `{"@message":"m","@level":"warn","a":1}`, `{"@message":7}`, "{", `{"@level":["x"],"@message":"m"}`, "panic: x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		o := &output{log: slog.New(slog.NewTextHandler(&b, nil))}
		o.line(s)
		if strings.Count(b.String(), "\n") > 1 {
			t.Errorf("%q became %q", s, b.String())
		}
	})
}

// A plugin is told the server's time, which in a replay is not ours.
func TestEventsTellTheTime(t *testing.T) {
	then := time.Date(2002, 10, 8, 9, 0, 0, 0, time.UTC)
	p := &Plugin{o: Options{Now: func() time.Time { return then }}, about: &wire.Description{}}
	ev := p.newEvent(t.Context(), hooks.Mail, &hooks.Transaction{ID: "M", Session: &hooks.Session{}})
	if ev.NowMs != then.UnixMilli() {
		t.Errorf("%d, want %d", ev.NowMs, then.UnixMilli())
	}
}
