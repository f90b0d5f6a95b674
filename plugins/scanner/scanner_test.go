package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/sdktest"
)

// shell is settings that run a script of the shell.
func shell(script string, more map[string]any) map[string]any {
	settings := map[string]any{"run": []any{"/bin/sh", "-c", script, "x"}}
	for k, v := range more {
		settings[k] = v
	}
	return settings
}

const mail = "Subject: an offer\nX-Scanner: forged\n\nbuy\n"

func TestExits(t *testing.T) {
	all := map[string]any{"exits": map[string]any{
		"0": "pass", "1": "reject", "2": "defer", "3": "quarantine", "4": "discard", "5": "score 2.5", "6": "score -1", "7": "fail",
	}}
	for script, want := range map[string]struct {
		verb   hooks.Verb
		text   string
		points float64
	}{
		"exit 0":                              {hooks.Pass, "", 0},
		"grep -q offer && exit 1":             {hooks.Reject, "", 0},
		"echo; echo 'no such offers'; exit 1": {hooks.Reject, "no such offers", 0},
		"printf 'a\\tb\\r\\n550 c'; exit 2":   {hooks.Defer, "a b", 0},
		"exit 3":                              {hooks.Quarantine, "", 0},
		"exit 4":                              {hooks.Discard, "", 0},
		"echo why; exit 5":                    {hooks.Pass, "", 2.5},
		"exec </dev/null; cat >/dev/null; exit 6": {hooks.Pass, "", -1},
		"head -c 200000 /dev/zero; exit 0":        {hooks.Pass, "", 0},
		"sleep 600 & exit 5":                      {hooks.Pass, "", 2.5},
	} {
		p := sdktest.New(t, policy(), shell(script, all))
		a := p.Ask(hooks.Message, sdktest.Mail(mail+strings.Repeat("0123456789abcdef\n", 40000)))
		if a.Verb != want.verb || !strings.Contains(a.Reply.Text, want.text) || a.Tx.Total() != want.points {
			t.Errorf("%s: %s, %v points", script, a, a.Tx.Total())
		}
	}
	p := sdktest.New(t, policy(), shell("exit 1", nil))
	p.Ask(hooks.Message, sdktest.Mail(mail)).Rejects("", "")
}

// What the program gets: the message by standard input or as a file, and the
// transaction in the environment, without what a client could smuggle in.
func TestInput(t *testing.T) {
	want := strings.ReplaceAll(mail, "\n", "\r\n")
	for _, settings := range []map[string]any{
		shell(`cat >"$OUT"; env >>"$OUT"`, nil),
		shell(`cat "$1" >"$OUT"; env >>"$OUT"; echo "$1"`, map[string]any{"input": "file", "output": "header"}),
		shell(`cat "$2" >"$OUT"; env >>"$OUT"`, map[string]any{"input": "file"}),
	} {
		out := filepath.Join(t.TempDir(), "out")
		run := settings["run"].([]any)
		run[2] = strings.ReplaceAll(run[2].(string), "$OUT", out)
		if strings.Contains(run[2].(string), "$2") {
			settings["run"] = append(run, "more", "%f", "and more")
		}
		p, tx := sdktest.New(t, policy(), settings), sdktest.Mail(mail, "b@example.net", "c@example.net")
		tx.Session.Helo = "evil\nLD_PRELOAD=/x"
		if p.Ask(hooks.Headers, tx).Passes(); settings["output"] == "header" && tx.Header.Count("X-Scanner") != 0 {
			t.Error("a forged field is left")
		}
		a := p.Ask(hooks.Message, tx).Passes()
		got, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		text := string(got)
		if !strings.HasPrefix(text, want) || !strings.Contains(text, "POSTERN_SENDER=a@client.example\n") || !strings.Contains(text, "POSTERN_RECIPIENTS=b@example.net c@example.net\n") ||
			!strings.Contains(text, "POSTERN_CLIENT=192.0.2.1\n") || !strings.Contains(text, "POSTERN_HELO=evil LD_PRELOAD=/x\n") {
			t.Errorf("%v: %q", settings, text)
		}
		if settings["output"] == "header" {
			path, _ := a.Tx.Header.Get("X-Scanner")
			if _, err := os.Stat(path); path == "" || !os.IsNotExist(err) {
				t.Errorf("%q is left: %v", path, err)
			}
		}
	}
}

