package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A site with a script of its own, a module with two mistakes, and a plugin.
func policySite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"postern.toml":          "[server]\nhostname = \"mx.example.net\"\n[[policy]]\nuse = \"words\"\n[[policy]]\nuse = \"words\"\nname = \"again\"\n",
		"policies/words.lua":    "local shared = require \"shared\"\nlocal words = policy { about = \"Has words.\" }\nfunction words.rcpt(tx)\n  shared.look(tx)\n  shared.lok(tx)\nend\nreturn words\n",
		"policies/shared.lua":   "local M = {}\nfunction M.look(tx)\n  return tx.sendr\nend\nreturn M\n",
		"policies/greylist.lua": "local greylist = policy { about = \"Ours.\" }\nfunction greylist.rcpt() end\nreturn greylist\n",
		"plugins.d/asks":        "#!/bin/sh\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "postern.toml")
}

// TestModulesAreChecked: each finding once, at its place, though two entries have it.
func TestModulesAreChecked(t *testing.T) {
	file := policySite(t)
	status, out, errs := call(t, "", "check", "-c", file)
	if status != exitDone || strings.Count(out, "policies/shared.lua:3: warning: tx has no member \"sendr\"; did you mean \"sender\"?\n") != 1 ||
		strings.Count(out, "policies/words.lua:5: warning: module \"shared\" has no member \"lok\"; did you mean \"look\"?\n") != 1 {
		t.Errorf("%d: %s%s", status, out, errs)
	}
}

// TestPolicyKinds: the list says where a policy comes from, and a site's script
// hides the one that is shipped.
func TestPolicyKinds(t *testing.T) {
	file := policySite(t)
	_, out, errs := call(t, "", "policy", "list", "-c", file)
	kinds := map[string]string{}
	for line := range strings.Lines(out) {
		for _, kind := range []string{"built-in", "site script", "plugin"} {
			if name, _, _ := strings.Cut(line, " "); strings.Contains(line, " "+kind+" ") {
				kinds[name] = kind
			}
		}
	}
	for name, want := range map[string]string{"words": "site script", "again": "site script", "greylist": "site script", "dnsbl": "built-in", "asks": "plugin"} {
		if kinds[name] != want {
			t.Errorf("%s is %q, want %q\n%s%s", name, kinds[name], want, out, errs)
		}
	}
	if _, out, _ = call(t, "", "policy", "show", "dnsbl", "-c", file); !strings.Contains(out, "scripts/dnsbl.lua (built-in)") {
		t.Error(out)
	}
}

// TestPolicyNamesAreCompleted: as a shell asks for them.
func TestPolicyNamesAreCompleted(t *testing.T) {
	file := policySite(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"policy", "show", "-c", file, "gr"}, "greylist\tsite script\n:4\n"},
		{[]string{"policy", "show", "-c", file, "dnsb"}, "dnsbl\tbuilt-in\n:4\n"},
		{[]string{"shadow", "report", "-c", file, "ag"}, "again\tsite script\n:4\n"},
		{[]string{"why", "-c", file, "--policy", "ask"}, "asks\tplugin\n:4\n"},
		{[]string{"policy", "show", "-c", file, "./x"}, ":0\n"},
		{[]string{"policy", "show", "-c", filepath.Join(filepath.Dir(file), "none.toml"), "g"}, ":4\n"},
	} {
		_, out, errs := call(t, "", append([]string{"__complete"}, c.args...)...)
		if out != c.want {
			t.Errorf("%v: %q, want %q\n%s", c.args, out, c.want, errs)
		}
	}
}
