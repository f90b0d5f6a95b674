package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// call runs the program in an empty folder and returns its status and output.
func call(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(args, streams{strings.NewReader(in), &o, &e})
	return status, o.String(), e.String()
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func alone(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("POSTERN_CONFIG", "")
}

func TestExitStatuses(t *testing.T) {
	alone(t)
	for _, c := range []struct {
		args string
		want int
		says string
	}{
		{"status", exitOffline, "start it with postern serve"},
		{"reload", exitOffline, "no daemon answers"},
		{"queue retry --all --yes", exitOffline, "no daemon answers"},
		{"queue retry", exitUsage, "ids, a filter, or all"},
		{"queue delete nosuchid0 --older yesterday", exitUsage, "--older"},
		{"queue lsit", exitUsage, `did you mean "list"`},
		{"replay mail.mbox", exitUsage, `"mail.mbox": messages in files are named by --against`},
		{"queue list", exitDone, ""},
		{"queue list nosuchid0", exitNo, "no such message"},
		{"queue show nosuchid0", exitNo, "no such message"},
		{"queue summary --json", exitDone, ""},
		{"why nosuchid0", exitNo, "nothing is known"},
		{"why", exitUsage, "--help"},
		{"srve", exitUsage, "serve"},
		{"serve --fast", exitUsage, "--fast"},
		{"check -c none.toml", exitUsage, "none.toml"},
		{"check", exitDone, ""},
		{"policy show greylst", exitNo, `did you mean "greylist"`},
		{"policy show greylist", exitDone, ""},
		{"policy list --json", exitDone, ""},
		{"plugin check ./nothing", exitNo, "nothing"},
		{"send --to a@b.example --server 127.0.0.1:1 none.eml", exitUsage, "none.eml"},
		{"send -", exitUsage, "--to"},
		{"inject --from a@b@c d@e.example", exitUsage, "--from"},
		{"inject --from a@b.example d@@e", exitUsage, "recipient"},
	} {
		status, _, errs := call(t, "", strings.Fields(c.args)...)
		if status != c.want || !strings.Contains(errs, c.says) {
			t.Errorf("postern %s: %d %q, want %d and %q", c.args, status, errs, c.want, c.says)
		}
	}
}

func TestCheckTellsEverything(t *testing.T) {
	alone(t)
	write(t, "rules.tcp", ":allow\n1.2.3.4\n")
	write(t, "bad.lua", "local p = policy { about = \"x\" }\nfunction p.rcpt(tx) retrun end\nreturn p\n")
	write(t, "postern.toml", `[limits]
hopps = 3
[[listen]]
address = "127.0.0.1:0"
rules = "rules.tcp"
[[domain]]
name = "example.net"
recipients = "any"
[[route]]
to_domain = ["*"]
next_hop = "mx"
[[policy]]
use = "greylst"
[[policy]]
use = "./bad.lua"
[[policy]]
use = "greylist"
delay = "soon"
[[policy]]
use = "./none.lua"
`)
	status, out, _ := call(t, "", "check")
	if status != exitNo {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		`postern.toml:2: limits.hopps`, `rules.tcp:2: rules: "1.2.3.4" has no colon`, `postern.toml:13: policy.use: no policy is called "greylst"; did you mean "greylist"?`,
		"bad.lua:2: ", "postern.toml:18: policy.delay: ", "postern.toml:20: policy.use: the script can't be read",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
}

// A site's script comes before the shipped one of its name.
func TestSiteScriptWins(t *testing.T) {
	alone(t)
	write(t, "policies/greylist.lua", "return policy { about = \"Ours.\" }\n")
	if _, out, _ := call(t, "", "policy", "show", "greylist", "--source"); !strings.Contains(out, "Ours.") {
		t.Errorf("shown: %s", out)
	}
	write(t, "policies/helo.lua", "") // as "> policies/helo.lua" does first
	if _, out, _ := call(t, "", "policy", "show", "helo", "--source"); !strings.HasPrefix(out, "-- helo:") {
		t.Errorf("shown: %.100s", out)
	}
}

// With the daemon down, a message is stored for its next start.
func TestInjectOffline(t *testing.T) {
	alone(t)
	status, out, errs := call(t, "Subject: x\n\nbody\n", "inject", "--from", "a@b.example", "c@d.example", "postmaster")
	if status != exitDone || !strings.Contains(out, "until the daemon starts") {
		t.Fatalf("%d %q %q", status, out, errs)
	}
	n := 0
	err := queue.TakeDrops("var/drop", slog.New(slog.DiscardHandler), func(d queue.Drop, _ io.Reader) error {
		n++
		if d.Sender.String() != "a@b.example" || len(d.Recipients) != 2 || d.Recipients[1].Domain == "" {
			t.Errorf("%+v", d)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("%d drops, %v", n, err)
	}
}

// server answers a dialogue with the replies of a script, a line each, and
// returns what the client said.
func server(t *testing.T, replies ...string) (addr string, said func() []string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var done sync.WaitGroup
	done.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		data := false
		for _, reply := range replies {
			if _, err := c.Write([]byte(reply + "\r\n")); err != nil {
				return
			}
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				lines = append(lines, line)
				if !data || line == ".\r\n" {
					data = line == "DATA\r\n"
					break
				}
			}
		}
	})
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String(), func() []string { done.Wait(); return lines }
}

func TestSend(t *testing.T) {
	addr, said := server(t, "220 x", "250-x\r\n250 PIPELINING", "250 ok", "250 ok", "550 5.1.1 no", "354 go", "250 2.0.0 queued as X", "221 bye")
	status, out, errs := call(t, ".\nSubject: x\r\n\n..\nlast", "send", "--server", addr, "--helo", "me.example", "--from", "a@b.example", "--to", "c@d.example", "--to", "e@f.example", "-")
	if status != exitNo || !strings.Contains(errs, "e@f.example: 550") || !strings.Contains(out, "<- 250 2.0.0 queued as X") {
		t.Errorf("%d %q %q", status, out, errs)
	}
	want := []string{
		"EHLO me.example\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n", "RCPT TO:<e@f.example>\r\n", "DATA\r\n",
		"..\r\n", "Subject: x\r\n", "\r\n", "...\r\n", "last\r\n", ".\r\n", "QUIT\r\n",
	}
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("said %q", got)
	}
}

func TestSendNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	if status, _, errs := call(t, "x\n", "send", "--server", addr, "--to", "a@b.example", "-"); status != exitUsage || !strings.Contains(errs, "is the server running") {
		t.Errorf("%d %q", status, errs)
	}
}

func TestPasswd(t *testing.T) {
	for _, scheme := range auth.Schemes() {
		status, out, errs := call(t, "secret\n", "passwd", "--scheme", scheme, "joe@example.net")
		if status != exitDone || !strings.HasPrefix(out, "joe@example.net:$") {
			t.Fatalf("%s: %d %q %q", scheme, status, out, errs)
		}
		if n, problems := auth.ParsePasswords("users", strings.NewReader(out)); n != 1 || len(problems) > 0 {
			t.Errorf("%s: %d users, %v", scheme, n, problems)
		}
	}
	for _, args := range [][]string{{"passwd", "a:b"}, {"passwd", "--scheme", "rot13", "a"}, {"passwd"}} {
		if status, _, _ := call(t, "x\n", args...); status != exitUsage {
			t.Errorf("%q: %d", args, status)
		}
	}
}

func TestDoubleBounceTo(t *testing.T) {
	alone(t)
	for text, want := range map[string]string{
		"": "",
		"[[domain]]\nname = \"mx.example.net\"\nrecipients = \"any\"\n": "postmaster@mx.example.net",
		"[queue]\ndouble_bounce_to = \"boss@example.org\"\n":            "boss@example.org",
	} {
		write(t, "postern.toml", "[server]\nhostname = \"mx.example.net\"\n"+text)
		c, problems := config.Load("postern.toml", config.Options{})
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		if got := doubleBounceTo(c).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestNeedRestart(t *testing.T) {
	old := &config.Config{Server: config.Server{DataDir: "a"}, Listen: []config.Listen{{Name: "x", Address: "1"}}}
	now := &config.Config{Server: config.Server{DataDir: "b"}, Listen: []config.Listen{{Name: "x", Address: "2"}}}
	if got := needRestart(old, now); !slices.Equal(got, []string{"server.data_dir", "listen"}) {
		t.Error(got)
	}
	if got := needRestart(old, old); len(got) != 0 {
		t.Error(got)
	}
}

func TestDestination(t *testing.T) {
	c := &config.Config{Routes: []config.Route{
		{ToDomain: []string{"hub.example"}, NextHop: config.NextHop{Scheme: "smtp", Host: "192.0.2.1", Port: 25}},
		{ToDomain: []string{"*"}, NextHop: config.NextHop{Scheme: "mx"}},
	}}
	m := &queue.Message{Recipients: []queue.Recipient{
		{Address: message.Address{Local: "a", Domain: "hub.example"}},
		{Address: message.Address{Local: "a", Domain: "x.example"}},
		{Address: message.Address{Local: "a", Domain: "x.example"}, Route: "smtp://192.0.2.9"},
	}}
	for i, want := range []string{"smtp://192.0.2.1:25", "x.example", "smtp://192.0.2.9"} {
		if got := destinations(c)(m, i); got != want {
			t.Errorf("%d: %q, want %q", i, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31m\x9bü\t"); got != "a?[31m?ü\t" && got != "a?[31m\uFFFDü\t" {
		t.Errorf("%q", got)
	}
	if !errors.Is(usageError{os.ErrNotExist}, os.ErrNotExist) {
		t.Error("a usage error hides its cause")
	}
}

// The names of shipped plugins, for who has not built them.
func TestShippedPlugins(t *testing.T) {
	folders, err := filepath.Glob("../../plugins/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range folders {
		names = append(names, filepath.Base(one))
	}
	if !slices.Equal(names, shippedPlugins()) {
		t.Errorf("plugins/ has %q", names)
	}
	alone(t)
	write(t, "postern.toml", "[[policy]]\nuse = \"rspamd\"\n")
	if _, out, _ := call(t, "", "check"); !strings.Contains(out, "postern.toml:2: policy.use: rspamd is a plugin, a program of its own, and is not in ") || !strings.Contains(out, "go build -o DIR ./plugins/rspamd") {
		t.Errorf("check says %s", out)
	}
}

// A profile calls itself by the name it is written under, and tells of each file.
func TestInitNames(t *testing.T) {
	alone(t)
	if _, _, errs := call(t, "", "init", "submission", "mail.toml"); !strings.HasPrefix(errs, "mail.toml is written, with submission.users; look for <<") {
		t.Errorf("init says %s", errs)
	}
	b, err := os.ReadFile("mail.toml")
	if err != nil || !strings.Contains(string(b), "postern serve -c mail.toml\n") || strings.Contains(string(b), "submission.toml") {
		t.Errorf("%v:\n%.400s", err, b)
	}
}

// Paths in the settings of a script count from the configuration, wherever the script is.
func TestFilesOfSiteScripts(t *testing.T) {
	alone(t)
	write(t, "policies/mine.lua", "local p = policy { about = \"x\", settings = { f = file \"\", l = list(string) {} } }\nassert(#p.l == 0 or p.f.lines[1] == \"one\" and p.l[1] == \"one\")\nfunction p.mail() return nil, p end\nreturn p\n")
	write(t, "words.txt", "one\n")
	write(t, "postern.toml", "[[policy]]\nuse = \"mine\"\nf = \"words.txt\"\nl = \"@words.txt\"\n")
	if status, out, _ := call(t, "", "check"); status != 0 {
		t.Errorf("check says %s", out)
	}
}