func TestFaults(t *testing.T) {
	for script, says := range map[string]string{
		"exit 77":                         "sh exits with 77",
		"echo 'no database' >&2; exit 9":  "sh exits with 9: no database",
		"kill -9 $$":                      "killed",
		"echo $$ >PIDS; sleep 600":        "no end within",
		"echo $$ >PIDS; sleep 600 & wait": "no end within",
	} {
		pids := filepath.Join(t.TempDir(), "pids")
		hangs := strings.Contains(script, "PIDS")
		settings := shell(strings.ReplaceAll(script, "PIDS", pids), nil)
		if hangs {
			settings["scan_timeout"] = "500ms"
		}
		sdktest.New(t, policy(), settings).Fails(hooks.Message, sdktest.Mail(mail), says)
		if !hangs {
			continue
		}
		text, err := os.ReadFile(pids)
		if err != nil {
			continue // so slow a machine that it had not begun
		}
		group, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(-group, 0); err == nil && alive(group) {
			t.Errorf("%s: its process group is left", script)
		}
	}
	p := sdktest.New(t, policy(), shell("exit 1", map[string]any{"max_size": "10"}))
	if a := p.Ask(hooks.Message, sdktest.Mail(mail)); a.Verb != hooks.Pass || a.Tx.Results["scanner"]["skipped"] != "size" {
		t.Errorf("%s, %v", a, a.Tx.Results)
	}
}

// alive tells whether some process of a group is more than a zombie.
func alive(group int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		if len(f) > 2 && f[2] == strconv.Itoa(group) && f[0] != "Z" && f[0] != "X" {
			return true
		}
	}
	return false
}

func TestLearn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := sdktest.New(t, policy(), shell("exit 0", map[string]any{
		"learn_spam": []any{"/bin/sh", "-c", "cat >" + out}, "learn_ham": []any{"/bin/sh", "-c", "echo away >&2; exit 3"},
	}))
	if _, err := p.Learn(&sdk.Lesson{Spam: true, Message: strings.NewReader("hello")}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(out); string(text) != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := p.Learn(&sdk.Lesson{Message: strings.NewReader("hello")}); err == nil || !strings.Contains(err.Error(), "exits with 3: away") {
		t.Errorf("%v", err)
	}
	p = sdktest.New(t, policy(), shell("exit 0", nil))
	if _, err := p.Learn(&sdk.Lesson{Message: strings.NewReader("hello")}); err == nil {
		t.Error("nobody learns, and it did")
	}
}

func TestWrongSettings(t *testing.T) {
	for _, c := range []struct {
		key   string
		value any
	}{
		{"run", []any{}},
		{"run", []any{"sh"}},
		{"run", []any{"/none/such"}},
		{"run", []any{"/etc/passwd"}},
		{"run", []any{"/bin/sh", "%f"}},
		{"learn_ham", []any{"sh"}},
		{"scan_timeout", "0s"},
		{"max_size", "0"},
		{"symbol", "a b"},
		{"input", "pipe"},
		{"exits", map[string]any{"256": "pass"}},
		{"exits.3", map[string]any{"3": "burn"}},
		{"exits.3", map[string]any{"3": "score many"}},
		{"exits.3", map[string]any{"3": "pass me"}},
	} {
		name, _, _ := strings.Cut(c.key, ".")
		if _, err := policy().Local(shell("exit 0", map[string]any{name: c.value})); err == nil || !strings.HasPrefix(err.Error(), c.key+": ") {
			t.Errorf("%s = %v: %v", c.key, c.value, err)
		}
	}
}

func TestDocuments(t *testing.T) { sdktest.Page(t, policy(), "../../docs/policies/scanner.md") }

func FuzzExits(f *testing.F) {
	f.Add("0", "score 5")
	f.Add("1", "reject")
	f.Fuzz(func(t *testing.T, key, text string) {
		exits, problems := readExits(map[string]string{key: text})
		if len(exits)+len(problems) != 1 {
			t.Errorf("%v, %v", exits, problems)
		}
	})
}
