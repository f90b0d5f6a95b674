package main

import (
	"bytes"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// What policy new writes compiles without a word, for every stage.
func TestNewPolicies(t *testing.T) {
	var all []string
	for _, row := range hooks.Stages() {
		all = append(all, row.Name)
	}
	for _, stages := range append([][]string{all}, oneEach(all)...) {
		p, err := newPolicy("begun", "", stages)
		if err != nil {
			t.Fatal(err)
		}
		script, problems := lua.Compile("begun.lua", []byte(p.lua()), lua.Options{})
		if len(problems) > 0 || len(script.Stages()) != len(stages) {
			t.Errorf("%v: %v\n%s", stages, problems, p.lua())
		}
		for _, source := range []string{p.golang(), p.golangTest()} {
			if got, err := format.Source([]byte(source)); err != nil || !bytes.Equal(got, []byte(source)) {
				t.Errorf("%v: not as gofmt writes it: %v\n%s", stages, err, source)
			}
		}
	}
}

func oneEach(all []string) (list [][]string) {
	for _, one := range all {
		list = append(list, []string{one})
	}
	return list
}

func TestNewPolicyCommands(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	run := func(status int, args ...string) string {
		t.Helper()
		got, out, errs := call(t, "", args...)
		if got != status {
			t.Fatalf("%v ended with %d: %s%s", args, got, out, errs)
		}
		return out + errs
	}
	if out := run(0, "policy", "new", "words", "--stage", "rcpt", "--dir", dir); !strings.Contains(out, "postern test") {
		t.Errorf("%s", out)
	}
	before, err := os.ReadFile(filepath.Join(dir, "words.lua"))
	if err != nil {
		t.Fatal(err)
	}
	if out := run(1, "policy", "new", "words", "--dir", dir); !strings.Contains(out, "is there already; nothing was written") {
		t.Errorf("%s", out)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "words.lua")); !bytes.Equal(before, after) {
		t.Error("it was overwritten")
	}
	for want, args := range map[string][]string{
		"is no name for a policy":   {"policy", "new", "../words"},
		"is the name of a stage":    {"policy", "new", "rcpt"},
		"that scripts have already": {"policy", "new", "dns"},
		`there is no stage "rctp"`:  {"policy", "new", "x", "--stage", "rctp"},
		"write one line without":    {"policy", "new", "x", "--about", "a\"b"},
	} {
		if out := run(2, append(args, "--dir", dir)...); !strings.Contains(out, want) {
			t.Errorf("%v: %s", args, out)
		}
	}
	run(0, "policy", "stubs", dir)
	run(0, "policy", "stubs", dir) // again, after an upgrade
	if err := os.WriteFile(filepath.Join(dir, "postern.lua"), []byte("-- mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(1, "policy", "stubs", dir)
}

// A plugin that policy new writes builds and passes its test, inside of this module.
func TestNewPluginBuilds(t *testing.T) {
	dir, err := os.MkdirTemp(".", "begun")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := newPolicy("words", "", []string{"mail", "message", "tick"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.writeGo(new(bytes.Buffer), dir); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "test", "./"+filepath.Join(dir, "words")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
