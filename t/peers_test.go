package t

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// Peers are servers and clients of other makes. Each has a file *_test.go here
// with the command that runs it; this one has what they share. A server listens
// at ${PEER}, on a unix socket too at ${PEERSOCKET} where it speaks LMTP, and what
// it relays goes to ${SINK}. Programs that cannot stand beside each other on a
// system are unpacked into bin/peers by t/packages.sh.

// peer is a server of another make that a script runs.
type peer struct {
	name string
	dir  string // its files: configuration, spool, log
	cmd  *exec.Cmd
	done chan struct{} // closed once the process ended
}

// newPeer makes the folder of a peer and shows its log where the script fails.
func newPeer(ts *testscript.TestScript, name string) *peer {
	w := worldOf(ts)
	if w.peers[name] != nil {
		return w.peers[name]
	}
	dir, err := os.MkdirTemp("", "postern-t-"+name+"-")
	ts.Check(err)
	ts.Check(os.Chmod(dir, 0o755))
	p := &peer{name: name, dir: dir}
	w.peers[name] = p
	ts.Defer(func() {
		p.stop()
		if w.tb.Failed() {
			w.tb.Logf("the log of %s:\n%s", name, tail(p.log(), 8<<10))
		}
		_ = os.RemoveAll(dir)
	})
	return p
}

func (p *peer) logFile() string { return filepath.Join(p.dir, "log") }

// log is its output and what it wrote into the folder logs.
func (p *peer) log() string {
	files, _ := filepath.Glob(filepath.Join(p.dir, "logs", "*"))
	var text strings.Builder
	for _, file := range append(files, p.logFile()) {
		b, _ := os.ReadFile(file)
		text.Write(b)
	}
	return text.String()
}

// file writes a file into the peer's folder.
func (p *peer) file(ts *testscript.TestScript, name, text string, mode fs.FileMode) {
	ts.Check(os.WriteFile(filepath.Join(p.dir, name), []byte(text), mode))
	ts.Check(os.Chmod(filepath.Join(p.dir, name), mode))
}

// folders makes folders in the peer's folder that belong to an account.
func (p *peer) folders(ts *testscript.TestScript, uid int, mode fs.FileMode, names ...string) {
	for _, name := range names {
		path := filepath.Join(p.dir, name)
		ts.Check(os.MkdirAll(path, mode))
		ts.Check(os.Chmod(path, mode))
		ts.Check(os.Chown(path, uid, uid))
	}
}

// pair writes a certificate for peer.example and the script's address, by RSA,
// which every one of them takes, and sets PEERCERT to its file.
func (p *peer) pair(ts *testscript.TestScript, uid int) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	_, cert, key, err := signedBy(private, "peer.example", ts.Getenv("HOST"))
	ts.Check(err)
	p.file(ts, "cert.pem", string(cert), 0o644)
	ts.Setenv("PEERCERT", filepath.Join(p.dir, "cert.pem"))
	p.file(ts, "key.pem", string(key), 0o600)
	ts.Check(os.Chown(filepath.Join(p.dir, "key.pem"), uid, uid))
}

// run starts the peer's process, with its output in the log.
func (p *peer) run(ts *testscript.TestScript, cmd *exec.Cmd) { p.runAs(ts, cmd, nil) }

// runAs is run under another account; nil: ours.
func (p *peer) runAs(ts *testscript.TestScript, cmd *exec.Cmd, account *syscall.Credential) {
	out, err := os.OpenFile(p.logFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	defer out.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: account}
	ts.Check(cmd.Start())
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // the status is in cmd.ProcessState
		close(done)
	}(p.done)
}

// start runs the peer's process until it greets at addr.
func (p *peer) start(ts *testscript.TestScript, cmd *exec.Cmd, addr string) {
	p.run(ts, cmd)
	ended := func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	}
	greets := false
	poll(startLimit, func() bool {
		greets = greeting(addr)
		return greets || ended()
	})
	if !greets {
		ts.Fatalf("%s does not greet (ended: %v)", p.name, ended())
	}
}

// stop ends the process and all that it started.
func (p *peer) stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	p.cmd = nil
}

// verb is what a server's command does: start, by f, or stop.
func (p *peer) verb(ts *testscript.TestScript, args []string, f func()) {
	switch strings.Join(args, " ") {
	case "start":
		f()
	case "stop":
		p.stop()
	default:
		ts.Fatalf("usage: %s start|stop", p.name)
	}
}

