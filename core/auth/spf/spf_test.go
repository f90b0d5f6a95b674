package spf

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/dns"
)

var there = Client{IP: netip.MustParseAddr("192.0.2.7"), Helo: "mx.example.org", Local: "you", Domain: "example.org"}

func check(t *testing.T, z *dns.Zone, by Client) Result {
	t.Helper()
	return (&Checker{Resolver: z, Hostname: "mx.example.net"}).Check(t.Context(), by)
}

// The result tells which term of whose record decided, and each step with its records.
func TestSteps(t *testing.T) {
	r := check(t, &dns.Zone{
		TXT: map[string][]string{
			"example.org":      {"unrelated", "v=spf1 include:_spf.example.org a:gone.example.org -all"},
			"_spf.example.org": {"v=spf1 ip4:203.0.113.0/24 redirect=more.example.org"},
			"more.example.org": {"v=spf1 mx ~all"},
		},
		MX: map[string][]string{"more.example.org": {"10 mx.example.org"}},
		A:  map[string][]string{"mx.example.org": {"192.0.2.9", "192.0.2.7"}},
	}, there)
	if r.Verdict != Pass || r.Mechanism != "include:_spf.example.org" || r.Source != "example.org" || r.Domain != "example.org" || r.Identity != MailFrom || r.Lookups != 3 || r.Voids != 0 {
		t.Errorf("%+v", r)
	}
	var lines []string
	for _, s := range r.Steps {
		lines = append(lines, fmt.Sprintf("%d %s|%s|%s|%s|%s", s.Depth, s.Domain, s.Term, s.Query, strings.Join(s.Answer, " + "), s.Outcome))
	}
	want := []string{
		`0 example.org||TXT example.org|"v=spf1 include:_spf.example.org a:gone.example.org -all"|the record`,
		`0 example.org|include:_spf.example.org|||asks _spf.example.org`,
		`1 _spf.example.org||TXT _spf.example.org|"v=spf1 ip4:203.0.113.0/24 redirect=more.example.org"|the record`,
		`1 _spf.example.org|ip4:203.0.113.0/24|||no match`,
		`1 _spf.example.org|redirect=more.example.org|||on to more.example.org`,
		`2 more.example.org||TXT more.example.org|"v=spf1 mx ~all"|the record`,
		`2 more.example.org|mx|MX more.example.org|MX 10 mx.example.org + mx.example.org A 192.0.2.9 + mx.example.org A 192.0.2.7|match: pass`,
		`0 example.org|include:_spf.example.org|||match: pass`,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// RFC 7208 2.3, 2.4: which name is judged as which identity.
func TestIdentities(t *testing.T) {
	z := &dns.Zone{TXT: map[string][]string{"mx.example.org": {"v=spf1 ip4:192.0.2.7 -all"}, "example.org": {"v=spf1 -all"}}}
	null := there
	null.Local, null.Domain = "", ""
	r := check(t, z, null)
	if r.Verdict != Pass || r.Identity != MailFrom || r.Sender != "postmaster@mx.example.org" {
		t.Errorf("null sender: %+v", r)
	}
	if r := check(t, z, there); r.Verdict != Fail {
		t.Errorf("sender: %+v", r)
	}
	r = (&Checker{Resolver: z}).CheckHelo(t.Context(), there)
	if r.Verdict != Pass || r.Identity != Helo || r.Domain != "mx.example.org" {
		t.Errorf("HELO: %+v", r)
	}
	for _, helo := range []string{"", "localhost", "[192.0.2.7]", "192.0.2.7", "a..b", "[IPv6:2001:db8::1]", strings.Repeat("a.", 200)} {
		by := there
		by.Helo = helo
		if r := (&Checker{Resolver: z}).CheckHelo(t.Context(), by); r.Verdict != None || r.Problem == "" {
			t.Errorf("HELO %q: %+v", helo, r)
		}
	}
}

// RFC 8616 4: domains are asked for as A-labels; a term with a local part outside
// ASCII matches nothing.
func TestInternationalised(t *testing.T) {
	z := &dns.Zone{
		TXT: map[string][]string{
			"xn--bcher-kva.example": {"v=spf1 exists:%{l}.users.example exists:%{d}.ok.example -all exp=why.example"},
			"why.example":           {"%{o} says no to %{l}"},
		},
		A: map[string][]string{"*.users.example": {"127.0.0.2"}},
	}
	by := there
	by.Local, by.Domain = "jürgen", "BÜCHER.example"
	r := check(t, z, by)
	if r.Verdict != Fail || r.Domain != "xn--bcher-kva.example" || r.Explanation != "" {
		t.Errorf("%+v", r)
	}
	z.A["xn--bcher-kva.example.ok.example"] = []string{"127.0.0.2"}
	by.Local = "jurgen"
	if r := check(t, z, by); r.Verdict != Pass || r.Mechanism != "exists:%{l}.users.example" {
		t.Errorf("%+v", r)
	}
}

// RFC 7208 4.6.4, 4.4: the clock of one check ends it with temperror.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := (&Checker{Resolver: silent{}}).Check(t.Context(), there)
		if took := time.Since(start); r.Verdict != TempError || took != 20*time.Second {
			t.Errorf("%s after %v: %s", r.Verdict, took, r.Problem)
		}
	})
}

