// Package t holds the end-to-end tests: scripts that start the built binary and
// speak to it, and the tests that hold the repository to its own rules.
package t

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postern-mta/postern/"

// allowed is the dependency table of docs/architecture.md: what each package may
// import of ours. What an entry imports, it may use through it too.
var allowed = map[string][]string{
	"core/message":         nil,
	"core/dns":             nil,
	"core/geoip":           nil,
	"core/archive":         nil,
	"core/cdb":             nil,
	"core/lookup":          {"core/message", "core/cdb"},
	"core/analyze":         nil,
	"hooks":                {"core/message"},
	"core/queue":           {"core/message"},
	"core/queue/journal":   nil,
	"core/queue/pebble":    {"core/queue", "core/queue/journal", "core/disk"},
	"core/queue/queuetest": {"core/queue"},
	"core/disk":            nil,
	"core/qmail":           {"core/message"},
	"core/store":           {"core/message", "core/disk"},
	"core/record":          {"hooks", "core/disk"},
	"core/gate":            {"hooks", "core/dns", "core/record", "core/cdb"},
	"core/intake":          {"hooks", "core/queue", "core/record", "core/auth/results"},
	"core/auth":            {"core/message"},
	"core/auth/dkim":       {"core/dns", "core/message"},
	"core/auth/results":    nil,
	"core/auth/arc":        {"core/auth/dkim", "core/auth/results"},
	"core/auth/spf":        {"core/dns"},
	"core/auth/dmarc":      {"core/dns", "core/message"},
	"core/auth/feedback":   {"core/auth/dmarc", "core/store"},
	"core/auth/srs":        {"core/message"},
	"core/auth/batv":       {"core/message"},
	"core/tcpserver":       {"core/gate"},
	"core/migrate":         {"core/gate"},
	"core/smtpd":           {"core/gate", "core/intake", "core/auth"},
	"core/send":            {"core/intake", "core/dns"},
	"core/qmqp":            {"core/gate", "core/qmail", "core/send"},
	"core/remote":          {"core/send"},
	"core/dotqmail":        nil,
	"core/local":           {"core/send", "core/intake", "core/qmail", "core/dotqmail"},
	"core/quarantine":      {"core/message"},
	"core/console":         {"core/send", "core/store"},
	"core/console/top":     {"core/console"},
	"core/config":          {"core/message", "core/dns"},
	"hooks/lua":            {"hooks", "core/dns", "core/auth/spf", "core/auth/arc", "core/auth/dmarc", "core/auth/srs", "core/auth/batv", "core/lookup", "core/store", "core/record", "core/archive"},
	"hooks/proto":          {"core/message"},
	"hooks/sdk":            {"hooks", "hooks/proto"},
	"hooks/sdk/scanner":    nil,
	"hooks/sdk/sdktest":    {"hooks/sdk", "hooks/plugin", "core/store"},
	"hooks/plugin":         {"hooks", "hooks/proto", "core/record", "core/store"},
	"hooks/policytest":     {"core/gate", "core/intake", "core/smtpd", "core/send", "core/dns", "core/store", "hooks/lua", "scripts"},
	"scripts":              nil,
	"etc":                  nil,
}

// only says where alone a third-party module may be imported, tests aside.
var only = map[string][]string{
	"github.com/yuin/gopher-lua":           {"hooks/lua"},
	"github.com/hashicorp/go-plugin":       {"hooks/plugin", "hooks/sdk"},
	"github.com/cockroachdb/pebble":        {"core/queue/pebble", "core/disk", "core/store", "core/record"},
	"golang.org/x/crypto":                  {"core/auth", "core/remote"},
	"github.com/BurntSushi/toml":           {"core/config", "core/lookup"},
	"github.com/jackc/pgx":                 {"core/lookup"},
	"github.com/redis/go-redis":            {"core/lookup", "core/store"},
	"github.com/go-ldap/ldap":              {"core/lookup"},
	"modernc.org/sqlite":                   {"core/lookup"},
	"github.com/prometheus/client_golang":  {"core/record", "core/console"},
	"github.com/spf13/cobra":               {"cmd/postern"},
	"github.com/gdamore/tcell":             {"core/console/top"},
	"github.com/fsnotify/fsnotify":         {"cmd/postern"},
	"github.com/miekg/dns":                 {"core/dns"},
	"github.com/oschwald/maxminddb-golang": {"core/geoip"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// closure is everything that a package may use: its entries, and what they use.
func closure(name string, into map[string]bool) map[string]bool {
	for _, dep := range allowed[name] {
		if !into[dep] {
			into[dep] = true
			closure(dep, into)
		}
	}
	return into
}

func TestDependencyTable(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		free := strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "t") && (name == "t" || strings.HasPrefix(name, "t/"))
		plugin := strings.HasPrefix(name, "plugins/")
		_, known := allowed[name]
		if !known && !free && !plugin {
			t.Errorf("%s is in no row of the dependency table", name)
			continue
		}
		may := closure(name, map[string]bool{})
		if plugin {
			may = map[string]bool{"hooks/sdk": true, "hooks/sdk/scanner": true, "hooks/sdk/sdktest": true, "hooks": true, "core/message": true}
		}
		for _, dep := range p.Imports {
			if ours, ok := strings.CutPrefix(dep, module); ok && !free && !may[ours] {
				t.Errorf("%s imports %s, which the dependency table does not allow", name, ours)
			}
			for lib, where := range only {
				if strings.HasPrefix(dep, lib) && !slices.Contains(where, name) {
					t.Errorf("%s imports %s, which belongs to %s alone", name, dep, strings.Join(where, ", "))
				}
			}
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"core", "hooks", "plugins", "scripts", "contrib", "cmd", "etc", "t", "docs", "bin", "var", ".git", ".ci"}
	found := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		found++
		if !slices.Contains(want, e.Name()) {
			t.Errorf("top-level folder %s is none of ours", e.Name())
		}
	}
	if found < 8 {
		t.Errorf("only %d folders: is this the repository?", found)
	}
}

// The house rules that a machine can see: no init, names, sizes of files.
func TestHouseRules(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	init := regexp.MustCompile(`(?m)^func init\(`)
	for file := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(file, ".pb.go") {
			continue
		}
		for _, part := range strings.Split(filepath.Dir(file), "/") {
			if slices.Contains([]string{"util", "common", "helpers", "types", "base", "manager"}, part) {
				t.Errorf("%s: a package is a noun of the mail world", file)
			}
		}
		text := read(t, filepath.Join("..", file))
		if init.MatchString(text) {
			t.Errorf("%s has an init function", file)
		}
		if lines := strings.Count(text, "\n"); lines > 600 {
			t.Errorf("%s has %d lines: more than one subject?", file, lines)
		}
	}
}

// Nothing in the tree names the place where it was made.
func TestNoForeignPaths(t *testing.T) {
	out, _ := exec.CommandContext(t.Context(), "git", "-C", "..", "grep", "-nIE", `proxy\.golang`+`\.org|registry\.npmjs`+`\.org|deb\.debian`+`\.org`).Output()
	for scan := bufio.NewScanner(strings.NewReader(string(out))); scan.Scan(); {
		t.Errorf("a registry's host name: %s", scan.Text())
	}
}
