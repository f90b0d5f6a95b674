package gate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// v2 makes a header of version 2.
func v2(command, family byte, addresses string) string {
	var n [2]byte
	binary.BigEndian.PutUint16(n[:], uint16(len(addresses)))
	return string(proxyV2) + string([]byte{command, family}) + string(n[:]) + addresses
}

const (
	ends4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x30\x39\x00\x19"
	ends6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x30\x39\x00\x19"
)

// TestProxyHeader: the PROXY protocol, sections 2.1 and 2.2, and what is none.
func TestProxyHeader(t *testing.T) {
	const good4, good6 = "192.0.2.7:12345 198.51.100.1:25", "[2001:db8::1]:12345 [2001:db8::2]:25"
	for name, tc := range map[string]struct{ header, want string }{
		"TCP4":                     {"PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\n", good4},
		"TCP6":                     {"PROXY TCP6 2001:db8::1 2001:db8::2 12345 25\r\n", good6},
		"TCP6, mapped":             {"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 12345 25\r\n", good4},
		"UNKNOWN":                  {"PROXY UNKNOWN\r\n", "own"},
		"UNKNOWN with more":        {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "own"},
		"v2 TCP4":                  {v2(0x21, 0x11, ends4), good4},
		"v2 TCP6":                  {v2(0x21, 0x21, ends6), good6},
		"v2 TCP4 with TLVs":        {v2(0x21, 0x11, ends4+"\x03\x00\x04abcd"+strings.Repeat("\x04\x00\x01x", 500)), good4},
		"v2 LOCAL":                 {v2(0x20, 0x00, ""), "own"},
		"v2 LOCAL with an address": {v2(0x20, 0x11, ends4), "own"},
		"v2 unspecified":           {v2(0x21, 0x00, ""), "own"},
		"v2 unix":                  {v2(0x21, 0x31, strings.Repeat("\x00", 216)), "own"},

		"a lie about the family": {"PROXY TCP4 2001:db8::1 2001:db8::2 12345 25\r\n", ""},
		"another lie":            {"PROXY TCP6 192.0.2.7 198.51.100.1 12345 25\r\n", ""},
		"a zone":                 {"PROXY TCP6 fe80::1%lo fe80::2 12345 25\r\n", ""},
		"no ports":               {"PROXY TCP4 192.0.2.7 198.51.100.1\r\n", ""},
		"a large port":           {"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n", ""},
		"a signed port":          {"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n", ""},
		"no address":             {"PROXY TCP4 a.example 198.51.100.1 1 25\r\n", ""},
		"two blanks":             {"PROXY TCP4  192.0.2.7 198.51.100.1 1 25\r\n", ""},
		"UDP":                    {"PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n", ""},
		"small letters":          {"proxy TCP4 192.0.2.7 198.51.100.1 1 25\r\n", ""},
		"bare LF":                {"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n" + strings.Repeat("x", 200), ""},
		"a line of 108 octets":   {"PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", ""},
		"no end":                 {"PROXY UNKNOWN " + strings.Repeat("x", 1000), ""},
		"EHLO":                   {"EHLO client.example.org\r\n", ""},
		"v2 of version 1":        {v2(0x11, 0x11, ends4), ""},
		"v2 unknown command":     {v2(0x22, 0x11, ends4), ""},
		"v2 UDP":                 {v2(0x21, 0x12, ends4), ""},
		"v2 cut addresses":       {v2(0x21, 0x11, ends4[:11]), ""},
		"v2 IPv6 in IPv4's room": {v2(0x21, 0x21, ends4), ""},
		"v2 too long":            {v2(0x21, 0x11, ends4+strings.Repeat("x", maxProxyV2)), ""},
		"v2 shorter than told":   {v2(0x21, 0x11, ends4)[:20], ""},
		"nothing":                {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			const next = "EHLO x\r\n"
			r := strings.NewReader(tc.header + next)
			if tc.want == "" {
				r = strings.NewReader(tc.header)
			}
			p, err := parseProxy(iotest.OneByteReader(r))
			got := "own"
			switch {
			case err != nil:
				got = ""
			case p.client.IsValid():
				got = p.client.String() + " " + p.local.String()
			}
			if got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
			if rest, _ := io.ReadAll(r); err == nil && string(rest) != next {
				t.Errorf("left %q", rest)
			}
		})
	}
}

