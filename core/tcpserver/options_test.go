package tcpserver

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseArgs(t *testing.T) {
	env := func(name string) string { return map[string]string{"UID": "1000", "GID": "100"}[name] }
	one, two := 1000, 100
	for _, c := range []struct {
		args string
		want Options
	}{
		{"0 25 prog -v", Options{Verbosity: 1, Limit: 40, Backlog: 20, RemoteHost: true, RemoteInfo: true, IdentTimeout: 26 * time.Second, Host: "0", Port: "25", Program: []string{"prog", "-v"}}},
		{"-vRHl0 -c 3 -xf -X -- :: smtp p", Options{Verbosity: 2, Limit: 3, Rules: "f", AllowNoRules: true, Backlog: 20, LocalHost: "0", IdentTimeout: 26 * time.Second, Host: "::", Port: "smtp", Program: []string{"p"}}},
		{"-UDoph1 -b5 -t 7 -B 220 -q 0 25 p", Options{Limit: 40, Backlog: 5, UID: &one, GID: &two, NoDelay: true, KeepOptions: true, Paranoid: true, PrintPort: true, Banner: "220", RemoteHost: true, RemoteInfo: true, IdentTimeout: 7 * time.Second, Host: "0", Port: "25", Program: []string{"p"}}},
		{"-Q -u 1000 -g 100 -DdoOpPHhRr 0 25 p", Options{Verbosity: 1, Limit: 40, Backlog: 20, UID: &one, GID: &two, RemoteHost: true, RemoteInfo: true, IdentTimeout: 26 * time.Second, Host: "0", Port: "25", Program: []string{"p"}}},
	} {
		got, err := ParseArgs(strings.Fields(c.args), env)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.args, got, err)
		}
	}
	for args, want := range map[string]string{
		"0 25":          "a program",
		"-z 0 25 p":     "no option -z",
		"-c":            "needs a value",
		"-c 0 0 25 p":   "from 1 to",
		"-c -1 0 25 p":  "no number",
		"-t x 0 25 p":   "no number",
		"-u root 0 1 p": "no number",
	} {
		if _, err := ParseArgs(strings.Fields(args), env); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if _, err := ParseArgs([]string{"-U", "0", "25", "p"}, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "UID") {
		t.Error(err)
	}
}

func TestIdentUser(t *testing.T) {
	for line, want := range map[string]string{
		"6193, 23 : USERID : UNIX : stjohns\r\n":       "stjohns",
		"6193,23:USERID:UNIX,US-ASCII:a:b c\n":         "a:b c",
		"6193, 23 : ERROR : NO-USER\r\n":               "",
		"6193, 23 : ERROR : X : Y\r\n":                 "",
		"6193, 23 : USERID : UNIX : cut off":           "",
		"6193, 23 : USERID : UNIX : with\x00a NUL\r\n": "",
		"": "",
		"6193, 23 : userid : OTHER : MixedCase\t \r\n":       "MixedCase",
		"6193, 23 : USERID : UNIX :\r\n":                     "",
		"nonsense\n":                                         "",
		"1,2:USERID:UNIX:" + strings.Repeat("x", 500) + "\n": strings.Repeat("x", 500),
	} {
		if got := identUser(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What stands in a line of the log never ends it or adds parts to it.
func FuzzSafe(f *testing.F) {
	f.Add("a:b\n%c\x7f")
	f.Fuzz(func(t *testing.T, s string) {
		out := safe(s)
		if len(out) > 103 || strings.ContainsFunc(out, func(r rune) bool { return r < 33 || r > 126 || r == ':' || r == '%' }) {
			t.Errorf("%q", out)
		}
		identUser(s)
	})
}
