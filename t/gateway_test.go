package t

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	startLimit = 20 * time.Second
	stopLimit  = 15 * time.Second
	waitLimit  = 20 * time.Second
)

// gateway is the script's `postern serve`. What it prints is appended to the file
// log in the script's folder, which is shown where the script fails; the file pid
// has its process.
type gateway struct {
	bin, dir, smtp string
	env            []string
	cmd            *exec.Cmd
	done           chan struct{} // closed once the process ended
	mark           int64         // size of the log at the last start, reload or signal
}

func (g *gateway) logFile() string { return filepath.Join(g.dir, "log") }

func (g *gateway) log() string {
	b, _ := os.ReadFile(g.logFile())
	return string(b)
}

// recent is the log since the mark.
func (g *gateway) recent() string { return g.log()[g.mark:] }

func (g *gateway) setMark() { g.mark = int64(len(g.log())) }

func (g *gateway) running() bool {
	if g.cmd == nil {
		return false
	}
	select {
	case <-g.done:
		return false
	default:
		return true
	}
}

// launch starts the process, in a process group of its own.
func (g *gateway) launch(args ...string) error {
	if g.running() {
		return errors.New("the gateway runs already")
	}
	out, err := os.OpenFile(g.logFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	g.setMark()
	g.cmd = exec.Command(filepath.Join(g.bin, "postern"), append([]string{"serve"}, args...)...)
	g.cmd.Dir, g.cmd.Env = g.dir, g.env
	g.cmd.Stdout, g.cmd.Stderr = out, out
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.dir, "pid"), fmt.Appendln(nil, g.cmd.Process.Pid), 0o644); err != nil {
		return err
	}
	g.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // the status is in cmd.ProcessState
		close(done)
	}(g.cmd, g.done)
	return nil
}

// start launches and waits for the greeting.
func (g *gateway) start(args ...string) error {
	if err := g.launch(args...); err != nil {
		return err
	}
	greets := false
	poll(startLimit, func() bool {
		greets = greeting(g.smtp)
		return greets || !g.running()
	})
	switch {
	case !g.running():
		return fmt.Errorf("the gateway ended: %v", g.cmd.ProcessState)
	case !greets:
		return errors.New("no greeting in time")
	}
	return nil
}

func greeting(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	_, _ = c.Write([]byte("QUIT\r\n"))
	return err == nil && strings.HasPrefix(line, "220")
}

