package plugin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// kill -9 fails the calls under way; the next ones are answered by a new process,
// with the settings of the entry.
func TestKillInFlight(t *testing.T) {
	var log logged
	p := load(t, "probe", plugin.Options{Settings: map[string]any{"word": "kept"}, Log: log.logger()})
	for round := range 3 {
		pid := p.Status().PID
		errs := make(chan error, 8)
		var calls sync.WaitGroup
		for range cap(errs) {
			calls.Go(func() {
				_, err := ask(t, p, hooks.Mail, mail("hang"))
				errs <- err
			})
		}
		eventually(t, "calls under way", func() bool { return strings.Count(log.String(), "msg=hanging") == (round+1)*cap(errs) })
		unix.Kill(pid, unix.SIGKILL)
		calls.Wait()
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, plugin.ErrEnded) {
				t.Errorf("a call under way: %v", err)
			}
		}
		d, err := ask(t, p, hooks.Helo, mail("x"))
		if err != nil || !strings.HasPrefix(noteOf(d, "settings").(string), "kept") {
			t.Fatalf("after the end: %+v, %v", d, err)
		}
		if got := p.Status().PID; got == pid || got == 0 {
			t.Errorf("process %d after %d", got, pid)
		}
	}
	s := p.Status()
	if s.Restarts != 3 || !strings.Contains(s.LastError, "signal: killed") {
		t.Errorf("status: %+v", s)
	}
}

// Under load, every call but those under way at the kill is answered.
func TestKillUnderLoad(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	stop := make(chan struct{})
	var lost, done sync.Map
	var callers sync.WaitGroup
	for n := range 8 {
		callers.Go(func() {
			failed, answered := 0, 0
			for running := true; running; {
				select {
				case <-stop:
					running = false
				default:
				}
				if _, err := ask(t, p, hooks.Mail, mail("x")); err == nil {
					answered++
				} else if failed++; !errors.Is(err, plugin.ErrEnded) {
					t.Errorf("failure: %v", err)
				}
			}
			lost.Store(n, failed)
			done.Store(n, answered)
		})
	}
	unix.Kill(p.Status().PID, unix.SIGKILL)
	eventually(t, "a new process", func() bool { return p.Status().Restarts == 1 })
	close(stop)
	callers.Wait()
	for n := range 8 {
		failed, _ := lost.Load(n)
		answered, _ := done.Load(n)
		if failed.(int) > 1 || answered.(int) == 0 {
			t.Errorf("caller %d: %d failed, %d answered", n, failed, answered)
		}
	}
}

func TestHang(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	pid := p.Status().PID
	for range 4 { // the health check behind the third finds it well
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err := p.Handle(ctx, hooks.Mail, mail("hang"))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hang: %v", err)
		}
	}
	if _, err := ask(t, p, hooks.Mail, mail("x")); err != nil || p.Status().PID != pid {
		t.Errorf("after a hang: %v, %+v", err, p.Status())
	}
}

// A process that stands still as a whole is replaced.
func TestStopped(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	pid := p.Status().PID
	unix.Kill(pid, unix.SIGSTOP)
	eventually(t, "a process that stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err := p.Handle(ctx, hooks.Mail, mail("x"))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopped: %v", err)
		}
	}
	eventually(t, "a new process", func() bool { return p.Status().Restarts == 1 })
	if alive(pid) {
		t.Error("the stopped process is still there")
	}
	if _, err := ask(t, p, hooks.Mail, mail("x")); err != nil {
		t.Error(err)
	}
	if s := p.Status(); !strings.Contains(s.LastError, "does not answer a health check") {
		t.Errorf("last error %q", s.LastError)
	}
}

