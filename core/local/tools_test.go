package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// toolOn is a tool on a message, and what it handed over.
func toolOn(t *testing.T, env map[string]string, handErr error) (tool *Tool, said, handed *bytes.Buffer) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(name, []byte("A: b\n\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	said, handed = new(bytes.Buffer), new(bytes.Buffer)
	return &Tool{Name: "tool", Getenv: func(k string) string { return env[k] }, In: f, Out: said, Err: said, Hand: func(_ context.Context, sender string, to []string, body io.Reader) (string, error) {
		text, err := io.ReadAll(body)
		fmt.Fprintf(handed, "%q %q %q", sender, to, text)
		return "ID", errors.Join(err, handErr)
	}}, said, handed
}

func TestTools(t *testing.T) {
	env := map[string]string{"NEWSENDER": "n@s", "DTLINE": "D: t\n", "RPLINE": "R: p\n", "UFLINE": "From u\n"}
	bounce := map[string]string{"DTLINE": "D: t\n", "RPLINE": "R: p\n"}
	const whole = `"n@s" ["a@b"] "D: t\nA: b\n\nx\n"`
	type run = func(*Tool) int
	ctx := t.Context()
	redirect := func(args ...string) run { return func(t *Tool) int { return t.CondRedirect(ctx, args) } }
	except := func(args ...string) run { return func(t *Tool) int { return t.Except(ctx, args) } }
	saying := func(args ...string) run { return func(t *Tool) int { return t.BounceSaying(ctx, args) } }
	preline := func(args ...string) run { return func(t *Tool) int { return t.Preline(ctx, args) } }
	forward := func(args ...string) run { return func(t *Tool) int { return t.Forward(ctx, args) } }
	for name, test := range map[string]struct {
		run    run
		env    map[string]string
		fails  error
		status int
		said   string
		handed string
	}{
		"forward":               {forward("a@b"), env, nil, 0, "tool: qp ID", whole},
		"forward of a bounce":   {forward("a@b"), bounce, nil, 0, "tool: qp ID", `"" ["a@b"] "D: t\nA: b\n\nx\n"`},
		"forward elsewhere":     {forward("a@b"), nil, nil, 100, "tool: NEWSENDER or DTLINE is not set: this is for lines of .qmail files", ""},
		"forward to nobody":     {forward(), env, nil, 100, "tool: usage: forward ADDRESS...", ""},
		"forward refused":       {forward("a@b"), env, ErrRefused, 100, "tool: refused", whole},
		"forward deferred":      {forward("a@b"), env, io.ErrClosedPipe, 111, "tool: io: read/write on closed pipe", whole},
		"redirect":              {redirect("a@b", "grep", "-q", "^x"), env, nil, 99, "tool: qp ID", whole},
		"redirect not":          {redirect("a@b", "grep", "-q", "^y"), env, nil, 0, "", ""},
		"redirect unsure":       {redirect("a@b", "sh", "-c", "exit 111"), env, nil, 111, "tool: the program could not tell now", ""},
		"redirect crash":        {redirect("a@b", "sh", "-c", "kill -9 $$"), env, nil, 111, "tool: the program crashed", ""},
		"redirect by nothing":   {redirect("a@b"), env, nil, 100, "tool: usage: condredirect ADDRESS PROGRAM [ARGUMENT...]", ""},
		"except":                {except("true"), env, nil, 99, "", ""},
		"except not":            {except("false"), env, nil, 0, "", ""},
		"except refused":        {except("sh", "-c", "exit 100"), env, nil, 0, "", ""},
		"except no program":     {except("/nowhere"), env, nil, 111, "tool: fork/exec /nowhere: no such file or directory", ""},
		"saying":                {saying("no"), env, nil, 100, "no", ""},
		"saying if":             {saying("no", "true"), env, nil, 100, "no", ""},
		"saying if not":         {saying("no", "false"), env, nil, 0, "", ""},
		"preline":               {preline("cat"), env, nil, 0, "From u\nR: p\nD: t\nA: b\n\nx", ""},
		"preline with less":     {preline("-fd", "--", "cat"), env, nil, 0, "R: p\nA: b\n\nx", ""},
		"preline status":        {preline("sh", "-c", "exit 42"), env, nil, 42, "", ""},
		"preline unread":        {preline("true"), env, nil, 0, "", ""},
		"preline unknown":       {preline("-x", "cat"), env, nil, 100, "tool: unknown flag -x", ""},
		"preline outside":       {preline("cat"), nil, nil, 100, "tool: UFLINE is not set: this is for lines of .qmail files", ""},
		"preline without lines": {preline("-frd", "cat"), nil, nil, 0, "A: b\n\nx", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tool, said, handed := toolOn(t, test.env, test.fails)
			status := test.run(tool)
			if status != test.status || strings.TrimSpace(said.String()) != test.said || handed.String() != test.handed {
				t.Errorf("status %d, said %q, handed %s", status, said, handed)
			}
		})
	}
}

