package proto

import (
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

func TestDurations(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
	}{
		{"0", 0},
		{"0s", 0},
		{"5m", 5 * time.Minute},
		{"1h30m", 90 * time.Minute},
		{"7d", 7 * 24 * time.Hour},
		{"1w1d", 8 * 24 * time.Hour},
		{"250ms", 250 * time.Millisecond},
		{"1m5ms", time.Minute + 5*time.Millisecond},
	} {
		if got, err := ParseDuration(c.text); err != nil || got != c.want {
			t.Errorf("%q: %s, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"", "5", "m", "5x", "5m5m", "5s1m", "-5m", "1.5h", "5 m", "99999999999w", "5m ", "9223372036854775808ms"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "512": 512, "512B": 512, "4KiB": 4096, "50 MiB": 50 << 20, "1GiB": 1 << 30, "1TiB": 1 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "KiB", "4KB", "4k", "-1", "99999999999TiB", "1.5MiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"5m", "1h30m", "7d", "50MiB", "0", "", "1w2d3h4m5s6ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Errorf("%q is %s", s, d)
		}
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

func TestValues(t *testing.T) {
	type word string
	in := map[string]any{
		"nil": nil, "text": "a\xff", "int": 5, "int32": int32(-5), "uint": uint(7), "float": 2.5, "float32": float32(1.5), "bool": true, "word": word("w"),
		"list": []any{1, "a"}, "strings": []string{"b"}, "map": map[string]any{"k": []any{}}, "typed": map[word]int{"k": 1}, "time": time.Second, "struct": struct{ X int }{3},
	}
	want := map[string]any{
		"nil": nil, "text": "a\uFFFD", "int": 5.0, "int32": -5.0, "uint": 7.0, "float": 2.5, "float32": 1.5, "bool": true, "word": "w",
		"list": []any{1.0, "a"}, "strings": []any{"b"}, "map": map[string]any{"k": []any{}}, "typed": map[string]any{"k": 1.0}, "time": 1e9, "struct": "{3}",
	}
	got, err := NewValue(in).Plain()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%#v\n%#v", err, got, want)
	}
	loop := []any{nil}
	loop[0] = loop
	if _, err := NewValue(loop).Plain(); err != nil {
		t.Errorf("what lies too deep becomes null: %v", err)
	}
	if _, err := NewValue(math.NaN()).Plain(); err != ErrNumber {
		t.Errorf("NaN: %v", err)
	}
	var none *Value
	if v, err := none.Plain(); v != nil || err != nil {
		t.Errorf("nil: %v, %v", v, err)
	}
}

func setting(name, kind, of string, value any, choices ...string) *Setting {
	s := &Setting{Name: name, Type: kind, Of: of, Choices: choices}
	if value != nil {
		s.Default = NewValue(value)
	}
	return s
}

func TestCheckSettings(t *testing.T) {
	d := &Description{Settings: []*Setting{
		setting("text", "string", "", "x"), setting("n", "integer", "", 1), setting("x", "number", "", 1.5), setting("yes", "boolean", "", false),
		setting("wait", "duration", "", "5m"), setting("max", "size", "", "1KiB"), setting("to", "address", "", ""), setting("nets", "cidrs", "", []any{}),
		setting("doms", "domains", "", []any{}), setting("re", "regexp", "", ""), setting("how", "enum", "", "a", "a", "b"), setting("path", "file", "", ""),
		setting("key", "secret", "", ""), setting("words", "list", "string", []any{}), setting("caps", "map", "integer", map[string]any{}), setting("must", "string", "", nil),
	}}
	for _, s := range d.Settings {
		if err := s.Sound(); err != nil {
			t.Error(err)
		}
	}
	given := map[string]any{
		"must": "m", "n": int64(-3), "x": int64(2), "wait": "2h", "max": int64(9), "to": "A@EXAMPLE.net", "nets": []any{"192.0.2.7/24", "2001:db8::1"},
		"doms": []any{"Example.NET", "*.example.org", "*"}, "re": "^a+$", "how": "b", "path": "w.txt", "key": "s", "words": []any{"a"}, "caps": map[string]any{"a": int64(1)},
	}
	got, problems := d.CheckSettings(given, "/etc/p")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	plain, err := PlainMap(got)
	want := map[string]any{
		"text": "x", "n": -3.0, "x": 2.0, "yes": false, "wait": 7200.0, "max": 9.0, "to": "A@example.net", "nets": []any{"192.0.2.0/24", "2001:db8::1/128"},
		"doms": []any{"example.net", "*.example.org", "*"}, "re": "^a+$", "how": "b", "path": "/etc/p/w.txt", "key": "s", "words": []any{"a"},
		"caps": map[string]any{"a": 1.0}, "must": "m",
	}
	if err != nil || !reflect.DeepEqual(plain, want) {
		t.Errorf("%v\n%v\n%v", err, plain, want)
	}
	bad := map[string]any{
		"text": int64(5), "n": 1.5, "x": "2", "yes": "true", "wait": "soon", "max": int64(-1), "to": "@", "nets": []any{"x"}, "doms": []any{"a..b"}, "re": "(",
		"how": "c", "path": true, "key": int64(12345), "words": "a", "caps": map[string]any{"a": "b"}, "wrods": []any{},
	}
	_, problems = d.CheckSettings(bad, "")
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Key)
		if p.Key == "key" && strings.Contains(p.Text, "12345") {
			t.Errorf("a secret is shown: %s", p.Text)
		}
		if p.Key == "must" && p.Text != `missing; write a text, such as "word"` || p.Key == "wrods" && p.Text != `unknown setting; did you mean "words"?` {
			t.Errorf("%s: %s", p.Key, p.Text)
		}
	}
	all := []string{"text", "n", "x", "yes", "wait", "max", "to", "nets[0]", "doms[0]", "re", "how", "path", "key", "words", "caps.a", "must", "wrods"}
	if !slices.Equal(keys, all) {
		t.Errorf("problems at %v\nwant %v", keys, all)
	}
}

func TestPrefix(t *testing.T) {
	long := strings.Repeat("X-Long: field\r\n", 5000)
	for _, c := range []struct {
		name, text string
		n          int64
		want       string
		cut        bool
	}{
		{"short", "A: b\r\n\r\nbody", 10, "body", false},
		{"exact", "A: b\r\n\r\nbody", 4, "body", false},
		{"cut", "A: b\r\n\r\nbody", 3, "bod", true},
		{"no header", "\r\nbody", 10, "body", false},
		{"no body", "A: b\r\n\r\n", 10, "", false},
		{"no empty line", "A: b\r\n", 10, "", false},
		{"empty", "", 10, "", false},
		{"long header", long + "\r\nbody", 3, "bod", true},
		{"long header, whole body", long + "\r\nbody", 4, "body", false},
		{"header beyond the bound", strings.Repeat("X: y\r\n", 1<<18) + "\r\nbody", 4, "", true},
	} {
		got, cut, err := Prefix(message.Bytes(c.text), c.n)
		if err != nil || string(got) != c.want || cut != c.cut {
			t.Errorf("%s: %q, %v, %v", c.name, got, cut, err)
		}
	}
	if _, _, err := Prefix(broken{}, 5); err == nil {
		t.Error("a body that can't be read gave a prefix")
	}
}

type broken struct{}

func (broken) Size() int64                       { return 100 }
func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }
