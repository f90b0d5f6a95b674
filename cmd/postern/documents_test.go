package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContributedPolicies: each policy of contrib/policies is short, has a test that
// runs every line of it, stands in the table, and passes postern check.
func TestContributedPolicies(t *testing.T) {
	dir, err := filepath.Abs("../../contrib/policies")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob(filepath.Join(dir, "*.lua"))
	if err != nil {
		t.Fatal(err)
	}
	alone(t)
	status, out, errs := call(t, "", "test", dir, "--cover")
	if status != exitDone {
		t.Fatalf("%d\n%s%s", status, out, errs)
	}
	var conf strings.Builder
	conf.WriteString("[server]\nhostname = \"mx.example.net\"\n\n[[listen]]\naddress = \"127.0.0.1:0\"\n")
	policies := 0
	for _, path := range scripts {
		name := strings.TrimSuffix(filepath.Base(path), ".lua")
		if strings.HasSuffix(name, "_test") {
			continue
		}
		policies++
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(source), "\n"); lines >= 40 {
			t.Errorf("%s has %d lines", name, lines)
		}
		for _, part := range []string{"-- " + name + ": ", `--   use`, `"contrib/policies/` + name + `.lua"`} {
			if !strings.Contains(string(source), part) {
				t.Errorf("%s: the comment on top lacks %q", name, part)
			}
		}
		if !regexp.MustCompile(`(?m)^100\.0 %  \S*\b` + name + `\.lua$`).MatchString(out) {
			t.Errorf("%s: not every line is run by its test", name)
		}
		if !strings.Contains(string(table), "| ["+name+"]("+name+".lua) |") {
			t.Errorf("%s is not in the table", name)
		}
		fmt.Fprintf(&conf, "\n[[policy]]\nuse = %q\n", path)
	}
	if policies < 10 {
		t.Errorf("only %d policies", policies)
	}
	write(t, "postern.toml", conf.String())
	if status, out, errs := call(t, "", "check", "-c", "postern.toml", "--strict"); status != exitDone {
		t.Errorf("check: %d\n%s%s", status, out, errs)
	}
}
