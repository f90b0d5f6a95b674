package lua

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/hooks"
)

// handle runs a handler of stage rcpt whose script may use eq and fails.
func handle(t *testing.T, o Options, statements string) error {
	t.Helper()
	p := load(t, o, fmt.Sprintf("%slocal p = policy {}\nfunction p.rcpt(tx, rcpt)\n%s\nend\nreturn p\n", checkFunctions, statements), nil)
	_, err := p.Handle(t.Context(), hooks.Rcpt, at1(testTransaction()))
	return err
}

// slowZone answers after five seconds.
type slowZone struct {
	*dns.Zone
	asked, most atomic.Int32
}

func (z *slowZone) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	z.most.Store(max(z.most.Load(), z.asked.Add(1)))
	defer z.asked.Add(-1)
	select {
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return z.Zone.LookupA(ctx, name)
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		zone := &slowZone{Zone: o.Library.DNS.(*dns.Zone)}
		o.Library.DNS = zone
		began := time.Now()
		if err := handle(t, o, `
local list = {}
for i = 1, 32 do list[i] = { dns.a, "mx.example.org" } end
list[3] = { dns.a, "nothing.example" }
list[5] = { store.incr, "count", 5 }
list[7] = { store.get, "nothing" }
local values, errs = parallel(list)
eq(tostring(values[1][1]), "192.0.2.1") eq(tostring(values[32][1]), "192.0.2.1")
eq(values[3], nil) eq(errs[3].kind, "none") eq(errs[1], nil) eq(values[5], 5) eq(values[7], nil) eq(errs[7].kind, "none")
eq(next((parallel {})), nil)
fails("item 1 must be a table such as", parallel, { "x" })
fails("item 1 must begin with a look%-up", parallel, { { print, "x" } })
fails("a name is expected, not an ip", parallel, { { dns.a, "x" }, { dns.a, tx.conn.ip } })
local many = {} for i = 1, 65 do many[i] = { dns.a, "x" } end
fails("at most 64", parallel, many)
`); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 10*time.Second || zone.most.Load() != 16 {
			t.Errorf("30 look-ups of 5 s took %s, %d at a time", took, zone.most.Load())
		}
	})
}

// A resolver that panics fails the call, not the process.
func TestParallelPanics(t *testing.T) {
	o, _ := testOptions(t)
	o.Library.DNS = brokenZone{}
	entry := hooks.Entry{Name: "x", Handler: load(t, o, "local p = policy {}\nfunction p.rcpt() parallel { { dns.a, 'x' }, { dns.a, 'y' } } end\nreturn p", nil)}
	chain := hooks.NewChain([]hooks.Entry{entry}, hooks.Options{})
	if d := chain.Run(t.Context(), hooks.Rcpt, at1(testTransaction())); d.Verb != hooks.Defer {
		t.Errorf("got %+v", d)
	}
}

type brokenZone struct{ *dns.Zone }

func (brokenZone) LookupA(context.Context, string) ([]netip.Addr, error) { panic("broken") }

func webOptions(t *testing.T) Options {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.Method+" "+r.Host+" "+r.Header.Get("X-Key")+" "+r.Header.Get("User-Agent"))
	})
	mux.Handle("/here", http.RedirectHandler("/ok", http.StatusFound))
	mux.Handle("/circle", http.RedirectHandler("/circle", http.StatusFound))
	mux.Handle("/other", http.RedirectHandler("https://web.example.net/ok", http.StatusFound))
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		for range 200 { // 200 MiB
			if _, err := z.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
		_ = z.Close()
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 300<<10)) })
	plain, secure := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	o, _ := testOptions(t)
	o.Library.Roots = x509.NewCertPool()
	o.Library.Roots.AddCert(secure.Certificate())
	o.Library.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		to := plain
		if strings.HasSuffix(address, ":443") {
			to = secure
		}
		return (&net.Dialer{}).DialContext(ctx, network, to.Listener.Addr().String())
	}
	return o
}

