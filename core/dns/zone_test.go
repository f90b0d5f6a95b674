package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// serving starts a server for z and returns a Client that asks it.
func serving(t *testing.T, z *Zone) *Client {
	t.Helper()
	s, err := z.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	c, err := New(Options{Servers: []string{s.Addr().String()}, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		cancel()
		running.Wait()
	})
	return c
}

func numbered(n int, format string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

func sample() *Zone {
	chain := map[string]string{"alias.example": "host.example", "loop.example": "loop2.example", "loop2.example": "loop.example", "hanging.example": "gone.example", "noaddr.example": "text.example"}
	for i := range 12 {
		chain[fmt.Sprintf("c%d.example", i)] = cmp.Or(map[int]string{11: "host.example"}[i], fmt.Sprintf("c%d.example", i+1))
	}
	return &Zone{
		A: map[string][]string{
			"Host.Example.": {"192.0.2.1", "2001:db8::1"}, "v4.example": {"192.0.2.4"},
			"*.wild.example": {"192.0.2.7"}, "deep.there.wild.example": {"192.0.2.8"},
			"many.example": numbered(80, "192.0.2.%d"), "bücher.example": {"192.0.2.9"},
		},
		MX: map[string][]string{
			"example": {"20 b.example", "10 A.example", "20 a2.example"}, "null.example": {"0 ."},
			"nearly.example": {"0 .", "5 mx.example"}, "crowd.example": numbered(150, "%d mx.example"),
		},
		TXT: map[string][]string{
			"text.example": {"v=spf1 -all", strings.Repeat("long ", 200), `quote " back \ é`, ""}, "_dmarc.example": {"v=DMARC1"},
			"huge.example": numbered(60, strings.Repeat("y", 996)+" %03d"),
		},
		PTR:   map[string][]string{"192.0.2.1": {"host.example"}, "2001:db8::1": {"host.example"}},
		CNAME: chain,
		Fail: map[string]Kind{
			"lame.example": Failure, "slow.example": Timeout, "MX v4.example": Failure, "no.example": NoName,
			"empty.example": NoData, "192.0.2.99": Timeout,
		},
	}
}

// TestLookups holds the Zone and the Client that asks the same zone over the
// network against the same table.
func TestLookups(t *testing.T) {
	zone := sample()
	type look func(context.Context, Resolver) (any, error)
	a := func(name string) look {
		return func(ctx context.Context, r Resolver) (any, error) { return r.LookupA(ctx, name) }
	}
	aaaa := func(name string) look {
		return func(ctx context.Context, r Resolver) (any, error) { return r.LookupAAAA(ctx, name) }
	}
	mx := func(name string) look {
		return func(ctx context.Context, r Resolver) (any, error) { return r.LookupMX(ctx, name) }
	}
	txt := func(name string) look {
		return func(ctx context.Context, r Resolver) (any, error) { return r.LookupTXT(ctx, name) }
	}
	ptr := func(addr string) look {
		return func(ctx context.Context, r Resolver) (any, error) {
			parsed, _ := netip.ParseAddr(addr)
			return r.LookupPTR(ctx, parsed)
		}
	}
	tests := []struct {
		name string
		look look
		want string // of the records, or the Kind and a word of the text
	}{
		{"a", a("host.example"), "[192.0.2.1]"},
		{"case and dot", a("HOST.example."), "[192.0.2.1]"},
		{"aaaa", aaaa("host.example"), "[2001:db8::1]"},
		{"idna", a("BÜCHER.example"), "[192.0.2.9]"},
		{"a-label", a("xn--bcher-kva.example"), "[192.0.2.9]"},
		{"nodata", aaaa("v4.example"), "3 no AAAA record"},
		{"nxdomain", a("nothing.example"), "2 no such name"},
		{"empty non-terminal", a("there.wild.example"), "3 no A record"},
		{"wildcard", a("any.thing.wild.example"), "[192.0.2.7]"},
		{"below a name that is there", a("other.there.wild.example"), "2 no such name"},
		{"alias", a("alias.example"), "[192.0.2.1]"},
		{"alias to nothing", a("hanging.example"), "2 no such name"},
		{"alias to no data", a("noaddr.example"), "3 no A record"},
		{"eight aliases", a("c4.example"), "[192.0.2.1]"},
		{"nine aliases", a("c3.example"), "0 aliases"},
		{"loop", a("loop.example"), "0 aliases"},
		{"localhost", a("LocalHost."), "[127.0.0.1]"},
		{"localhost v6", aaaa("a.localhost"), "[::1]"},
		{"localhost mx", mx("localhost"), "3 localhost"},
		{"mx", mx("example"), "[{10 a.example} {20 a2.example} {20 b.example}]"},
		{"null mx", mx("null.example"), "[{0 }]"},
		{"null mx beside others", mx("nearly.example"), "[{5 mx.example}]"},
		{"txt", txt("_DMARC.example"), "[v=DMARC1]"},
		{"txt pieces", txt("text.example"), fmt.Sprint([]string{"v=spf1 -all", strings.Repeat("long ", 200), `quote " back \ é`, ""})},
		{"ptr", ptr("192.0.2.1"), "[host.example]"},
		{"ptr mapped", ptr("::ffff:192.0.2.1"), "[host.example]"},
		{"ptr v6", ptr("2001:db8::1"), "[host.example]"},
		{"ptr none", ptr("192.0.2.2"), "2 no such name"},
		{"servfail", a("lame.example"), "0 SERVFAIL"},
		{"servfail of one type", mx("v4.example"), "0 SERVFAIL"},
		{"timeout", a("slow.example"), "1 no answer"},
		{"ptr timeout", ptr("192.0.2.99"), "1 no answer"},
		{"forced nxdomain", a("no.example"), "2 no such name"},
		{"forced nodata", a("empty.example"), "3 no A record"},
		{"empty name", a(""), "4 empty"},
		{"root", a("."), "4 empty"},
		{"empty label", a("a..example"), "4 empty label"},
		{"long label", a(strings.Repeat("x", 64) + ".example"), "4 63"},
		{"long name", a(strings.Repeat("x.", 126) + "xx"), "4 too long"},
		{"longest name", a(strings.Repeat("x.", 126) + "x"), "2 no such name"},
		{"space", mx("exa\tmple"), "4 character"},
		{"escape", txt(`a\.example`), "4 character"},
		{"line feed", txt("a\nb.example"), "4 character"},
		{"address", a("192.0.2.1"), "4 an address"},
		{"address v6", a("2001:db8::1"), "4 an address"},
		{"no address", ptr("x"), "4 no address"},
		{"bad idna", a("ü\u200d.example"), "4 internationalised"},
	}
	for name, r := range map[string]Resolver{"zone": zone, "client": serving(t, zone)} {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				got, err := tt.look(t.Context(), r)
				if err == nil {
					if fmt.Sprint(got) != tt.want {
						t.Errorf("got  %v\nwant %s", got, tt.want)
					}
					return
				}
				e, ok := errors.AsType[*Error](err)
				kind, text, _ := strings.Cut(tt.want, " ")
				if !ok || fmt.Sprint(uint8(e.Kind)) != kind || !strings.Contains(e.Text, text) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			})
		}
		t.Run(name+"/bounds", func(t *testing.T) {
			addrs, err := r.LookupA(t.Context(), "many.example")
			if len(addrs) != maxAddrs || err != nil {
				t.Errorf("%d addresses, %v", len(addrs), err)
			}
			hosts, err := r.LookupMX(t.Context(), "crowd.example")
			if len(hosts) != maxMX || err != nil || hosts[maxMX-1].Pref != maxMX-1 {
				t.Errorf("%d exchangers, %v", len(hosts), err)
			}
			texts, err := r.LookupTXT(t.Context(), "huge.example")
			if len(texts) != 32 || err != nil {
				t.Errorf("%d texts, %v", len(texts), err)
			}
		})
	}
}

