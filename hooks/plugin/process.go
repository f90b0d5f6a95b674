package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	maxFirstLine = 4 << 10                // bytes of the handshake
	lastWords    = 500 * time.Millisecond // for output that comes after the end
)

// process is a program that was started. It implements go-plugin's runner.Runner,
// which leaves the connection to that package, and keeps for us what decides
// whether a process can get away: its group, its pipes, its end.
type process struct {
	path      string
	env       []string
	owner     *owner
	out       *output
	socketDir string

	pid      int
	stdout   *io.PipeReader // the first line, for go-plugin
	ready    *io.PipeWriter
	readers  sync.WaitGroup
	reap     chan struct{} // closed when the process was reaped
	gone     chan struct{} // closed when its output was read, too
	err      error         // how it ended; set when reap is closed
	saidLast string        // what it said last; set when gone is closed

	mu     sync.Mutex
	first  string // its first line
	reaped bool
	killed bool // by us
}

func newProcess(path string, owner *owner, out *output) *process {
	x := &process{path: path, owner: owner, out: out, reap: make(chan struct{}), gone: make(chan struct{})}
	x.stdout, x.ready = io.Pipe()
	return x
}

// Start implements runner.Runner: it starts the program in a process group of its
// own, with nothing open but its output, to be killed when this process dies.
func (x *process) Start(context.Context) error {
	cmd := exec.Command(x.path)
	cmd.Env, cmd.Dir = x.env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: x.owner.credential()}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		outRead.Close()
		outWrite.Close()
		return err
	}
	cmd.Stdout, cmd.Stderr = outWrite, errWrite
	started := make(chan error)
	go x.keep(cmd, started, outRead, errRead)
	err = <-started
	outWrite.Close()
	errWrite.Close()
	if err != nil {
		outRead.Close()
		errRead.Close()
		return startError(x.path, err)
	}
	x.readers.Go(func() { x.readStdout(outRead) })
	x.readers.Go(func() { copyLines(errRead, x.out.line) })
	return nil
}

// keep starts cmd, waits for its end, and reaps it. It stays on its thread, since
// the kernel sends the signal of a parent's death at the death of the thread that
// was the parent.
func (x *process) keep(cmd *exec.Cmd, started chan<- error, pipes ...*os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		x.mu.Lock()
		x.pid = cmd.Process.Pid
		if x.killed {
			unix.Kill(-x.pid, unix.SIGKILL)
		}
		x.mu.Unlock()
	}
	started <- err
	if err != nil {
		return
	}
	waitUnreaped(x.pid)
	// The dead leader still holds the number of the group: its children can be
	// killed without hitting anybody else.
	x.mu.Lock()
	unix.Kill(-x.pid, unix.SIGKILL)
	x.err = cmd.Wait()
	x.reaped = true
	x.mu.Unlock()
	close(x.reap)
	for _, p := range pipes {
		p.SetReadDeadline(time.Now().Add(lastWords)) // somebody outside of the group may hold them open
	}
	x.readers.Wait()
	for _, p := range pipes {
		p.Close()
	}
	x.saidLast = x.out.lastLine()
	x.out.flush()
	close(x.gone)
}

// waitUnreaped waits for the end of a child, and leaves its exit status to be
// fetched.
func waitUnreaped(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// readStdout hands the first line to go-plugin and the others to the log.
func (x *process) readStdout(r io.Reader) {
	n := 0
	copyLines(r, func(line string) {
		if n++; n > 1 {
			x.out.line(line)
			return
		}
		line = strings.TrimRight(line, "\r\n")
		x.mu.Lock()
		x.first = line
		x.mu.Unlock()
		io.WriteString(x.ready, line[:min(len(line), maxFirstLine)]+"\n")
		x.ready.Close()
	})
	if n == 0 { // the end of the process, if it is that, is to be seen before its silence
		select {
		case <-x.reap:
		case <-time.After(lastWords):
		}
	}
	x.ready.Close()
}

// Kill implements runner.Runner: it kills the process group.
func (x *process) Kill(context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reaped {
		return nil
	}
	x.killed = true
	if x.pid == 0 {
		return nil // Start does it
	}
	if err := unix.Kill(-x.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// Wait implements runner.Runner.
func (x *process) Wait(context.Context) error {
	<-x.gone
	return nil
}

// Stdout implements runner.Runner: it is the first line alone.
func (x *process) Stdout() io.ReadCloser { return x.stdout }

// Stderr implements runner.Runner: it is empty, we read it ourselves.
func (x *process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements runner.Runner.
func (x *process) Name() string { return x.path }

// ID implements runner.Runner.
func (x *process) ID() string { return strconv.Itoa(x.pid) }

// Diagnose implements runner.Runner.
func (x *process) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner: a plugin answers on a unix socket in the
// folder that it was given, nowhere else.
func (x *process) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("it answers on a %s address; only a unix socket will do", network)
	}
	if filepath.Dir(filepath.Clean(address)) != x.socketDir {
		return "", "", fmt.Errorf("its socket %s is not in the folder named by PLUGIN_UNIX_SOCKET_DIR", address)
	}
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (x *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

func (x *process) isGone() bool {
	select {
	case <-x.gone:
		return true
	default:
		return false
	}
}

// ended is how the process ended by itself; nil while it runs, or where we ended
// it.
func (x *process) ended() error {
	if !x.isGone() {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	exit, _ := errors.AsType[*exec.ExitError](x.err)
	if x.killed && exit != nil && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return x.obituary()
}

// endedSoon is ended, behind a call that failed with err: where the connection
// broke, it waits a moment for the end that this may be a sign of.
func (x *process) endedSoon(err error) error {
	if status.Code(err) == codes.Unavailable {
		select {
		case <-x.gone:
		case <-time.After(2 * lastWords):
		}
	}
	return x.ended()
}

// obituary says how the process ended. It may be called when gone is closed.
func (x *process) obituary() error {
	how := "exit status 0"
	if x.err != nil {
		how = x.err.Error()
	}
	if x.saidLast == "" {
		return fmt.Errorf("the process ended: %s", how)
	}
	return fmt.Errorf("the process ended: %s; it said last: %.300s", how, oneLine(x.saidLast))
}

// startError says what to do about a program that can't be run.
func startError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return errors.New("it is no program for this machine; build it for this one (a script needs a #! line)")
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("it may not be run: permission denied; see the permissions of the file and of the folders above it (chmod 755 %s)", path)
	case errors.Is(err, syscall.ENOENT):
		return errors.New("its interpreter does not exist; see its #! line, or build it statically (CGO_ENABLED=0)")
	case errors.Is(err, syscall.ETXTBSY):
		return errors.New("the file is being written; wait for that, or put it there by renaming")
	}
	return err
}
