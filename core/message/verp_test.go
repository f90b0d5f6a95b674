package message

import (
	"strings"
	"testing"
)

func TestVERP(t *testing.T) {
	rcpt := Address{"user", "example.org"}
	for _, test := range []struct{ written, owner, forRcpt string }{
		{"list-owner-@Example.net-@[]", "list-owner-@example.net", "list-owner-user=example.org@example.net"},
		{`"odd name"@example.net-@[]`, `"odd name"@example.net`, `"odd nameuser=example.org"@example.net`},
		{`"a@b"@example.net-@[]`, `"a@b"@example.net`, `"a@buser=example.org"@example.net`},
		{"plain@example.net", "plain@example.net", "plain@example.net"},
		{"", "", ""},
	} {
		a, err := ParseSender(test.written)
		if err != nil {
			t.Errorf("%s: %v", test.written, err)
			continue
		}
		if want := strings.ToLower(test.written); a.String() != want {
			t.Errorf("%s is written %s", test.written, a)
		}
		if a.IsVERP() != strings.HasSuffix(test.written, "[]") || a.Owner().String() != test.owner || a.For(rcpt).String() != test.forRcpt {
			t.Errorf("%s: owner %s, for %s: %s", test.written, a.Owner(), rcpt, a.For(rcpt))
		}
		again, rest, err := ParseReversePath("<" + a.String() + "> SIZE=1")
		if err != nil || again != a || rest != " SIZE=1" {
			t.Errorf("<%s> is %+v, %q, %v", a, again, rest, err)
		}
	}
	for _, s := range []string{"@[]", "-@[]", "a-@[]", "a@b.example@[]", "a@[192.0.2.1]-@[]", "a@größe.example-@[]", "a b@c.example-@[]", "postmaster-@[]"} {
		if a, err := ParseSender(s); err == nil {
			t.Errorf("%s is read as %+v", s, a)
		}
		if a, _, err := ParseReversePath("<" + s + ">"); err == nil {
			t.Errorf("<%s> is read as %+v", s, a)
		}
	}
	if a, err := ParseAddress("list-owner-@example.net-@[]"); err == nil {
		t.Errorf("as a recipient it is %+v", a)
	}
	// Within a quoted local part the suffix means nothing.
	a, rest, err := ParseReversePath(`<"x-@[]>"@example.net> SIZE=5`)
	if err != nil || a.Local != "x-@[]>" || a.Domain != "example.net" || rest != " SIZE=5" {
		t.Errorf("%+v, %q, %v", a, rest, err)
	}
}

func FuzzReversePath(f *testing.F) {
	for _, s := range []string{"<>", "<a@b.example>", "<list-owner-@example.net-@[]>", `<"x-@[]>"@example.net> SIZE=5`, "<@r.example:a@b.example-@[]>", "<-@[]>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, rest, err := ParseReversePath(s)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) {
			t.Fatalf("%q leaves %q", s, rest)
		}
		again, _, err := ParseReversePath(a.Path())
		if err != nil || again != a {
			t.Fatalf("%q is %+v, which as %s is %+v, %v", s, a, a.Path(), again, err)
		}
		if sender, err := ParseSender(a.String()); err != nil || sender != a {
			t.Fatalf("%q is %+v, but by itself %+v, %v", s, a, sender, err)
		}
		if to := a.For(Address{"u", "example.org"}); strings.ContainsAny(to.String(), "\r\n<>") != strings.ContainsAny(a.Local, "\r\n<>") {
			t.Fatalf("%q for u@example.org is %q", s, to)
		}
	})
}
