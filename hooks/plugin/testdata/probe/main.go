// Command probe is the plugin that the tests start: its settings and the event
// tell it what to do, well or badly.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin/testdata/dump"
	"github.com/postern-mta/postern/hooks/sdk"
)

type probe struct {
	Word   string            `postern:"word" doc:"what answers hold" default:"plain"`
	Count  int               `postern:"count" default:"3"`
	Ratio  float64           `postern:"ratio" default:"0.5"`
	Wait   time.Duration     `postern:"wait" default:"1h30m"`
	Limit  sdk.Size          `postern:"limit" default:"4KiB"`
	Paths  []string          `postern:"paths,file"`
	Table  map[string]string `postern:"table"`
	Odd    bool              `postern:"odd" default:"true"`
	Mark   string            `postern:"mark" doc:"file that makes every start after the first fail"`
	Refuse bool              `postern:"refuse"`
}

func (p *probe) Prepare(context.Context) error {
	if p.Refuse {
		return errors.Join(sdk.Problem{Key: "refuse", Text: "is set; write false"}, errors.New("and more"))
	}
	if p.Mark == "" {
		return nil
	}
	if _, err := os.Stat(p.Mark); err == nil {
		fmt.Fprintln(os.Stderr, "this start was one too many")
		os.Exit(7)
	}
	return os.WriteFile(p.Mark, nil, 0o600)
}

// Learn learns what is not of no@example.org.
func (p *probe) Learn(_ context.Context, l *sdk.Lesson) (string, error) {
	text, err := io.ReadAll(l.Message)
	if err != nil {
		return "", err
	}
	if l.Sender.Local == "nobody" {
		return "", sdk.ErrNoLearner
	}
	if l.Sender.Local == "no" {
		return "", errors.New("the classifier is away")
	}
	return fmt.Sprintf("%v %s %s %v %d %d", l.Spam, l.ID, l.Sender, l.Recipients, l.Size, len(text)), nil
}

func (p *probe) Connect(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	ev.Score("probe", 1.5, "seen")
	ev.SetConnNote("word", p.Word)
	ev.Result("host", map[string]any{"name": ev.Session.Host(context.Background()), "ip": ev.Session.Client.Addr().String()})
	return sdk.Pass(), nil
}

func (p *probe) Helo(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	env := os.Environ()
	sort.Strings(env)
	ev.SetConnNote("env", strings.Join(env, "\n"))
	dir, _ := os.Getwd()
	ev.SetConnNote("dir", dir)
	ev.SetConnNote("settings", fmt.Sprint(p.Word, p.Count, p.Ratio, p.Wait, int64(p.Limit), p.Paths, p.Table, p.Odd))
	return sdk.Disconnect("bye " + ev.Session.Helo), nil
}

func (p *probe) Mail(ctx context.Context, ev *sdk.Event) (sdk.Decision, error) {
	switch ev.Sender.Local {
	case "hang":
		slog.Info("hanging")
		<-ctx.Done()
		time.Sleep(time.Hour)
	case "slow":
		time.Sleep(300 * time.Millisecond)
	case "stop":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "exit":
		fmt.Fprintln(os.Stderr, "leaving with a word")
		os.Exit(9)
	case "panic":
		panic("at the probe")
	case "fail":
		return sdk.Decision{}, errors.New("scanner is away")
	case "huge":
		return sdk.Reject("5.7.1", "%s", strings.Repeat("x", 2<<20)), nil
	case "long":
		return sdk.Reject("5.7.1", "%s", strings.Repeat("x", 3000)), nil
	case "edits":
		for range 1001 {
			ev.Tag("t")
		}
	case "flood":
		for i := range 5000 {
			fmt.Fprintf(os.Stderr, "line %d of a flood\n", i)
		}
		fmt.Println("on standard output")
	case "log":
		slog.Warn("structured", "sender", ev.Sender.String(), "n", 5)
		fmt.Fprintln(os.Stderr, `{"@message":7,"@level":[1]}`)
		fmt.Fprintln(os.Stderr, "plain")
	case "child":
		child := exec.Command("/bin/sleep", "600")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			return sdk.Decision{}, err
		}
		ev.SetNote("child", child.Process.Pid)
	case "store":
		return sdk.Pass(), p.remember(ctx, ev)
	case "measure":
		sdk.HostOf(ctx).Count("seen", map[string]string{"how": "well"}, 2)
		sdk.HostOf(ctx).Observe("length", nil, 3.5)
		sdk.HostOf(ctx).Count("no name", nil, 1)
	case "pid":
		ev.SetNote("pid", os.Getpid())
		ev.SetNote("uid", os.Getuid())
		ev.SetNote("goroutines", runtime.NumGoroutine())
	}
	return sdk.Pass(), nil
}