// stop ends it cleanly; an exit status other than 0 is an error.
func (g *gateway) stop() error {
	if !g.running() {
		return errors.New("the gateway does not run")
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !g.wait(stopLimit) {
		return errors.New("the gateway does not stop")
	}
	if g.cmd.ProcessState.ExitCode() != 0 {
		return fmt.Errorf("the gateway stopped with %v", g.cmd.ProcessState)
	}
	return nil
}

func (g *gateway) wait(limit time.Duration) bool {
	select {
	case <-g.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// kill9 ends the daemon alone as a crash does; what it started has to find out
// and end.
func (g *gateway) kill9() error {
	if !g.running() {
		return errors.New("the gateway does not run")
	}
	children := g.children()
	for _, own := range [...]string{"postern", "exe"} { // a delivery to a user goes on to its end, lest it leave half a message
		delete(children, own)
	}
	if err := g.cmd.Process.Kill(); err != nil {
		return err
	}
	<-g.done
	for name, pids := range children {
		gone := func(pid int) bool { return syscall.Kill(pid, 0) != nil }
		if !poll(stopLimit, func() bool { return !slices.ContainsFunc(pids, func(pid int) bool { return !gone(pid) }) }) {
			return fmt.Errorf("process %v of the plugin %s outlives the daemon", pids, name)
		}
	}
	return nil
}

// end leaves nothing behind: the process group goes with its leader.
func (g *gateway) end() {
	if g.cmd == nil || g.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL)
	<-g.done
}

// children are the processes that the daemon started, by the names of their executables.
func (g *gateway) children() map[string][]int {
	found := map[string][]int{}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", g.cmd.Process.Pid))
	for _, file := range tasks {
		b, _ := os.ReadFile(file)
		for _, field := range bytes.Fields(b) {
			pid, err := strconv.Atoi(string(field))
			if err != nil {
				continue
			}
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			if err != nil {
				continue
			}
			name := filepath.Base(exe)
			found[name] = append(found[name], pid)
			// A script's is its interpreter; its own name is here, cut to 15 bytes.
			if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
				if own := strings.TrimSpace(string(comm)); own != name && own != name[:min(len(name), 15)] {
					found[own] = append(found[own], pid)
				}
			}
		}
	}
	return found
}

// killChild ends a plugin as a crash does: in the middle of what it was asked,
// which is why it is stopped for a moment first.
func (g *gateway) killChild(name string) error {
	pids := g.children()[name]
	if len(pids) == 0 {
		return fmt.Errorf("the gateway has no child %s, but %v", name, g.children())
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
	}
	<-time.After(200 * time.Millisecond) // calls arrive, and get no answer
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

func newGateway(ts *testscript.TestScript) *gateway {
	w := worldOf(ts)
	if w.gateway == nil {
		w.gateway = &gateway{bin: ts.Getenv("BIN"), dir: w.dir, smtp: ts.Getenv("SMTP")}
		ts.Defer(func() {
			w.gateway.end()
			if w.tb != nil && w.tb.Failed() {
				w.tb.Logf("the gateway's log:\n%s", tail(w.gateway.log(), 12<<10))
			}
		})
	}
	// The script may have changed its environment.
	w.gateway.env = environment(ts)
	return w.gateway
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// cmdGateway:
//
//	gateway start [ARG...]      starts `postern serve ARG...`, waits for the greeting
//	! gateway start [ARG...]    it ends with a status other than 0; what it said is in stderr
//	gateway stop                SIGTERM; it ends with 0 in time
//	gateway kill9               as a crash
//	gateway kill NAME           kill -9 of a child process, a plugin for one
//	gateway gone NAME           waits until no process NAME is a child of it
//	gateway signal NAME         HUP, ALRM, ...
//	gateway reload              SIGHUP, and it has taken effect; with ! it has been refused
//	gateway await REGEXP        waits for a line of the log since the last start, signal or reload
//	gateway silent REGEXP       there is none in the whole log
func cmdGateway(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: gateway VERB [ARG...]")
	}
	g := newGateway(ts)
	verb, rest := args[0], args[1:]
	arg := strings.Join(rest, " ")
	switch verb {
	case "start":
		cmdGatewayStart(ts, g, neg, rest)
	case "stop":
		ts.Check(g.stop())
	case "kill9":
		ts.Check(g.kill9())
	case "kill":
		ts.Check(g.killChild(arg))
	case "gone":
		if !poll(waitLimit, func() bool { return len(g.children()[arg]) == 0 }) {
			ts.Fatalf("%s is still there", arg)
		}
	case "signal":
		signal, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "ALRM": syscall.SIGALRM, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[arg]
		if !ok {
			ts.Fatalf("unknown signal %s", arg)
		}
		g.setMark()
		ts.Check(g.cmd.Process.Signal(signal))
	case "reload":
		g.setMark()
		ts.Check(g.cmd.Process.Signal(syscall.SIGHUP))
		awaitLog(ts, g, `\b(reloaded|reload failed)\b`)
		if refused := strings.Contains(g.recent(), "reload failed"); refused != neg {
			ts.Fatalf("reload: refused is %v", refused)
		}
	case "await":
		awaitLog(ts, g, arg)
	case "silent":
		if m := regexp.MustCompile(arg).FindString(g.log()); m != "" {
			ts.Fatalf("the log has %q", m)
		}
	default:
		ts.Fatalf("unknown verb %s", verb)
	}
}

func cmdGatewayStart(ts *testscript.TestScript, g *gateway, neg bool, args []string) {
	if !neg {
		ts.Check(g.start(args...))
		return
	}
	ts.Check(g.launch(args...))
	if !g.wait(startLimit) {
		ts.Fatalf("the gateway runs")
	}
	if g.cmd.ProcessState.ExitCode() == 0 {
		ts.Fatalf("the gateway ended with 0")
	}
	fmt.Fprint(ts.Stderr(), g.recent())
}

func awaitLog(ts *testscript.TestScript, g *gateway, pattern string) {
	re, err := regexp.Compile("(?m)" + pattern)
	ts.Check(err)
	if !poll(waitLimit, func() bool { return re.MatchString(g.recent()) }) {
		ts.Fatalf("the log has no %s", pattern)
	}
}
