package spf

import (
	"bufio"
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/dns"
)

func TestParseRecord(t *testing.T) {
	for _, good := range []string{
		"v=spf1", "v=SPF1 ", "V=spf1  -ALL", "v=spf1 a mx ptr a:x.example mx:x.example/24 a/24//64 a//64 a:x.example//0", "v=spf1 ip4:192.0.2.0/0 ip6:2001:db8::/128 ip6:::1",
		"v=spf1 Include:%{d2}.example exists:%{ir}.%{v}._spf.%{o} ~all", "v=spf1 unknown=%{c}/y", "v=spf1 a.b-c_d=anything redirect=%{d}", "v=spf1 exists:%%%_%-%{l1r+-/=_.,}",
		"v=spf1 exists:x.a-b. exists:x.a1", "v=spf1 a:foo:bar/baz.example",
	} {
		if _, err := ParseRecord(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"": "v=spf1", "v=spf2": "v=spf1", "v=spf10": "v=spf1", " v=spf1": "v=spf1", "v=spf1\t-all": "v=spf1",
		"v=spf1 all:x.example": "takes nothing", "v=spf1 all/8": "after all", "v=spf1 -all.": "no mechanism", "v=spf1 include": "needs a domain", "v=spf1 include:": "no domain", "v=spf1 a:": "no domain",
		"v=spf1 a:museum": "no domain", "v=spf1 a:x.123": "no domain", "v=spf1 a:x.-a": "no domain", "v=spf1 a:x.a-": "no domain", "v=spf1 a:x..": "no domain", "v=spf1 a:x._": "no domain",
		"v=spf1 a/33": "prefix length", "v=spf1 a/08": "prefix length", "v=spf1 a//129": "prefix length", "v=spf1 a///64": "after a", "v=spf1 a/": "after a", "v=spf1 ptr/24": "after ptr",
		"v=spf1 ip4": "must follow", "v=spf1 ip4:": "no such address", "v=spf1 ip4:1.2.3": "no such address", "v=spf1 ip4:192.0.2.01": "no such address", "v=spf1 ip4:::1": "no such address", "v=spf1 ip6:192.0.2.1": "no such address",
		"v=spf1 ip6:fe80::1%eth0": "no such address", "v=spf1 ip4:192.0.2.1/": "prefix length", "v=spf1 ip4:192.0.2.1/33": "prefix length", "v=spf1 ip4:192.0.2.1//32": "prefix length",
		"v=spf1 redirect=a.example redirect=b.example": "twice", "v=spf1 exp=a.example exp=a.example": "twice", "v=spf1 redirect=": "no domain", "v=spf1 ?redirect=a.example": "no mechanism", "v=spf1 =x": "no mechanism", "v=spf1 moo": "no mechanism", "v=spf1 -": "no mechanism",
		"v=spf1 exists:%{x}.example": "no letter", "v=spf1 exists:%{c}.example": "no letter", "v=spf1 exists:%{s0}.example": "zero", "v=spf1 exists:%{}.example": "no letter", "v=spf1 exists:%{s": "without }", "v=spf1 exists:%": "at the end", "v=spf1 exists:%(s)": "after %",
		"v=spf1 exists:%{s*}.example": "no delimiter", "v=spf1 x=%": "at the end", "v=spf1 a:caf\xe9.example": "character", "v=spf1 a:x.example\x00": "character",
	} {
		if _, err := ParseRecord(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", bad, err, says)
		}
	}
}

// Records that another implementation's tests call good or bad.
func TestRecordsOfOthers(t *testing.T) {
	file := filepath.Join(cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus")), "dmarc", "spf.tsv")
	f, err := os.Open(file)
	if err != nil {
		t.Skipf("no records: %v", err)
	}
	defer f.Close()
	// Where we see it otherwise: a domain of one label can't end a domain-spec
	// (RFC 7208 7.1: domain-end = ( "." toplabel [ "." ] ) / macro-expand).
	oneLabel := func(s string) bool { return strings.Contains(s, ":x ") || strings.Contains(s, ":x/") }
	count := 0
	for scan := bufio.NewScanner(f); scan.Scan(); {
		part := strings.Split(scan.Text(), "\t")
		if len(part) < 3 {
			continue
		}
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.Trim(part[1], "'"), `"`, `\"`) + `"`)
		if err != nil {
			t.Fatalf("%s: %v", part[1], err)
		}
		bad := strings.HasPrefix(part[2], "nil")
		if oneLabel(text) {
			continue
		}
		count++
		if _, err := ParseRecord(text); (err != nil) != bad {
			t.Errorf("%q: %v, bad there: %v", text, err, bad)
		}
	}
	if count < 20 {
		t.Errorf("%d records", count)
	}
}