// silent answers when the caller gives up.
type silent struct{ dns.Resolver }

func (silent) LookupTXT(ctx context.Context, name string) ([]string, error) {
	<-ctx.Done()
	return nil, &dns.Error{Kind: dns.Timeout, Name: name, Type: "TXT", Text: "no answer in time", Cause: ctx.Err()}
}

// A record may say what it likes: look-ups, names, texts and steps stay few.
func TestBombs(t *testing.T) {
	long := strings.Repeat("%{s}", 2000)
	z := &dns.Zone{
		TXT: map[string][]string{
			"loop.example":   {"v=spf1 include:loop.example -all"},
			"spin.example":   {"v=spf1 redirect=spin.example"},
			"wide.example":   {"v=spf1 " + strings.Repeat("a ", 3000) + "-all"},
			"terms.example":  {"v=spf1 " + strings.Repeat("ip4:203.0.113.1 ", 2000) + "-all"},
			"voids.example":  {"v=spf1 a:x1.example.org a:x2.example.org a:x3.example.org ip4:192.0.2.7 -all"},
			"macro.example":  {"v=spf1 exists:" + long + ".example.org -all exp=text.example"},
			"text.example":   {strings.Repeat("%{H}", 8000)},
			"twice.example":  {"v=spf1 -all", "v=spf1 +all"},
			"names.example":  {"v=spf1 mx -all"},
			"names2.example": {"v=spf1 ptr:names.example -all"},
		},
		A:   map[string][]string{"wide.example": {"203.0.113.1"}},
		MX:  map[string][]string{},
		PTR: map[string][]string{},
	}
	for i := range 40 {
		host := fmt.Sprintf("h%d.names.example", i)
		z.MX["names.example"] = append(z.MX["names.example"], "1 "+host)
		z.PTR["192.0.2.7"] = append(z.PTR["192.0.2.7"], host)
		z.A[host] = []string{"203.0.113.1"}
	}
	counted := &counting{Resolver: z}
	for domain, want := range map[string]Verdict{
		"loop.example": PermError, "spin.example": PermError, "wide.example": PermError, "terms.example": Fail, "voids.example": PermError,
		"macro.example": Fail, "twice.example": PermError, "names.example": PermError, "names2.example": Fail,
	} {
		by := there
		by.Domain, by.Local, by.Helo = domain, strings.Repeat("l", 5000), strings.Repeat(`"`, 5000)
		counted.asked = 0
		r := (&Checker{Resolver: counted}).Check(t.Context(), by)
		size := len(r.Explanation) + len(r.Problem)
		for _, s := range r.Steps {
			size += len(s.Query) + len(s.Outcome) + len(strings.Join(s.Answer, ""))
		}
		if r.Verdict != want || len(r.Steps) > maxSteps+1 || counted.asked > 25 || size > 100_000 {
			t.Errorf("%s: %s (%s), %d steps, %d look-ups, %d bytes", domain, r.Verdict, r.Problem, len(r.Steps), counted.asked, size)
		}
	}
}

