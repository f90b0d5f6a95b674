package lookup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// fake is a service that says what a test wants.
type fake struct {
	asked atomic.Int32
	f     func(ctx context.Context, f fields) (any, bool, error)
}

func (c *fake) ask(ctx context.Context, f fields) (any, bool, error) {
	c.asked.Add(1)
	return c.f(ctx, f)
}

func (c *fake) reach(context.Context) error { return nil }

func faked(source Source, f func(ctx context.Context, f fields) (any, bool, error)) (*service, *fake) {
	c := &fake{f: f}
	source.Name = "m"
	return &service{
		source: source, options: Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, client: c,
		slots: make(chan struct{}, max(source.Concurrency, 1)), known: newCache(source.Entries),
	}, c
}

func TestAnswersAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := faked(Source{Timeout: time.Second, Positive: time.Minute, Negative: 10 * time.Second, Entries: 2}, func(_ context.Context, f fields) (any, bool, error) {
			return f.user + " of " + f.domain, f.user != "nobody", nil
		})
		get := func(key string, want any, found bool, asked int32) {
			t.Helper()
			v, ok, err := s.get(t.Context(), key)
			if err != nil || ok != found || found && v != want || c.asked.Load() != asked {
				t.Errorf("%s: %v %v %v, asked %d times, want %v and %d", key, v, ok, err, c.asked.Load(), want, asked)
			}
		}
		get("A@b", "a of b", true, 1)
		get("a@B", "a of b", true, 1)
		get("nobody@b", nil, false, 2)
		get("nobody@b", nil, false, 2)
		time.Sleep(11 * time.Second)
		get("nobody@b", nil, false, 3)
		get("a@b", "a of b", true, 3)
		time.Sleep(time.Minute)
		get("a@b", "a of b", true, 4)
		get("c", "c of ", true, 5)
		get("d", "d of ", true, 6) // and a@b, the oldest but one, goes
		get("a@b", "a of b", true, 7)
		get(strings.Repeat("x", maxKey+1), nil, false, 7)
		get("a\x00b", nil, false, 7)
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		s, c := faked(Source{Timeout: time.Second, Positive: time.Minute, Entries: 10, Stale: true}, func(context.Context, fields) (any, bool, error) {
			if down {
				return nil, false, &net.OpError{Op: "dial", Err: errors.New("it is down")}
			}
			return "v", true, nil
		})
		if v, ok, err := s.get(t.Context(), "known"); v != "v" || !ok || err != nil {
			t.Fatal(v, ok, err)
		}
		down = true
		time.Sleep(2 * time.Minute)
		if v, ok, err := s.get(t.Context(), "known"); v != "v" || !ok || err != nil {
			t.Errorf("an old answer: %v %v %v", v, ok, err)
		}
		for range 5 {
			if _, ok, err := s.get(t.Context(), "new"); ok || err == nil || err.Error() != `map "m": dial: it is down` {
				t.Errorf("%v %v", ok, err)
			}
		}
		if n := c.asked.Load(); n != 4 {
			t.Errorf("asked %d times: after three failures in a row it is to be left alone", n)
		}
		down = false
		time.Sleep(leftAlone)
		if v, ok, err := s.get(t.Context(), "new"); v != "v" || !ok || err != nil {
			t.Errorf("when it is back: %v %v %v", v, ok, err)
		}
	})
}