func TestHTTP(t *testing.T) {
	if err := handle(t, webOptions(t), `
local r, err = http.get("http://web.example.net/ok", { headers = { ["X-Key"] = 5 } })
eq(r.status, 418) eq(r.body, "GET web.example.net 5 Postern") eq(r.headers["content-type"], "text/plain; charset=utf-8")
eq(http.post("http://web.example.net/ok", "x", { headers = { Host = "other.example" } }).body, "POST other.example  Postern")
eq(http.get("http://web.example.net/here").status, 418)
local function bad(kind, text, url, opts)
  local r, err = http.get(url, opts)
  eq(r, nil, url) eq(err.kind, kind, url .. err.text)
  if not err.text:find(text, 1, true) then error(err.text, 2) end
end
bad("bad", "too many redirects", "http://web.example.net/circle")
bad("bad", "another scheme", "http://web.example.net/other")
bad("bad", "longer than 262144", "http://web.example.net/long")
eq(#http.get("http://web.example.net/long", { max = 4e5 }).body, 300 * 1024)
bad("bad", "longer than", "http://web.example.net/bomb")
bad("bad", "is no URL", "file:///etc/passwd")
bad("bad", "is no URL", "http:///x")
bad("bad", "is no URL", "http://a b/")
bad("bad", "can't stand in a header", "http://web.example.net/ok", { headers = { ["X-Key"] = "a\r\nB: c" } })
eq(http.get("https://example.com/ok").status, 418)
bad("bad", "certificate", "https://web.example.net/ok")
fails('no option "wiat"; did you mean "wait"', http.get, "http://web.example.net/ok", { wiat = 1 })
fails("wait: ", http.get, "http://web.example.net/ok", { wait = "soon" })
fails("headers: X must be a text", http.get, "http://web.example.net/ok", { headers = { X = {} } })
fails("string expected", http.get, {})
fails("the body is a text", http.post, "http://web.example.net/ok")
local values = parallel { { http.get, "http://web.example.net/ok" }, { http.post, "http://web.example.net/ok", "x" } }
eq(values[1].status, 418) eq(values[2].status, 418)
`); err != nil {
		t.Error(err)
	}
}

// silentDial gives connections that nobody answers on.
func silentDial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		t.Cleanup(func() { _ = b.Close() })
		go func() { _, _ = io.Copy(io.Discard, b) }()
		return a, nil
	}
}

func TestHTTPWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		o.Library.Dial = silentDial(t)
		began := time.Now()
		if err := handle(t, o, `local r, err = http.get("http://x.example/", { wait = "3s" }) eq(r, nil) eq(err.kind, "temporary") eq(err.text, "no answer within 3s")`); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestTCP(t *testing.T) {
	gone := make(chan struct{}, 20)
	address := serveLines(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 hello\r\n")
		_, _ = io.Copy(c, c)
		gone <- struct{}{}
	})
	long := serveLines(t, func(c net.Conn) { _, _ = c.Write(make([]byte, 100<<10)) })
	o, _ := testOptions(t)
	o.Library.Dial = func(ctx context.Context, network, at string) (net.Conn, error) {
		to := address
		if at == "long.example:1" {
			to = long
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	if err := handle(t, o, `
local c = tcp.connect("echo.example:25")
eq(tostring(c), "a connection") eq(c:line(), "220 hello") eq(c:write("one\ntwo\r\nabc"), true)
eq(c:line(), "one") eq(c:line(), "two") eq(c:read(3), "abc")
c:close() c:close()
local line, err = c:line() eq(line, nil) eq(err.kind, "bad")
local line, err = tcp.connect("long.example:1"):line() eq(line, nil) eq(err.text, "a line of more than 64 KiB")
for _, address in ipairs { "echo.example", "echo.example:0", "echo.example:70000", ":25", "" } do
  local c, err = tcp.connect(address) eq(c, nil) eq(err.kind, "bad", address)
end
fails('no option "tsl"; did you mean "tls"', tcp.connect, "echo.example:25", { tsl = true })
fails("tls is true or false", tcp.connect, "echo.example:25", { tls = "yes" })
fails('a connection has no member "lines"; did you mean "line"', function() return c.lines end)
fails("1048576 bytes", c.read, c, 2e9)
fails("with a colon", c.line, tx)
for i = 1, 8 do assert(tcp.connect("echo.example:25")) end
tx.notes.reached = true
`); err != nil {
		t.Error(err)
	}
	for range 9 { // all are closed when the call is over
		<-gone
	}
	if err := handle(t, o, `for i = 1, 9 do tcp.connect("echo.example:25") end`); err == nil || !strings.Contains(err.Error(), "more than 8 connections") {
		t.Errorf("got %v", err)
	}
	for range 8 {
		<-gone
	}
}

func TestTCPWithTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	t.Cleanup(server.Close)
	certificate := server.TLS.Certificates[0]
	address := serveLines(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}})
		_, _ = io.WriteString(s, "hello\n")
		_, _ = io.Copy(io.Discard, s)
	})
	o, _ := testOptions(t)
	o.Library.Roots = x509.NewCertPool()
	o.Library.Roots.AddCert(server.Certificate())
	o.Library.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	if err := handle(t, o, `
eq(tcp.connect("example.com:6000", { tls = true }):line(), "hello")
eq(tcp.connect("10.0.0.1:6000", { tls = true, name = "example.com" }):line(), "hello")
local c, err = tcp.connect("other.example:6000", { tls = true }) eq(c, nil) eq(err.kind, "bad")
`); err != nil {
		t.Error(err)
	}
}

func TestTCPWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		o.Library.Dial = silentDial(t)
		began := time.Now()
		if err := handle(t, o, `
local c = tcp.connect("x.example:1", { wait = "2s" })
local line, err = c:line() eq(line, nil) eq(err.kind, "temporary") eq(err.text, "no answer within 2s")
local line, err = c:line() eq(err.kind, "bad")`); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
