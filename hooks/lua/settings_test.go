package lua

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// told are the problems of an instance as text, "warning: " before those that are one.
func told(t *testing.T, o Options, source string, settings map[string]any) []string {
	t.Helper()
	s, problems := Compile("x.lua", []byte(source), o)
	if s == nil {
		t.Fatal(problems)
	}
	p, problems := s.Instance(settings)
	if p != nil {
		t.Cleanup(func() { _ = p.Close() })
	}
	if (p == nil) != Failed(problems) {
		t.Errorf("a policy %t with %v", p != nil, problems)
	}
	var list []string
	for _, one := range problems {
		text := one.String()
		if one.Warning {
			text = "warning: " + text
		}
		list = append(list, text)
	}
	return list
}

func TestRanges(t *testing.T) {
	o, _ := testOptions(t)
	const source = `local p = policy { settings = {
		bits = integer (24) : range(0, 32) : about "x",
		wait = duration "5m" : about "x" : range("1s", "1h"),
		most = number : range(-1.5),
	} }
	function p.mail() return nil, p.bits, p.wait, p.most end
	return p`
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"bits", int64(33), "bits: 33 is out of range; write 0 to 32"},
		{"bits", int64(-1), "bits: -1 is out of range; write 0 to 32"},
		{"bits", int64(32), ""},
		{"wait", "2h", "wait: 2h is out of range; write 1s to 1h"},
		{"wait", "1s", ""},
		{"most", -2.0, "most: -2 is out of range; write -1.5 or more"},
		{"most", int64(1e9), ""},
	} {
		settings := map[string]any{"most": int64(0), c.key: c.value}
		if got := strings.Join(told(t, o, source, settings), "\n"); got != c.want {
			t.Errorf("%s = %v: got %q, want %q", c.key, c.value, got, c.want)
		}
	}
	s, _ := Compile("x.lua", []byte(source), o)
	var ranges []string
	for _, one := range s.Settings() {
		ranges = append(ranges, one.Range)
	}
	if !slices.Equal(ranges, []string{"0 to 32", "1s to 1h", "-1.5 or more"}) {
		t.Errorf("got %q", ranges)
	}
	for _, bad := range []string{`string "x" : range(1)`, `integer (1) : range()`, `integer (5) : range(0, 4)`} {
		if s, problems := Compile("x.lua", []byte("local p = policy { settings = { a = "+bad+" } }\nfunction p.mail() return nil, p.a end\nreturn p"), o); s != nil {
			t.Errorf("%s: taken, %v", bad, problems)
		}
	}
}

// TestListsFromFiles: "@file.txt" in the place of a list, and where what is wrong stands.
func TestListsFromFiles(t *testing.T) {
	o, _ := testOptions(t)
	o.Dir = t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(o.Dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("good.txt", "# ours\n192.0.2.0/24\n\n2001:db8::1\n")
	bad := write("bad.txt", "# ours\n\nfoo/\n")
	write("words.txt", "one\n# no\ntwo\n")
	const source = `local p = policy { settings = { nets = cidrs {}, words = list(string) {}, names = domains {}, f = file "", n = list(integer) {} } }
	for i, word in ipairs(p.words) do
		if word == "two" then error("words: item " .. i .. ": two is too much\nnames: none\nand more", 0) end
	end
	for i, word in ipairs(p.f and p.f.lines or {}) do log.warn("f: item %d: %s is odd", i, word) end
	function p.mail() return nil, #p.nets, p.names, p.n end
	return p`
	for _, c := range []struct {
		key, value string
		want       []string
	}{
		{"nets", "@good.txt", nil},
		{"nets", "@bad.txt", []string{"nets: " + bad + `:3: "foo/": no address or network; write something like "192.0.2.0/24", "192.0.2.1" or "2001:db8::/32"`}},
		{"nets", "192.0.2.1", nil},
		{"words", "@good.txt", nil},
		{"words", "@words.txt", []string{"words: " + filepath.Join(o.Dir, "words.txt") + ":3: two is too much", "names: none", "and more"}},
		{"names", "@bad.txt", []string{"names: " + bad + `:3: "foo/": `}},
		{"f", "words.txt", []string{"warning: f: " + filepath.Join(o.Dir, "words.txt") + ":1: one is odd", "warning: f: " + filepath.Join(o.Dir, "words.txt") + ":3: two is odd"}},
		{"words", "words.txt", []string{`words: the text "words.txt" is no such value; it expects a list, each a text; or "@file.txt", a file with one on each line`}},
		{"words", "@none.txt", []string{"words: stat " + filepath.Join(o.Dir, "none.txt")}},
		{"n", "@words.txt", []string{"n: the text"}},
	} {
		got := told(t, o, source, map[string]any{c.key: c.value})
		if len(got) != len(c.want) {
			t.Errorf("%s = %s: got %q, want %q", c.key, c.value, got, c.want)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%s = %s: got %q, want %q", c.key, c.value, got[i], c.want[i])
			}
		}
	}
	p := load(t, o, "local p = policy { settings = { nets = cidrs {} } }\nassert(p.nets[1] == nil or p.nets:match('192.0.2.7'))\nfunction p.mail() return nil, p.nets end\nreturn p", map[string]any{"nets": "@good.txt"})
	if p.Name() != "test" {
		t.Error(p.Name())
	}
}

// TestLoadWarnings: a warning at load is a finding of the entry, once, and not a line of
// the log for each Lua state.
func TestLoadWarnings(t *testing.T) {
	o, _ := testOptions(t)
	got := told(t, o, "local p = policy { settings = { zones = list(string) {} } }\nif #p.zones == 0 then log.warn('zones: there are none') end\nlog.warn('%s: hm', 'zonks')\nfunction p.mail() end\nreturn p", nil)
	if want := []string{"warning: zones: there are none", "warning: zonks: hm"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
