package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Exit statuses of programs of dot-qmail files.
const (
	exitStop    = 99
	exitRefused = 100
	exitLater   = 111
)

// Tool is a program that a line of a dot-qmail file calls. Its methods are qmail's
// programs of their names; each returns an exit status, and has said why on Err.
type Tool struct {
	Name   string
	Getenv func(string) string
	In     *os.File // the message, from its start
	Out    io.Writer
	Err    io.Writer
	// Hand queues a message and returns its id, which may not be known; an error that is
	// for good wraps ErrRefused.
	Hand func(ctx context.Context, sender string, to []string, body io.Reader) (id string, err error)
}

// ErrRefused marks an error of Tool.Hand that is for good.
var ErrRefused = errors.New("refused")

func (t *Tool) say(status int, format string, args ...any) int {
	fmt.Fprintf(t.Err, t.Name+": "+format+"\n", args...)
	return status
}

// Forward sends the message on to addresses.
func (t *Tool) Forward(ctx context.Context, to []string) int {
	if len(to) == 0 {
		return t.say(exitRefused, "usage: forward ADDRESS...")
	}
	return t.forward(ctx, to, 0)
}

func (t *Tool) forward(ctx context.Context, to []string, done int) int {
	sender, ok := t.newSender()
	dtline := t.Getenv("DTLINE")
	if !ok || dtline == "" {
		return t.say(exitRefused, "NEWSENDER or DTLINE is not set: this is for lines of .qmail files")
	}
	if _, err := t.In.Seek(0, io.SeekStart); err != nil {
		return t.say(exitLater, "the message can't be read again: %v", err)
	}
	id, err := t.Hand(ctx, sender, to, io.MultiReader(strings.NewReader(dtline), t.In))
	switch {
	case errors.Is(err, ErrRefused):
		return t.say(exitRefused, "%v", err)
	case err != nil:
		return t.say(exitLater, "%v", err)
	}
	return t.say(done, "qp %s", id)
}

// newSender tells an empty sender from none; a variable that is not there is empty to
// Getenv, so the lines of the delivery tell.
func (t *Tool) newSender() (string, bool) {
	return t.Getenv("NEWSENDER"), t.Getenv("RPLINE") != "" || t.Getenv("NEWSENDER") != ""
}

// CondRedirect sends the message on, and ends the instructions, if a program says so
// by status 0.
func (t *Tool) CondRedirect(ctx context.Context, args []string) int {
	if len(args) < 2 {
		return t.say(exitRefused, "usage: condredirect ADDRESS PROGRAM [ARGUMENT...]")
	}
	if is, status := t.holds(ctx, args[1:]); !is {
		return status
	}
	return t.forward(ctx, args[:1], exitStop)
}

// Except ends the instructions if a program says so by status 0.
func (t *Tool) Except(ctx context.Context, args []string) int {
	if len(args) == 0 {
		return t.say(exitRefused, "usage: except PROGRAM [ARGUMENT...]")
	}
	if is, status := t.holds(ctx, args); !is {
		return status
	}
	return exitStop
}

// BounceSaying refuses the message with a text, if there is no program, or one that says
// so by status 0.
func (t *Tool) BounceSaying(ctx context.Context, args []string) int {
	if len(args) == 0 {
		return t.say(exitRefused, "usage: bouncesaying TEXT [PROGRAM [ARGUMENT...]]")
	}
	if len(args) > 1 {
		if is, status := t.holds(ctx, args[1:]); !is {
			return status
		}
	}
	fmt.Fprintln(t.Err, args[0])
	return exitRefused
}

// holds runs a program on the message as a question: status 0 is yes; 111, and a program
// that crashes or is not there, is a trouble that passes; all else is no.
func (t *Tool) holds(ctx context.Context, args []string) (yes bool, status int) {
	code, err := t.run(ctx, args, t.In)
	switch {
	case err != nil:
		return false, t.say(exitLater, "%v", err)
	case code < 0:
		return false, t.say(exitLater, "the program crashed")
	case code == exitLater:
		return false, t.say(exitLater, "the program could not tell now")
	}
	return code == 0, 0
}

// run runs a program with our output; -1 is an end by a signal.
func (t *Tool) run(ctx context.Context, args []string, in io.Reader) (int, error) {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = in, t.Out, t.Err
	err := c.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended && c.ProcessState == nil {
		return 0, err
	}
	return c.ProcessState.ExitCode(), nil
}

// Preline runs a program on the message with the lines From, Return-Path and
// Delivered-To in front, but for those that the flags -f, -r and -d leave out. The
// status is the program's.
func (t *Tool) Preline(ctx context.Context, args []string) int {
	lines := []struct {
		flag rune
		name string
		out  bool
	}{{'f', "UFLINE", false}, {'r', "RPLINE", false}, {'d', "DTLINE", false}}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		if args[0] == "--" {
			args = args[1:]
			break
		}
	letters:
		for _, letter := range args[0][1:] {
			for i := range lines {
				if lines[i].flag == letter {
					lines[i].out = true
					continue letters
				}
			}
			return t.say(exitRefused, "unknown flag -%c", letter)
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return t.say(exitRefused, "usage: preline [-frd] PROGRAM [ARGUMENT...]")
	}
	var head strings.Builder
	for _, l := range lines {
		if l.out {
			continue
		}
		text := t.Getenv(l.name)
		if text == "" {
			return t.say(exitRefused, "%s is not set: this is for lines of .qmail files", l.name)
		}
		head.WriteString(text)
	}
	code, err := t.run(ctx, args, io.MultiReader(strings.NewReader(head.String()), t.In))
	switch {
	case err != nil:
		return t.say(exitLater, "%v", err)
	case code < 0:
		return t.say(exitLater, "the program crashed")
	}
	return code
}
