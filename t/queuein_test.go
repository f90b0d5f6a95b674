package t

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// queueCall is one call of a program that takes mail as qmail-queue does.
type queueCall struct {
	program  string
	dir      string
	env      []string
	body     io.Reader
	envelope io.Reader
	reason   bool // descriptor 6 is open
}

// run returns its status, -1 where it was killed, what it said on descriptor 6, and how
// much memory it held.
func (q queueCall) run(ctx context.Context) (status int, reason string, used int64, err error) {
	c := exec.CommandContext(ctx, q.program)
	c.Dir, c.Env = q.dir, q.env
	c.Stdin = q.body
	from, to, err := os.Pipe()
	if err != nil {
		return 0, "", 0, err
	}
	c.Stdout = from
	var say, said *os.File
	if q.reason {
		if said, say, err = os.Pipe(); err != nil {
			return 0, "", 0, err
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			return 0, "", 0, err
		}
		defer null.Close()
		c.ExtraFiles = []*os.File{null, null, null, say}
	}
	if err := c.Start(); err != nil {
		return 0, "", 0, err
	}
	_ = from.Close()
	var beside sync.WaitGroup
	beside.Go(func() {
		_, _ = io.Copy(to, q.envelope) // the status tells what came of it
		_ = to.Close()
	})
	var text []byte
	if q.reason {
		_ = say.Close()
		beside.Go(func() {
			text, _ = io.ReadAll(said)
			_ = said.Close()
		})
	}
	err = c.Wait()
	beside.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok || c.ProcessState != nil {
		status, err = c.ProcessState.ExitCode(), nil
		_ = exit
	}
	if r, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		used = r.Maxrss << 10
	}
	return status, string(text), used, err
}

// cmdQueueIn hands a message over as programs do to qmail-queue:
//
//	queue-in [-6 REASON] [-p PROGRAM] STATUS FILE ENVELOPE
//
// ENVELOPE is the text of descriptor 1, with \0 for NUL. With -6 that descriptor is
// open, and what is said there must contain REASON.
func cmdQueueIn(ts *testscript.TestScript, _ bool, args []string) {
	q := queueCall{program: filepath.Join(ts.Getenv("WORK"), "qmail-queue"), dir: ts.Getenv("WORK")}
	want := ""
	for len(args) > 1 && (args[0] == "-6" || args[0] == "-p") {
		if args[0] == "-6" {
			q.reason, want = true, args[1]
		} else {
			q.program = ts.MkAbs(args[1])
		}
		args = args[2:]
	}
	if len(args) != 3 {
		ts.Fatalf("usage: queue-in [-6 REASON] [-p PROGRAM] STATUS FILE ENVELOPE")
	}
	if _, err := os.Lstat(q.program); errors.Is(err, os.ErrNotExist) {
		ts.Check(os.Symlink(filepath.Join(ts.Getenv("BIN"), "postern"), q.program))
	}
	for _, name := range []string{"PATH", "POSTERN_CONFIG", "TMPDIR", "TCPREMOTEIP", "TCPREMOTEPORT"} {
		if v := ts.Getenv(name); v != "" {
			q.env = append(q.env, name+"="+v)
		}
	}
	q.body = strings.NewReader(ts.ReadFile(args[1]))
	q.envelope = strings.NewReader(strings.NewReplacer(`\0`, "\x00", `\n`, "\n").Replace(args[2]))
	status, reason, _, err := q.run(context.Background())
	ts.Check(err)
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("status %d %q, want %s", status, reason, args[0])
	}
	if !strings.Contains(reason, want) || q.reason && want == "" && reason != "" {
		ts.Fatalf("the reason is %q, want %q", reason, want)
	}
}

// offline makes a folder with a configuration, in which no daemon runs, and the calls of
// its qmail-queue.
func offline(t *testing.T) (dir string, call func(body, envelope io.Reader) queueCall) {
	t.Helper()
	bin := needBinaries(t)
	dir = t.TempDir()
	config := "[server]\nhostname = \"mx.example.net\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"discard\"\n"
	err := errors.Join(os.WriteFile(filepath.Join(dir, "postern.toml"), []byte(config), 0o600), os.Symlink(filepath.Join(bin, "postern"), filepath.Join(dir, "qmail-queue")))
	if err != nil {
		t.Fatal(err)
	}
	return dir, func(body, envelope io.Reader) queueCall {
		return queueCall{
			program: filepath.Join(dir, "qmail-queue"), dir: dir, body: body, envelope: envelope,
			env: []string{"POSTERN_CONFIG=" + filepath.Join(dir, "postern.toml"), "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")},
		}
	}
}

