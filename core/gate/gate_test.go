package gate

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// world is a gate on a loopback port whose engine greets and waits for a line.
type world struct {
	gate *Gate
	addr string
	met  chan *Conn
}

func open(t *testing.T, limits Limits, l *Listener, r dns.Resolver) *world {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, ln, limits, l, r)
}

func openOn(t *testing.T, ln net.Listener, limits Limits, l *Listener, r dns.Resolver) *world {
	t.Helper()
	rec, err := record.Open(t.TempDir(), record.Options{})
	if err != nil {
		t.Fatal(err)
	}
	chain := hooks.NewChain(nil, hooks.Options{})
	w := &world{addr: ln.Addr().String(), met: make(chan *Conn, 16)}
	w.gate = New(Options{Hostname: "mx.example.net", Limits: limits, Chain: func() *hooks.Chain { chain.Acquire(); return chain }, DNS: r, Record: rec})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := w.gate.Serve(ctx, ln, func() *Listener { return l }, w.serve); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait(); _ = rec.Close() })
	return w
}

func (w *world) serve(ctx context.Context, c *Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	_, _ = c.Write([]byte("220 served\r\n"))
	w.met <- c
	_, _ = bufio.NewReader(c).ReadString('\n')
}

func (w *world) dial(t *testing.T) (net.Conn, string) {
	t.Helper()
	return w.say(t, "")
}

// say connects, sends, and reads the first line.
func (w *world) say(t *testing.T, text string) (net.Conn, string) {
	t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return c, strings.TrimSpace(line)
}

func rules(t *testing.T, text string) *Rules {
	t.Helper()
	r, errs := ParseRules(strings.NewReader(text))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return r
}

func TestLimitPerClient(t *testing.T) {
	w := open(t, Limits{Connections: 10, PerClient: 2}, &Listener{Name: "mx", Protocol: "smtp"}, nil)
	first, greeting := w.dial(t)
	if greeting != "220 served" {
		t.Fatal(greeting)
	}
	w.dial(t)
	if _, greeting := w.dial(t); !strings.HasPrefix(greeting, "421 4.7.0 mx.example.net too many connections from you") {
		t.Errorf("the third connection of two: %q", greeting)
	}
	<-w.met
	<-w.met
	_, _ = first.Write([]byte("QUIT\r\n"))
	_, _ = first.Read(make([]byte, 1)) // until it is closed: its place is free
	for range 100 {
		if w.gate.Connections() < 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, greeting := w.dial(t); greeting != "220 served" {
		t.Errorf("a freed place: %q", greeting)
	}
}

func TestLimitInAll(t *testing.T) {
	everywhere := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	w := open(t, Limits{Connections: 2, PerClient: 1}, &Listener{Name: "mx", RelayFrom: everywhere}, nil)
	w.dial(t)
	if _, greeting := w.dial(t); greeting != "220 served" {
		t.Errorf("a relaying client has no limit of its own: %q", greeting)
	}
	if _, greeting := w.dial(t); !strings.HasPrefix(greeting, "421 4.7.0 mx.example.net too many connections,") {
		t.Errorf("the third of two: %q", greeting)
	}
}

func TestRulesAtTheDoor(t *testing.T) {
	w := open(t, Limits{Connections: 10, PerClient: 10}, &Listener{Name: "mx", Rules: rules(t, "127.:deny\n")}, nil)
	if _, greeting := w.dial(t); !strings.HasPrefix(greeting, "554 5.7.1 ") {
		t.Errorf("a denied client: %q", greeting)
	}
	w = open(t, Limits{Connections: 10, PerClient: 10}, &Listener{Name: "mx", Rules: rules(t, "=localhost:allow,RELAYCLIENT=\"\",A=\"b\"\n:deny\n")}, nil)
	w.dial(t)
	c := <-w.met
	if !c.Session.Relaying || c.Session.Env["A"] != "b" || c.Session.Listener != "mx" {
		t.Errorf("session %+v", c.Session)
	}
}

func TestXclientStartsAnew(t *testing.T) {
	zone := &dns.Zone{A: map[string][]string{"mail.example.org": {"198.51.100.7"}}, PTR: map[string][]string{"198.51.100.7": {"mail.example.org"}}}
	loop := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	l := &Listener{Name: "mx", Protocol: "smtp", XclientFrom: loop, RelayFrom: loop, Rules: rules(t, "192.0.2.:deny\n:allow\n")}
	w := open(t, Limits{Connections: 10, PerClient: 10}, l, zone)
	w.dial(t)
	c := <-w.met
	if !c.MayXclient() || !c.Session.Relaying {
		t.Fatalf("session %+v", c.Session)
	}
	c.Session.Notes = map[string]any{"a": "b"}
	if err := c.Xclient(t.Context(), Xclient{Addr: netip.MustParseAddr("198.51.100.7")}); err != nil {
		t.Fatal(err)
	}
	if s := c.Session; s.Relaying || s.Notes != nil || s.Client.Addr().String() != "198.51.100.7" || s.Host(t.Context()) != "mail.example.org" {
		t.Errorf("session %+v, host %q", s, s.Host(t.Context()))
	}
	if !c.MayXclient() {
		t.Error("the peer that really connected is the one that may")
	}
	name := "given.example"
	if err := c.Xclient(t.Context(), Xclient{Addr: netip.MustParseAddr("192.0.2.9"), Name: &name}); err == nil {
		t.Error("the rules deny the new address")
	}
	if c.Session.Host(t.Context()) != name {
		t.Errorf("host %q", c.Session.Host(t.Context()))
	}
}

func TestCertificates(t *testing.T) {
	c, err := NewCertificates("mx.example.net", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	var done sync.WaitGroup
	done.Go(func() { _ = tls.Server(server, c.Config()).Handshake(); _ = server.Close() })
	conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: "mx.example.net"})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := conn.ConnectionState().PeerCertificates[0].VerifyHostname("mx.example.net"); err != nil {
		t.Error(err)
	}
	_ = client.Close()
	done.Wait()
	if err := c.Load([]string{"/nowhere/cert.pem"}, []string{"/nowhere/key.pem"}); err == nil || !strings.Contains(err.Error(), "/nowhere/cert.pem") {
		t.Errorf("a missing file: %v", err)
	}
	if c.loaded.Load() == nil {
		t.Error("a failed load must leave what was there")
	}
}

func TestClientKey(t *testing.T) {
	for ip, want := range map[string]string{"192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64"} {
		if got := clientKey(netip.MustParseAddr(ip)).String(); got != want {
			t.Errorf("%s: %s, want %s", ip, got, want)
		}
	}
}
