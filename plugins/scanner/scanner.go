// Command scanner is a plugin that runs a program on each message and does what its
// exit status says.
//
//	[[policy]]
//	use   = "scanner"
//	run   = ["/usr/bin/bogofilter", "-u"]
//	exits = { "0" = "score 6", "1" = "score -2", "2" = "pass" }
//
// The policy is in this file, what exit statuses mean in exits.go, and the program's
// process in process.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/sdk"
	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

const askTime = 60 * time.Second

type command struct {
	Run     []string          `postern:"run,required" doc:"the program, by its absolute path, and its arguments; with input = \"file\" the argument %f is the path of the message"`
	Input   string            `postern:"input" enum:"stdin, file" doc:"how it gets the message" default:"stdin"`
	Exits   map[string]string `postern:"exits" doc:"what an exit status means: pass, reject, defer, quarantine, discard, fail, or score and a number of points; without any, 0 is pass and 1 is reject. A status that is not listed is a failure"`
	Output  string            `postern:"output" enum:"ignore, reply, header" doc:"what the first line that it writes to standard output is for: nothing, the text of a refusal and the reason of points, or that and a header field X-Scanner" default:"reply"`
	Symbol  string            `postern:"symbol" doc:"name of its points in the score, and of its result" default:"scanner"`
	Scan    time.Duration     `postern:"scan_timeout" doc:"after which it is killed with all its children" default:"30s"`
	MaxSize sdk.Size          `postern:"max_size" doc:"messages above this size are not shown to it" default:"25MiB"`
	Teach   []string          `postern:"learn_spam" doc:"program and arguments that learn that a message on standard input is spam, by postern quarantine learn; empty: nothing learns"`
	Unteach []string          `postern:"learn_ham" doc:"the same for wanted mail"`

	exits map[int]answer
}

// Prepare checks the settings.
func (c *command) Prepare(context.Context) error {
	var all []error
	for key, run := range map[string][]string{"run": c.Run, "learn_spam": c.Teach, "learn_ham": c.Unteach} {
		if len(run) == 0 && key != "run" {
			continue
		}
		if err := runnable(run); err != nil {
			all = append(all, sdk.Problem{Key: key, Text: err.Error()})
		}
	}
	if c.Input == "stdin" {
		for _, arg := range c.Run {
			if arg == "%f" {
				all = append(all, sdk.Problem{Key: "run", Text: `%f is the path of the message, and there is none; write input = "file"`})
			}
		}
	}
	if c.Scan <= 0 {
		all = append(all, sdk.Problem{Key: "scan_timeout", Text: `must be above 0; write a duration such as "30s"`})
	}
	if c.MaxSize <= 0 {
		all = append(all, sdk.Problem{Key: "max_size", Text: `must be at least one byte; write a size such as "25MiB"`})
	}
	if c.Symbol == "" || strings.ContainsFunc(c.Symbol, func(r rune) bool { return r <= ' ' || r > '~' }) {
		all = append(all, sdk.Problem{Key: "symbol", Text: `must be a word such as "bogofilter"`})
	}
	var problems []error
	c.exits, problems = readExits(c.Exits)
	return errors.Join(append(all, problems...)...)
}

// runnable tells what is wrong with a program.
func runnable(run []string) error {
	if len(run) == 0 || !filepath.IsAbs(run[0]) {
		return errors.New(`must begin with the absolute path of a program; write something like ["/usr/bin/bogofilter", "-u"]`)
	}
	about, err := os.Stat(run[0])
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", run[0], errors.Unwrap(err))
	case about.IsDir() || about.Mode()&0o111 == 0:
		return fmt.Errorf("%s is no program", run[0])
	}
	return nil
}

// Headers removes what only a scanner on this side may say.
func (c *command) Headers(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if c.Output == "header" && ev.Header.Count("X-Scanner") > 0 {
		ev.Remove("X-Scanner", 0)
	}
	return sdk.Pass(), nil
}

// Message runs the program.
func (c *command) Message(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.BodySize > int64(c.MaxSize) {
		ev.Result(c.Symbol, map[string]any{"skipped": "size"})
		return sdk.Pass(), nil
	}
	p := program{args: c.Run, env: facts(ctx, ev), limit: c.Scan}
	if c.Input == "file" {
		path, err := spool(ev.Stream)
		if path != "" {
			defer os.Remove(path)
		}
		if err != nil {
			return sdk.Pass(), err
		}
		p.args = withPath(c.Run, path)
	} else {
		p.stdin = ev.Stream
	}
	out, err := p.run(ctx)
	if err != nil {
		return sdk.Pass(), err
	}
	a, ok := c.exits[out.status]
	if !ok {
		a = answer{word: "fail"}
	}
	text := out.line
	if c.Output == "ignore" {
		text = ""
	}
	ev.Result(c.Symbol, map[string]any{"exit": out.status, "text": text})
	return c.decide(ev, a, out, text)
}