func drops(t *testing.T, dir string) (whole, other []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "var", "drop"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := filepath.Join(dir, "var", "drop", e.Name()); strings.HasSuffix(name, ".drop") {
			whole = append(whole, name)
		} else {
			other = append(other, name)
		}
	}
	return whole, other
}

// textLines is n lines of 64 bytes.
type textLines struct{ n int }

func (l *textLines) Read(p []byte) (n int, err error) {
	const line = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopq\n"
	for ; l.n > 0 && n+len(line) <= len(p); l.n-- {
		n += copy(p[n:], line)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestQueueInLarge: a message of 100 MiB costs no memory to speak of, and a hundred
// thousand recipients cost what ten times ten thousand do.
func TestQueueInLarge(t *testing.T) {
	dir, call := offline(t)
	one := "Fa@b.example\x00Tc@d.example\x00\x00"
	run := func(body, envelope io.Reader) int64 {
		t.Helper()
		status, _, used, err := call(body, envelope).run(t.Context())
		if err != nil || status != 0 {
			t.Fatal(status, err)
		}
		return used
	}
	small := run(strings.NewReader("x\n"), strings.NewReader(one))
	large := run(&textLines{100 << 20 / 64}, strings.NewReader(one))
	if large-small > 8<<20 {
		t.Errorf("100 MiB take %d KiB of memory, an empty message %d", large>>10, small>>10)
	}
	var many bytes.Buffer
	many.WriteString("Fa@b.example\x00")
	for i := range 100_000 {
		fmt.Fprintf(&many, "Tuser%d@d.example\x00", i)
	}
	run(strings.NewReader("x\n"), io.MultiReader(&many, strings.NewReader("\x00")))
	whole, other := drops(t, dir)
	size := int64(0)
	for _, name := range whole {
		if fi, err := os.Stat(name); err == nil {
			size = max(size, fi.Size())
		}
	}
	if len(whole) != 3 || len(other) > 0 || size < 100<<20 {
		t.Errorf("%d dropped, %d others, the largest of %d bytes", len(whole), len(other), size)
	}
}

// TestQueueInKilled submits side by side and kills some at any time. Each that said 0
// is there, whole; nothing else is, but files that mean nothing.
func TestQueueInKilled(t *testing.T) {
	dir, call := offline(t)
	var safe atomic.Int64
	var all sync.WaitGroup
	const workers, each = 4, 25
	for w := range workers {
		all.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(t.Context())
				body := io.Reader(&textLines{1000 * (i%10 + 1)})
				if i%3 == 0 { // killed while it reads, at one place or another
					body = io.MultiReader(&textLines{50 * i}, readFunc(func([]byte) (int, error) {
						cancel()
						return 0, io.EOF
					}))
				}
				status, _, _, err := call(body, strings.NewReader(fmt.Sprintf("Fa@b.example\x00Tr%d-%d@d.example\x00\x00", w, i))).run(ctx)
				cancel()
				if err != nil {
					t.Error(err)
				}
				if status == 0 {
					safe.Add(1)
				}
			}
		})
	}
	all.Wait()
	whole, _ := drops(t, dir)
	if n := int(safe.Load()); n > len(whole) || len(whole) > workers*each || n < workers*each/2 {
		t.Errorf("%d were safe, %d are there", n, len(whole))
	}
	for _, name := range whole {
		if text, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(text, []byte("PostDrop")) || !bytes.HasSuffix(text, []byte("nopq\n")) && len(text) > 200 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestQueueInFullDisk: a disk without room is status 53, and leaves nothing behind; with
// room, the next one is taken.
func TestQueueInFullDisk(t *testing.T) {
	dir, call := offline(t)
	data := filepath.Join(dir, "var")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", data, "tmpfs", 0, "size=4m"); err != nil {
		missing(t.Skip, t.Fatal, "the right to mount")
		return
	}
	defer func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	envelope := func() io.Reader { return strings.NewReader("Fa@b.example\x00Tc@d.example\x00\x00") }
	for _, size := range []int{8 << 20, 3 << 20} { // the spool does not fit; the drop file beside it does not
		if status, _, _, err := call(&textLines{size / 64}, envelope()).run(t.Context()); err != nil || status != 53 {
			t.Errorf("%d bytes: status %d, %v", size, status, err)
		}
		if whole, other := drops(t, dir); len(whole)+len(other) > 0 {
			t.Errorf("left behind: %v", slices.Concat(whole, other))
		}
	}
	if status, _, _, err := call(&textLines{1000}, envelope()).run(t.Context()); err != nil || status != 0 {
		t.Errorf("with room: status %d, %v", status, err)
	}
}