// Who waits does so no longer than the bound, and those beyond the bound not at all at
// the service.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at, most atomic.Int32
		s, _ := faked(Source{Timeout: 5 * time.Second, Concurrency: 3, Entries: 10}, func(ctx context.Context, _ fields) (any, bool, error) {
			if n := at.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer at.Add(-1)
			<-ctx.Done()
			return nil, false, ctx.Err()
		})
		began := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if _, _, err := s.get(t.Context(), fmt.Sprint(i)); err == nil {
					t.Error("an answer")
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 5*time.Second || most.Load() != 3 {
			t.Errorf("it took %v, %d at a time", took, most.Load())
		}
		// A client that goes away says nothing of the service.
		s.failures, s.alone = 0, time.Time{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.get(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || s.failures != 0 {
			t.Errorf("%v, %d failures", err, s.failures)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(1 << 20)
	for i := range 2000 {
		c.keep(answer{key: fmt.Sprint(i), value: strings.Repeat("x", 50<<10)})
	}
	if c.size > maxRemembered || c.order.Len() != len(c.by) || c.order.Len() < 100 {
		t.Errorf("%d bytes in %d answers", c.size, c.order.Len())
	}
	c.keep(answer{key: "large", value: map[string]any{"x": []any{strings.Repeat("x", maxOne)}}})
	if _, ok := c.recall("large"); ok {
		t.Error("a large answer was kept")
	}
}

func TestHTTPMap(t *testing.T) {
	var said atomic.Value
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said.Store(r.RequestURI + " " + r.Header.Get("Authorization"))
		switch key := strings.TrimPrefix(r.URL.Path, "/u/"); key {
		case "json":
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_, _ = io.WriteString(w, `{"quota": 5, "tags": ["a", null], "x": {"y": true}}`)
		case "null":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "null")
		case "broken":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
		case "nobody":
			http.NotFound(w, r)
		case "gone":
			w.WriteHeader(http.StatusGone)
		case "error":
			w.WriteHeader(http.StatusBadGateway)
		case "moved":
			http.Redirect(w, r, "/u/text", http.StatusFound)
		case "large":
			_, _ = io.WriteString(w, strings.Repeat("x", maxValue+1))
		default:
			_, _ = io.WriteString(w, "value\r\n")
		}
	}))
	defer web.Close()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := Source{Name: "web", Type: HTTP, URL: web.URL + "/u/{key}?d={domain}", PasswordFile: secret, Timeout: 5 * time.Second, Concurrency: 2}
	set, failures := Open([]Source{source}, nil, Options{})
	if failures != nil {
		t.Fatal(failures)
	}
	for _, c := range []struct {
		key   string
		value any
		found bool
		wrong string
	}{
		{"text", "value", true, ""},
		{"json", map[string]any{"quota": 5.0, "tags": []any{"a", nil}, "x": map[string]any{"y": true}}, true, ""},
		{"null", nil, false, ""},
		{"nobody", nil, false, ""},
		{"gone", nil, false, ""},
		{"broken", nil, false, "no JSON"},
		{"error", nil, false, "502 Bad Gateway"},
		{"moved", nil, false, "302 Found"},
		{"large", nil, false, "more than 1 MiB"},
	} {
		v, found, err := set.Get(t.Context(), "web", c.key)
		if !reflect.DeepEqual(v, c.value) || found != c.found || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v %v %v", c.key, v, found, err)
		}
	}
	for key, want := range map[string]string{
		"../../admin?x=1&d=2#y@z%2f": "/u/..%2F..%2Fadmin%3Fx=1&d=2%23y@z%252f?d=z%252f Bearer hush",
		"..":                         "/u/%2E%2E?d= Bearer hush",
		"a b\r\nx: y@d&e=f":          "/u/a%20b%0D%0Ax:%20y@d&e=f?d=d%26e%3Df Bearer hush",
	} {
		if _, _, err := set.Get(t.Context(), "web", key); err != nil || said.Load() != want {
			t.Errorf("%q: asked for %v (%v), want %s", key, said.Load(), err, want)
		}
	}
	source.User = "me"
	set, _ = Open([]Source{source}, set, Options{})
	if _, _, err := set.Get(t.Context(), "web", "x"); err != nil || !strings.HasSuffix(said.Load().(string), " Basic bWU6aHVzaA==") {
		t.Errorf("%v %v", said.Load(), err)
	}
	web.Close()
	if failed := set.Reach(t.Context()); failed["web"] == nil || strings.Contains(failed["web"].Error(), "hush") {
		t.Errorf("%v", failed)
	}
}

func TestSQLiteMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d.sqlite")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		`CREATE TABLE users (address TEXT PRIMARY KEY, value TEXT, quota INTEGER, share REAL, data BLOB)`,
		`INSERT INTO users VALUES ('jane@example.net', 'gold', 5, 0.5, x'616263'), ('o''brien@example.net', 'tin', NULL, NULL, NULL), ('null@example.net', NULL, NULL, NULL, NULL)`,
		`CREATE TABLE aliases (name TEXT, domain TEXT, target TEXT)`,
		`INSERT INTO aliases VALUES ('sales', 'example.net', 'a@x'), ('sales', 'example.net', 'b@x')`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	source := func(name, query string) Source {
		return Source{Name: name, Type: SQLite, Path: path, Query: query, Timeout: 5 * time.Second, Concurrency: 2, Entries: 10}
	}
	set, failures := Open([]Source{
		source("value", "SELECT value FROM users WHERE address = {key} -- ':x'"),
		source("row", "SELECT value, quota, share, data FROM users WHERE address = {key}"),
		source("list", "SELECT target FROM aliases WHERE name = {user} AND domain = {domain} ORDER BY target"),
		source("missing", "SELECT value FROM nowhere WHERE address = {key}"),
		source("quoted", "SELECT value FROM users WHERE address = '{key}'"),
		source("constant", "SELECT 1"),
		source("writes", "INSERT INTO users (address) VALUES ({key})"),
		{Name: "none", Type: SQLite, Path: path + "x", Query: "SELECT {key}", Timeout: time.Second},
	}, nil, Options{})
	var said []string
	for _, f := range failures {
		said = append(said, fmt.Sprint(f.Index, " ", f.Key, ": ", strings.SplitN(f.Err.Error(), " (", 2)[0]))
	}
	want := []string{
		"3 query: SQL logic error: no such table: nowhere",
		"4 query: {key} stands within quotes; write it without, it is passed on as a parameter",
		`5 query: no place for the key; write a query such as "SELECT value FROM users WHERE address = {key}"`,
		"7 source: stat " + path + "x: no such file or directory",
	}
	if !reflect.DeepEqual(said, want) {
		t.Errorf("failures:\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	for _, c := range []struct {
		name, key string
		value     any
		found     bool
	}{
		{"value", "Jane@Example.net", "gold", true},
		{"value", "o'brien@example.net", "tin", true},
		{"value", "x' OR '1'='1", nil, false},
		{"value", "null@example.net", nil, false},
		{"row", "jane@example.net", map[string]any{"value": "gold", "quota": 5.0, "share": 0.5, "data": "abc"}, true},
		{"row", "o'brien@example.net", map[string]any{"value": "tin"}, true},
		{"list", "sales@example.net", []any{"a@x", "b@x"}, true},
		{"list", "sales", nil, false},
	} {
		if v, found, err := set.Get(t.Context(), c.name, c.key); !reflect.DeepEqual(v, c.value) || found != c.found || err != nil {
			t.Errorf("%s of %s: %v %v %v", c.key, c.name, v, found, err)
		}
	}
	if _, _, err := set.Get(t.Context(), "writes", "new@example.net"); err == nil {
		t.Error("a map wrote")
	}
	// What was written meanwhile is seen, without a reload.
	if _, err := db.Exec("UPDATE users SET value = 'lead' WHERE address = 'jane@example.net'"); err != nil {
		t.Fatal(err)
	}
	if v, _, err := set.Get(t.Context(), "value", "jane@example.net"); v != "lead" || err != nil {
		t.Errorf("%v %v", v, err)
	}
}

func TestServicesThatAreWrong(t *testing.T) {
	for _, c := range []struct {
		source Source
		want   string
	}{
		{Source{Type: HTTP, URL: "ftp://x/{key}"}, `source: write a URL such as "https://directory.example/users/{key}"`},
		{Source{Type: HTTP, URL: "http://me:hush@x/{key}"}, "source: the name and the password have places of their own; write user and password_file"},
		{Source{Type: HTTP, URL: "http://{domain}/x"}, "source: it is no URL; places for the key stand in the path or behind the question mark"},
		{Source{Type: HTTP, URL: "http://x/"}, "source: no place for the key; write {key} into the path or behind the question mark"},
		{Source{Type: HTTP, URL: "http://x/{key}", PasswordFile: "/nowhere/p"}, "password_file: open /nowhere/p: no such file or directory"},
		{Source{Type: PostgreSQL, URL: "postgres://me:hush@x/mail", Query: "SELECT {key}"}, "source: a password does not stand in the address; write password_file"},
		{Source{Type: PostgreSQL, URL: "postgres://x/mail?password=hush", Query: "SELECT {key}"}, "source: a password does not stand in the address; write password_file"},
		{Source{Type: PostgreSQL, URL: "postgres://x/mail", Query: `SELECT "{key}"`}, "query: {key} stands within quotes; write it without, it is passed on as a parameter"},
		{Source{Type: Redis, URL: "redis://:hush@x"}, "source: a password does not stand in the address; write password_file"},
		{Source{Type: Redis, URL: "redis://x/y"}, "source: redis: invalid database number: \"y\""},
		{Source{Type: Redis, URL: "redis://x", Query: "DEL {key}"}, `query: "DEL" is no command that reads; write one of GET, HGET, HGETALL, SISMEMBER, SMEMBERS, ZSCORE, EXISTS`},
		{Source{Type: Redis, URL: "redis://x", Query: "GET x"}, `query: no place for the key; write a command such as "HGET users {key}"`},
		{Source{Type: LDAP, URL: "ldap://x/dc=y", Query: "(mail={key})"}, `source: it is scheme, host and port alone, such as "ldap://ldap.example:389"; base, query and attributes are keys of their own`},
		{Source{Type: LDAP, URL: "ldap://x", Query: "(mail={key}"}, `query: it is no filter: LDAP Result Code 201 "Filter Compile Error": ldap: unexpected end of filter`},
		{Source{Type: LDAP, URL: "ldap://x", Query: "(mail=x)"}, `query: no place for the key; write a filter such as "(mail={key})"`},
		{Source{Type: LDAP, URL: "ldap://x", Query: "(mail={key})", Base: "x"}, "base: it is no name of an entry: DN ended with incomplete type, value pair"},
		{Source{Type: LDAP, URL: "ldaps://x", Query: "(mail={key})", StartTLS: true}, "starttls: is for ldap:// alone; leave it out"},
	} {
		c.source.Timeout = time.Second
		_, failures := Open([]Source{c.source}, nil, Options{})
		if len(failures) != 1 || failures[0].Key+": "+failures[0].Err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.source, failures, c.want)
		}
	}
}