// remember does everything with the server's store.
func (p *probe) remember(ctx context.Context, ev *sdk.Event) error {
	h := sdk.HostOf(ctx)
	value, found, err := h.Get(ctx, sdk.Key{"lua", "said"})
	ev.SetNote("said", []any{value, found})
	errs := []error{err, h.Put(ctx, sdk.Key{"probe", "list"}, []any{"a", 1, true}, time.Hour)}
	sum, err := h.Incr(ctx, sdk.Key{"probe", "n"}, 5, time.Hour)
	errs = append(errs, err)
	ev.SetNote("sum", sum)
	first, _, err := h.Take(ctx, sdk.Key{"probe", "bucket"}, 2, 2, time.Hour)
	errs = append(errs, err)
	second, retry, err := h.Take(ctx, sdk.Key{"probe", "bucket"}, 1, 2, time.Hour)
	errs = append(errs, err)
	ev.SetNote("took", []any{first, second, retry > time.Minute})
	one, err := h.Swap(ctx, sdk.Key{"probe", "swap"}, nil, "new", 0)
	errs = append(errs, err)
	two, err := h.Swap(ctx, sdk.Key{"probe", "swap"}, "old", "newer", 0)
	errs = append(errs, err)
	ev.SetNote("swapped", []any{one, two})
	errs = append(errs, h.Delete(ctx, sdk.Key{"lua", "said"}))
	_, _, err = h.Get(ctx, sdk.Key{strings.Repeat("x", 5000)})
	ev.SetNote("misuse", sdk.Misuse(err))
	return errors.Join(errs...)
}

func (p *probe) Rcpt(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	switch ev.Current.Address.Local {
	case "no":
		return sdk.Reject("5.1.1", "No %s here, %d before", ev.Current.Address, ev.Accepted), nil
	case "later":
		d := sdk.Defer("4.2.1", "Come again: %s", p.Word)
		d.Disconnect = true
		return d, nil
	case "drop":
		return sdk.Discard("unwanted"), nil
	case "move":
		ev.ReplaceRecipient("", "moved@example.net")
		ev.SetRoute("moved@example.net", "smtp://127.0.0.1:26")
		return sdk.Accept(), nil
	}
	return sdk.Pass(), nil
}

func (p *probe) Headers(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	ev.Tag("before") // goes with what follows, or not at all
	switch ev.Sender.Local {
	case "line":
		ev.Prepend("X-A", "a\r\nBcc: all@example.net")
		return sdk.Pass(), nil
	case "feed":
		ev.Append("X-A", "a\nb")
		return sdk.Pass(), nil
	case "name":
		ev.Prepend("X-A: b\r\nX-C", "d")
		return sdk.Pass(), nil
	case "word":
		ev.Replace("X-Old", strings.Repeat("x", 5000))
		return sdk.Pass(), nil
	case "own":
		ev.PrependFor("first@example.net", "X-A", "a\r\nb")
		return sdk.Pass(), nil
	case "longname":
		ev.Prepend(strings.Repeat("X", 999), "a")
		return sdk.Pass(), nil
	case "sentence":
		ev.Prepend("X-A", strings.Repeat("word ", 1000)+"end")
		return sdk.Pass(), nil
	}
	subject, _ := ev.Header.Get("Subject")
	ev.Prepend("X-Subject", strings.ToUpper(subject))
	ev.Remove("X-Gone", 0)
	ev.Replace("X-Old", "new")
	return sdk.Pass(), nil
}