// TestQueueInSetUserID: with the set-user-ID bit it is qmail-queue and nothing else,
// whatever its caller calls it, and its caller does not choose the configuration.
func TestQueueInSetUserID(t *testing.T) {
	if os.Getuid() != 0 {
		missing(t.Skip, t.Fatal, "root")
		return
	}
	dir, _ := offline(t)
	text, err := os.ReadFile(filepath.Join(needBinaries(t), "postern"))
	program := filepath.Join(dir, "queue")
	if err := errors.Join(err, os.WriteFile(program, text, 0o755), os.Chown(program, 65534, 65534), os.Chmod(program, 0o755|os.ModeSetuid), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/etc/postern/postern.toml"); err == nil {
		t.Skip("this host has a configuration of its own")
	}
	for _, args := range [][]string{{"postern", "--version"}, {"sendmail", "-t"}, {"qmail-queue", "-c", filepath.Join(dir, "postern.toml")}} {
		c := exec.CommandContext(t.Context(), program)
		c.Args, c.Env = args, []string{"POSTERN_CONFIG=" + filepath.Join(dir, "postern.toml"), "QMAILQUEUE=/bin/true"}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
		out, err := c.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 55 || len(out) > 0 {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
}

// cmdSay sends a text to a server, ends its side, and compares the answer with a
// pattern:
//
//	say ADDRESS TEXT PATTERN
//
// In TEXT \n, \r and \0 are what they say, N*C is N times the character C, and {…} is
// what is in it as a netstring.
func cmdSay(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: say ADDRESS TEXT PATTERN")
	}
	many := regexp.MustCompile(`([0-9]+)\*([a-z])`)
	text := many.ReplaceAllStringFunc(args[1], func(s string) string {
		m := many.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[1])
		ts.Check(err)
		return strings.Repeat(m[2], n)
	})
	text = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\0`, "\x00").Replace(text)
	for inner := regexp.MustCompile(`\{[^{}]*\}`); inner.MatchString(text); {
		text = inner.ReplaceAllStringFunc(text, func(s string) string { return fmt.Sprintf("%d:%s,", len(s)-2, s[1:len(s)-1]) })
	}
	c, err := net.DialTimeout("tcp", args[0], waitLimit)
	ts.Check(err)
	defer c.Close()
	ts.Check(c.SetDeadline(time.Now().Add(waitLimit)))
	go func() { // the answer may come, and the connection end, before all is said
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	answer, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		ts.Fatalf("%v", err)
	}
	if !regexp.MustCompile("^(?s:" + args[2] + ")$").Match(answer) {
		ts.Fatalf("the answer is %q, want %s", answer, args[2])
	}
}

// TestQueueInParallel: a hundred submissions at once are all safe and none is lost, with
// the daemon down and with it up.
func TestQueueInParallel(t *testing.T) {
	const submissions = 100
	h := newHouse(t, filepath.Join(needBinaries(t), "postern"))
	h.configure("")
	if err := os.Symlink(h.exe, filepath.Join(h.dir, "qmail-queue")); err != nil {
		t.Fatal(err)
	}
	hand := func(name string) {
		t.Helper()
		var all sync.WaitGroup
		for i := range submissions {
			all.Go(func() {
				q := queueCall{
					program: filepath.Join(h.dir, "qmail-queue"), dir: h.dir,
					env:      []string{"POSTERN_CONFIG=" + filepath.Join(h.dir, "postern.toml"), "TMPDIR=" + h.dir, "PATH=" + os.Getenv("PATH")},
					body:     strings.NewReader(fmt.Sprintf("Subject: %s-%d-end\n\nbody\n", name, i)),
					envelope: strings.NewReader("Fa@b.example\x00Tjoe@example.net\x00\x00"),
				}
				if status, reason, _, err := q.run(t.Context()); err != nil || status != 0 {
					t.Errorf("%s %d: status %d %q, %v", name, i, status, reason, err)
				}
			})
		}
		all.Wait()
	}
	each := func(name string) bool {
		mails := h.mailbox("joe")
		for i := range submissions {
			want := fmt.Sprintf("Subject: %s-%d-end", name, i)
			if n := len(slices.DeleteFunc(slices.Clone(mails), func(m string) bool { return !strings.Contains(m, want) })); n != 1 {
				return false
			}
		}
		return true
	}
	hand("down")
	if whole, other := drops(t, h.dir); len(whole) != submissions || len(other) != 0 {
		t.Fatalf("%d drop files and %q", len(whole), other)
	}
	shut := h.open()
	defer shut()
	h.eventually("every message of the drop directory is delivered once", func() bool { return each("down") })
	hand("up")
	h.eventually("every message is delivered once", func() bool { return each("up") })
	if whole, other := drops(t, h.dir); len(whole) != 0 || len(other) != 0 {
		t.Errorf("left: %q %q", whole, other)
	}
}