// unpacked is a program below bin/peers; without it the script is left out.
func unpacked(ts *testscript.TestScript, path string) string {
	tb := worldOf(ts).tb
	full := filepath.Join(repository(), "bin", "peers", path)
	if _, err := os.Stat(full); err != nil {
		missing(tb.Skip, tb.Fatal, "bin/peers/"+path+" (t/packages.sh unpacks it)")
	}
	return full
}

// needRoot leaves the script out where other accounts cannot be taken on.
func needRoot(ts *testscript.TestScript, who string) {
	if tb := worldOf(ts).tb; os.Getuid() != 0 {
		missing(tb.Skip, tb.Fatal, "root, which "+who+" needs,")
	}
}

// bind is a file or folder of ours that stands in the place of one of the system's.
type bind struct{ ours, system string }

// apart is a command with mounts and process ids of its own: the binds are seen by
// it alone, and what it leaves behind ends with it.
func apart(ts *testscript.TestScript, binds []bind, program string, args ...string) *exec.Cmd {
	return bound(ts, []string{"--pid", "--fork", "--kill-child=KILL"}, binds, program, args...)
}

// bound is a command that sees the binds, with more options of unshare.
func bound(ts *testscript.TestScript, options []string, binds []bind, program string, args ...string) *exec.Cmd {
	unshare := append([]string{"--mount", "--propagation", "private"}, options...)
	if out, err := exec.Command("unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
		tb := worldOf(ts).tb
		missing(tb.Skip, tb.Fatal, fmt.Sprintf("a mount namespace (%v: %s)", err, out))
	}
	const script = `while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 70; shift 2; done; shift; exec "$@"`
	line := append(unshare, "sh", "-c", script, "sh")
	for _, b := range binds {
		line = append(line, b.ours, b.system)
	}
	return exec.Command("unshare", append(append(line, "--", program), args...)...)
}

// accounts writes a passwd and a group file, the system's with more accounts in
// them, and returns the binds for them. Each account has a group of its number.
func (p *peer) accounts(ts *testscript.TestScript, more map[string]int) []bind {
	passwd, err := os.ReadFile("/etc/passwd")
	ts.Check(err)
	group, err := os.ReadFile("/etc/group")
	ts.Check(err)
	for name, id := range more {
		passwd = fmt.Appendf(passwd, "%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n", name, id, id)
		group = fmt.Appendf(group, "%s:x:%d:\n", name, id)
	}
	p.file(ts, "passwd", string(passwd), 0o644)
	p.file(ts, "group", string(group), 0o644)
	return []bind{{filepath.Join(p.dir, "passwd"), "/etc/passwd"}, {filepath.Join(p.dir, "group"), "/etc/group"}}
}

// cmdPeerlog looks into a peer's log:
//
//	peerlog NAME REGEXP       waits until it has the expression
//	! peerlog NAME REGEXP     it has not
func cmdPeerlog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: peerlog NAME REGEXP")
	}
	p := worldOf(ts).peers[args[0]]
	if p == nil {
		ts.Fatalf("%s does not run", args[0])
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	found := func() bool { return re.MatchString(p.log()) }
	if neg && found() {
		ts.Fatalf("the log of %s has %s", args[0], args[1])
	}
	if !neg && !poll(waitLimit, found) {
		ts.Fatalf("the log of %s has no %s", args[0], args[1])
	}
}

// cmdKept waits until a peer keeps one file that matches GLOB in its folder, and
// compares it with FILE as same does:
//
//	kept NAME GLOB FILE
func cmdKept(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: kept NAME GLOB FILE")
	}
	p := worldOf(ts).peers[args[0]]
	if p == nil {
		ts.Fatalf("%s does not run", args[0])
	}
	var files []string
	poll(waitLimit, func() bool {
		files, _ = filepath.Glob(filepath.Join(p.dir, args[1]))
		return len(files) > 0
	})
	if len(files) != 1 {
		ts.Fatalf("%d files match %s", len(files), args[1])
	}
	got, err := os.ReadFile(files[0])
	ts.Check(err)
	if diff := behindTrace(got, asSent(ts, args[2])); diff != "" {
		ts.Fatalf("%s: %s", args[2], diff)
	}
}

// mustHave leaves the script out where a file of the system is missing.
func mustHave(ts *testscript.TestScript, path, what string) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		tb := worldOf(ts).tb
		missing(tb.Skip, tb.Fatal, what)
	}
}