// A map whose source stays is taken over with what it remembers.
func TestServicesOutliveReloads(t *testing.T) {
	source := Source{Name: "m", Type: HTTP, URL: "http://127.0.0.1:1/{key}", Timeout: time.Second}
	one, _ := Open([]Source{source}, nil, Options{})
	two, _ := Open([]Source{source}, one, Options{})
	if one.maps["m"] != two.maps["m"] {
		t.Error("it was made anew")
	}
	source.Positive = time.Hour
	if three, _ := Open([]Source{source}, two, Options{}); three.maps["m"] == two.maps["m"] {
		t.Error("it kept its old source")
	}
}

// A server that takes the connection and says nothing is given up in time.
func TestSilentServices(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	for _, source := range []Source{
		{Type: HTTP, URL: "http://" + addr + "/{key}"},
		{Type: PostgreSQL, URL: "postgres://" + addr + "/x?sslmode=disable", Query: "SELECT {key}", User: "x"},
		{Type: Redis, URL: "redis://" + addr},
		{Type: LDAP, URL: "ldap://" + addr, Query: "(x={key})"},
	} {
		source.Name, source.Timeout, source.Concurrency = "m", 50*time.Millisecond, 1
		set, failures := Open([]Source{source}, nil, Options{})
		if failures != nil {
			t.Fatal(failures)
		}
		done := make(chan error, 1)
		go func() {
			_, found, err := set.Get(t.Context(), "m", "key")
			if found {
				err = nil
			}
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: an answer", source.Type)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: it is still waited for", source.Type)
		}
	}
}

func TestRecipients(t *testing.T) {
	m := &Memory{}
	m.Put("users", map[string]any{"jane@example.net": "", "Joe+Spam@example.net": "x", "left@example.net": false, "@all.example": true})
	for _, c := range []struct {
		address, separator string
		want               bool
	}{
		{"jane@example.net", "", true},
		{"JANE@example.net", "", true},
		{"jane+x@example.net", "", false},
		{"jane+x@example.net", "+", true},
		{"jane-x@example.net", "+", false},
		{"joe+spam@example.net", "+", true},
		{"joe+other@example.net", "+", false},
		{"+x@example.net", "+", false},
		{"left@example.net", "", false},
		{"anyone@all.example", "", true},
		{"anyone@sub.all.example", "", false},
	} {
		a, err := message.ParseAddress(c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Recipient(t.Context(), m, "users", a, c.separator); got != c.want || err != nil {
			t.Errorf("%s: %v %v", c.address, got, err)
		}
	}
	if _, err := Recipient(t.Context(), m, "nothing", message.Address{Local: "a", Domain: "b"}, ""); !errors.Is(err, ErrNoMap) {
		t.Error(err)
	}
}

// A key never ends a quoted text or a parameter, whatever is in it.
func FuzzTemplates(f *testing.F) {
	for _, s := range []string{"SELECT {key} FROM x WHERE a='{user}'", "(mail={key})", "{key{user}{domain}}", `"'{key}'"`, "{}{key"} {
		f.Add(s, "a@b")
	}
	f.Fuzz(func(t *testing.T, text, key string) {
		tmpl := parseTemplate(text)
		f := fieldsOf(key)
		if f.user != key && f.user+"@"+f.domain != key {
			t.Fatalf("%q: %+v", key, f)
		}
		if got := tmpl.fill(fields{"{key}", "{user}", "{domain}"}, func(s string) string { return s }); got != text {
			t.Fatalf("%q became %q", text, got)
		}
		statement, params, err := tmpl.bound(func(int) string { return "?" })
		if err == nil && (len(params) != tmpl.places() || strings.Count(statement, "?") != strings.Count(text, "?")+len(params)) {
			t.Fatalf("%q: %q with %v", text, statement, params)
		}
		if path := pathEscape(key); strings.ContainsAny(path, "/?#\r\n ") || path == ".." {
			t.Fatalf("%q: %q", key, path)
		}
	})
}
