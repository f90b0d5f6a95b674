package dotqmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	list, err := Parse([]byte("# comment\n\n|exit 0 \t\n./Maildir/\n./mbox\n/var/x/\n&a@b\nc@d  \n+list\n+other\n  \n&last"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Instruction{
		{3, Program, "exit 0"},
		{4, Maildir, "./Maildir/"},
		{5, Mbox, "./mbox"},
		{6, Maildir, "/var/x/"},
		{7, Forward, "a@b"},
		{8, Forward, "c@d"},
		{9, List, "+list"},
		{12, Forward, "last"},
	}
	if !slices.Equal(list, want) {
		t.Errorf("got %+v", list)
	}
	for _, text := range []string{"\n", " \t\n&a@b\n"} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrBlank) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Parse([]byte("#\n|a\x00b\n")); err == nil || err.Error() != "line 2 holds a NUL" {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "\n", "|x\n./a/\n&b@c\n+list", "#\n \n.\n/\n&\n|", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Parse(text)
		if err != nil && list != nil {
			t.Fatal("a list and an error")
		}
		last := 0
		for _, i := range list {
			if i.Line <= last || i.Line > bytes.Count(text, []byte("\n"))+1 || strings.ContainsAny(i.Text, "\n\x00") || i.Kind > List {
				t.Fatalf("%+v", i)
			}
			last = i.Line
			if file := i.Kind == Mbox || i.Kind == Maildir; file && !strings.HasPrefix(i.Text, ".") && !strings.HasPrefix(i.Text, "/") {
				t.Fatalf("%+v", i)
			}
		}
	})
}

const table = `=joe:joe:1001:100:/home/joe:::
=JOE-x:joex:1002:100:/home/joex:-:Given:
+joe-:joe:1001:100:/home/joe:-::
+joe-list-:lists:1003:100:/home/lists:-:sub-:
+Joe-:second:9:9:/nowhere:-::
+:alias:1004:100:/var/alias:-::
.
not read
`

func TestAssign(t *testing.T) {
	a, errs := ParseAssign(strings.NewReader(table))
	if errs != nil || a.Len() != 5 {
		t.Fatal(errs)
	}
	for local, want := range map[string]string{
		"joe":          "joe 1001 100 /home/joe ||",
		"JOE":          "joe 1001 100 /home/joe ||",
		"joe-X":        "joex 1002 100 /home/joex -|Given|",
		"joe-Foo.Bar":  "joe 1001 100 /home/joe -|Foo.Bar|",
		"joe-":         "joe 1001 100 /home/joe -||",
		"Joe-List-A-b": "lists 1003 100 /home/lists -|sub-A-b|",
		"joey":         "alias 1004 100 /var/alias -|joey|",
		"":             "alias 1004 100 /var/alias -||",
	} {
		got, ok := a.Find(local)
		if s := fmt.Sprintf("%s %d %d %s %s|%s|", got.User, got.UID, got.GID, got.Home, got.Dash, got.Ext); !ok || s != want {
			t.Errorf("%q: %s", local, s)
		}
	}
	none, errs := ParseAssign(strings.NewReader(".\n"))
	if _, ok := none.Find("x"); ok || errs != nil {
		t.Error("found in an empty table")
	}
}

func TestAssignRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"":                             `line 1: the last line, a single ".", is missing`,
		"=a:b:1:1:/h:::\n":             `line 2: the last line, a single ".", is missing`,
		"=a:b:1:1:/h:::":               `line 1: the last line`,
		"=a:b:1:1:/h::\n.\n":           `line 1: has 6 of 7 colons`,
		"\n.\n":                        `line 1: is blank`,
		"a:b:1:1:/h:::\n.\n":           `line 1: begins with "a"`,
		"=a:b:-1:1:/h:::\n.\n":         `line 1: "-1" is no number of a user`,
		"=a:b:1:x:/h:::\n.\n":          `line 1: "x" is no number of a group`,
		"=a:b:1:1:h:::\n.\n":           `line 1: the home "h" does not begin with a slash`,
		"=a::1:1:/h:::\n.\n":           `line 1: names no user`,
		"=a:b\x00:1:1:/h:::\n.\n":      `line 1: holds a NUL`,
		"=a:b:1:1:/h:::\n.x\n":         `line 2: begins with "."`,
		strings.Repeat("x", maxLine+1): `line 1: is longer`,
	} {
		a, errs := ParseAssign(strings.NewReader(text))
		if a != nil || len(errs) == 0 || !strings.HasPrefix(errs[0].Error(), want) {
			t.Errorf("%.40q: %v", text, errs)
		}
	}
	if _, errs := ParseAssign(strings.NewReader(strings.Repeat("x\n", 1000))); len(errs) != maxErrors {
		t.Errorf("%d errors", len(errs))
	}
	if _, errs := ParseAssign(strings.NewReader("\n=a:b:1:1:/h:::\n=\n.\n")); len(errs) != 2 || errs[1].Line != 3 {
		t.Errorf("%v", errs)
	}
}