func TestFCrDNS(t *testing.T) {
	many := append(numbered(10, "n%d.example"), "tenth.example")
	z := &Zone{
		A: map[string][]string{
			"good.example": {"192.0.2.1", "192.0.2.2"}, "other.example": {"192.0.2.200"}, "v6.example": {"2001:db8::1"}, "tenth.example": {"192.0.2.7"},
		},
		PTR: map[string][]string{
			"192.0.2.1": {"other.example", "good.example"}, "192.0.2.2": {"slow.example", "good.example"}, "192.0.2.3": {"other.example", "gone.example"},
			"192.0.2.4": {"slow.example", "other.example"}, "192.0.2.7": many, "2001:db8::1": {"v6.example"}, "192.0.2.8": {"b(a)d.example"},
		},
		Fail: map[string]Kind{"slow.example": Timeout, "192.0.2.6": Failure},
	}
	for ip, want := range map[string]string{
		"192.0.2.1": "good.example", "::ffff:192.0.2.1": "good.example", "2001:db8::1": "v6.example",
		"192.0.2.2": "good.example", // a temporary failure on the way doesn't matter
		"192.0.2.3": " fail", "192.0.2.4": " temporary", "192.0.2.5": " none", "192.0.2.6": " temporary",
		"192.0.2.7": " fail", // the eleventh name isn't looked at
		"192.0.2.8": " none",
	} {
		name, err := FCrDNS(t.Context(), z, netip.MustParseAddr(ip))
		got := name
		if name == "" {
			got = " fail"
			if e, ok := errors.AsType[*Error](err); ok {
				got = " " + e.Kind.String()
			}
		}
		if got != want {
			t.Errorf("%s: %q, %v; want %q", ip, name, err, want)
		}
	}
}

