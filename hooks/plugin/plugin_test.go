package plugin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

func TestDescription(t *testing.T) {
	p := load(t, "probe", plugin.Options{Name: "site"})
	d := p.Description()
	if p.Name() != "site" || d.Name != "probe" || d.Version != "0.1" || d.About != "Does what tests ask for." {
		t.Errorf("names: %q, %+v", p.Name(), d)
	}
	want := []hooks.Stage{
		hooks.Connect, hooks.Helo, hooks.Mail, hooks.Rcpt, hooks.Headers, hooks.Message, hooks.Queue, hooks.Deny, hooks.Disconnect, hooks.Deferred,
	}
	if !slices.Equal(p.Stages(), want) {
		t.Errorf("stages %v", p.Stages())
	}
	if d.OnFailure != "pass" || d.Timeout != 5*time.Second || !slices.Equal(d.Immune, []string{"relaying"}) || d.Access != "whole" {
		t.Errorf("ways: %+v", d)
	}
	if s := d.Settings[0]; s.Name != "word" || s.Type != "string" || s.Doc != "what answers hold" || s.Default != "plain" || s.Required {
		t.Errorf("setting: %+v", s)
	}
	s := p.Status()
	if s.State != plugin.Running || s.PID == 0 || !alive(s.PID) || s.Restarts != 0 || s.LastError != "" || s.Path != program(t, "probe") {
		t.Errorf("status: %+v", s)
	}
	if err := p.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

// Every verb and every edit through a real chain and a real process.
func TestStages(t *testing.T) {
	p := load(t, "probe", plugin.Options{Settings: map[string]any{"word": "casino"}})
	chain := hooks.NewChain([]hooks.Entry{{Name: "probe", Handler: p}}, hooks.Options{})
	ctx := t.Context()

	tx := mail("someone")
	s := tx.Session
	s.Reverse = func(context.Context) string { return "host.example" }
	conn := hooks.NewTransaction(s, "")
	if d := chain.Run(ctx, hooks.Connect, conn); d.Verb != hooks.Pass {
		t.Errorf("connect: %+v", d)
	}
	if s.Notes["word"] != "casino" || s.Total() != 1.5 || !reflect.DeepEqual(s.Results["host"], map[string]any{"name": "host.example", "ip": "192.0.2.7"}) {
		t.Errorf("connect left %v, %v", s.Notes, s.Marks)
	}
	if d := chain.Run(ctx, hooks.Helo, conn); d.Verb != hooks.Reject || d.Reply.String() != "550 5.7.9 helo by probe: bye client.example" {
		t.Errorf("helo, by way of deny: %v %v", d.Verb, d.Reply)
	}

	other := &hooks.Recipient{Address: message.Address{Local: "first", Domain: "example.net"}}
	tx.Recipients = []*hooks.Recipient{other}
	for _, c := range []struct {
		rcpt string
		want hooks.Verb
		text string
	}{
		{"no", hooks.Reject, "550 5.7.9 rcpt by probe: No no@example.net here, 1 before"},
		{"drop", hooks.Discard, "0"},
		{"fine", hooks.Pass, "0"},
		{"move", hooks.Accept, "0"},
	} {
		tx.Current = &hooks.Recipient{Address: message.Address{Local: c.rcpt, Domain: "example.net"}}
		if d := chain.Run(ctx, hooks.Rcpt, tx); d.Verb != c.want || d.Reply.String() != c.text {
			t.Errorf("rcpt %s: %v %q", c.rcpt, d.Verb, d.Reply)
		}
	}
	if r := tx.Current; r.Address.String() != "moved@example.net" || r.Route != "smtp://127.0.0.1:26" {
		t.Errorf("moved recipient: %+v", r)
	}
	tx.Current = &hooks.Recipient{Address: message.Address{Local: "later", Domain: "example.net"}}
	if d, err := p.Handle(ctx, hooks.Rcpt, tx); err != nil || d.Verb != hooks.Defer || !d.Disconnect || d.Reply != message.NewReply(0, "4.2.1", "Come again: casino") {
		t.Errorf("later: %+v, %v", d, err)
	}
	tx.Current = nil

	tx.Header = message.ParseHeader([]byte("Subject: one\r\nX-Gone: 1\r\nX-Gone: 2\r\nX-Old: old\r\n"))
	chain.Run(ctx, hooks.Headers, tx)
	if got := string(tx.Header.Bytes()); got != "X-Subject: ONE\r\nSubject: one\r\nX-Old: new\r\n" {
		t.Errorf("header:\n%s", got)
	}
	tx.Body = message.Bytes("Subject: one\r\n\r\nbody\r\n")
	d := chain.Run(ctx, hooks.Message, tx)
	if d.Verb != hooks.Quarantine || d.Reason != "odd" || tx.Notes["read"] != 22.0 || tx.Notes["total"] != 0.0 {
		t.Errorf("message: %+v %v", d, tx.Notes)
	}
	if want := []any{"a", 1.0, true, nil, map[string]any{"k": 2.5}}; !reflect.DeepEqual(tx.Notes["list"], want) {
		t.Errorf("list: %#v", tx.Notes["list"])
	}
	if d := chain.Run(ctx, hooks.Queue, tx); d.Verb != hooks.Hold || tx.Received != "from here" || tx.Priority != -2 {
		t.Errorf("queue: %+v %+v", d, tx)
	}
	tx.Try = &hooks.Try{Attempt: 2, NextHop: "mx", Reply: message.NewReply(421, "4.3.2", "busy"), Age: time.Minute}
	d, err := p.Handle(ctx, hooks.Deferred, tx)
	if err != nil || d.Verb != hooks.Defer || d.After != 90*time.Second || d.Reply.Text != "attempt 2 to mx said 421 4.3.2 busy after 1m0s" {
		t.Errorf("deferred: %+v, %v", d, err)
	}
	if n := chain.Counts()[0]; n.Failures != 0 {
		t.Errorf("%d failures", n.Failures)
	}
}

func TestSettings(t *testing.T) {
	helo := func(p *plugin.Plugin) string {
		d, err := ask(t, p, hooks.Helo, mail("x"))
		if err != nil {
			t.Fatal(err)
		}
		return noteOf(d, "settings").(string)
	}
	one := load(t, "probe", plugin.Options{})
	two := load(t, "probe", plugin.Options{Dir: "/etc/postern", Settings: map[string]any{
		"word": "two", "count": int64(7), "ratio": int64(2), "wait": "2d", "limit": "1MiB", "paths": []any{"a.txt", "/b.txt"},
		"table": map[string]any{"k": "v"}, "odd": false,
	}})
	if got, want := helo(one), "plain3 0.5 1h30m0s 4096 [] map[] true"; got != want {
		t.Errorf("defaults %q, want %q", got, want)
	}
	if got, want := helo(two), "two7 2 48h0m0s 1048576 [/etc/postern/a.txt /b.txt] map[k:v] false"; got != want {
		t.Errorf("given %q, want %q", got, want)
	}
	if one.Status().PID == two.Status().PID {
		t.Error("two entries share a process")
	}
}

func TestSettingProblems(t *testing.T) {
	for _, c := range []struct {
		settings map[string]any
		want     []plugin.Problem
	}{
		{map[string]any{"wrod": "x", "count": "many", "paths": []any{"a", int64(1)}}, []plugin.Problem{
			{Key: "count", Text: `"many" does not fit; write a whole number, such as 5`},
			{Key: "paths[1]", Text: `1 does not fit; write the path of a file, such as "words.txt"`},
			{Key: "wrod", Text: `unknown setting; did you mean "word"?`},
		}},
		{map[string]any{"refuse": true}, []plugin.Problem{{Key: "refuse", Text: "is set; write false"}, {Text: "and more"}}},
	} {
		p, problems, err := plugin.Load(program(t, "probe"), plugin.Options{Settings: c.settings, TempDir: t.TempDir()})
		if err != nil || p != nil || !slices.Equal(problems, c.want) {
			t.Errorf("%v: %v, %v", c.settings, problems, err)
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	d, problems, err := plugin.Check(program(t, "probe"), plugin.Options{TempDir: dir})
	if err != nil || len(problems) > 0 || d.Name != "probe" {
		t.Errorf("%+v, %v, %v", d, problems, err)
	}
	_, problems, err = plugin.Check(program(t, "probe"), plugin.Options{TempDir: dir, Settings: map[string]any{"x": 1}})
	if err != nil || len(problems) != 1 || problems[0].Key != "x" {
		t.Errorf("%v, %v", problems, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnfit(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"missing", "there is no such file; build the plugin, or correct the path"},
		{".", "it is not a file"},
		{"plain.txt", "it is not executable; run chmod +x " + program(t, "plain.txt")},
		{"garbage", "it is no program for this machine"},
		{"interpreter", "its interpreter does not exist"},
		{"exits", "it ended before it was ready: the process ended: exit status 3; it said last: no license found"},
		{"silent", "it did not write the plugin handshake within 700ms"},
		{"chatty", `it wrote "hello there" instead of the plugin handshake; is it a plugin made with hooks/sdk?`},
		{"newer", `it speaks version "99" of the plugin protocol, this server version 1; it is newer: update the server, or build it with the hooks/sdk`},
		{"older", `it speaks version "0" of the plugin protocol, this server version 1; build it with the hooks/sdk`},
		{"netrpc", "it does not speak gRPC"},
		{"tcp", "it answers on a tcp address; only a unix socket will do"},
		{"elsewhere", "is not in the folder named by PLUGIN_UNIX_SOCKET_DIR"},
		{"nobody", "asking what it is: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			p, _, err := plugin.Load(program(t, c.name), plugin.Options{StartTimeout: 700 * time.Millisecond, TempDir: dir})
			if err == nil {
				p.Close()
				t.Fatal("loaded")
			}
			if text := err.Error(); !strings.Contains(text, c.want) || !strings.HasPrefix(text, "plugin: "+strings.TrimSuffix(program(t, c.name), "/")) {
				t.Errorf("error %q, want %q", text, c.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFolderTooLong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 60))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err := plugin.Load(program(t, "probe"), plugin.Options{TempDir: dir})
	if err == nil || !strings.Contains(err.Error(), "choose a folder that is ") {
		t.Errorf("%v", err)
	}
}

func TestChecksum(t *testing.T) {
	b, err := os.ReadFile(program(t, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	load(t, "probe", plugin.Options{SHA256: strings.ToUpper(hex.EncodeToString(sum[:]))})
	_, _, err = plugin.Load(program(t, "probe"), plugin.Options{SHA256: strings.Repeat("0", 64)})
	if err == nil || !strings.Contains(err.Error(), "its SHA-256 is "+hex.EncodeToString(sum[:])) {
		t.Errorf("wrong checksum: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_SERVER", "1")
	p := load(t, "probe", plugin.Options{Env: []string{"SITE=yes"}})
	d, err := ask(t, p, hooks.Helo, mail("x"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(noteOf(d, "env").(string)) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	want := []string{
		"LANG", "PATH", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "POSTERN_HOST_SOCKET", "POSTERN_PLUGIN", "SITE", "TMPDIR",
	}
	if !slices.Equal(names, want) {
		t.Errorf("environment %v, want %v", names, want)
	}
	if dir := noteOf(d, "dir"); dir != "/" {
		t.Errorf("working folder %v", dir)
	}
}

func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		_, _, err := plugin.Load(program(t, "probe"), plugin.Options{User: "root"})
		if err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("another account without being root: %v", err)
		}
		return
	}
	dir, err := os.MkdirTemp("", "user-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := load(t, "probe-file", plugin.Options{User: "nobody", TempDir: dir})
	if uid := note(t, p, "pid", "uid"); uid == 0.0 {
		t.Error("it runs as root")
	}
	tx := mail("x")
	tx.Body = message.Bytes("A: b\r\n\r\nbody")
	if d, err := ask(t, p, hooks.Message, tx); err != nil || noteOf(d, "read") != 12.0 {
		t.Errorf("message by file: %+v, %v", d, err)
	}
	if _, _, err := plugin.Load(program(t, "probe"), plugin.Options{User: "no-such-account"}); err == nil {
		t.Error("an unknown account was taken")
	}
}

// The three ways to the message, and sizes around their borders.
func TestBodies(t *testing.T) {
	dir := t.TempDir()
	head := "Subject: x\r\n\r\n"
	for _, name := range []string{"probe", "probe-file"} {
		p := load(t, name, plugin.Options{TempDir: dir})
		for _, size := range []int{0, 1, 256<<10 - len(head), 256<<10 + 1, 5 << 20} {
			tx := mail("x")
			tx.Body = message.Bytes(head + strings.Repeat("y", size))
			d, err := ask(t, p, hooks.Message, tx)
			if got, want := noteOf(d, "read"), float64(size+len(head)); err != nil || got != want {
				t.Errorf("%s: read %v of %v, %v", name, got, want, err)
			}
		}
		tx := mail("x")
		tx.Body = message.Bytes(nil)
		if d, err := ask(t, p, hooks.Message, tx); err != nil || noteOf(d, "read") != 0.0 {
			t.Errorf("%s: empty message: %v, %v", name, d, err)
		}
	}
	checkSpool(t, dir)
}

// checkSpool: no message stays in a private folder after its call.
func checkSpool(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*", "message-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestChecker(t *testing.T) {
	p := load(t, "checker", plugin.Options{Settings: map[string]any{"words": []any{"Casino"}}})
	chain := hooks.NewChain([]hooks.Entry{{Name: "checker", Handler: p}}, hooks.Options{})
	tx := mail("x")
	text := "Subject: the CASINO\r\n\r\nhello\r\n"
	tx.Header, tx.Body = message.ParseHeader([]byte("Subject: the CASINO\r\n")), message.Bytes(text)
	if d := chain.Run(t.Context(), hooks.Message, tx); d.Reply.String() != "554 5.7.1 Refused: the subject holds the word casino" {
		t.Errorf("%v %v", d.Verb, d.Reply)
	}
}

// The protocol alone is enough: no sdk, no go-plugin on the other side.
func TestPlainProgram(t *testing.T) {
	dir := t.TempDir()
	p := load(t, "plain", plugin.Options{TempDir: dir, Settings: map[string]any{"word": "hello"}})
	pid := p.Status().PID
	if d, err := ask(t, p, hooks.Mail, mail("a")); err != nil || d.Verb != hooks.Reject || d.Reply.Text != "hello a@example.org" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := p.Close(); err != nil || alive(pid) {
		t.Errorf("close: %v, alive: %v", err, alive(pid))
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Bytes that no string of the wire may hold come through as something.
func TestForeignBytes(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	tx := mail("pid")
	tx.Session.Helo = "\xff\xfe"
	tx.Session.Env = map[string]string{"\xff": "\xff"}
	tx.Params = []hooks.Param{{Key: "X", Value: "\xff"}}
	tx.Notes = map[string]any{"a\xff": "\xff", "n": 5, "odd": struct{ X int }{1}, "list": []string{"\xff"}}
	tx.Header = message.ParseHeader([]byte("Subject: \xff\x00\r\n"))
	if _, err := ask(t, p, hooks.Mail, tx); err != nil {
		t.Error(err)
	}
	d, err := ask(t, p, hooks.Helo, tx)
	if err != nil || d.Reply.Text != "bye \uFFFD" {
		t.Errorf("%+v, %v", d, err)
	}
}

// A plugin sees nothing of what its owner does to the transaction afterwards.
func TestEventIsTakenBefore(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	tx := mail("slow")
	tx.Notes = map[string]any{"a": 1}
	tx.Header = message.ParseHeader(bytes.Repeat([]byte("A: b\r\n"), 1000))
	if _, err := p.Handle(ctx, hooks.Mail, tx); err == nil {
		t.Fatal("in time")
	}
	for i := range 1000 { // the race detector watches
		tx.Notes[fmt.Sprint(i)] = i
	}
	tx.Session.Helo, tx.Sender.Local = "changed", "changed"
}

// The start of the body, and nothing of the rest.
func TestPrefix(t *testing.T) {
	p := load(t, "probe-prefix", plugin.Options{})
	tx := mail("x")
	tx.Header, tx.Body = message.ParseHeader([]byte("A: b\r\n")), message.Bytes("A: b\r\n\r\n0123456789abc")
	d, err := ask(t, p, hooks.Message, tx)
	if err != nil || noteOf(d, "prefix") != "0123456789" || noteOf(d, "cut") != true {
		t.Errorf("%+v, %v", d, err)
	}
}