func FuzzAssign(f *testing.F) {
	f.Add([]byte(table), "joe-list-x")
	f.Add([]byte("=a:b:1:1:/h:-:x:\n.\n"), "A")
	f.Fuzz(func(t *testing.T, text []byte, local string) {
		a, errs := ParseAssign(bytes.NewReader(text))
		if (a == nil) == (errs == nil) {
			t.Fatal("neither a table nor errors, or both")
		}
		if a == nil {
			return
		}
		got, ok := a.Find(local)
		if ok && (got.User == "" || got.Home[0] != '/' || got.UID < 0) {
			t.Fatalf("%+v", got)
		}
		again, ok2 := a.Find(lowerASCII(local))
		if ok != ok2 || got.User != again.User {
			t.Fatal("case counts")
		}
	})
}

func TestVirtual(t *testing.T) {
	var v Virtual
	for _, line := range []string{"x@a.example:xa", "a.example:one", "a.example:two", ".example:below", "not.example:", "deep.a.example:", ".a.example:deeper"} {
		if err := v.Add(line); err != nil {
			t.Fatal(err)
		}
	}
	for address, want := range map[string]string{
		"X@A.example":        "xa-X",
		"y@a.example":        "two-y",
		"y@b.example":        "below-y",
		"y@not.example":      "y",
		"y@sub.not.example":  "below-y",
		"y@deep.a.example":   "y",
		"y@x.deep.a.example": "deeper-y",
		"y@other.test":       "y",
		"y@example":          "y",
	} {
		local, domain, _ := strings.Cut(address, "@")
		if got := v.Rewrite(local, domain); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	if err := v.Add(":all"); err != nil || v.Rewrite("y", "other.test") != "all-y" {
		t.Error(err, v.Rewrite("y", "other.test"))
	}
	for _, line := range []string{"example.net", "a b:c", "a:b@c", "a:b:c", "a:\x01"} {
		if v.Add(line) == nil {
			t.Errorf("%q is taken", line)
		}
	}
	if (*Virtual)(nil).Rewrite("x", "y") != "x" {
		t.Error("no table")
	}
}

func names(list []Candidate) (out []string) {
	for _, c := range list {
		s := c.File
		if c.Default != nil {
			s += "=" + *c.Default
		}
		out = append(out, s)
	}
	return out
}

func TestCandidates(t *testing.T) {
	for _, test := range []struct{ dash, ext, want string }{
		{"", "", ".qmail .qmaildefault="},
		{"-", "", ".qmail- .qmail-default="},
		{"-", "b-c-d", ".qmail-b-c-d .qmail-b-c-default=d .qmail-b-default=c-d .qmail-default=b-c-d"},
		{"-", "Foo.Bar", ".qmail-foo:bar .qmail-default=Foo.Bar"},
		{"-", "../x", ".qmail-::/x .qmail-default=../x"},
		{"-", "x-", ".qmail-x- .qmail-x-default= .qmail-default=x-"},
		{"-", "a-Default", ".qmail-a-default=Default .qmail-a-default=Default .qmail-default=a-Default"},
	} {
		if got := strings.Join(names(Candidates(test.dash, test.ext)), " "); got != test.want {
			t.Errorf("%q %q: %s", test.dash, test.ext, got)
		}
	}
	if Owner("-", "L.x") != ".qmail-l:x-owner" || OwnerDefault("-", "l") != ".qmail-l-owner-default" {
		t.Error("owner")
	}
}

func FuzzCandidates(f *testing.F) {
	f.Add("-", "a-b.c")
	f.Add("", "default")
	f.Fuzz(func(t *testing.T, dash, ext string) {
		for i, c := range Candidates("-", ext) {
			if strings.Contains(c.File[1:], ".") || !strings.HasPrefix(c.File, ".qmail-") {
				t.Fatalf("%q", c.File)
			}
			if i > 0 && (c.Default == nil || !strings.HasSuffix(ext, *c.Default)) {
				t.Fatalf("%q: %v", c.File, c.Default)
			}
		}
		if got := Candidates(dash, ext); len(got) != strings.Count(ext, "-")+2 {
			t.Fatalf("%d", len(got))
		}
	})
}

func TestNames(t *testing.T) {
	want := []Name{{"joe-x+y", "", ""}, {"joe-x", "-", "Y"}, {"joe", "-", "X+Y"}}
	if got := Names("Joe-X+Y", "-+"); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	long := strings.Repeat("x", 32)
	if got := Names(long+"-y", "-"); got != nil {
		t.Errorf("%+v", got)
	}
	if got := Names("-x", "-"); !slices.Equal(got, []Name{{"-x", "", ""}}) {
		t.Errorf("%+v", got)
	}
}

func TestExit(t *testing.T) {
	never := []int{100, 64, 65, 70, 76, 77, 78, 112}
	for status := -1; status < 256; status++ {
		want := NotNow
		switch {
		case status == 0:
			want = Done
		case status == 99:
			want = Stop
		case slices.Contains(never, status):
			want = Never
		}
		if Exit(status) != want {
			t.Errorf("%d: %d", status, Exit(status))
		}
	}
}

func TestEnviron(t *testing.T) {
	d := Delivery{
		Account: Account{User: "joe", Home: "/home/joe", Dash: "-", Ext: "a-b-c-d"}, Local: "joe-a-b-c-d", Host: "x.sub.example.net",
		Sender: "s p@client.example", ReturnPath: `"s p"@client.example`, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	matched := "c-d"
	got := d.Environ(&matched, "new@x")
	want := []string{
		"USER=joe", "HOME=/home/joe", "LOCAL=joe-a-b-c-d", "HOST=x.sub.example.net", "EXT=a-b-c-d",
		"RECIPIENT=joe-a-b-c-d@x.sub.example.net", "SENDER=s p@client.example", "NEWSENDER=new@x",
		"DTLINE=Delivered-To: joe-a-b-c-d@x.sub.example.net\n", "RPLINE=Return-Path: <\"s p\"@client.example>\n",
		"UFLINE=From s-p@client.example Fri Jan  2 03:04:05 2026\n",
		"HOST2=x.sub.example", "EXT2=b-c-d", "HOST3=x.sub", "EXT3=c-d", "HOST4=x", "EXT4=d", "DEFAULT=c-d",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	d = Delivery{Local: "a\nb", Host: "one"}
	if env := d.Environ(nil, ""); d.DTLine() != "Delivered-To: a_b@one\n" || !slices.Contains(env, "HOST4=one") || !slices.Contains(env, "EXT2=") ||
		!strings.HasPrefix(d.UFLine(), "From MAILER-DAEMON ") || d.RPLine() != "Return-Path: <>\n" || strings.HasPrefix(env[len(env)-1], "DEFAULT=") {
		t.Errorf("%q", env)
	}
}

func TestNewSender(t *testing.T) {
	for _, test := range []struct {
		sender         string
		owner, ownerDe bool
		want           string
	}{
		{"s@x", false, false, "s@x"},
		{"s@x", false, true, "s@x"},
		{"s@x", true, false, "l-owner@h"},
		{"s@x", true, true, "l-owner-@h-@[]"},
		{"", true, true, ""},
		{DoubleBounce, true, true, DoubleBounce},
	} {
		d := Delivery{Local: "l", Host: "h", Sender: test.sender}
		if got := d.NewSender(test.owner, test.ownerDe); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestLooping(t *testing.T) {
	const dt = "Delivered-To: a@b\n"
	long := strings.Repeat("x", 20_000)
	for text, want := range map[string]bool{
		dt:                             true,
		"A: b\n" + dt + "\nbody\n":     true,
		"A: b\n\n" + dt:                false,
		"Delivered-To: A@b\n\n":        false,
		" " + dt + "\n":                false,
		"Delivered-To: a@b":            false,
		long + dt + "\n":               false,
		long + "\n" + dt:               true,
		"":                             false,
		"X: y\nDelivered-To: a@b \n\n": false,
	} {
		if got, err := Looping(strings.NewReader(text), dt); got != want || err != nil {
			t.Errorf("%.60q: %v %v", text, got, err)
		}
	}
}

// mboxed is a message as it stands in an mbox file, written in pieces of n bytes.
func mboxed(t *testing.T, text string, n int) string {
	t.Helper()
	var b bytes.Buffer
	m := NewMbox(bufio.NewWriter(&b))
	for part := range slices.Chunk([]byte(text), n) {
		if _, err := m.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.End(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestMbox(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "\n",
		"a\n":                             "a\n\n",
		"a":                               "a\n\n",
		"From x\n>From y\n>>From z\n":     ">From x\n>>From y\n>>>From z\n\n",
		"From\nFrom\tx\nfrom x\n >From x": "From\nFrom\tx\nfrom x\n >From x\n\n",
		">\n>>F\nFromage\n>Fro":           ">\n>>F\nFromage\n>Fro\n\n",
		"x From y\n\nFrom ":               "x From y\n\n>From \n\n",
	} {
		for _, n := range []int{1, 2, 3, 1000} {
			if got := mboxed(t, text, n); got != want {
				t.Errorf("%q in pieces of %d: %q, want %q", text, n, got, want)
			}
		}
	}
}

func FuzzMbox(f *testing.F) {
	f.Add("a\nFrom b\n>From c", 2)
	f.Fuzz(func(t *testing.T, text string, n int) {
		got := mboxed(t, text, max(n, 1))
		var want strings.Builder
		for line := range strings.SplitAfterSeq(text, "\n") {
			if strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") {
				want.WriteByte('>')
			}
			want.WriteString(line)
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			want.WriteByte('\n')
		}
		want.WriteByte('\n')
		if !reflect.DeepEqual(got, want.String()) {
			t.Fatalf("got %q want %q", got, want.String())
		}
	})
}