func TestReceipt(t *testing.T) {
	const asked = "Subject: x\nmessage-id: <1@s.example>\nNOTICE-requested-upon-delivery-to: Other <o@x.example>,\n  Me@X.example (me)\n\nbody\n"
	env := map[string]string{"SENDER": "a b@s.example", "RPLINE": "Return-Path: <a b@s.example>\n"}
	for name, test := range map[string]struct {
		message string
		env     map[string]string
		args    []string
		fails   error
		status  int
		sent    bool
	}{
		"asked":           {asked, env, []string{"me@x.example"}, nil, 0, true},
		"of another":      {asked, env, []string{"you@x.example"}, nil, 0, false},
		"not asked":       {"Subject: x\n\nNotice-Requested-Upon-Delivery-To: me@x.example\n", env, []string{"me@x.example"}, nil, 0, false},
		"no header":       {"", env, []string{"me@x.example"}, nil, 0, false},
		"no list":         {"Notice-Requested-Upon-Delivery-To: <<me@x.example\n\n", env, []string{"me@x.example"}, nil, 0, false},
		"of a bounce":     {asked, map[string]string{"RPLINE": "Return-Path: <>\n"}, []string{"me@x.example"}, nil, 0, false},
		"of a double one": {asked, map[string]string{"SENDER": "#@[]", "RPLINE": "x"}, []string{"me@x.example"}, nil, 0, false},
		"of a program's":  {"Auto-Submitted: auto-replied; x=y\n" + asked, env, []string{"me@x.example"}, nil, 0, false},
		"of a person's":   {"Auto-Submitted: No\n" + asked, env, []string{"me@x.example"}, nil, 0, true},
		"elsewhere":       {asked, nil, []string{"me@x.example"}, nil, 100, false},
		"of nobody":       {asked, env, nil, nil, 100, false},
		"refused":         {asked, env, []string{"me@x.example"}, ErrRefused, 100, true},
		"deferred":        {asked, env, []string{"me@x.example"}, io.ErrClosedPipe, 111, true},
	} {
		tool, said, handed := toolOn(t, test.env, test.fails)
		if err := os.WriteFile(tool.In.Name(), []byte(test.message), 0o600); err != nil {
			t.Fatal(err)
		}
		status := tool.Receipt(t.Context(), test.args)
		if status != test.status || handed.Len() > 0 != test.sent || status != 0 != (said.Len() > 0) {
			t.Errorf("%s: status %d, said %q, handed %s", name, status, said, handed)
		}
		for _, want := range []string{`"" ["a b@s.example"] "Date: `, `From: \"Delivery notice\" <me@x.example>\nTo: <\"a b\"@s.example>\n`, `\nIn-Reply-To: <1@s.example>\nAuto-Submitted: auto-replied\n\n`} {
			if test.sent && !strings.Contains(handed.String(), want) {
				t.Errorf("%s: handed %s, without %s", name, handed, want)
			}
		}
	}
}

func TestMaildirToMbox(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"new/2.b":      "Return-Path: <s p@x>\nA: b\n\nFrom x\nend",
		"cur/1.a:2,S":  "Return-Path: <>\n\nfirst\n",
		"new/3.c":      "Subject: none\n\n",
		"new/.hidden":  "no",
		"tmp/4.begun":  "no",
		"new/sub/file": "no",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mbox := filepath.Join(dir, "mbox")
	n, err := MaildirToMbox(t.Context(), dir, mbox)
	got, _ := os.ReadFile(mbox)
	lines := strings.Split(string(got), "\n")
	for i, line := range lines {
		if f := strings.Fields(line); len(f) == 7 && f[0] == "From" {
			lines[i] = strings.Join(f[:2], " ")
		}
	}
	const want = "From MAILER-DAEMON\nReturn-Path: <>\n\nfirst\n\nFrom s-p@x\nReturn-Path: <s p@x>\nA: b\n\n>From x\nend\n\nFrom MAILER-DAEMON\nSubject: none\n\n\n"
	if n != 3 || err != nil || strings.Join(lines, "\n") != want {
		t.Fatalf("%d %v\n%q", n, err, lines)
	}
	if list := files(t, dir); strings.Join(list, " ") != "mbox new/.hidden new/sub/file tmp/4.begun" {
		t.Errorf("left: %q", list)
	}
	// A file that can't take it leaves all where it is.
	if err := os.WriteFile(filepath.Join(dir, "new", "5.d"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := MaildirToMbox(t.Context(), dir, filepath.Join(dir, "tmp")); n != 0 || err == nil {
		t.Errorf("%d %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new", "5.d")); err != nil {
		t.Error(err)
	}
}
