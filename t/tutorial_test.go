package t

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fences are the code blocks of a page: language and text.
var fences = regexp.MustCompile("(?s)```(\\w+)\n(.*?)```")

// tutorial is a reader who does what docs/tutorial.md says, in a folder of its own.
type tutorial struct {
	t      *testing.T
	dir    string
	server string // in the place of the page's 127.0.0.1:2525
	env    []string
}

// TestTutorial does what docs/tutorial.md says: its files are written, its commands
// run, and what they print is what the page shows.
func TestTutorial(t *testing.T) {
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &tutorial{t: t, dir: t.TempDir(), server: free.Addr().String()}
	free.Close()
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "POSTERN_") && !strings.HasPrefix(e, "PATH=") {
			r.env = append(r.env, e)
		}
	}
	r.env = append(r.env, "PATH="+bin+":"+os.Getenv("PATH"), "LC_ALL=C.UTF-8")
	commands := 0
	for _, f := range fences.FindAllStringSubmatch(read(t, "../docs/tutorial.md"), -1) {
		switch f[1] {
		case "console":
			commands += r.console(f[2])
		case "toml", "lua":
			r.write(f[2])
		default:
			t.Fatalf("a block of %s, which nobody would run", f[1])
		}
	}
	if commands < 20 {
		t.Errorf("only %d commands", commands)
	}
}

// write puts a block where its first line says: a new text of the file, or more at
// its end.
func (r *tutorial) write(text string) {
	r.t.Helper()
	first, rest, _ := strings.Cut(text, "\n")
	name, more := strings.CutSuffix(strings.TrimLeft(first, "-# "), ", at the end")
	path := filepath.Join(r.dir, name)
	text = strings.ReplaceAll(text, "127.0.0.1:2525", r.server)
	if more {
		text = read(r.t, path) + "\n" + rest
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// console runs the commands of a block, each behind "$ ", and compares what they
// print with the lines under them.
func (r *tutorial) console(block string) (commands int) {
	r.t.Helper()
	for one := range strings.SplitSeq("\n"+block, "\n$ ") {
		command, want, _ := strings.Cut(one, "\n")
		switch command {
		case "":
			continue
		case "postern serve":
			r.serve()
		default:
			r.shows(command, regexp.MustCompile(pattern(want)), want)
		}
		commands++
	}
	return commands
}

// shows runs a command and compares what it prints. What only looks is done again
// for a while, as a reader would who is too fast for a delivery.
func (r *tutorial) shows(command string, pattern *regexp.Regexp, want string) {
	r.t.Helper()
	looks := strings.HasPrefix(command, "cat ") || strings.HasPrefix(command, "postern why ")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := r.run(command)
		switch {
		case pattern.MatchString(closed(got)):
			return
		case !looks || time.Now().After(deadline):
			r.t.Fatalf("$ %s\n%s\nthe page shows\n%s", command, got, want)
		}
	}
}

// closed is a text whose last line ends, and without blank lines there.
func closed(text string) string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return ""
	}
	return text + "\n"
}

// pattern is an expression for output as the page shows it: "…" stands for anything
// within a line, alone on a line for any lines, also none.
func pattern(want string) string {
	var b strings.Builder
	b.WriteString(`\A`)
	for line := range strings.Lines(closed(want)) {
		if line == "…\n" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return b.String() + `\z`
}

// run runs a command and gives what it printed on both outputs.
func (r *tutorial) run(command string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	// send is told where the gateway listens.
	const told = `postern() { if [ "$1" = send ]; then shift; command postern send --server "$SERVER" "$@"; else command postern "$@"; fi; }`
	cmd := exec.CommandContext(ctx, "sh", "-c", told+"\n"+command)
	cmd.Dir, cmd.Env = r.dir, append(r.env, "SERVER="+r.server)
	out, _ := cmd.CombinedOutput() // the status of a refusal is not 0: the output counts
	if ctx.Err() != nil {
		r.t.Fatalf("$ %s\n%s\nit does not end", command, out)
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(out), "\r\n", "\n"), r.server, "127.0.0.1:2525")
}

// serve starts the gateway, and ends it with the test.
func (r *tutorial) serve() {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "postern", "serve")
	for _, e := range r.env {
		if path, ok := strings.CutPrefix(e, "PATH="); ok {
			cmd.Path, cmd.Err = filepath.Join(strings.Split(path, ":")[0], "postern"), nil
		}
	}
	var log bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, r.env, &log, &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone
		_ = cmd.Wait()                          // the test's own failures say more
		if r.t.Failed() {
			r.t.Log(log.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if c, err := net.Dial("tcp", r.server); err == nil {
			fmt.Fprint(c, "QUIT\r\n")
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatal("the gateway does not start")
}
