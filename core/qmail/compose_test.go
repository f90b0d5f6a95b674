package qmail

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func composer() *Composer {
	return &Composer{
		DefaultHost: "host", DefaultDomain: "dom.example", PlusDomain: "plus.example", IDHost: "id.example", User: "joe", FromHeader: true,
		Now: time.Date(2026, 11, 3, 1, 2, 3, 0, time.UTC), PID: 77,
	}
}

// Addresses of a header, and what becomes of them.
func TestRewriting(t *testing.T) {
	for in, want := range map[string]string{
		"a":                        "a@host.dom.example",
		"a@b":                      "a@b.dom.example",
		"a@b+":                     "a@b.plus.example",
		"a@b.c":                    "a@b.c",
		"a@[192.0.2.1]":            "a@[192.0.2.1]",
		"a b c@d.e":                "a@host.dom.example,\n  b@host.dom.example,\n  c@d.e",
		"a, b@c.d":                 "a@host.dom.example,\n  b@c.d",
		"a,,b,":                    "a@host.dom.example,\n  b@host.dom.example",
		"Joe Shmoe <joe@x>":        "Joe Shmoe <joe@x.dom.example>",
		`"Joe, S." <joe@x.y>, k`:   "\"Joe, S.\" <joe@x.y>,\n  k@host.dom.example",
		"<@r1,@r2:a@b.c>":          "<a@b.c>",
		"a (Joe (the) one)":        "a@host.dom.example (Joe (the) one)",
		"(x) a@b.c (y)":            "(x) a@b.c (y)",
		"friends: a, b@c.d;":       "friends: a@host.dom.example,\n  b@c.d;",
		"friends: ;":               "friends: ;",
		"x: a; , b@c.d":            "x: a@host.dom.example;,\n  b@c.d",
		`"a b"@c.d`:                `"a b"@c.d`,
		"first.last @ c . d":       "first.last@c.d",
		"a@b.c d@e.f":              "a@b.c,\n  d@e.f",
		"<>":                       "<>",
		`"quo\"te" <q@x.y> (note)`: `"quo\"te" <q@x.y> (note)`,
	} {
		c := composer()
		list, err := parseList(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		for _, one := range list {
			if one.address != nil {
				c.rewrite(one.address)
			}
		}
		if got := writeList(list); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"a@", "@b", "<a", "a>", "(a", `"a`, "[a", "x: a", "a;", "x: y: a;;", "a@b@c", "<a b>", ".a@b", "<a> b"} {
		if list, err := parseList(in); err == nil && in != "<a> b" {
			t.Errorf("%q is %q", in, writeList(list))
		}
	}
}

func compose(t *testing.T, c *Composer, in string) (out, envelope string) {
	t.Helper()
	m, err := c.Compose(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Head) + string(body), fmt.Sprint(m.Sender, " ", m.Recipients)
}

const added = "Date: 3 Nov 2026 01:02:03 -0000\nMessage-ID: <20261103010203.77.qmail@id.example>\nFrom: joe@host.dom.example\n"

func TestCompose(t *testing.T) {
	for _, c := range []struct {
		name         string
		set          func(*Composer)
		in           string
		out, envelop string
	}{
		{"all is added, above what is there", nil, "To: a@b.c\nSubject: x\n\nbody\n", added + "To: a@b.c\nSubject: x\n\nbody\n", "joe@host.dom.example [a@b.c]"},
		{"nobody is named", nil, "Subject: x\n\nbody\n", added + "Cc: recipient list not shown: ;\nSubject: x\n\nbody\n", "joe@host.dom.example []"},
		{"an empty message", nil, "", added + "Cc: recipient list not shown: ;\n\n", "joe@host.dom.example []"},
		{"a body without a header", nil, "no header\n", added + "Cc: recipient list not shown: ;\n\nno header\n", "joe@host.dom.example []"},
		{"a body begins where no field is", nil, "To: a@b.c\nno field\nx\n", added + "To: a@b.c\n\nno field\nx\n", "joe@host.dom.example [a@b.c]"},
		{"a line of a mailbox", nil, "From joe Tue Nov  3\nTo: a@b.c\n\nx\n", added + "MBOX-Line: From joe Tue Nov  3\nTo: a@b.c\n\nx\n", "joe@host.dom.example [a@b.c]"},
		{"blind copies, and what is removed", nil, "To: a@b.c\nBcc: d\nReturn-Path: <r@s.t>\nContent-Length: 3\nApparently-To: e@f.g\n\nx\n", added + "To: a@b.c\nApparently-To: e@f.g\n\nx\n", "r@s.t [a@b.c d@host.dom.example e@f.g]"},
		{"folded", nil, "To: a@b.c,\n\td@e.f\nSubject: x\n y\n\n", added + "To: a@b.c,\n  d@e.f\nSubject: x\n y\n\n", "joe@host.dom.example [a@b.c d@e.f]"},
		{"CRLF", nil, "To: a@b.c\r\nSubject: x\r\n\r\nbody\r\n", added + "To: a@b.c\nSubject: x\n\nbody\r\n", "joe@host.dom.example [a@b.c]"},
		{"resent", nil, "To: a@b.c\nFrom: x@y.z\nDate: then\nMessage-ID: <1@x>\nResent-To: d@e.f\nResent-Bcc: g@h.i\n\n", strings.ReplaceAll("R-"+strings.ReplaceAll(added, "\n", "\nR-"), "R-", "Resent-")[:len(added)+3*len("Resent-")] + "To: a@b.c\nFrom: x@y.z\nDate: then\nMessage-ID: <1@x>\nResent-To: d@e.f\n\n", "joe@host.dom.example [d@e.f g@h.i]"},
		{"a To that is none", nil, "To: a@\nCc: d@e.f\n\n", added + "To: a@\nCc: d@e.f\n\n", "joe@host.dom.example [d@e.f]"},
		{"arguments alone", func(c *Composer) { c.FromHeader, c.Recipients = false, []string{"z@z.z"} }, "To: a@b.c\n\n", added + "To: a@b.c\n\n", "joe@host.dom.example [z@z.z]"},
		{"both", func(c *Composer) { c.Recipients = []string{"z@z.z"} }, "To: a@b.c\n\n", added + "To: a@b.c\n\n", "joe@host.dom.example [z@z.z a@b.c]"},
		{"quoted for the envelope", nil, `To: "a b"@c.d` + "\n\n", added + `To: "a b"@c.d` + "\n\n", "joe@host.dom.example [a b@c.d]"},
		{"a sender", func(c *Composer) { c.Sender, c.HasSender = "", true }, "To: a@b.c\nReturn-Path: <r@s.t>\n\n", added + "To: a@b.c\n\n", " [a@b.c]"},
		{"s", func(c *Composer) { c.IgnoreReturnPath, c.SUser, c.SHost = true, "su", "sh.x" }, "To: a@b.c\nReturn-Path: <r@s.t>\n\n", added + "To: a@b.c\n\n", "su@sh.x [a@b.c]"},
		{"f and i", func(c *Composer) { c.DropFrom, c.DropMessageID = true, true }, "From: x@y.z\nMessage-ID: <1@x>\nTo: a@b.c\n\n", added + "To: a@b.c\n\n", "joe@host.dom.example [a@b.c]"},
		{"r", func(c *Composer) { c.VERP = true }, "To: a@b.c\n\n", added + "To: a@b.c\n\n", "joe-@host.dom.example-@[] [a@b.c]"},
		{"m", func(c *Composer) { c.UniqueSender = true }, "To: a@b.c\n\n", added + "To: a@b.c\n\n", "joe-1793667723.77@host.dom.example [a@b.c]"},
		{"a name", func(c *Composer) { c.Name = "Joe S. (x)" }, "To: a@b.c\n\n", strings.Replace(added, "joe@host.dom.example", `"Joe S. (x)" <joe@host.dom.example>`, 1) + "To: a@b.c\n\n", "joe@host.dom.example [a@b.c]"},
		{"c", func(c *Composer) { c.Name, c.CommentName = "Joe (x)", true }, "To: a@b.c\n\n", strings.Replace(added, "joe@host.dom.example", `joe@host.dom.example (Joe \(x\))`, 1) + "To: a@b.c\n\n", "joe@host.dom.example [a@b.c]"},
		{"a list", func(c *Composer) { c.Lists = []string{"L@b.c"} }, "To: l@b.c, d@e.f\nCc: g\n\n", added + "Mail-Followup-To: l@b.c,\n  d@e.f,\n  g@host.dom.example\nTo: l@b.c,\n  d@e.f\nCc: g@host.dom.example\n\n", "joe@host.dom.example [l@b.c d@e.f g@host.dom.example]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			by := composer()
			if c.set != nil {
				c.set(by)
			}
			out, envelope := compose(t, by, c.in)
			if out != c.out || envelope != c.envelop {
				t.Errorf("got\n%s%s\nwant\n%s%s", out, envelope, c.out, c.envelop)
			}
		})
	}
	for _, in := range []string{"From: a@\nTo: b@c.d\n\n", "Reply-To: (\n\n", "Sender: <x\n\n"} {
		if _, err := composer().Compose(strings.NewReader(in)); !errors.Is(err, ErrHeader) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzCompose(f *testing.F) {
	f.Add("To: a@b.c, x: d;, E <f@g.h> (i)\nFrom: j\n\nbody")
	f.Add("From x\nResent-To: \"a\\\"b\"@[1]\n")
	f.Fuzz(func(t *testing.T, in string) {
		m, err := composer().Compose(strings.NewReader(in))
		if err != nil {
			return
		}
		// What was completed once has nothing to be completed.
		c := composer()
		again, err := c.Compose(strings.NewReader(string(m.Head)))
		if err != nil || string(again.Head) != string(m.Head) {
			t.Fatalf("%q becomes %q, then %q, %v", in, m.Head, again.Head, err)
		}
	})
}