func TestMacros(t *testing.T) {
	e := &evaluation{
		checker: &Checker{Resolver: &dns.Zone{}, Hostname: "mx.example.net"}, ctx: t.Context(),
		ip: netip.MustParseAddr("192.0.2.3"), helo: "helo.example", local: "strong-bad", domain: "email.example.com",
	}
	// The examples of RFC 7208 7.4.
	for text, want := range map[string]string{
		"%{s}": "strong-bad@email.example.com", "%{o}": "email.example.com", "%{d}": "email.example.com", "%{d4}": "email.example.com", "%{d3}": "email.example.com", "%{d2}": "example.com", "%{d1}": "com",
		"%{dr}": "com.example.email", "%{d2r}": "example.email", "%{l}": "strong-bad", "%{l-}": "strong.bad", "%{lr}": "strong-bad", "%{lr-}": "bad.strong", "%{l1r-}": "strong",
		"%{ir}.%{v}._spf.%{d2}": "3.2.0.192.in-addr._spf.example.com", "%{lr-}.lp._spf.%{d2}": "bad.strong.lp._spf.example.com", "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}": "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
		"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}": "3.2.0.192.in-addr.strong.lp._spf.example.com", "%{d2}.trusted-domains.example.net": "example.com.trusted-domains.example.net",
		"%{S}": "strong-bad%40email.example.com", "%%%_%-": "% %20", "%{p}": "unknown", "%{r}": "mx.example.net", "%{h}": "helo.example", "%{d99999999999999999999}": "email.example.com",
	} {
		m, err := parseMacros(text, textLetters, false)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := e.expand(m, e.domain); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	e.ip = netip.MustParseAddr("2001:db8::cb01")
	m, err := parseMacros("%{ir}.%{v}._spf.%{d2}", nameLetters, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := e.expand(m, e.domain), "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.example.com"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// RFC 7208 7.3: a name that is too long loses labels on its left.
	e.local = strings.Repeat("abcdefghi.", 30) + "end"
	m, err = parseMacros("%{l}.example.org", nameLetters, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.name(m, e.domain); err != nil || len(got) > 253 || len(got) < 243 || !strings.HasPrefix(got, "abcdefghi.") || !strings.HasSuffix(got, ".end.example.org") {
		t.Errorf("%d %s %v", len(got), got, err)
	}
}

func FuzzRecord(f *testing.F) {
	for _, seed := range []string{"v=spf1 a mx/24//64 include:%{d2}.x.example ip4:192.0.2.0/24 ip6:::1/3 exists:%{ir}.x.example redirect=a.example exp=%{l-}.example ~all", "v=spf1 \x80", "v=spf1 a:%{"} {
		f.Add(seed, "local", "example.org")
	}
	f.Fuzz(func(t *testing.T, record, local, domain string) {
		r, err := ParseRecord(record)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Errorf("%q", err)
			}
			return
		}
		e := &evaluation{checker: &Checker{Resolver: &dns.Zone{}}, ctx: t.Context(), ip: netip.IPv6Loopback(), helo: bounded(domain), local: bounded(local), domain: bounded(domain)}
		for i := range r.directives {
			if name, err := e.name(r.directives[i].domain, e.domain); err == nil && len(name) > 254 {
				t.Errorf("%d bytes", len(name))
			}
		}
	})
}

func FuzzMacros(f *testing.F) {
	for _, seed := range []string{"%{s}%{l1r-}%{D2r}%%%_%-", "Not %{i}: see http://%{d}/why?%{S}&%{t}", "%{c}%{r}%{p}%{v}%{h}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMacros(text, textLetters, true)
		if err != nil {
			return
		}
		e := &evaluation{checker: &Checker{Resolver: &dns.Zone{}}, ctx: t.Context(), ip: netip.MustParseAddr("192.0.2.1"), helo: "h.example", local: strings.Repeat("x.", 500), domain: "d.example"}
		if out := e.expand(m, e.domain); len(out) > 2*maxExpanded+6*maxInput {
			t.Errorf("%d bytes of %q", len(out), text)
		}
	})
}

// FuzzCheck lets the record and the client's words be anything: there is always a verdict.
func FuzzCheck(f *testing.F) {
	f.Add("v=spf1 include:%{l}.example a:b.example/24 mx ptr exists:%{p}.x.example ?all", "you", "example.org", "mx.example.org")
	f.Add("v=spf1 -all exp=%{d}", "\xff", "b\xfccher.example", "[1.2.3.4]")
	f.Fuzz(func(t *testing.T, record, local, domain, helo string) {
		z := &dns.Zone{TXT: map[string][]string{"*.example": {record}, "example.org": {record}}, MX: map[string][]string{"*.example": {"1 a.example"}}, A: map[string][]string{"*.example": {"192.0.2.9"}}, PTR: map[string][]string{"192.0.2.7": {"a.example"}}}
		by := Client{IP: netip.MustParseAddr("192.0.2.7"), Helo: helo, Local: local, Domain: domain}
		r := (&Checker{Resolver: z}).Check(t.Context(), by)
		if _, ok := said[r.Verdict]; !ok {
			t.Errorf("%+v", r)
		}
		if field := r.Field(by, "mx.example.net"); strings.ContainsFunc(field, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%q", field)
		}
	})
}