// TestProxyTakesItsTime: the header must be there within a bounded time, however
// slowly it drips, and the end of the server is not kept waiting.
func TestProxyTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		start := time.Now()
		go func(near net.Conn) {
			for _, b := range []byte("PROXY UNKNOWN " + strings.Repeat("x", 80)) {
				if _, err := near.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}(near)
		if _, err := readProxy(t.Context(), far); !errors.Is(err, errProxy) || time.Since(start) != proxyTimeout {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		_ = far.Close()

		near, far = net.Pipe()
		defer near.Close()
		ctx, cancel := context.WithCancel(t.Context())
		start = time.Now()
		time.AfterFunc(time.Second, cancel)
		if _, err := readProxy(ctx, far); err == nil || time.Since(start) != time.Second {
			t.Errorf("at the server's end: %v after %s", err, time.Since(start))
		}
		_ = far.Close()
	})
}

func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\nEHLO x\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2(0x21, 0x21, ends6+"\x03\x00\x04abcd")))
	f.Add([]byte(v2(0x20, 0x00, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		p, err := parseProxy(r)
		if used := len(b) - r.Len(); used > 16+maxProxyV2 {
			t.Fatalf("%d octets read", used)
		}
		if err == nil && p.client.IsValid() != p.local.IsValid() {
			t.Fatalf("half an answer: %+v", p)
		}
	})
}

func BenchmarkProxyV1(b *testing.B) {
	r := strings.NewReader("")
	for b.Loop() {
		r.Reset("PROXY TCP6 2001:db8:aaaa:bbbb:cccc:dddd:eeee:1111 2001:db8:aaaa:bbbb:cccc:dddd:eeee:2222 12345 25\r\n")
		if _, err := parseProxy(r); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBehindAProxy: everything is about the client that the header names: its
// rules, its limits, its rights; the proxy's own rights are not its client's.
func TestBehindAProxy(t *testing.T) {
	loop := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	l := &Listener{
		Name: "mx", Protocol: "smtp", ProxyFrom: loop, XclientFrom: loop, RelayFrom: append(loop, netip.MustParsePrefix("198.51.100.0/24")),
		Rules: rules(t, "203.0.113.:deny\n:allow\n"),
	}
	w := open(t, Limits{Connections: 10, PerClient: 1}, l, nil)
	from := func(ip string) string {
		_, greeting := w.say(t, "PROXY TCP4 "+ip+" 192.0.2.25 4711 2525\r\n")
		return greeting
	}
	if got := from("192.0.2.7"); got != "220 served" {
		t.Fatal(got)
	}
	c := <-w.met
	if s := c.Session; s.Client.String() != "192.0.2.7:4711" || s.Local.String() != "192.0.2.25:2525" || s.Relaying || c.MayXclient() {
		t.Errorf("session %+v, XCLIENT %v", s, c.MayXclient())
	}
	if got := from("192.0.2.7"); !strings.HasPrefix(got, "421 4.7.0 mx.example.net too many connections from you") {
		t.Errorf("the client's second connection of one: %q", got)
	}
	if got := from("192.0.2.8"); got != "220 served" {
		t.Errorf("another client of the proxy: %q", got)
	}
	<-w.met
	if got := from("203.0.113.5"); !strings.HasPrefix(got, "554 5.7.1") {
		t.Errorf("a client that the rules deny: %q", got)
	}
	if got := from("198.51.100.5"); got != "220 served" || !(<-w.met).Session.Relaying {
		t.Errorf("a client that relays: %q", got)
	}
	_, got := w.say(t, v2(0x20, 0x00, ""))
	if c := <-w.met; got != "220 served" || c.Session.Client.Addr().String() != "127.0.0.1" || !c.Session.Relaying || !c.MayXclient() {
		t.Errorf("the proxy itself: %q, %+v", got, c.Session)
	}
	if _, got := w.say(t, "EHLO direct.example\r\n"); got != "421 4.7.0 mx.example.net no proper PROXY header came" {
		t.Errorf("without a header: %q", got)
	}
}

// TestProxyCountsReturn: what a connection was counted as is given back.
func TestProxyCountsReturn(t *testing.T) {
	g := New(Options{Limits: Limits{Connections: 2, PerClient: 1}})
	proxy, client := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7")
	key, err := g.enter(proxy, true)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = g.move(key, client, false); err != nil || g.byClient[clientKey(proxy)] != 0 || g.byClient[key] != 1 {
		t.Fatalf("%v, %v", err, g.byClient)
	}
	other, err := g.enter(proxy, true)
	if err != nil {
		t.Fatal(err)
	}
	if still, err := g.move(other, client, false); !errors.Is(err, errClient) || still != other {
		t.Errorf("over the limit: %v, %v", still, err)
	}
	g.leave(other)
	g.leave(key)
	if g.total != 0 || len(g.byClient) != 0 {
		t.Errorf("left: %d, %v", g.total, g.byClient)
	}
}
