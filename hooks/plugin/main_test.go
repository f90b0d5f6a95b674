package plugin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// built makes the folder with the programs that the tests start, at the first use:
// fuzzing, which runs this file many times, needs none of them.
var built = sync.OnceValues(build)

func TestMain(m *testing.M) {
	if path := os.Getenv("TEST_HOST_OF"); path != "" {
		os.Exit(beHost(path))
	}
	code := m.Run()
	if os.Getenv("TEST_BUILT") != "" {
		os.RemoveAll(os.Getenv("TEST_BUILT"))
	}
	os.Exit(code)
}

func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "plugin-test-"); err != nil {
		return "", err
	}
	os.Setenv("TEST_BUILT", dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another account starts them, too
		return "", err
	}
	example, err := docExample()
	if err != nil {
		return "", err
	}
	files := scripts()
	files["example.go"], files["plain.txt"] = string(example), "no program"
	for name, text := range files {
		mode := os.FileMode(0o755)
		if filepath.Ext(name) != "" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			return "", err
		}
	}
	for name, from := range map[string]string{"probe": "./testdata/probe", "plain": "./testdata/plain", "rogue": "./testdata/rogue", "checker": "../../plugins/checker", "example": filepath.Join(dir, "example.go")} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), from).CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	for _, name := range []string{"probe-file", "probe-prefix", "probe-stream"} {
		if err := os.Link(filepath.Join(dir, "probe"), filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// scripts are programs that are no plugins, each in its own way.
func scripts() map[string]string {
	return map[string]string{
		"exits":       "#!/bin/sh\necho 'no license found' >&2\nexit 3\n",
		"silent":      "#!/bin/sh\nexec sleep 600\n",
		"chatty":      "#!/bin/sh\necho hello there\nexec sleep 600\n",
		"newer":       "#!/bin/sh\necho '1|99|unix|'$PLUGIN_UNIX_SOCKET_DIR'/s|grpc'\nexec sleep 600\n",
		"older":       "#!/bin/sh\necho '1|0|unix|'$PLUGIN_UNIX_SOCKET_DIR'/s|grpc'\nexec sleep 600\n",
		"netrpc":      "#!/bin/sh\necho '1|1|unix|'$PLUGIN_UNIX_SOCKET_DIR'/s|netrpc'\nexec sleep 600\n",
		"tcp":         "#!/bin/sh\necho '1|1|tcp|127.0.0.1:1|grpc'\nexec sleep 600\n",
		"elsewhere":   "#!/bin/sh\necho '1|1|unix|/tmp/elsewhere.sock|grpc'\nexec sleep 600\n",
		"nobody":      "#!/bin/sh\necho '1|1|unix|'$PLUGIN_UNIX_SOCKET_DIR'/s|grpc'\nexec sleep 600\n",
		"interpreter": "#!/does/not/exist\n",
		"garbage":     "\x00\x01\x02 no program of any machine",
	}
}

// beHost is a server that loads a plugin and waits to be killed.
func beHost(path string) int {
	p, problems, err := plugin.Load(path, plugin.Options{TempDir: os.Getenv("TEST_HOST_DIR")})
	if err != nil || len(problems) > 0 {
		fmt.Println(err, problems)
		return 1
	}
	fmt.Println(p.Status().PID)
	select {}
}

func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// logged is a log that a test can read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// load starts a program that is to load well, and closes it at the end.
func load(t testing.TB, name string, o plugin.Options) *plugin.Plugin {
	t.Helper()
	if o.TempDir == "" { // not t.TempDir: a test's name may be too long for a socket
		dir, err := os.MkdirTemp("", "load-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		o.TempDir = dir
	}
	p, problems, err := plugin.Load(program(t, name), o)
	if err != nil || len(problems) > 0 {
		t.Fatalf("load: %v, %v", problems, err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// mail is a transaction with a sender of that name.
func mail(sender string) *hooks.Transaction {
	s := &hooks.Session{
		ID: "SESSION0001", Listener: "mx", Protocol: "smtp", Client: netip.MustParseAddrPort("192.0.2.7:4711"),
		Local: netip.MustParseAddrPort("[::1]:25"), Helo: "client.example", Extended: true,
	}
	tx := hooks.NewTransaction(s, "MESSAGE0001")
	tx.Sender = message.Address{Local: sender, Domain: "example.org"}
	return tx
}

func ask(t testing.TB, p *plugin.Plugin, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return p.Handle(ctx, at, tx)
}

// note is a note that the plugin set at stage mail for that sender.
func note(t testing.TB, p *plugin.Plugin, sender, name string) any {
	t.Helper()
	d, err := ask(t, p, hooks.Mail, mail(sender))
	if err != nil {
		t.Fatal(err)
	}
	return noteOf(d, name)
}

func noteOf(d hooks.Decision, name string) any {
	for _, e := range d.Edits {
		if (e.Kind == hooks.SetNote || e.Kind == hooks.SetConnNote) && e.Name == name {
			return e.Any
		}
	}
	return nil
}

// eventually waits for something that another process brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// alive tells whether a process runs; a zombie does not.
func alive(pid int) bool {
	if unix.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
