package local

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
)

// Bounds of programs.
const (
	// maxOutput is how much of what programs write is kept: what an outcome can hold.
	maxOutput = 900
	// killAfter is how long a program that was told to end may take, and how long
	// one that it leaves behind may keep its output open.
	killAfter = 5 * time.Second
)

// program runs a command of a dot-qmail file.
func (h *house) program(ctx context.Context, command string) (stop bool, err error) {
	// The umask is that of the whole process, so the shell sets its own.
	return h.start(ctx, []string{"/bin/sh", "-c", `umask 077; exec /bin/sh -c "$1"`, "sh", command}, nil)
}

// start runs a program on the message and reads its exit status.
func (h *house) start(ctx context.Context, args []string, as *syscall.Credential) (stop bool, err error) {
	in, err := h.letter.file(ctx)
	if err != nil {
		return false, err
	}
	run := process{args: args, dir: h.Home, in: in, out: &h.output, timeout: h.Timeout, as: as}
	run.env = append(append(run.env, h.Environ...), h.Delivery.Environ(h.matched, h.report.NewSender)...)
	status, err := run.run(ctx)
	if err != nil {
		return false, err
	}
	switch dotqmail.Exit(status) {
	case dotqmail.Done:
		return false, nil
	case dotqmail.Stop:
		return true, nil
	case dotqmail.Never:
		return false, never("5.3.0", "The program refused the message (exit status %d)", status)
	}
	if status < 0 {
		return false, notNow("4.3.0", "The program was ended by a signal")
	}
	return false, notNow("4.3.0", "The program could not take the message now (exit status %d)", status)
}

// process is a program in a process group of its own, which has no file of ours open
// but the message and the pipe of its output.
type process struct {
	args    []string
	env     []string
	dir     string
	in      *os.File
	out     io.Writer
	timeout time.Duration
	as      *syscall.Credential // nil: as we are
}

// run returns the exit status, -1 for an end by a signal. An error is that it could not
// be started, or did not end in time; then all of its group is killed.
func (p *process) run(ctx context.Context) (status int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, errSlow)
	defer cancel()
	c := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	c.Env, c.Dir, c.Stdin, c.Stdout, c.Stderr = p.env, p.dir, p.in, p.out, p.out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.as}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = killAfter
	if err := c.Start(); err != nil {
		return 0, notNow("4.3.5", "The program can't be started: %v", bare(err))
	}
	err = c.Wait()
	if ctx.Err() != nil && !c.ProcessState.Success() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // whoever is left, which may be nobody
		if errors.Is(context.Cause(ctx), errSlow) {
			return 0, notNow("4.3.0", "The program took longer than %s, and was ended", p.timeout)
		}
		return 0, context.Cause(ctx)
	}
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended && !errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return 0, notNow("4.3.0", "The program's output can't be read: %v", err)
	}
	return c.ProcessState.ExitCode(), nil
}

var errSlow = errors.New("the program's time is over")

// output keeps the start of what programs write.
type output struct {
	mu   sync.Mutex
	text []byte
	cut  bool
}

// Write implements io.Writer. It takes everything.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	room := min(maxOutput-len(o.text), len(p))
	o.text = append(o.text, p[:room]...)
	o.cut = o.cut || room < len(p)
	return len(p), nil
}

// String is text without control characters but line feeds.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(o.text), "?"))
	if o.cut {
		text += "\n(the rest of the output is left out)"
	}
	return text
}
