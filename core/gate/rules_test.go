package gate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const sampleRules = `# the office
192.0.2.7:deny
192.0.2.:allow,RELAYCLIENT="",NET=/in "side"/
10.2-3.:allow,NET='ten'
198.51.100.37-39:deny
203.0.113.0/25:deny
203.0.113.9:allow
2001:db8::/32:deny
[2001:db8::7]:allow
2001:db8::8:allow,SIX="1"
=mail.Example.org:allow,WHO="mail"
=.example.org:deny
=:allow,NAMED="yes"
:deny
`

func TestRulesFind(t *testing.T) {
	r, errs := ParseRules(strings.NewReader(sampleRules))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, c := range []struct {
		ip, name string
		line     int
	}{
		{"192.0.2.7", "", 2},
		{"192.0.2.8", "", 3},
		{"192.0.20.8", "", 14},
		{"10.2.0.1", "", 4},
		{"10.3.255.255", "", 4},
		{"10.4.0.1", "", 14},
		{"198.51.100.38", "", 5},
		{"198.51.100.40", "", 14},
		{"203.0.113.9", "", 7},
		{"203.0.113.10", "", 6},
		{"203.0.113.200", "", 14},
		{"2001:db8::1", "", 8},
		{"2001:db8::7", "", 9},
		{"2001:db8::8", "", 10},
		{"::ffff:192.0.2.7", "", 2},
		{"8.8.8.8", "MAIL.example.org.", 11},
		{"8.8.8.8", "a.b.example.org", 12},
		{"8.8.8.8", "example.org", 13},
		{"8.8.8.8", "other.net", 13},
		{"192.0.2.7", "mail.example.org", 2},
		{"192.0.2.8", "mail.example.org", 11},
	} {
		if got := r.Find(netip.MustParseAddr(c.ip), c.name); got.Line != c.line {
			t.Errorf("%s %q: rule of line %d, want %d", c.ip, c.name, got.Line, c.line)
		}
	}
	if env := r.Find(netip.MustParseAddr("192.0.2.8"), "").Env; env["RELAYCLIENT"] != "" || env["NET"] != `in "side"` || len(env) != 2 {
		t.Errorf("variables %q", env)
	}
	if !r.Names() || r.Len() != 16 || !slices.Equal(r.Variables(), []string{"NAMED", "NET", "RELAYCLIENT", "SIX", "WHO"}) {
		t.Errorf("names %v, %d rules, variables %q", r.Names(), r.Len(), r.Variables())
	}
}

func TestRulesDefaults(t *testing.T) {
	r, errs := ParseRules(strings.NewReader("1.2.3.4:deny\n1.2.3.4:allow\n"))
	if len(errs) > 0 || r.Names() {
		t.Fatal(errs, r.Names())
	}
	if !r.Find(netip.MustParseAddr("1.2.3.4"), "").Deny {
		t.Error("the first of two rules counts")
	}
	if r.Find(netip.MustParseAddr("1.2.3.5"), "").Deny {
		t.Error("where no rule matches, the client is allowed")
	}
}

func TestRulesErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"1.2.3.4", "no colon"},
		{"1.2.3.4:permit", "allow or deny"},
		{"1.2.3.4:", "allow or deny"},
		{"1.2.3.4:allow,", "VARIABLE"},
		{`1.2.3.4:allow,A="b`, "closing"},
		{`1.2.3.4:allow,A="b",`, "next variable"},
		{`1.2.3.4:allow,A="b"x`, "next variable"},
		{"1.2.3.4:allow,A=", "no value"},
		{"1.2.3.4 :allow", "is no address"},
		{"1.2.3:allow", "is no address"},
		{"1.2.3.4.:allow", "is no address"},
		{"1.2.3.256:allow", "is no address"},
		{"1.2.3.9-3:allow", "is no address"},
		{"1-2.3-4.:allow", "is no address"},
		{"1.2.3.4/33:deny", "is no network"},
		{"1.2.3.4/24:deny", "1.2.3.0/24"},
		{"joe@1.2.3.4:deny", "ident"},
		{"host.name:deny", "is no address"},
	} {
		_, errs := ParseRules(strings.NewReader(":allow\n" + c.line + "\n"))
		if len(errs) != 1 || errs[0].Line != 2 || !strings.Contains(errs[0].Error(), c.want) {
			t.Errorf("%q: %v, want line 2 and %q", c.line, errs, c.want)
		}
	}
	if _, errs := ParseRules(strings.NewReader("x\ny\n" + strings.Repeat("z", 5000) + "\n")); len(errs) != 3 {
		t.Errorf("%d errors, want all 3: %v", len(errs), errs)
	}
}

func FuzzRules(f *testing.F) {
	f.Add(sampleRules)
	f.Add("1.2.3.4:allow,A=\"b\"\n\x00:deny\n")
	f.Fuzz(func(t *testing.T, s string) {
		r, errs := ParseRules(strings.NewReader(s))
		if (r == nil) != (len(errs) > 0) {
			t.Fatalf("rules %v and errors %v", r, errs)
		}
		if r != nil {
			r.Find(netip.MustParseAddr("192.0.2.7"), "a.b.c")
			r.Find(netip.MustParseAddr("2001:db8::1"), "")
			r.Variables()
		}
	})
}
