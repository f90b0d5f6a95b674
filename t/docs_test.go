package t

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The generated documents are as new as their sources.
func TestGeneratedDocuments(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./docgen", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"stages.md", "config.md", "lua-reference.md", "plugin-protocol.md"} {
		if read(t, filepath.Join(dir, name)) != read(t, filepath.Join("../docs", name)) {
			t.Errorf("docs/%s is behind its source: run make generate", name)
		}
	}
}

// Every link of a document leads somewhere.
func TestDocumentLinks(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../docs/policies/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, file := range append(append(files, more...), "../README.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if found, _ := filepath.Glob(filepath.Join(filepath.Dir(file), m[1])); len(found) == 0 {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
	}
}

// Every test that docs/reliability.md names exists, in the package that it names.
func TestReliabilityTable(t *testing.T) {
	name := regexp.MustCompile("`([^`]+)`")
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	known := map[string]string{} // functions by package
	for line := range strings.Lines(read(t, "../docs/reliability.md")) {
		where := ""
		for _, m := range name.FindAllStringSubmatch(line, -1) {
			switch word := m[1]; {
			case word == "t" || strings.HasPrefix(word, "core/"):
				where = word
				if known[where] == "" {
					known[where] = testsOf(t, where, function)
				}
			case strings.HasSuffix(word, ".txtar"):
				read(t, filepath.Join("scripts", word))
			case !strings.HasPrefix(word, "Test") && !strings.HasPrefix(word, "Fuzz") && !strings.HasPrefix(word, "Benchmark"):
			case !strings.Contains(known[where], " "+word+" "):
				t.Errorf("%q has no %s", where, word)
			}
		}
	}
}

// testsOf are the names of a package's tests, each between blanks.
func testsOf(t *testing.T, pkg string, function *regexp.Regexp) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	all := " "
	for _, file := range files {
		for _, m := range function.FindAllStringSubmatch(read(t, file), -1) {
			all += m[1] + " "
		}
	}
	return all
}
