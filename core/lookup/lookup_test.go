package lookup

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/cdb"
	"github.com/postern-mta/postern/core/message"
)

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// replace puts a new file in the place of another one, as editors do.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, o Options, sources ...Source) *Set {
	t.Helper()
	s, failures := Open(sources, nil, o)
	for _, f := range failures {
		t.Fatal(f.Err)
	}
	return s
}

const sampleText = "\ufeff# who\nhello value one\none 1\na@Example.org ok\nMixed@Case.example\tkept\n192.0.2.1/24 blocked\n2001:DB8::/32 six\n\nexample.net ours\n.example.net below\njane@example.net/spam strict\nalone\nalone\n<> null\n"

const sampleTOML = `one = 1
"A@example.org" = "ok"
yes = true
list = ["a", 2, [3.5]]
when = 2026-01-02T03:04:05Z

["jane@example.net"]
spam = "strict"

["example.net"]
spam = "loose"
quota = 5

["*"]
greeting = "hello"

[[many]]
n = 1
`

// One question has one answer in all types.
func TestTypes(t *testing.T) {
	s := open(t, Options{}, Source{Name: "text", Type: Text, Path: write(t, "a", sampleText)}, Source{Name: "toml", Type: TOML, Path: write(t, "a.toml", sampleTOML)}, Source{Name: "cdb", Type: CDB, Path: "testdata/sample.cdb"})
	for _, c := range []struct {
		name, key string
		want      any
	}{
		{"text", "hello", "value one"},
		{"cdb", "hello", "value one"},
		{"text", "one", "1"},
		{"cdb", "one", "1"},
		{"toml", "one", 1.0},
		{"text", "A@EXAMPLE.org", "ok"},
		{"toml", "a@example.org", "ok"},
		{"cdb", "A@EXAMPLE.ORG", "ok"},
		{"cdb", "Mixed@Case.example", "kept"},
		{"text", "mixed@case.example", "kept"},
		{"text", "alone", ""},
		{"text", "absent", nil},
		{"cdb", "absent", nil},
		{"toml", "absent", nil},
		{"toml", "yes", true},
		{"toml", "list", []any{"a", 2.0, []any{3.5}}},
		{"toml", "when", "2026-01-02T03:04:05Z"},
		{"toml", "many", []any{map[string]any{"n": 1.0}}},
		{"text", "192.0.2.0/24", "blocked"},
		{"text", "2001:db8:0::/32", "six"},
		{"cdb", "192.0.2.0/24", "blocked"},
	} {
		v, ok, err := s.Get(t.Context(), c.name, c.key)
		if err != nil || ok != (c.want != nil) || ok && !reflect.DeepEqual(v, c.want) {
			t.Errorf("%s: %s is %#v, %v, %v", c.name, c.key, v, ok, err)
		}
	}
	if _, _, err := s.Get(t.Context(), "nothing", "x"); !errors.Is(err, ErrNoMap) {
		t.Errorf("a map that there is not: %v", err)
	}
	if got := fmt.Sprint(s.Names(), s.Has("cdb"), s.Has("x")); got != "[text toml cdb] true false" {
		t.Error(got)
	}
}

