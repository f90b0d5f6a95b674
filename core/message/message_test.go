package message

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParsePath(t *testing.T) {
	for _, c := range []struct {
		in, want, rest string
		err            error
	}{
		{"<>", "", "", nil},
		{"<a@b.example>", "a@b.example", "", nil},
		{"<A.b@B.Example> SIZE=3", "A.b@b.example", " SIZE=3", nil},
		{`<"a b"@c.example>`, `"a b"@c.example`, "", nil},
		{`<"a@b"@c.example>`, `"a@b"@c.example`, "", nil},
		{`<"plain"@c.example>`, `plain@c.example`, "", nil},
		{`<"a\"b"@c.example>`, `"a\"b"@c.example`, "", nil},
		{`<"a>b"@c.example>x`, `"a>b"@c.example`, "x", nil},
		{"<@relay.example,@two.example:u@d.example>", "u@d.example", "", nil},
		{"<postmaster>", "postmaster", "", nil},
		{"<PostMaster>", "PostMaster", "", nil},
		{"<u@[192.0.2.1]>", "u@[192.0.2.1]", "", nil},
		{"<u@[ipv6:2001:DB8::1]>", "u@[IPv6:2001:db8::1]", "", nil},
		{"<ünï@d.example>", "ünï@d.example", "", nil},
		{"<a%b@c.example>", "a%b@c.example", "", nil},
		{"<user>", "", "", ErrNoDomain},
		{"<u@>", "", "", ErrNoDomain},
		{"<@d.example>", "", "", ErrSyntax},
		{"<a@b@c>", "", "", ErrSyntax},
		{"<a b@c>", "", "", ErrNoDomain},
		{"<a..b@c>", "", "", ErrSyntax},
		{"<a@c..d>", "", "", ErrBadDomain},
		{"<a@c.>", "", "", ErrBadDomain},
		{"<a@-c.d>", "", "", ErrBadDomain},
		{"<a@[1.2.3]>", "", "", ErrBadDomain},
		{"<a@[IPv6:1.2.3.4]>", "", "", ErrBadDomain},
		{"<a@[fe80::1%eth0]>", "", "", ErrBadDomain},
		{`<"open@c.example>`, "", "", ErrSyntax},
		{`<""@c.example>`, "", "", ErrSyntax},
		{"<a@b", "", "", ErrSyntax},
		{"a@b", "", "", ErrNoBracket},
		{"", "", "", ErrNoBracket},
		{"<a\x00b@c>", "", "", ErrNoDomain},
		{"<\"a\x00b\"@c>", "", "", ErrSyntax},
		{"<a\xff@c>", "", "", ErrSyntax},
		{"<" + strings.Repeat("l", 64) + "@d>", strings.Repeat("l", 64) + "@d", "", nil},
		{"<" + strings.Repeat("l", 3000) + "@d>", "", "", ErrTooLong},
		{"<a@" + strings.Repeat("d", 64) + ".example>", "", "", ErrBadDomain},
		{"<a@" + strings.Repeat("ü", 32) + ".example>", "a@" + strings.Repeat("ü", 32) + ".example", "", nil},
	} {
		a, rest, err := ParsePath(c.in)
		if err != c.err {
			t.Errorf("%q: error %v, want %v", c.in, err, c.err)
			continue
		}
		if err == nil && (a.String() != c.want || rest != c.rest) {
			t.Errorf("%q: %q and %q, want %q and %q", c.in, a.String(), rest, c.want, c.rest)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@b.c>", `<"x y"@[IPv6:::1]> SIZE=1`, "<@a,@b:c@d>", "<>", `<"\\"@x>`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, rest, err := ParsePath(s)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) {
			t.Fatalf("rest %q is not the end of %q", rest, s)
		}
		if strings.ContainsAny(a.String(), "\r\n\x00") {
			t.Fatalf("control characters in %q", a)
		}
		b, rest, err := ParsePath(a.Path())
		if err != nil || b != a || rest != "" {
			t.Fatalf("%q written as %q reads as %v %q %v", s, a.Path(), b, rest, err)
		}
	})
}

