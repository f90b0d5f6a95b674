package quarantine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const id = "0V7pYxTq3kLmAbC"

func testKey(t *testing.T) *Key {
	t.Helper()
	k, err := LoadKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	about, err := os.Stat(path)
	if err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", about, err)
	}
	again, err := LoadKey(path)
	if err != nil || string(again.secret) != string(k.secret) || len(k.secret) != 64 {
		t.Errorf("%v, %v", again, err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("beside the key there are %v, %v", names, err)
	}
	if err := keep(path, "another\n"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key that is there is replaced: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil {
		t.Error("a key that all can read is taken")
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(short); err == nil {
		t.Error("a short key is taken")
	}
}

func TestLink(t *testing.T) {
	k := testKey(t)
	c := Claim{ID: id, Recipient: "ann+x@example.net", Until: now.Add(time.Hour)}
	link := k.Link("https://mx.example.net/q/", c)
	u, err := url.Parse(link)
	if err != nil || !strings.HasPrefix(link, "https://mx.example.net/q/?") {
		t.Fatal(link, err)
	}
	got, err := k.Check(u.Query(), now)
	if err != nil || got.ID != c.ID || got.Recipient != c.Recipient || !got.Until.Equal(c.Until) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := k.Check(u.Query(), now.Add(time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
	if _, err := testKey(t).Check(u.Query(), now); !errors.Is(err, ErrForged) {
		t.Errorf("another key: %v", err)
	}
	for name, value := range map[string]string{"m": "0V7pYxTq3kLmAbD", "r": "bob@example.net", "e": "99999999999", "s": "AAAA"} {
		q := u.Query()
		q.Set(name, value)
		if _, err := k.Check(q, now); !errors.Is(err, ErrForged) {
			t.Errorf("another %s: %v", name, err)
		}
		q.Del(name)
		if _, err := k.Check(q, now); !errors.Is(err, ErrForged) {
			t.Errorf("no %s: %v", name, err)
		}
		q = u.Query()
		q.Add(name, value)
		if _, err := k.Check(q, now); !errors.Is(err, ErrForged) {
			t.Errorf("two %s: %v", name, err)
		}
	}
}

func TestDigest(t *testing.T) {
	d := Digest{
		From: message.Address{Local: "postmaster", Domain: "mx.example.net"}, To: message.Address{Local: "ann", Domain: "example.net"},
		Hostname: "mx.example.net", Now: now, Keep: 30 * 24 * time.Hour, Valid: 7 * 24 * time.Hour, More: 2,
		Entries: []Entry{{ID: id, From: "Bank <x@evil.example>", Subject: "Ünpaid\r\nBcc: x \u202e https://evil.example/", Reason: "score: 9 points", Arrived: now, Size: 2000, Link: "https://mx.example.net/?m=" + strings.Repeat("x", 200)}},
	}
	text := string(d.Message())
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	if !strings.Contains(head, "Subject: 3 messages are kept from you\r\n") || !strings.Contains(head, "Auto-Submitted: auto-generated\r\n") {
		t.Errorf("%q", head)
	}
	plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Subject: Ünpaid  Bcc: x  https: //evil.example/\r\n", "for 30 days", "Release: " + d.Entries[0].Link + "\r\n", "And 2 more", "works for 7 days", "2 KB"} {
		if !strings.Contains(string(plain), want) {
			t.Errorf("it lacks %q: %s", want, plain)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 200 || !strings.HasSuffix(line, "\r\n") && line != body[strings.LastIndex(body, "\n")+1:] {
			t.Errorf("line %q", line)
		}
	}
	d.Entries[0].Link, d.More = "", 0
	if text := d.text(); d.subject() != "A message is kept from you" || strings.Contains(text, "Release:") || !strings.Contains(text, "Ask your postmaster") {
		t.Errorf("%s", text)
	}
}

// A look releases nothing; the button does, once.
func TestPage(t *testing.T) {
	k, released := testKey(t), 0
	p := &Page{
		Key: k, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Find: func(_ context.Context, c Claim) (Entry, error) {
			if released > 0 {
				return Entry{}, ErrGone
			}
			return Entry{From: "<script>alert(1)</script>", Subject: "for " + c.Recipient, Reason: "score"}, nil
		},
		Release: func(_ context.Context, c Claim) error {
			if c.Recipient == "broken@example.net" {
				return errors.New("the disk is gone")
			}
			if released++; released > 1 {
				return ErrGone
			}
			return nil
		},
	}
	ask := func(method, query, form string) (int, string) {
		r := httptest.NewRequest(method, "/?"+query, strings.NewReader(form))
		if form != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers %v", w.Header())
		}
		return w.Code, w.Body.String()
	}
	good := k.values(Claim{ID: id, Recipient: "ann@example.net", Until: now.Add(time.Hour)}).Encode()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet} {
		status, text := ask(method, good, "")
		if status != http.StatusOK || strings.Contains(text, "<script>") || !strings.Contains(text, "for ann@example.net") || !strings.Contains(text, `<form method="post">`) {
			t.Errorf("%s: %d %s", method, status, text)
		}
	}
	for _, c := range []struct {
		method, query, form string
		want                int
	}{
		{"GET", "", "", 403},
		{"GET", good + "&m=other", "", 403},
		{"POST", good, "", 403}, // the values come with the form alone
		{"POST", "", "m=x", 403},
		{"POST", "", strings.Repeat("x", maxForm+1), 400},
		{"PUT", good, good, 405},
		{"DELETE", good, "", 405},
		{"POST", "", k.values(Claim{ID: id, Recipient: "ann@example.net", Until: now}).Encode(), 410},
		{"POST", "", k.values(Claim{ID: id, Recipient: "broken@example.net", Until: now.Add(time.Hour)}).Encode(), 500},
	} {
		if status, text := ask(c.method, c.query, c.form); status != c.want {
			t.Errorf("%+v: %d %s", c, status, text)
		}
	}
	if released != 0 {
		t.Fatalf("released %d times", released)
	}
	if status, text := ask("POST", "", good); status != 200 || released != 1 || !strings.Contains(text, "on its way") {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := ask("POST", "", good); status != 410 {
		t.Errorf("a second time: %d", status)
	}
	if status, _ := ask("GET", good, ""); status != 410 {
		t.Errorf("afterwards: %d", status)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("m=0V7pYxTq3kLmAbC&r=a%40b.example&e=1&s=AAAA")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		k := &Key{[]byte("0123456789abcdef0123456789abcdef")}
		if c, err := k.Check(q, now); err == nil {
			t.Errorf("%+v out of %q", c, query)
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("a\u202eb\r\nhttp://x")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Clean(s); strings.ContainsAny(got, "\r\n\x00\u202e") || strings.Contains(got, "://") || len([]rune(got)) > 2*maxShown {
			t.Errorf("%q", got)
		}
	})
}
