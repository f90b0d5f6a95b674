package dmarc

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// corpus is a file of public samples; the test is skipped where it is absent.
func corpus(t testing.TB, name ...string) *os.File {
	t.Helper()
	dir := cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus"))
	f, err := os.Open(filepath.Join(append([]string{dir}, name...)...))
	if err != nil {
		t.Skipf("no samples: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Records that another implementation's tests call good or bad: all of them.
func TestRecordsOfOthers(t *testing.T) {
	count := 0
	for scan := bufio.NewScanner(corpus(t, "dmarc", "dmarc.tsv")); scan.Scan(); {
		part := strings.Split(scan.Text(), "\t")
		text, err := strconv.Unquote(`"` + strings.Trim(part[1], "'") + `"`)
		if err != nil {
			t.Fatalf("%s: %v", part[1], err)
		}
		count++
		if _, err := ParseRecord(text); (err == nil) != (part[0] == "valid") {
			t.Errorf("%s %q: %v", part[0], text, err)
		}
	}
	if count < 41 {
		t.Errorf("%d records", count)
	}
}

// What mistakes leave of a record: RFC 9989 4.7.
func TestRecordWithMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"v=DMARC1; p=reject; pct=bogus; adkim=x; aspf=s; fo=9":                          "reject reject reject r s u false 100 []",
		"v=DMARC1;p=quarantine;sp=none;np=reject;t=y;psd=n":                             "quarantine none reject r r n true 100 []",
		"v=DMARC1; p=reject; np=none":                                                   "reject reject none r r u false 100 []",
		"v=DMARC1; sp=reject; p=quarantine; x-y_1=z":                                    "quarantine reject reject r r u false 100 []",
		"v=DMARC1; p=reject; sp=never; rua=mailto:a@b.example":                          "none none none r r u false 100 [{a@b.example 0 mailto:a@b.example}]",
		"v=DMARC1; rua=https://x.example/,mailto:a%40b@c.example!2k?x,nonsense; p=none": "none none none r r u false 100 []",
		"v=DMARC1; p=none; rua=https://x.example/, mailto:a%2Bb@c.example!2k":           "none none none r r u false 100 [{a+b@c.example 2048 mailto:a%2Bb@c.example!2k}]",
	} {
		r, err := readRecord(text)
		if got := fmt.Sprint(r.Policy, " ", r.Subdomains, " ", r.Missing, " ", string(r.DKIM), " ", string(r.SPF), " ", string(r.PSD), " ", r.Testing, " ", r.Percent, " ", r.Aggregate); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"v=DMARC1; p=reject; sp=never", "v=DMARC1; p=reject; p=reject", "v=DMARC1; rua=mailto:x", "v=DMARC2; p=none", "v=DMARC1", "p=none; v=DMARC1", "v=DMARC1; p=none; rua=mailto:a%00@b.example; rua=mailto:c@d.example", "v=DMARC1; p=none;" + strings.Repeat("x=y;", 4000)} {
		if r, err := readRecord(bad); err == nil {
			t.Errorf("%s: %+v", bad, r)
		}
	}
}

// The check list of the public suffix list.
func TestPublicSuffixes(t *testing.T) {
	line := regexp.MustCompile(`^checkPublicSuffix\((?:null|'(.*)'), (?:null|'(.*)')\);`)
	count := 0
	for scan := bufio.NewScanner(corpus(t, "psl", "tests", "test_psl.txt")); scan.Scan(); {
		m := line.FindStringSubmatch(scan.Text())
		if m == nil {
			continue
		}
		count++
		want, _ := dns.Canonical(m[2])
		if got := Organizational(m[1]); got != want {
			t.Errorf("%s: %q, want %q", m[1], got, want)
		}
	}
	if count < 70 {
		t.Errorf("%d names", count)
	}
}

func TestFromDomains(t *testing.T) {
	for field, want := range map[string]string{
		"a@example.org": "example.org", "A <a@EXAMPLE.org>": "example.org", "A <a@example.org.>": "!read", `"Test, User" <test@example.com>`: "example.com", "a@example.org, B <b@EXAMPLE.ORG>": "example.org",
		"a@example.org, b@example.net": "example.org example.net", "Team: a@example.org, b@example.org;": "example.org", "=?utf-8?q?J=C3=BCrgen?= <j@BÜCHER.example>": "xn--bcher-kva.example",
		"jürgen@bücher.example": "xn--bcher-kva.example", "a@example.org (b@example.net)": "example.org", `"b@example.net" <a@example.org>`: "example.org", "Foo [bar] <a@example.org>": "example.org",
		"b@example.net <a@example.org>": "example.org", "\r\n A\r\n <a@example.org>\r\n": "example.org", `"quoted \" <x@y.example>" <a@example.org>`: "example.org",
		"": "!empty", "  \r\n ": "!empty", "nobody": "!read", "Undisclosed:;": "!address", "a@b@c.example": "!read", "<>": "!read", "a@localhost": "!domain name", "a@[192.0.2.1]": "!", "a@-": "!", "@example.org": "!", "a@example..org": "!",
		"A <a@example.org> <b@example.net>": "!read", "A <a@example.org>, <b@example": "!read", `"A <a@example.org>`: "!read", "a@1.example, a@2.example, a@3.example, a@4.example": "!more than 3", strings.Repeat("a", 17<<10) + "@example.org": "!too long",
		"b@example.net, x[ <a@example.org>": "!read", "x[, b@example.net <a@example.org>": "!read", "b@example.net; [x] <a@example.org>": "!read", `Doe, [J] "b@example.net" <a@example.org>`: "example.org", "Doe, [J] <a@example.org>": "example.org",
		"x[ <a@example.org> b@example.net": "!read", "x[ <a@example.org> (b@example.net)": "example.org",
	} {
		got, wrong := FromDomains([]string{field})
		if text, bad := strings.CutPrefix(want, "!"); bad {
			if !strings.Contains(wrong, text) || wrong == "" || got != nil {
				t.Errorf("%q: %v, %q, want %s", field, got, wrong, text)
			}
			continue
		}
		if wrong != "" || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %q, want %s", field, got, wrong, want)
		}
	}
	if _, wrong := FromDomains(nil); wrong != "there is no From field" {
		t.Error(wrong)
	}
	if _, wrong := FromDomains([]string{"a@example.org", "a@example.org"}); wrong != "there are 2 From fields" {
		t.Error(wrong)
	}
}