func TestReplyWire(t *testing.T) {
	for _, c := range []struct {
		in   Reply
		want string
	}{
		{NewReply(250, "2.0.0", "Ok"), "250 2.0.0 Ok\r\n"},
		{NewReply(220, "", "mx.example ESMTP"), "220 mx.example ESMTP\r\n"},
		{NewReply(550, "5.7.1", "one\ntwo\r\x1b[31mü"), "550-5.7.1 one\r\n550 5.7.1 two ?[31m??\r\n"},
		{NewReply(550, "5.7.1", "100%"), "550 5.7.1 100%\r\n"},
		{NewReply(550, "5.7.1", "%s%%", "x"), "550 5.7.1 x%\r\n"},
	} {
		if got := string(c.in.Append(nil)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for in, want := range map[string]string{
		"one\ntwo\r\x1b[31mü":    "550-5.7.1 one\r\n550 5.7.1 two ?[31mü\r\n",
		"\u0085\u2028\u200b\xff": "550 5.7.1 " + strings.Repeat("?", 2+3+3+1) + "\r\n",
		"Grüße, 你好 🜂":            "550 5.7.1 Grüße, 你好 🜂\r\n",
	} {
		if got := string(NewReply(550, "5.7.1", in).AppendUTF8(nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, pad := range []string{"", "x", "xx"} {
		for line := range strings.Lines(string(NewReply(550, "5.7.1", pad+strings.Repeat("你", 900)).AppendUTF8(nil))) {
			if len(line) > 512 || strings.Contains(line, "?") {
				t.Errorf("%d octets: %q", len(line), line)
			}
		}
	}
	long := NewReply(550, "5.1.1", "%s", strings.Repeat("word ", 400)).Append(nil)
	for line := range strings.Lines(string(long)) {
		if len(line) > 512 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	if !Permanent(NewReply(554, "", "x")) || Permanent(io.EOF) || Permanent(NewReply(451, "", "x")) {
		t.Error("Permanent must be true for class 5 alone")
	}
}

func TestParseEnhanced(t *testing.T) {
	for s, ok := range map[string]bool{"5.7.1": true, "4.0.999": true, "2.1.0": true, "3.1.1": false, "5.7": false, "5.7.1.1": false, "5.7.x": false, "": false, "5..1": false, "5.7.1000": false} {
		if _, got := ParseEnhanced(s); got != ok {
			t.Errorf("%q: %v, want %v", s, got, ok)
		}
	}
}

const sample = "From x y\r\nReceived: a\r\n\tb\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= there\r\nX-A: 1\r\nx-a : 2\r\nno field\r\n"

func TestHeaderReads(t *testing.T) {
	h := ParseHeader([]byte(sample))
	if string(h.Bytes()) != sample {
		t.Fatalf("not byte for byte: %q", h.Bytes())
	}
	if s, _ := h.Get("subject"); s != "Grüße there" {
		t.Errorf("subject %q", s)
	}
	if s, _ := h.Get("received"); s != "a\tb" {
		t.Errorf("received %q", s)
	}
	if n := h.Count("X-A"); n != 2 {
		t.Errorf("%d X-A", n)
	}
	if _, ok := h.Get("none"); ok {
		t.Error("a field that is not there")
	}
}

func TestHeaderEdits(t *testing.T) {
	h := ParseHeader([]byte(sample))
	c := h.Clone()
	for _, err := range []error{c.Prepend("X-Top", "top"), c.Append("X-End", "Grüße und mehr"), c.Replace("X-A", "3")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.Remove("Received", 1) != 1 || c.Remove("Received", 0) != 0 {
		t.Error("removed the wrong number")
	}
	want := "X-Top: top\r\nFrom x y\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= there\r\nX-A: 3\r\nno field\r\nX-End: =?utf-8?q?Gr=C3=BC=C3=9Fe?= und mehr\r\n"
	if got := string(c.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if string(h.Bytes()) != sample || h.Edited() || !c.Edited() {
		t.Error("the original changed with its clone")
	}
	for _, v := range [][2]string{{"X A", "v"}, {"", "v"}, {"X:A", "v"}, {"X-A", "v\r\nBcc: x"}, {"X-A", "a\nb"}, {"X-A", "\x00"}} {
		if h.Prepend(v[0], v[1]) == nil || h.Append(v[0], v[1]) == nil || h.Replace(v[0], v[1]) == nil {
			t.Errorf("%q was taken", v)
		}
	}
}

func TestFoldBounds(t *testing.T) {
	h := &Header{}
	for _, v := range []string{strings.Repeat("w", 5000), strings.Repeat("word ", 300), strings.Repeat("ü ", 500), "", " ", "a  b"} {
		if err := h.Append("X-Long", v); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(string(h.Bytes())) {
		if len(line) > 1000 {
			t.Errorf("a line of %d octets", len(line))
		}
		if strings.TrimSpace(line) == "" {
			t.Errorf("an empty line would end the header: %q", line)
		}
	}
	if n := ParseHeader(h.Bytes()).Count("X-Long"); n != 6 {
		t.Errorf("%d fields, want 6", n)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(sample), "X-Y", "välue")
	f.Add([]byte("\r\n"), "A", "")
	f.Add([]byte("A: b"), "A", strings.Repeat("x ", 100))
	f.Fuzz(func(t *testing.T, section []byte, name, value string) {
		n, _ := HeaderLen(section)
		h := ParseHeader(section[:n])
		if !bytes.Equal(h.Bytes(), section[:n]) {
			t.Fatal("not byte for byte")
		}
		for fl := range h.Fields() {
			_ = fl.Decoded()
		}
		before := h.Count(name)
		if h.Prepend(name, value) == nil && h.Count(name) != before+1 {
			t.Fatalf("%d fields %q after a prepend to %d", h.Count(name), name, before)
		}
		if h.Append(name, value) == nil {
			if strings.Contains(string(h.Bytes()[:len(h.Bytes())]), "\r\n\r\n") && !bytes.Contains(section[:n], []byte("\n\r\n")) {
				t.Fatalf("an edit made an empty line: %q", h.Bytes())
			}
		}
	})
}

func TestHeaderLen(t *testing.T) {
	for in, want := range map[string]int{"\r\nbody": 0, "A: b\r\n\r\nbody": 6, "A: b\r\n": 6, "": 0, "x": 1} {
		if n, _ := HeaderLen([]byte(in)); n != want {
			t.Errorf("%q: %d, want %d", in, n, want)
		}
	}
}

func TestStartsHeader(t *testing.T) {
	for in, want := range map[string]bool{
		"Subject: x\r\n": true, "Subject : x\r\n": true, "From a b\r\n": true, ">From a\r\n": true, "Sub": true, "": true,
		"plain text\r\n": false, ": x\r\n": false, " folded\r\n": false, "time is 10:30\r\n": false, "\r\n": false,
	} {
		if got := StartsHeader([]byte(in)); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
	if StartsHeader(bytes.Repeat([]byte("x"), 1000)) {
		t.Error("a line of a thousand letters is no field")
	}
}

func TestEdited(t *testing.T) {
	b := Edited{Head: []byte("HEAD"), Rest: Bytes("0123456789"), From: 3}
	got, err := io.ReadAll(NewReader(b))
	if err != nil || string(got) != "HEAD3456789" {
		t.Fatalf("%q %v", got, err)
	}
	p := make([]byte, 4)
	if n, err := b.ReadAt(p, 2); n != 4 || err != nil || string(p) != "AD34" {
		t.Errorf("%d %v %q", n, err, p)
	}
	if n, err := b.ReadAt(p, 9); n != 2 || err != io.EOF {
		t.Errorf("%d %v", n, err)
	}
}

func TestReceived(t *testing.T) {
	at := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	h := Hop{Helo: "cli(ent);\r\nX: y", By: "mx.example.net", With: "ESMTP", ID: "0abc", At: at, IP: mustLiteral(t, "[192.0.2.7]")}
	want := "Received: from cli?ent????X:?y (unknown [192.0.2.7])\r\n\tby mx.example.net with ESMTP id 0abc;\r\n\tTue, 03 Nov 2026 10:00:00 +0000\r\n"
	if got := string(h.Received()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNewID(t *testing.T) {
	a, b := NewID(time.UnixMilli(1e12)), NewID(time.UnixMilli(1e12+1))
	if !ValidID(a) || !ValidID(b) || a >= b || a == NewID(time.UnixMilli(1e12)) {
		t.Errorf("ids %s %s", a, b)
	}
	for _, s := range []string{"", "short", "has-dash1", strings.Repeat("x", 33), "../../etc"} {
		if ValidID(s) {
			t.Errorf("%q is no id", s)
		}
	}
}

func mustLiteral(t *testing.T, s string) (ip netip.Addr) {
	t.Helper()
	ip, ok := ParseLiteral(s)
	if !ok {
		t.Fatalf("%q is no literal", s)
	}
	return ip
}