func TestQuestions(t *testing.T) {
	s := open(t, Options{}, Source{Name: "text", Type: Text, Path: write(t, "a", sampleText)}, Source{Name: "toml", Type: TOML, Path: write(t, "a.toml", sampleTOML)}, Source{Name: "cdb", Type: CDB, Path: "testdata/sample.cdb"})
	address := func(text string) message.Address {
		a, err := message.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ask := func(v any, key string, err error) string { return fmt.Sprintf("%v by %s, %v", v, key, err) }
	for _, name := range []string{"text", "cdb"} {
		for got, want := range map[string]string{
			ask(Domain(t.Context(), s, name, "example.net.")):                            "ours by example.net, <nil>",
			ask(Domain(t.Context(), s, name, "a.b.EXAMPLE.net")):                         "below by .EXAMPLE.net, <nil>",
			ask(Domain(t.Context(), s, name, "net")):                                     "<nil> by , <nil>",
			ask(Address(t.Context(), s, name, address("a+x@example.org"))):               "ok by a@example.org, <nil>",
			ask(Address(t.Context(), s, name, address("b@sub.example.net"))):             "below by .example.net, <nil>",
			ask(Network(t.Context(), s, name, netip.MustParseAddr("192.0.2.77"))):        "blocked by 192.0.2.0/24, <nil>",
			ask(Network(t.Context(), s, name, netip.MustParseAddr("::ffff:192.0.2.77"))): "blocked by 192.0.2.0/24, <nil>",
			ask(Network(t.Context(), s, name, netip.MustParseAddr("192.0.3.77"))):        "<nil> by , <nil>",
			ask(Network(t.Context(), s, name, netip.Addr{})):                             "<nil> by , <nil>",
		} {
			if got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
	if got := ask(Network(t.Context(), s, "text", netip.MustParseAddr("2001:db8::9"))); got != "six by 2001:db8::/32, <nil>" {
		t.Error(got)
	}
	if got := ask(Address(t.Context(), s, "text", message.Address{})); got != "null by <>, <nil>" {
		t.Error(got)
	}
	user := func(name, who, setting string) string {
		v, ok, err := User(t.Context(), s, name, address(who), setting)
		return fmt.Sprintf("%v %v %v", v, ok, err)
	}
	for got, want := range map[string]string{
		user("toml", "jane+x@example.net", "spam"):  "strict true <nil>",
		user("toml", "jane@example.net", "quota"):   "5 true <nil>",
		user("toml", "joe@example.net", "spam"):     "loose true <nil>",
		user("toml", "joe@example.net", "greeting"): "hello true <nil>",
		user("toml", "joe@elsewhere.org", "spam"):   "<nil> false <nil>",
		user("text", "jane+x@example.net", "spam"):  "strict true <nil>",
		user("cdb", "jane@example.net", "spam"):     "strict true <nil>",
		user("cdb", "joe@example.net", "spam"):      "<nil> false <nil>",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	deep := "a = " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\n"
	for want, source := range map[string]Source{
		`line 2: "a" stands twice, with two values; take one out`: {Name: "x", Type: Text, Path: write(t, "a", "a 1\nA 2\n")},
		"line 2 is longer than 1 MiB":                             {Name: "x", Type: Text, Path: write(t, "a", "x\n"+strings.Repeat("a", 2<<20))},
		`line 2: `:                                                {Name: "x", Type: TOML, Path: write(t, "a", "a = 1\nb =\n")},
		`"a" stands twice, letter case aside`:                     {Name: "x", Type: TOML, Path: write(t, "a", "a = 1\nA = 2\n")},
		"too deep in each other":                                  {Name: "x", Type: TOML, Path: write(t, "a", deep)},
		"no constant database":                                    {Name: "x", Type: CDB, Path: write(t, "a", "short")},
		"or a broken one":                                         {Name: "x", Type: CDB, Path: write(t, "a", strings.Repeat("\xff", 4096))},
		"no such file":                                            {Name: "x", Type: Text, Path: filepath.Join(t.TempDir(), "absent")},
		"it is no plain file":                                     {Name: "x", Type: Text, Path: t.TempDir()},
	} {
		s, failures := Open([]Source{source}, nil, Options{})
		if len(failures) != 1 || !strings.Contains(failures[0].Err.Error(), want) || s.Has("x") {
			t.Errorf("%v, want %s", failures, want)
		}
	}
}

// A map follows its file; a state of it that can't be read leaves what was there,
// and is told of once.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, "a", "a 1\n")
		var log bytes.Buffer
		s := open(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, Source{Name: "x", Type: Text, Path: path})
		expect := func(want string) {
			t.Helper()
			if v, _, err := s.Get(t.Context(), "x", "a"); err != nil || v != want {
				t.Errorf("%v, %v; want %s", v, err, want)
			}
		}
		expect("1")
		replace(t, path, "a 22\n")
		expect("1") // within the second
		time.Sleep(look)
		expect("22")
		replace(t, path, "a 3\na 4\n")
		for range 3 {
			time.Sleep(look)
			expect("22")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(look)
		expect("22")
		if n := strings.Count(log.String(), "can't be read again"); n != 2 {
			t.Errorf("%d lines: %s", n, log.String())
		}
		replace(t, path, "a 555\n")
		time.Sleep(look)
		expect("555")
	})
}

// A new generation takes over the maps whose source is the same, with their files
// looked at, and fails where one can't be read now.
func TestTakeOver(t *testing.T) {
	path := write(t, "a", "a 1\n")
	source := Source{Name: "x", Type: Text, Path: path}
	old := open(t, Options{}, source)
	replace(t, path, "a 22\n")
	s, failures := Open([]Source{source}, old, Options{})
	if v, _, _ := s.Get(t.Context(), "x", "a"); v != "22" || len(failures) != 0 || s.maps["x"] != old.maps["x"] {
		t.Errorf("%v, %v", v, failures)
	}
	replace(t, path, "a 1\na 2\n")
	for range 2 {
		if _, failures = Open([]Source{source}, s, Options{}); len(failures) != 1 || failures[0].Index != 0 {
			t.Error(failures)
		}
	}
	if v, _, _ := s.Get(t.Context(), "x", "a"); v != "22" {
		t.Errorf("the old generation has %v", v)
	}
}

// makeCDB writes a constant database.
func makeCDB(pairs ...[2]string) []byte {
	f, err := os.CreateTemp("", "postern-*.cdb")
	if err != nil {
		panic(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w := cdb.NewWriter(f)
	for _, p := range pairs {
		w.Add(p[0], p[1])
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		panic(err)
	}
	return out
}

// A large database, asked by many at once while its file is replaced.
func TestLargeCDB(t *testing.T) {
	var pairs [][2]string
	for i := range 5000 {
		pairs = append(pairs, [2]string{fmt.Sprintf("key%d", i), strings.Repeat(fmt.Sprint(i), i%7)})
	}
	path := write(t, "a.cdb", string(makeCDB(pairs...)))
	var now sync.Mutex
	at := time.Unix(1, 0)
	s := open(t, Options{Now: func() time.Time { now.Lock(); defer now.Unlock(); at = at.Add(look); return at }}, Source{Name: "x", Type: CDB, Path: path})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for _, p := range pairs {
				if v, ok, err := s.Get(t.Context(), "x", p[0]); !ok || err != nil || v != p[1] {
					t.Errorf("%s is %v, %v, %v", p[0], v, ok, err)
					return
				}
			}
		})
	}
	for range 20 {
		replace(t, path, string(makeCDB(append(pairs, [2]string{"new", "x"})...)))
	}
	asking.Wait()
	if _, ok, err := s.Get(t.Context(), "x", "absent"); ok || err != nil {
		t.Error(ok, err)
	}
	if v, _, _ := s.Get(t.Context(), "x", "new"); v != "x" {
		t.Errorf("new is %v", v)
	}
}

// FuzzCDB: a broken database gives errors, and ends.
func FuzzCDB(f *testing.F) {
	sample, err := os.ReadFile("testdata/sample.cdb")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample, "hello")
	f.Add(makeCDB([2]string{"", ""}, [2]string{"a", "b"}), "")
	f.Fuzz(func(_ *testing.T, b []byte, key string) {
		t, err := openCDB(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, _, _ = t.get(key)
	})
}

// FuzzText: what is read as a list or as TOML is found under its keys.
func FuzzText(f *testing.F) {
	f.Add(sampleText)
	f.Add(sampleTOML)
	f.Fuzz(func(t *testing.T, s string) {
		if all, err := readText(strings.NewReader(s), int64(len(s))); err == nil {
			for key, want := range all.(lines) {
				if v, ok, _ := all.get(key); !ok || v != want {
					t.Errorf("%q is %v", key, v)
				}
			}
		}
		if all, err := readTOML(strings.NewReader(s), int64(len(s))); err == nil {
			for key := range all.(entries) {
				if _, ok, _ := all.get(key); !ok {
					t.Errorf("%q is not found", key)
				}
			}
		}
	})
}