func (p *probe) Message(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if strings.HasSuffix(os.Args[0], "-stream") {
		return p.flow(ev)
	}
	if ev.Body == nil {
		ev.SetNote("prefix", string(ev.Prefix))
		ev.SetNote("cut", ev.PrefixCut)
		return sdk.Pass(), nil
	}
	if ev.File != "" {
		about, err := os.Stat(ev.File)
		if err != nil || about.Mode().Perm() != 0o400 || about.Size() != ev.Body.Size() {
			return sdk.Decision{}, fmt.Errorf("the file: %v, %v", about, err)
		}
	}
	n, err := io.Copy(io.Discard, message.NewReader(ev.Body))
	if err != nil {
		return sdk.Decision{}, err
	}
	ev.SetNote("read", n)
	ev.SetNote("total", ev.Total())
	ev.SetNote("list", []any{"a", 1, true, nil, map[string]any{"k": 2.5}})
	return sdk.Quarantine("odd"), nil
}

// flow reads a stream: to its end, or a little of it.
func (p *probe) flow(ev *sdk.Event) (sdk.Decision, error) {
	switch ev.Sender.Local {
	case "early":
		if _, err := io.ReadFull(ev.Stream, make([]byte, 1000)); err != nil {
			return sdk.Decision{}, err
		}
		return sdk.Reject("5.7.1", "Enough"), nil
	case "exit":
		io.ReadFull(ev.Stream, make([]byte, 100000))
		os.Exit(9)
	case "wait":
		time.Sleep(time.Hour)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, ev.Stream)
	ev.SetNote("read", n)
	ev.SetNote("sum", hex.EncodeToString(sum.Sum(nil)))
	var used runtime.MemStats
	runtime.ReadMemStats(&used)
	ev.SetNote("heap", used.HeapSys)
	return sdk.Quarantine("odd"), err
}

func (p *probe) Queue(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	ev.SetReceived("from here")
	ev.SetPriority(-2)
	return sdk.Hold("later"), nil
}

func (p *probe) Deny(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	return sdk.Reject("5.7.9", "%s by %s: %s", ev.Refusal.Stage, ev.Refusal.Policy, ev.Refusal.Reply.Text), nil
}

func (p *probe) Deferred(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	d := sdk.Defer("", "attempt %d to %s said %s after %s", ev.Try.Attempt, ev.Try.NextHop, ev.Try.Reply, ev.Try.Age)
	d.After = 90 * time.Second
	return d, nil
}

func (p *probe) Disconnect(_ context.Context, ev *sdk.Event) (sdk.Decision, error) {
	if ev.Sender.Local == "whole" {
		ev.SetConnNote("dump", dump.Of(ev.Transaction))
		return everything(), nil
	}
	slog.Info("over", "messages", ev.Session.Totals.Messages, "stage", hooks.Disconnect.String())
	return sdk.Pass(), nil
}

// everything is a decision that has every field and every kind of edit.
func everything() sdk.Decision {
	d := sdk.Reject("5.7.1", "Everything")
	d.Reply.Code, d.Disconnect, d.After, d.Reason, d.User = 555, true, time.Minute, "because", "jane"
	d.Each = map[int]sdk.Decision{1: sdk.Defer("4.7.1", "One"), 3: sdk.Discard("not wanted")}
	for kind := range hooks.EditKinds() {
		n := int(kind)
		d.Edits = append(d.Edits, hooks.Edit{
			Kind: kind, Name: fmt.Sprint("name", n), Value: fmt.Sprint("value", n), N: n, Number: float64(n) + 0.5,
			Any: map[string]any{"k": []any{float64(n), true, "t"}}, Rcpt: fmt.Sprintf("r%d@example.net", n),
		})
	}
	return d
}

func (p *probe) Healthy(context.Context) error {
	if p.Word == "ill" {
		return errors.New("not well")
	}
	return nil
}

func main() {
	if len(os.Args) > 1 {
		os.Exit(1)
	}
	access := sdk.Whole()
	if strings.HasSuffix(os.Args[0], "-file") {
		access = sdk.File()
	}
	if strings.HasSuffix(os.Args[0], "-stream") {
		access = sdk.Stream()
	}
	if strings.HasSuffix(os.Args[0], "-prefix") {
		access = sdk.Prefix(10)
	}
	sdk.Serve(sdk.Policy{
		Name: "probe", Version: "0.1", About: "Does what tests ask for.", Handler: &probe{}, Access: access,
		OnFailure: "pass", Immune: []string{"relaying"}, Timeout: 5 * time.Second, Host: true,
	})
}
