package results

import (
	"reflect"
	"strings"
	"testing"
)

func TestBytes(t *testing.T) {
	for _, test := range []struct {
		f    Field
		want string
	}{
		{Field{ID: "mx.example.net"}, "Authentication-Results: mx.example.net; none\r\n"},
		{
			Field{"mx.example.net", []Method{
				{Name: "spf", Word: "pass", Props: []Prop{{"smtp", "mailfrom", "a@example.org"}}},
				{Name: "dkim", Word: "fail", Comment: "2048-bit (key)", Reason: `body "changed"`, Props: []Prop{{"header", "d", "example.org"}, {"header", "b", "ab/cd+12"}, {"header", "i", ""}}},
			}},
			"Authentication-Results: mx.example.net;\r\n\tspf=pass smtp.mailfrom=a@example.org;\r\n\tdkim=fail (2048-bit [key]) reason=\"body \\\"changed\\\"\"\r\n\t header.d=example.org header.b=\"ab/cd+12\"\r\n",
		},
		// What a sender chose can't end its value.
		{
			Field{"mx.example.net", []Method{{Name: "spf", Word: "fail", Props: []Prop{{"smtp", "mailfrom", "x; dkim=pass header.d=bank.example"}}}}},
			"Authentication-Results: mx.example.net;\r\n\tspf=fail smtp.mailfrom=\"x; dkim=pass header.d=bank.example\"\r\n",
		},
		{
			Field{"mx.example.net", []Method{{Name: "spf", Word: "fail", Props: []Prop{{"smtp", "helo", "a\r\nX: \x00y\\\"z"}}}}},
			"Authentication-Results: mx.example.net;\r\n\tspf=fail smtp.helo=\"a  X: ?y\\\\\\\"z\"\r\n",
		},
	} {
		if got := string(test.f.Bytes()); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		value string
		want  string // as Value writes it; empty: an error
	}{
		{"example.com; none", "example.com; none"},
		{"example.com 1; none", "example.com; none"},
		{"example.com;", "example.com; none"},
		{"example.com 2; none", ""},
		{"example.com; spf=pass smtp.mailfrom=example.net", "example.com; spf=pass smtp.mailfrom=example.net"},
		// The examples of RFC 8601 appendix B.
		{"example.com;\r\n\tauth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass smtp.mailfrom=example.net", "example.com; auth=pass smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net"},
		{`example.com; dkim=fail reason="bad signature" header.i=@newyork.example.com`, `example.com; dkim=fail reason="bad signature" header.i=@newyork.example.com`},
		{"foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail policy (A dot can go here) . (like that) expired (this surprised me) = (as I wasn't expecting it) 1362471462", "foo.example.net; dkim=fail policy.expired=1362471462"},
		// Quotes hold semicolons and more.
		{`mx; spf=fail smtp.mailfrom="x; dkim=pass header.d=bank.example"`, `mx; spf=fail smtp.mailfrom="x; dkim=pass header.d=bank.example"`},
		{`mx; spf=fail (a; b (c) \) d) smtp.mailfrom="a\"b; c"@example.org; dmarc=pass`, `mx; spf=fail smtp.mailfrom="a\"b; c@example.org"; dmarc=pass`},
		{`"mx; dkim=pass"; none`, `"mx; dkim=pass"; none`},
		{"", ""},
		{"; none", ""},
		{"(mx", ""},
		{`"mx`, ""},
		{"mx; dkim", ""},
		{"mx; dkim=", ""},
		{"mx; dkim=pass x", ""},
		{"mx; dkim=pass header.d=\"x", ""},
		{"mx; (" + strings.Repeat("(", 100) + ")", ""},
		{strings.Repeat("x", 70000), ""},
	} {
		f, err := Parse(test.value)
		got := ""
		if err == nil {
			got = f.Value()
		}
		if got != test.want {
			t.Errorf("%q: %q, %v; want %q", test.value, got, err, test.want)
		}
	}
}

func TestClaims(t *testing.T) {
	for value, want := range map[string]bool{
		"mx.example.net; spf=pass": true, "MX.Example.NET 1; none": true, "(x) mx.example.net (y); none": true, `"mx.example.net"; none`: true,
		"mx.example.net.; none": true, "mx.example.net": true, "\r\n\tmx.example.net;": true, "; spf=pass": true, `"mx`: true, "(": true, "": true,
		"mx.example.org; mx.example.net": false, "evil.mx.example.net; none": false, "mx.example.net.evil; none": false, `x "mx.example.net"`: false,
	} {
		if Claims(value, "mx.example.net") != want {
			t.Errorf("%q: %v", value, !want)
		}
	}
	if !Claims("xn--exmple-cua.org; none", "exämple.org") {
		t.Error("U-label")
	}
}

// FuzzResults: what is read can be written, and is then read the same; nothing that is
// written can hold another line.
func FuzzResults(f *testing.F) {
	f.Add(`mx.example.net 1; spf=fail (a (b)) reason="x" smtp.mailfrom="a b"@example.org; dkim/1=pass header.b=ab/c`)
	f.Add("mx; none")
	f.Add(`"a\"b"; x=y a . b = c`)
	f.Fuzz(func(t *testing.T, value string) {
		Claims(value, "mx.example.net")
		got, err := Parse(value)
		if err != nil {
			return
		}
		text := string(got.Bytes())
		body := strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n\t ", " "), "\r\n\t", ""), "\r\n")
		if strings.ContainsAny(body, "\r\n\x00") {
			t.Fatalf("%q", text)
		}
		again, err := Parse(strings.TrimPrefix(text, Name+": "))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if len(again.Methods) != len(got.Methods) {
			t.Fatalf("%q: %+v became %+v", text, got, again)
		}
		third, err := Parse(again.Value())
		if err != nil || !reflect.DeepEqual(again, third) {
			t.Fatalf("%+v became %+v, %v", again, third, err)
		}
	})
}