// A caller that went away is no sign of a hang.
func TestCancelled(t *testing.T) {
	p := load(t, "probe", plugin.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Handle(ctx, hooks.Mail, mail("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFailures(t *testing.T) {
	var log logged
	p := load(t, "probe", plugin.Options{Log: log.logger()})
	for _, c := range []struct{ sender, want string }{
		{"fail", "plugin: it failed: scanner is away"},
		{"panic", "plugin: it failed: panic: at the probe"},
		{"long", "plugin: the answer breaks the protocol: a reply text of 3000 bytes; 2000 are possible"},
		{"edits", "plugin: the answer breaks the protocol: 1001 edits; 1000 are possible"},
		{"huge", "plugin: the answer breaks the protocol: over the size that a call may have"},
	} {
		if _, err := ask(t, p, hooks.Mail, mail(c.sender)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.sender, err)
		}
	}
	if s := p.Status(); s.Restarts != 0 {
		t.Errorf("started anew too early: %+v", s)
	}
	if _, err := ask(t, p, hooks.Mail, mail("x")); err != nil {
		t.Error(err)
	}
	for range 5 {
		if _, err := ask(t, p, hooks.Mail, mail("huge")); !errors.Is(err, plugin.ErrAnswer) {
			t.Errorf("huge: %v", err)
		}
	}
	eventually(t, "a new process", func() bool { return p.Status().Restarts == 1 })
	if text := log.String(); !strings.Contains(text, "at the probe") || !strings.Contains(text, "it answered nonsense") {
		t.Errorf("log:\n%s", text)
	}
}

// A plugin that does not come up again: calls fail soon, and say why.
func TestDoesNotComeBack(t *testing.T) {
	p := load(t, "probe", plugin.Options{Settings: map[string]any{"mark": filepath.Join(t.TempDir(), "mark")}})
	if _, err := ask(t, p, hooks.Mail, mail("exit")); !errors.Is(err, plugin.ErrEnded) {
		t.Errorf("exit: %v", err)
	}
	if _, err := ask(t, p, hooks.Mail, mail("x")); !errors.Is(err, plugin.ErrDown) {
		t.Errorf("down: %v", err)
	}
	eventually(t, "its last words", func() bool { return strings.Contains(p.Status().LastError, "this start was one too many") })
	if s := p.Status(); s.State != plugin.Down || s.PID != 0 {
		t.Errorf("status: %+v", s)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if s := p.Status(); s.State != plugin.Closed {
		t.Errorf("status: %+v", s)
	}
}

func TestOutput(t *testing.T) {
	var log logged
	p := load(t, "probe", plugin.Options{Name: "noisy", Log: log.logger()})
	if _, err := ask(t, p, hooks.Mail, mail("log")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`level=WARN msg=structured plugin=noisy n=5 sender=log@example.org`,
		`level=INFO msg="{\"@message\":7,\"@level\":[1]}" plugin=noisy`,
		`level=INFO msg=plain plugin=noisy`,
	} {
		eventually(t, want, func() bool { return strings.Contains(log.String(), want) })
	}
	if _, err := ask(t, p, hooks.Mail, mail("flood")); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, p, hooks.Mail, mail("exit")); err == nil {
		t.Fatal("still there")
	}
	eventually(t, "the count of the rest", func() bool { return strings.Contains(log.String(), "lines_left_out=") })
	if n := strings.Count(log.String(), "of a flood"); n == 0 || n > 1000 {
		t.Errorf("%d lines of 5000 were logged", n)
	}
	eventually(t, "the end", func() bool {
		return strings.Contains(log.String(), "exit status 9; it said last: leaving with a word")
	})
}

// After Close nothing is left: no process, no child of it, no file; and calls fail.
func TestCloseLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	p := load(t, "probe", plugin.Options{TempDir: dir})
	pid := p.Status().PID
	child := int(note(t, p, "child", "child").(float64))
	if !alive(child) {
		t.Fatal("no child")
	}
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if _, err := ask(t, p, hooks.Mail, mail("slow")); err != nil {
				t.Errorf("a call that was under way at Close: %v", err)
			}
		})
	}
	calls.Go(func() {
		if _, err := ask(t, p, hooks.Mail, mail("hang")); err == nil {
			t.Error("a hanging call was answered")
		}
	})
	eventually(t, "calls under way", func() bool { return p.Status().InFlight == 5 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	calls.Wait()
	if alive(pid) || alive(child) {
		t.Errorf("still there: process %v, child %v", alive(pid), alive(child))
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := ask(t, p, hooks.Mail, mail("x")); !errors.Is(err, plugin.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// The end of the server, by whatever means, is the end of its plugins.
func TestServerKilled(t *testing.T) {
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), "TEST_HOST_OF="+program(t, "probe"), "TEST_HOST_DIR="+t.TempDir())
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	host.Process.Kill()
	host.Wait()
	eventually(t, "the plugin's end", func() bool { return !alive(pid) })
}

// More calls than places wait, within their time.
func TestInFlight(t *testing.T) {
	p := load(t, "probe", plugin.Options{InFlight: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() { p.Handle(ctx, hooks.Mail, mail("hang")) })
	eventually(t, "the first call", func() bool { return p.Status().InFlight == 1 })
	short, cancelShort := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancelShort()
	if _, err := p.Handle(short, hooks.Mail, mail("x")); err == nil || !strings.Contains(err.Error(), "1 calls are under way") {
		t.Errorf("second call: %v", err)
	}
	cancel()
	first.Wait()
	if _, err := ask(t, p, hooks.Mail, mail("x")); err != nil {
		t.Error(err)
	}
}

func TestIll(t *testing.T) {
	p := load(t, "probe", plugin.Options{Settings: map[string]any{"word": "ill"}})
	if err := p.Health(t.Context()); err == nil || err.Error() != "plugin: health: not well" {
		t.Errorf("health: %v", err)
	}
}
