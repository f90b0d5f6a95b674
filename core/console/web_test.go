package console

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

func get(t *testing.T, s *Server, method, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Web().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(b)
}

func TestPage(t *testing.T) {
	g := newRig(t)
	g.put(t, "0MESSAGE1", `"<script>alert(1)</script>"@a.example`, rcpt("b@b.example", 1, evil))
	tx := hooks.NewTransaction(&hooks.Session{ID: "0SESSION1"}, "0MESSAGE2")
	tx.Sender = message.Address{Local: evil, Domain: "x.example"}
	g.r.Verdict(tx, record.Rejected, message.NewReply(554, "5.7.1", "%s", evil), "")
	resp, page := get(t, g.s, "GET", "/")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	for _, want := range []string{"Postern 1.2.3", "greylist", "b.example", "0MESSAGE2", "rejected", "127.0.0.1:2525", "&lt;script&gt;", `\x1b]0;owned`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<script") || strings.ContainsAny(page, "\x1b\a\u202e") || strings.Contains(page, "src=") || strings.Contains(page, "http:") {
		t.Errorf("the page is not clean:\n%s", page)
	}
	_, rest, _ := strings.Cut(page, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, base64.StdEncoding.EncodeToString(sum[:])) {
		t.Errorf("policy %q does not fit the style", csp)
	}
}

func TestWebBorders(t *testing.T) {
	g := newRig(t)
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/", 200, ""},
		{"GET", "/readyz", 200, "ok\n"},
		{"GET", "/metrics", 200, "postern_connections 0"},
		{"POST", "/", 405, "read"},
		{"DELETE", "/healthz", 405, "read"},
		{"GET", "/status", 404, ""},
		{"POST", "/queue/act/delete", 405, ""},
		{"GET", "/../etc/passwd", 307, ""},
	} {
		resp, text := get(t, g.s, c.method, c.path)
		if resp.StatusCode != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s %s: %s %q", c.method, c.path, resp.Status, text)
		}
		if resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s %s has no policy", c.method, c.path)
		}
	}
	g.ready = errors.New("draining")
	if resp, text := get(t, g.s, "GET", "/readyz"); resp.StatusCode != 503 || text != "draining\n" {
		t.Errorf("%s %q", resp.Status, text)
	}
}

func TestServeWeb(t *testing.T) {
	g := newRig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.s.ServeWeb(ctx, ln) }()
	for host, want := range map[string]int{"": 200, "localhost": 200, "[::1]:80": 200, "attacker.example": 421} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+ln.Addr().String()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("host %q: %s, want %d", host, resp.Status, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
