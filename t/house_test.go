package t

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// house is a daemon of the built binary with a folder of its own, which delivers
// into Maildirs, and to dead.example in vain. Tests of what Go says better than a script use it.
type house struct {
	t    *testing.T
	dir  string
	exe  string
	smtp string
	log  *quiet
}

// quiet gathers a log that is shown where the test fails.
type quiet struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (q *quiet) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.b.Write(p)
}

func (q *quiet) text() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.b.String()
}

// built makes one of the repository's programs.
func built(t *testing.T, to, pkg string, flags ...string) string {
	t.Helper()
	args := append(append([]string{"build", "-o", to}, flags...), pkg)
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", pkg, err, out)
	}
	return to
}

// rooms are the programs that houses share: building one takes longer than a test.
type rooms struct{ postern, checker string }

func buildRooms(t *testing.T) rooms {
	t.Helper()
	dir := t.TempDir()
	return rooms{built(t, filepath.Join(dir, "postern"), "../cmd/postern"), built(t, filepath.Join(dir, "checker"), "../plugins/checker")}
}

// newHouse makes the folder.
func newHouse(t *testing.T, exe string) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "house") // a control socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // plugins of other accounts are run from there
		t.Fatal(err)
	}
	return &house{t: t, dir: dir, exe: exe, log: &quiet{}}
}

// configure writes the configuration; more is the rest of the file.
func (h *house) configure(more string) {
	h.t.Helper()
	if h.smtp == "" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			h.t.Fatal(err)
		}
		h.smtp = ln.Addr().String()
		ln.Close()
	}
	text := fmt.Sprintf(`[server]
hostname = "mx.example.net"
[[listen]]
address = %q
tls = "off"
relay_from = ["127.0.0.0/8"]
[[domain]]
name = "example.net"
[[route]]
to_domain = ["dead.example"]
next_hop = "smtp://127.0.0.1:1"
[[route]]
to_domain = ["*"]
next_hop = "local"
[console]
address = ""
`, h.smtp) + more
	if err := os.WriteFile(filepath.Join(h.dir, "postern.toml"), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// open starts the daemon and returns when it listens; close stops it cleanly.
func (h *house) open() (shut func()) {
	h.t.Helper()
	cmd := exec.Command(h.exe, "serve", "-c", filepath.Join(h.dir, "postern.toml"))
	cmd.Stdout, cmd.Stderr = h.log, h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	var once sync.Once
	shut = func() {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			stuck := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			stuck.Stop()
			if err != nil {
				h.t.Errorf("stopping: %v", err)
			}
		})
	}
	h.t.Cleanup(func() {
		shut()
		if h.t.Failed() {
			h.t.Log(h.log.text())
		}
	})
	h.eventually("the daemon listens", func() bool {
		_, status := h.run("status")
		return status == 0
	})
	return shut
}

// eventually waits for what comes by itself.
func (h *house) eventually(what string, f func() bool) {
	h.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); <-tick.C {
		if f() {
			return
		}
	}
	h.t.Log(h.log.text())
	h.t.Fatalf("not within 30 s: %s", what)
}

// run is a command with its standard output and exit status.
func (h *house) run(args ...string) (out string, status int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), h.exe, append(args, "-c", filepath.Join(h.dir, "postern.toml"))...)
	var errs strings.Builder
	cmd.Stderr = &errs
	b, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(b) + errs.String(), exit.ExitCode()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b), 0
}

// must is run where anything but success ends the test.
func (h *house) must(args ...string) string {
	h.t.Helper()
	out, status := h.run(args...)
	if status != 0 {
		h.t.Log(h.log.text())
		h.t.Fatalf("%v: exit status %d\n%s", args, status, out)
	}
	return out
}

// rows reads a command's JSON, one object a line.
func rows[T any](h *house, args ...string) (list []T) {
	h.t.Helper()
	for d := json.NewDecoder(strings.NewReader(h.must(args...))); d.More(); {
		var v T
		if err := d.Decode(&v); err != nil {
			h.t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

// send hands a message in and returns the error of the dialogue.
func (h *house) send(to, subject string) error {
	text := "From: a@example.org\r\nTo: " + to + "\r\nSubject: " + subject + "\r\n\r\nhello\r\n"
	return smtp.SendMail(h.smtp, nil, "a@example.org", []string{to}, []byte(text))
}

// mailbox is what was delivered to a user.
func (h *house) mailbox(user string) (mails []string) {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(h.dir, "var/mail/example.net", user, "new/*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			h.t.Fatal(err)
		}
		mails = append(mails, string(b))
	}
	return mails
}
