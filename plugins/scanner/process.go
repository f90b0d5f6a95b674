package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

const (
	maxOutput = 64 << 10        // bytes kept of what a program writes; the rest is read and dropped
	maxText   = 500             // bytes of its first line
	lastWords = 2 * time.Second // for its output to end after its own end
)

// program is one run of a program.
type program struct {
	args  []string
	env   []string // beside PATH, LANG and TMPDIR
	stdin io.Reader
	limit time.Duration
}

// outcome is how it ended.
type outcome struct {
	status    int
	line      string // the first one of standard output
	complaint string // the first one of standard error
}

// run starts the program in a process group of its own, and kills the group when
// its time is over, when ctx is done, and when the program itself has ended. A
// program that a signal ended is an error.
func (p program) run(ctx context.Context) (outcome, error) {
	name := filepath.Base(p.args[0])
	bounded, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	cmd := exec.CommandContext(bounded, p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Env = "/", append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TMPDIR=" + os.TempDir()}, p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lastWords
	var out, errs cut
	cmd.Stdout, cmd.Stderr = &out, &errs
	if p.stdin != nil {
		cmd.Stdin = &input{p.stdin, nil}
	}
	err := keep(cmd)
	if in, ok := cmd.Stdin.(*input); ok && in.err != nil {
		return outcome{}, fmt.Errorf("%s: reading the message: %w", name, in.err)
	}
	switch {
	case ctx.Err() != nil:
		return outcome{}, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case bounded.Err() != nil:
		return outcome{}, fmt.Errorf("%s: no end within %s", name, p.limit)
	}
	o := outcome{line: out.first(), complaint: errs.first()}
	// A program need not read what it does not want: that it closed its input, or left
	// its output open to a child, is no failure.
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case ended && exit.ExitCode() < 0:
		return o, fmt.Errorf("%s: %s: %s", name, exit.ProcessState, o.complaint)
	case ended:
		o.status = exit.ExitCode()
	case err != nil && cmd.ProcessState == nil:
		return o, fmt.Errorf("%s: %w", name, err)
	case cmd.ProcessState != nil:
		o.status = cmd.ProcessState.ExitCode()
	}
	return o, nil
}

// keep runs a command on a thread that lives as long: the kernel sends the signal of
// a parent's death at the death of the thread that was the parent. Whatever of its
// group is left afterwards is killed.
func keep(cmd *exec.Cmd) error {
	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Run()
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		ended <- err
	}()
	return <-ended
}

// input keeps why the message could not be read.
type input struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		i.err = err
	}
	return n, err
}

// cut keeps the start of what is written to it.
type cut struct{ b bytes.Buffer }

// Write implements io.Writer.
func (c *cut) Write(p []byte) (int, error) {
	c.b.Write(p[:min(len(p), maxOutput-c.b.Len())])
	return len(p), nil
}

// first is the first line that is not empty, for a reply.
func (c *cut) first() string {
	for line := range strings.Lines(c.b.String()) {
		if line = scanner.OneLine(strings.ToValidUTF8(line, "?")); line != "" {
			if len(line) > maxText {
				line = strings.ToValidUTF8(line[:maxText], "")
			}
			return line
		}
	}
	return ""
}
