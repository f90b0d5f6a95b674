package t

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// measured runs t/bench and returns the rows of its report by section.
func measured(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	dir, err := os.MkdirTemp("", "benchrun") // Postfix's accounts walk through it, and a control socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	exe := built(t, filepath.Join(dir, "bench"), "./bench")
	out := filepath.Join(dir, "report.json")
	args = append(args, "-dir", dir, "-json", out)
	if text, err := exec.CommandContext(t.Context(), exe, args...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, text)
	}
	var report struct {
		Sections []struct {
			Title string
			Rows  []struct {
				Name    string
				Figures []struct{ Values []float64 }
			}
		}
	}
	if err := json.Unmarshal([]byte(read(t, out)), &report); err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, s := range report.Sections {
		for _, r := range s.Rows {
			for _, f := range r.Figures {
				if len(f.Values) == 0 {
					t.Errorf("%s, %s: a figure without a value", s.Title, r.Name)
				}
			}
			rows[s.Title] = append(rows[s.Title], r.Name)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 {
		t.Errorf("the benchmark left files behind: %v", left)
	}
	return rows
}

// TestBenchRelay: `make bench-relay` with few messages relays all of them, through
// Postfix too where it can, and measures each server.
func TestBenchRelay(t *testing.T) {
	peers, n := "postern,postern-lua,postern-nosync", 3
	if _, err := exec.LookPath("postfix"); err == nil && os.Geteuid() == 0 {
		peers, n = peers+",postfix", 4
	}
	rows := measured(t, "relay", "-peers", peers, "-n", "60", "-rounds", "1", "-sessions", "5")
	for _, title := range []string{"One connection for each message", "Kept connections"} {
		if len(rows[title]) != n {
			t.Errorf("%s: %q", title, rows[title])
		}
	}
	if len(rows["One session in sequence"]) != 4 {
		t.Errorf("one session: %q", rows)
	}
}

// TestBenchBacklog: `make bench-backlog` with few messages: every one of them comes
// to its next hop, and each scene is measured.
func TestBenchBacklog(t *testing.T) {
	rows := measured(t, "backlog", "-messages", "2000", "-rounds", "1")
	for _, title := range []string{"A long queue", "A next hop that comes back", "A slow and a silent next hop among ten", "Idle connections", "Large messages"} {
		if len(rows[title]) < 2 {
			t.Errorf("%s: %q", title, rows[title])
		}
	}
}