// counting counts look-ups.
type counting struct {
	dns.Resolver
	asked int
}

func (c *counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.asked++
	return c.Resolver.LookupTXT(ctx, name)
}

func (c *counting) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	c.asked++
	return c.Resolver.LookupA(ctx, name)
}

func (c *counting) LookupMX(ctx context.Context, name string) ([]dns.MX, error) {
	c.asked++
	return c.Resolver.LookupMX(ctx, name)
}

func TestField(t *testing.T) {
	r := Result{Verdict: Pass, Identity: MailFrom, Sender: "you@example.org", Mechanism: "ip4:192.0.2.0/24"}
	want := `pass (mx.example.net: domain of you@example.org designates 192.0.2.7 as permitted sender) receiver=mx.example.net; client-ip=192.0.2.7; envelope-from="you@example.org"; helo=mx.example.org; identity=mailfrom; mechanism="ip4:192.0.2.0/24"`
	if got := r.Field(there, "mx.example.net"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	hostile := there
	hostile.IP, hostile.Local, hostile.Helo = netip.MustParseAddr("2001:db8::1"), "a\r\nX: \"b\\", "x) (y;\x00é"
	r = Result{Verdict: PermError, Identity: Helo, Sender: "a)b\r\n@example.org", Problem: strings.Repeat("x", 1000)}
	got := r.Field(hostile, "mx.example.net")
	want = `permerror (mx.example.net: domain of a\)b??@example.org has a record that can't be used) receiver=mx.example.net; client-ip="2001:db8::1"; envelope-from="a??X: \"b\\@example.org"; helo="x) (y;??"; identity=helo; problem=` + strings.Repeat("x", 320)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestClaims(t *testing.T) {
	for field, want := range map[string]bool{
		Result{Verdict: Pass, Sender: "a@b.example"}.Field(there, "mx.example.net"): true,
		"pass receiver=MX.example.net.; client-ip=192.0.2.1":                        true,
		"pass (x (mx) y) identity=helo;\r\n receiver = \"mx.example.net\"":          true,
		"Pass (mx.example.net: domain of x designates y) client-ip=192.0.2.1":       true,
		"pass (rece\\(iver=) receiver(=)=(x)mx.example.net":                         true,
		"pass (other.example: fine) receiver=other.example":                         false,
		`pass (receiver=mx.example.net) helo="receiver=mx.example.net"`:             false,
		"pass xreceiver=mx.example.net":                                             false,
		"":                                                                          false, "(": false, `"`: false, "receiver=": false, `(\`: false,
	} {
		if got := Claims(field, "mx.example.net"); got != want {
			t.Errorf("%q: %v", field, got)
		}
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(`pass (a(b)\)c) receiver="x\"y"; helo=z`, "x")
	f.Fuzz(func(t *testing.T, field, host string) {
		words, comment := fieldWords(field)
		if n := len(strings.Join(words, "")) + len(comment); n > len(field) {
			t.Errorf("%d bytes of %d", n, len(field))
		}
		Claims(field, host)
	})
}

func BenchmarkCheck(b *testing.B) {
	z := &dns.Zone{TXT: map[string][]string{"example.org": {"v=spf1 include:_spf.example.org -all"}, "_spf.example.org": {"v=spf1 ip4:203.0.113.0/24 ip4:198.51.100.0/24 ip6:2001:db8::/32 a:mx.example.org ~all"}}, A: map[string][]string{"mx.example.org": {"192.0.2.7"}}}
	c := &Checker{Resolver: z}
	b.ReportAllocs()
	for b.Loop() {
		if r := c.Check(b.Context(), there); r.Verdict != Pass {
			b.Fatal(r)
		}
	}
}
