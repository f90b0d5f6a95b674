package t

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

func sumOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestPluginProcesses(t *testing.T) {
	r := buildRooms(t)
	t.Run("replaced on reload", func(t *testing.T) { pluginReplaced(t, newHouse(t, r.postern)) })
	t.Run("account and health", func(t *testing.T) { pluginAccount(t, newHouse(t, r.postern)) })
}

// A plugin's file is replaced and reloaded while a call is under way: that call
// gets its answer from the old process, the next one from the new, and a file with
// another checksum changes nothing.
func pluginReplaced(t *testing.T, h *house) {
	exe := filepath.Join(h.dir, "waiter")
	second := built(t, filepath.Join(h.dir, "second"), "./testdata/waiter", "-ldflags=-X main.version=2")
	third := built(t, filepath.Join(h.dir, "third"), "./testdata/waiter", "-ldflags=-X main.version=3")
	built(t, exe, "./testdata/waiter", "-ldflags=-X main.version=1")
	until := filepath.Join(h.dir, "until")
	policy := func(sum string) string {
		return fmt.Sprintf("[[policy]]\nuse = %q\nsha256 = %q\nconcurrency = 4\nbegun = %q\nuntil = %q\n", exe, sum, filepath.Join(h.dir, "begun"), until)
	}
	h.configure(policy(sumOf(t, exe)))
	h.open()

	slow := make(chan error, 1)
	go func() { slow <- h.send("slow@example.net", "slow") }()
	h.eventually("the slow call is under way", func() bool { _, err := os.Stat(filepath.Join(h.dir, "begun")); return err == nil })
	type row struct {
		Version string `json:"version"`
		Health  string `json:"health"`
		Calls   int    `json:"calls"`
		Most    int    `json:"max_calls"`
	}
	first := func() row { return rows[[]row](h, "plugin", "list", "--json")[0][0] }
	if got := first(); got != (row{"1", "ok", 1, 4}) {
		t.Errorf("%+v", got)
	}

	h.configure(policy(sumOf(t, second)))
	if err := os.Rename(second, exe); err != nil {
		t.Fatal(err)
	}
	h.must("reload")
	if got := first(); got != (row{"2", "ok", 0, 4}) {
		t.Errorf("%+v", got)
	}
	if err := h.send("quick@example.net", "quick"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-slow:
		t.Fatalf("the slow call ended early: %v", err)
	default:
	}

	if err := os.Rename(third, exe); err != nil {
		t.Fatal(err)
	}
	if out, status := h.run("reload"); status != 1 || !strings.Contains(out, "policy.sha256: ") || !strings.Contains(out, "its SHA-256 is ") {
		t.Errorf("a wrong checksum: exit status %d, %s", status, out)
	}
	if err := h.send("quick@example.net", "again"); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(until, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Fatalf("the slow call: %v", err)
	}
	h.eventually("all three are delivered", func() bool { return len(h.mailbox("slow")) == 1 && len(h.mailbox("quick")) == 2 })
	if mail := h.mailbox("slow")[0]; !strings.Contains(mail, "X-Waiter: 1\r\n") && !strings.Contains(mail, "X-Waiter: 1\n") {
		t.Errorf("the slow one was judged by another version:\n%s", mail)
	}
	for _, mail := range h.mailbox("quick") {
		if !strings.Contains(mail, "X-Waiter: 2\r\n") && !strings.Contains(mail, "X-Waiter: 2\n") {
			t.Errorf("the quick one was judged by another version:\n%s", mail)
		}
	}
	if text := h.log.text(); strings.Contains(text, "level=ERROR msg=policy") || strings.Contains(text, "4.3.0") {
		t.Errorf("a call was lost:\n%s", text)
	}
}

// A plugin runs under the account that run_as names, and says how it is.
func pluginAccount(t *testing.T, h *house) {
	if os.Geteuid() != 0 {
		t.Skip("only root can choose an account")
	}
	if _, err := user.Lookup("nobody"); err != nil {
		t.Skip(err)
	}
	exe := built(t, filepath.Join(h.dir, "waiter"), "./testdata/waiter")
	h.configure(fmt.Sprintf("[[policy]]\nuse = %q\nrun_as = \"nobody\"\nsick = true\n", exe))
	h.open()
	if err := h.send("you@example.net", "who"); err != nil {
		t.Fatal(err)
	}
	h.eventually("it is delivered", func() bool { return len(h.mailbox("you")) == 1 })
	if mail := h.mailbox("you")[0]; !strings.Contains(mail, "X-Account: nobody") {
		t.Errorf("%s", mail)
	}
	if out := h.must("plugin", "list"); !strings.Contains(out, "bad") || !strings.Contains(out, os.ErrDeadlineExceeded.Error()) {
		t.Errorf("%s", out)
	}
}