// decide is what an answer stands for.
func (c *command) decide(ev *sdk.Event, a answer, out outcome, text string) (sdk.Decision, error) {
	reason := fmt.Sprintf("%s exits with %d", filepath.Base(c.Run[0]), out.status)
	if text != "" {
		reason += ": " + text
	}
	switch a.word {
	case "fail":
		return sdk.Pass(), errors.New(strings.TrimSuffix(reason+": "+out.complaint, ": "))
	case "reject", "defer":
		d := sdk.Decision{Verb: hooks.Reject, Reason: reason}
		if a.word == "defer" {
			d.Verb = hooks.Defer
		}
		if text != "" {
			refusal := sdk.Reject("", "%s", text)
			d.Reply = refusal.Reply
		}
		return d, nil
	case "quarantine":
		return sdk.Quarantine(reason), nil
	case "discard":
		return sdk.Discard(reason), nil
	case "score":
		ev.Score(c.Symbol, a.points, strings.TrimSpace(text))
	}
	if c.Output == "header" && text != "" {
		ev.Prepend("X-Scanner", text)
	}
	return sdk.Pass(), nil
}

// Learn runs the program that learns.
func (c *command) Learn(ctx context.Context, l *sdk.Lesson) (string, error) {
	run := c.Unteach
	if l.Spam {
		run = c.Teach
	}
	if len(run) == 0 {
		return "", sdk.ErrNoLearner
	}
	env := []string{"POSTERN_ID=" + scanner.OneLine(l.ID), "POSTERN_SENDER=" + scanner.OneLine(l.Sender.String())}
	out, err := program{args: run, env: env, stdin: l.Message, limit: c.Scan}.run(ctx)
	if err == nil && out.status != 0 {
		err = fmt.Errorf("%s exits with %d: %s", filepath.Base(run[0]), out.status, out.complaint)
	}
	return "", err
}

// spool writes the message into a file, for a program that wants one.
func spool(r io.Reader) (path string, err error) {
	f, err := os.CreateTemp("", "message-")
	if err != nil {
		return "", fmt.Errorf("scanner: file of the message: %w", err)
	}
	_, err = io.Copy(f, r)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		err = fmt.Errorf("scanner: file of the message: %w", err)
	}
	return f.Name(), err
}

// withPath is the arguments with the message's path in the place of %f, or at the
// end.
func withPath(run []string, path string) []string {
	out, found := make([]string, len(run)), false
	for i, arg := range run {
		if out[i] = arg; arg == "%f" {
			out[i], found = path, true
		}
	}
	if !found {
		out = append(out, path)
	}
	return out
}

// facts is the environment that tells of the transaction.
func facts(ctx context.Context, ev *sdk.Event) []string {
	c := ev.Session
	to := make([]string, len(ev.Recipients))
	for i, r := range ev.Recipients {
		to[i] = r.Address.String()
	}
	list := []string{
		"POSTERN_ID=" + ev.ID, "POSTERN_SENDER=" + scanner.OneLine(ev.Sender.String()), "POSTERN_RECIPIENTS=" + scanner.OneLine(strings.Join(to[:min(len(to), maxTold)], " ")),
		"POSTERN_HELO=" + scanner.OneLine(c.Helo), "POSTERN_HOST=" + scanner.OneLine(c.Host(ctx)), "POSTERN_USER=" + scanner.OneLine(c.User),
	}
	if c.Client.IsValid() {
		list = append(list, "POSTERN_CLIENT="+c.Client.Addr().Unmap().String())
	}
	return list
}

// maxTold bounds the recipients in the environment, which the kernel bounds, too.
const maxTold = 1000

func policy() sdk.Policy {
	return sdk.Policy{
		Name: "scanner", Version: "1.0", About: "Runs a program on each message, and does what its exit status says.",
		Handler: &command{}, Access: sdk.Stream(), Host: true, OnFailure: "defer", Timeout: askTime,
	}
}

func main() { sdk.Serve(policy()) }