// zone has policies of all kinds; values are of _dmarc.NAME.
func zone(policies map[string]string) *dns.Zone {
	z := &dns.Zone{TXT: map[string][]string{}, Fail: map[string]dns.Kind{}, A: map[string][]string{}, MX: map[string][]string{}}
	for name, text := range policies {
		switch text {
		case "SERVFAIL":
			z.Fail["_dmarc."+name] = dns.Failure
		case "EXISTS":
			z.A[name] = []string{"192.0.2.1"}
		default:
			z.TXT["_dmarc."+name] = strings.Split(text, " | ")
		}
	}
	return z
}

func TestEvaluate(t *testing.T) {
	deep := "a.b.c.d.e.f.g.h.i.example.com"
	tests := []struct {
		name     string
		policies map[string]string
		from     string
		spf      string // "verdict domain"
		dkim     []string
		want     string // verdict, disposition, tag of record domain, organization
	}{
		{"SPF aligned", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "pass example.com", nil, "pass none p example.com example.com"},
		{"SPF relaxed", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "pass bounce.example.com", nil, "pass none p example.com example.com"},
		{"SPF strict", map[string]string{"example.com": "v=DMARC1; p=reject; aspf=s"}, "example.com", "pass bounce.example.com", nil, "fail reject p example.com example.com"},
		{"SPF of another", map[string]string{"example.com": "v=DMARC1; p=quarantine"}, "example.com", "pass example.net", nil, "fail quarantine p example.com example.com"},
		{"SPF fails", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "fail example.com", nil, "fail reject p example.com example.com"},
		{"DKIM of the parent", map[string]string{"example.com": "v=DMARC1; p=reject"}, "sub.example.com", "", []string{"fail sub.example.com", "pass example.com"}, "pass none p example.com example.com"},
		{"DKIM strict", map[string]string{"example.com": "v=DMARC1; p=reject; adkim=s"}, "sub.example.com", "", []string{"pass example.com"}, "fail reject p example.com example.com"},
		{"subdomain policy", map[string]string{"example.com": "v=DMARC1; p=reject; sp=quarantine", "sub.example.com": "EXISTS"}, "sub.example.com", "", nil, "fail quarantine sp example.com example.com"},
		{"np", map[string]string{"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}, "gone.example.com", "", nil, "fail reject np example.com example.com"},
		{"np of one that exists", map[string]string{"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject", "sub.example.com": "EXISTS"}, "sub.example.com", "", nil, "fail quarantine sp example.com example.com"},
		{"testing", map[string]string{"example.com": "v=DMARC1; p=reject; t=y"}, "example.com", "", nil, "fail quarantine p example.com example.com"},
		{"testing quarantine", map[string]string{"example.com": "v=DMARC1; p=quarantine; t=y"}, "example.com", "", nil, "fail none p example.com example.com"},
		{"pct is history", map[string]string{"example.com": "v=DMARC1; p=reject; pct=0"}, "example.com", "", nil, "fail reject p example.com example.com"},
		{"no record", nil, "example.com", "pass example.com", nil, "none none   example.com"},
		{"two records", map[string]string{"example.com": "v=DMARC1; p=reject | v=DMARC1; p=none"}, "example.com", "", nil, "none none   example.com"},
		{"another TXT beside", map[string]string{"example.com": "hello | v=DMARC1; p=reject"}, "example.com", "", nil, "fail reject p example.com example.com"},
		{"servfail", map[string]string{"example.com": "SERVFAIL"}, "example.com", "pass example.com", nil, "temperror none   "},
		{"SPF unsure", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "temperror example.com", nil, "temperror none p example.com example.com"},
		{"SPF unsure, DKIM passes", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "temperror example.com", []string{"pass example.com"}, "pass none p example.com example.com"},
		{"SPF unsure of another", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "temperror example.net", nil, "fail reject p example.com example.com"},
		{"organization unsure", map[string]string{"example.com": "v=DMARC1; p=reject", "x.example.com": "SERVFAIL"}, "example.com", "pass x.example.com", nil, "temperror none p example.com example.com"},
		// RFC 9989 4.10.2 and its appendix: psd.
		{"psd=y above", map[string]string{"com": "v=DMARC1; p=reject; psd=y; np=reject", "giant.example.com": "EXISTS"}, "giant.example.com", "pass example.com", nil, "pass none p com example.com"},
		{"psd=y: sp for one that exists", map[string]string{"gov": "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y", "tax.gov": "EXISTS"}, "tax.gov", "", nil, "fail quarantine sp gov tax.gov"},
		{"psd=y: np", map[string]string{"gov": "v=DMARC1; p=none; sp=none; np=reject; psd=y"}, "taxx.gov", "", nil, "fail reject np gov taxx.gov"},
		{"two organizations below a psd", map[string]string{"com": "v=DMARC1; p=reject; psd=y", "a.com": "v=DMARC1; p=reject"}, "a.com", "pass b.com", nil, "fail reject p a.com a.com"},
		{"psd=n cuts", map[string]string{"example.com": "v=DMARC1; p=none", "dept.example.com": "v=DMARC1; p=reject; psd=n"}, "dept.example.com", "pass example.com", nil, "fail reject p dept.example.com dept.example.com"},
		{"psd=n of the department's host", map[string]string{"example.com": "v=DMARC1; p=none", "dept.example.com": "v=DMARC1; p=reject; psd=n"}, "x.dept.example.com", "pass mail.dept.example.com", nil, "pass none p dept.example.com dept.example.com"},
		{"fewest labels", map[string]string{"example.com": "v=DMARC1; p=none", "a.example.com": "v=DMARC1; p=reject"}, "a.example.com", "pass example.com", nil, "pass none p a.example.com example.com"},
		{"own record before the organization's", map[string]string{"example.com": "v=DMARC1; p=none", "a.example.com": "v=DMARC1; p=reject"}, "a.example.com", "", nil, "fail reject p a.example.com example.com"},
		{"between is passed over", map[string]string{"example.com": "v=DMARC1; p=reject", "b.example.com": "v=DMARC1; p=none"}, "a.b.example.com", "", nil, "fail reject p example.com example.com"},
		{"deep", map[string]string{"example.com": "v=DMARC1; p=reject"}, deep, "", nil, "fail reject p example.com example.com"},
		{"deep, own record", map[string]string{deep: "v=DMARC1; p=quarantine", "example.com": "v=DMARC1; p=reject"}, deep, "", nil, "fail quarantine p " + deep + " example.com"},
		{"several domains, one fails", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.org,example.com", "pass example.org", nil, "fail reject p example.com example.com"},
		{"several domains, the stricter", map[string]string{"example.com": "v=DMARC1; p=reject", "example.org": "v=DMARC1; p=quarantine"}, "example.org,example.com", "", nil, "fail reject p example.com example.com"},
		{"several domains, all pass", map[string]string{"example.com": "v=DMARC1; p=reject", "example.org": "v=DMARC1; p=reject"}, "example.org,example.com", "pass example.org", []string{"pass example.com"}, "pass none p example.org example.org"},
		{"an identifier in other letters", map[string]string{"xn--bcher-kva.example": "v=DMARC1; p=reject"}, "BÜCHER.example", "pass Xn--BCHER-kva.EXAMPLE.", nil, "pass none p xn--bcher-kva.example xn--bcher-kva.example"},
		{"an identifier that is none", map[string]string{"example.com": "v=DMARC1; p=reject"}, "example.com", "pass ..", []string{"pass ", "pass com"}, "fail reject p example.com example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			var list []string
			for domain := range strings.SplitSeq(tt.from, ",") {
				list = append(list, "a@"+domain)
			}
			m.From = []string{strings.Join(list, ", ")}
			m.SPF.Verdict, m.SPF.Domain, _ = strings.Cut(tt.spf, " ")
			for _, s := range tt.dkim {
				verdict, domain, _ := strings.Cut(s, " ")
				m.Signatures = append(m.Signatures, Signature{Verdict: verdict, Domain: domain, Selector: "s"})
			}
			counted := &counting{Resolver: zone(tt.policies)}
			r := (&Evaluator{Resolver: counted}).Evaluate(t.Context(), m)
			got := fmt.Sprint(r.Verdict, " ", r.Disposition, " ", r.Tag, " ", r.Domain, " ", r.Organization)
			if got != tt.want {
				t.Errorf("got  %s (%s)\nwant %s", got, r.Problem, tt.want)
				for _, s := range r.Steps {
					t.Logf("%+v", s)
				}
			}
			if len(m.Signatures) == 0 && m.SPF.Domain == "" && !strings.Contains(tt.from, ",") && counted.asked > 8 {
				t.Errorf("%d questions", counted.asked)
			}
		})
	}
}

type counting struct {
	dns.Resolver
	asked int
}

func (c *counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.asked++
	return c.Resolver.LookupTXT(ctx, name)
}

// RFC 7489: the public suffix list, and samples.
func TestSuffixList(t *testing.T) {
	z := zone(map[string]string{"example.co.uk": "v=DMARC1; p=reject; pct=30; psd=n; np=none", "co.uk": "v=DMARC1; p=reject; psd=y"})
	for sample, want := range map[int]Policy{0: Reject, 29: Reject, 30: Quarantine, 99: Quarantine} {
		e := &Evaluator{Resolver: z, Organization: SuffixList, Sample: func() int { return sample }}
		r := e.Evaluate(t.Context(), Message{From: []string{"a@gone.example.co.uk"}})
		if r.Disposition != want || r.Tag != "p" || r.Domain != "example.co.uk" || r.Organization != "example.co.uk" {
			t.Errorf("%d: %+v", sample, r)
		}
	}
	r := (&Evaluator{Resolver: z, Organization: SuffixList}).Evaluate(t.Context(), Message{From: []string{"a@other.co.uk"}})
	if r.Verdict != None {
		t.Errorf("%+v", r)
	}
	r = (&Evaluator{Resolver: z, Organization: SuffixList}).Evaluate(t.Context(), Message{From: []string{"a@x.example.co.uk"}, SPF: SPF{"pass", "y.example.co.uk"}})
	if r.Verdict != Pass {
		t.Errorf("%+v", r)
	}
}

// The messages of python3-authheaders, with its zone and its expectations.
func TestMessagesOfOthers(t *testing.T) {
	z := zone(map[string]string{
		"example.com": "v=DMARC1; p=reject; rua=mailto:dmarc.report@example.com", "example.net": "v=DMARC1; p=reject", "example.biz": "v=DMARC1; p=none; sp=reject; np=quarantine",
		"sub.example.biz": "EXISTS", "nop.example.org": "v=DMARC1; fo=1",
	})
	for name, want := range map[string]struct{ dkim, result string }{
		"test.message":        {"pass example.com", "pass none"},
		"test.message_multi":  {"pass example.org", "fail reject"},
		"test.message_multi2": {"pass example.org", "fail reject"},
		"test.message_sub":    {"fail sub.example.net", "fail reject"},
		"test.message_np1":    {"fail sub.example.biz", "fail reject"},
		"test.message_np2":    {"fail sub2.example.biz", "fail quarantine"},
		"test_nop.message":    {"fail nop.example.org", "none none"},
		"testcomma.message":   {"pass example.com", "pass none"},
	} {
		b, err := os.ReadFile(corpus(t, "dmarc", name).Name())
		if err != nil {
			t.Fatal(err)
		}
		b = []byte(strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n", "\r\n"))
		n, _ := message.HeaderLen(b)
		var m Message
		for f := range message.ParseHeader(b[:n]).Named("From") {
			m.From = append(m.From, f.Value())
		}
		verdict, domain, _ := strings.Cut(want.dkim, " ")
		m.Signatures = []Signature{{Verdict: verdict, Domain: domain}}
		r := (&Evaluator{Resolver: z}).Evaluate(t.Context(), m)
		if got := string(r.Verdict) + " " + string(r.Disposition); got != want.result {
			t.Errorf("%s: %s, want %s\n%+v", name, got, want.result, r)
		}
	}
}

// However much a message names, the questions stay few, and the clock ends all of it.
func TestBounds(t *testing.T) {
	z := zone(map[string]string{"example.com": "v=DMARC1; p=reject"})
	m := Message{From: []string{"a@one.example.com, b@two.example.com, c@three.example.com"}}
	for i := range 20000 {
		m.Signatures = append(m.Signatures, Signature{"pass", fmt.Sprintf("%d.%sorg.com", i, strings.Repeat("x.", 60)), "s"})
	}
	counted := &counting{Resolver: z}
	r := (&Evaluator{Resolver: counted}).Evaluate(t.Context(), m)
	if counted.asked > maxQuestions || len(r.Steps) > 2*maxQuestions || len(r.Identifiers) > maxIdentifiers || r.Verdict == Pass {
		t.Errorf("%d questions, %d steps, %d identifiers, %s", counted.asked, len(r.Steps), len(r.Identifiers), r.Verdict)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := (&Evaluator{Resolver: silent{}}).Evaluate(t.Context(), m)
		if took := time.Since(start); r.Verdict != TempError || took != 20*time.Second {
			t.Errorf("%s after %v", r.Verdict, took)
		}
	})
}

type silent struct{ dns.Resolver }

func (silent) LookupTXT(ctx context.Context, name string) ([]string, error) {
	<-ctx.Done()
	return nil, &dns.Error{Kind: dns.Timeout, Name: name, Type: "TXT", Text: "no answer in time"}
}

func FuzzRecord(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; np=quarantine; adkim=s; aspf=r; fo=1:d; t=y; psd=n; pct=5; ri=1; rf=afrf; rua=mailto:a%20@b.example!10m,https://c; ruf=mailto:c@d.example?x")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := readRecord(text)
		if err != nil {
			return
		}
		if r.Policy == "" || r.Subdomains == "" || r.Missing == "" || len(r.Aggregate) > maxURIs || r.Percent < 0 || r.Percent > 100 {
			t.Errorf("%+v", r)
		}
		for _, u := range append(slices.Clone(r.Aggregate), r.Failure...) {
			if strings.ContainsAny(u.Address, "\r\n\x00 ") || u.Max < 0 {
				t.Errorf("%+v", u)
			}
		}
	})
}

func FuzzFrom(f *testing.F) {
	for _, seed := range []string{`"A (b" <a@example.org> (x<y@z.example>)`, "G: a@b.example, c@d.example;", "a@bücher.example", "x[ <a@b.example>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		domains, wrong := FromDomains([]string{field})
		if (len(domains) == 0) != (wrong != "") || len(domains) > maxDomains {
			t.Errorf("%q: %v %q", field, domains, wrong)
		}
		for _, d := range domains {
			if again, err := dns.Canonical(d); err != nil || again != d {
				t.Errorf("%q: %q, %v", field, d, err)
			}
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	e := &Evaluator{Resolver: zone(map[string]string{"example.com": "v=DMARC1; p=reject; rua=mailto:dmarc@example.com"})}
	m := Message{From: []string{"Jane <jane@news.example.com>"}, SPF: SPF{"pass", "bounce.example.com"}, Signatures: []Signature{{"pass", "example.com", "s"}}}
	b.ReportAllocs()
	for b.Loop() {
		if r := e.Evaluate(b.Context(), m); r.Verdict != Pass {
			b.Fatal(r)
		}
	}
}