func TestDNSBL(t *testing.T) {
	v6 := "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
	z := &Zone{
		A: map[string][]string{
			"7.2.0.192.one.test": {"127.0.0.2", "127.0.0.4"}, "7.2.0.192.hijacked.test": {"198.51.100.1"},
			"7.2.0.192.refusing.test": {"127.255.255.254"}, v6 + ".one.test": {"127.0.0.3"},
		},
		TXT:  map[string][]string{"7.2.0.192.one.test": {"Listed:\r\n see\x00 https://one.test/", strings.Repeat("é", 400)}},
		Fail: map[string]Kind{"7.2.0.192.down.test": Timeout},
	}
	zones := []string{"clean.test", "down.test", "one.test", "hijacked.test", "refusing.test"}
	zones = append(zones, numbered(40, "clean%d.test")...)
	got := DNSBL(t.Context(), z, netip.MustParseAddr("192.0.2.7"), zones)
	if len(got) != 4 {
		t.Fatalf("got %+v", got)
	}
	if got[0].Zone != "down.test" || !IsTemporary(got[0].Err) || got[0].Answer.IsValid() {
		t.Errorf("down: %+v", got[0])
	}
	if got[1].Answer.String() != "127.0.0.2" || got[2].Answer.String() != "127.0.0.4" || got[2].Zone != "one.test" {
		t.Errorf("listed: %+v %+v", got[1], got[2])
	}
	if text := got[1].Text; !strings.HasPrefix(text, "Listed: see https://one.test/ é") || len(text) > maxReason {
		t.Errorf("text %q of %d bytes", text, len(text))
	}
	if got[3].Zone != "refusing.test" || !IsTemporary(got[3].Err) {
		t.Errorf("refusing: %+v", got[3])
	}
	if got := DNSBL(t.Context(), z, netip.MustParseAddr("2001:db8::1"), zones); len(got) != 1 || got[0].Answer.String() != "127.0.0.3" {
		t.Errorf("v6: %+v", got)
	}
}

func TestListed(t *testing.T) {
	z := &Zone{
		A: map[string][]string{
			"bad.example.one.test": {"127.0.1.2"}, "bad.example.two.test": {"127.0.0.8", "127.0.0.2"}, "xn--bcher-kva.example.one.test": {"127.0.1.4"},
			"over.example.one.test": {"127.255.255.254"},
		},
		TXT:  map[string][]string{"bad.example.one.test": {"sends spam"}},
		Fail: map[string]Kind{"bad.example.down.test": Timeout, "good.example.down.test": Timeout},
	}
	var got []string
	for _, l := range Listed(t.Context(), z, []string{"Bad.example.", "good.example", "a..b", "bücher.example", "over.example"}, []string{"one.test", "two.test", "down.test"}) {
		text := l.Name + " " + l.Zone + " "
		if l.Err != nil {
			text += "error"
		} else {
			text += l.Answer.String() + " " + l.Text
		}
		got = append(got, strings.TrimSpace(text))
	}
	want := []string{
		"Bad.example. one.test 127.0.1.2 sends spam", "Bad.example. two.test 127.0.0.8", "Bad.example. two.test 127.0.0.2", "Bad.example. down.test error",
		"good.example down.test error", "bücher.example one.test 127.0.1.4", "over.example one.test error",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := Listed(t.Context(), z, nil, []string{"one.test"}); len(got) != 0 {
		t.Errorf("nothing asked: %v", got)
	}
}

func TestAddrs(t *testing.T) {
	z := sample()
	z.Fail["AAAA half.example"] = Timeout
	z.A["half.example"] = []string{"192.0.2.4"}
	z.Fail["AAAA unsure.example"] = Timeout
	for host, want := range map[string]string{
		"host.example": "[2001:db8::1 192.0.2.1]", "v4.example": "[192.0.2.4]", "half.example": "[192.0.2.4]",
		"unsure.example": "temporary", "text.example": "none", "a\tb": "bad",
	} {
		got, err := Addrs(t.Context(), z, host)
		text := fmt.Sprint(got)
		if e, ok := errors.AsType[*Error](err); ok {
			text = e.Kind.String()
		}
		if text != want {
			t.Errorf("%s: %v, %v; want %s", host, got, err, want)
		}
	}
}

func TestParseZone(t *testing.T) {
	z, err := ParseZone(`
$FAIL timeout slow.example
mx.example.com.       IN A     192.0.2.25
mx.example.com.       IN AAAA  2001:db8::25
example.com.          IN SOA   ns.example.com. root.example.com. 1 2 3 4 5
example.com.     300  IN MX    10 mx.example.com.
_dmarc.example.com.   IN TXT   "v=DMARC1; " "p=\"none\" \195\188"   ; two pieces
25.2.0.192.in-addr.arpa. IN PTR mx.example.com.
5.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR mx.example.com.
www.example.com.      IN CNAME mx.example.com.
$FAIL servfail MX lame.example
`)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if got, err := z.LookupA(ctx, "www.example.com"); err != nil || got[0].String() != "192.0.2.25" {
		t.Errorf("A: %v, %v", got, err)
	}
	if got, err := z.LookupMX(ctx, "example.com"); err != nil || !slices.Equal(got, []MX{{10, "mx.example.com"}}) {
		t.Errorf("MX: %v, %v", got, err)
	}
	if got, err := z.LookupTXT(ctx, "_dmarc.example.com"); err != nil || got[0] != `v=DMARC1; p="none" ü` {
		t.Errorf("TXT: %q, %v", got, err)
	}
	for _, ip := range []string{"192.0.2.25", "2001:db8::25"} {
		if got, err := FCrDNS(ctx, z, netip.MustParseAddr(ip)); err != nil || got != "mx.example.com" {
			t.Errorf("%s: %v, %v", ip, got, err)
		}
	}
	if _, err := z.LookupA(ctx, "slow.example"); !IsTemporary(err) {
		t.Errorf("slow: %v", err)
	}
	if _, err := z.LookupMX(ctx, "lame.example"); !IsTemporary(err) {
		t.Errorf("lame: %v", err)
	}
}

func TestParseZoneErrors(t *testing.T) {
	for text, want := range map[string]string{
		"\n$FAIL\n":                      "line 2",
		"$FAIL never x.example":          "never",
		"$FAIL timeout FOO x.example":    "FOO",
		"\n\nx.example. IN A nonsense\n": "line: 3",
		"x.example. IN SRV 1 2 3 y.":     "SRV",
		"x.example. IN PTR y.":           "reverse",
		"$INCLUDE /etc/passwd":           "INCLUDE",
	} {
		if _, err := ParseZone(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestZoneSaysWhatIsWrong(t *testing.T) {
	for name, z := range map[string]*Zone{
		`A "x.example"`:      {A: map[string][]string{"x.example": {"192.0.2.300"}}},
		`MX "x.example"`:     {MX: map[string][]string{"x.example": {"mx.example"}}},
		`PTR "x.example"`:    {PTR: map[string][]string{"x.example": {"mx.example"}}},
		`CNAME "x.example"`:  {CNAME: map[string]string{"x.example": "a\tb"}},
		`TXT "a\tb"`:         {TXT: map[string][]string{"a\tb": {""}}},
		`Fail "NO x.exampl"`: {Fail: map[string]Kind{"NO x.exampl": Timeout}},
	} {
		_, err := z.LookupA(t.Context(), "other.example")
		if !IsTemporary(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := z.Listen("127.0.0.1:0"); err == nil {
			t.Errorf("%s: served", name)
		}
	}
}

func FuzzParseZone(f *testing.F) {
	f.Add("$ORIGIN example.com.\n@ IN MX 10 mx\nmx IN A 192.0.2.1\n$FAIL timeout MX a.example\n")
	f.Add("1.2.0.192.in-addr.arpa. IN PTR a.\n* 1 IN TXT \"\\\\ \\034 \\255\"")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 || strings.Contains(strings.ToUpper(text), "$GENERATE") {
			return // it may ask for 65,536 records, which is slow, not wrong
		}
		z, err := ParseZone(text)
		if err != nil {
			return
		}
		for name := range z.TXT {
			got, err := z.LookupTXT(t.Context(), name)
			if IsTemporary(err) {
				continue // forced
			}
			if err == nil && !strings.HasPrefix(strings.Join(z.TXT[name], "|"), strings.Join(got, "|")) {
				t.Fatalf("%q: %q became %q", name, z.TXT[name], got)
			}
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"example.com.", "BÜCHER.example", "a..b", "_dmarc.x", "192.0.2.1", `\000.x`, "x。y", "xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, wrong := canonical(s)
		if wrong != "" {
			return
		}
		if again, wrong := canonical(name + "."); wrong != "" || again != name {
			t.Fatalf("%q gives %q, that gives %q %s", s, name, again, wrong)
		}
		m := new(wire.Msg)
		m.SetQuestion(name+".", wire.TypeA)
		if _, err := m.Pack(); err != nil {
			t.Fatalf("%q can't be asked: %v", name, err)
		}
	})
}
