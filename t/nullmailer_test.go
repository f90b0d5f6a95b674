package t

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// mailAccount is the number of mail on every Debian system: nullmailer-queue is
// set-user-id to it.
const mailAccount = 8

// cmdNullmailer runs a nullmailer of the script's own, which sends what is put into
// its queue to the gateway:
//
//	nullmailer start [qmqp] OPTION...        with these options of its smtp program, such as --starttls
//	nullmailer queue FILE SENDER RECIPIENT   puts a message into its queue; the null sender is <>
//	nullmailer stop                          once its queue is empty
//
// Its folders are compiled in, and none of them is on a system without it: it has
// a root of its own, made of the unpacked package and the system's libraries.
func cmdNullmailer(ts *testscript.TestScript, _ bool, args []string) {
	needRoot(ts, "nullmailer")
	program := unpacked(ts, "nullmailer/usr/sbin/nullmailer-send")
	const spool = "root/var/spool/nullmailer"
	p := newPeer(ts, "nullmailer")
	switch {
	case len(args) > 0 && args[0] == "start":
		p.folders(ts, 0, 0o755, "root/etc/nullmailer")
		p.folders(ts, mailAccount, 0o755, spool, spool+"/queue", spool+"/tmp", spool+"/failed")
		trigger := filepath.Join(p.dir, spool, "trigger")
		if err := syscall.Mkfifo(trigger, 0o600); !errors.Is(err, fs.ErrExist) {
			ts.Check(err)
		}
		ts.Check(os.Chown(trigger, mailAccount, mailAccount))
		p.file(ts, "root/etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
		p.file(ts, "root/etc/group", "root:x:0:\n", 0o644)
		p.file(ts, "root/etc/mailname", "null.example\n", 0o644)
		p.file(ts, "root/etc/nullmailer/helohost", "client.example\n", 0o644)
		p.file(ts, "root/etc/nullmailer/pausetime", "1\n", 0o644)
		if ca, err := os.ReadFile(ts.MkAbs("cert.pem")); err == nil {
			p.file(ts, "root/etc/ca.pem", string(ca), 0o644)
		}
		protocol, port := "smtp", ts.Getenv("SMTPPORT")
		if len(args) > 1 && args[1] == "qmqp" {
			protocol, port, args = args[1], ts.Getenv("SMTPSPORT"), args[1:]
		}
		p.file(ts, "root/etc/nullmailer/remotes", fmt.Sprintf("%s %s --port=%s %s\n", ts.Getenv("HOST"), protocol, port, strings.Join(args[1:], " ")), 0o600)
		root, binds := p.nullmailerRoot(ts, program)
		p.run(ts, apart(ts, binds, "chroot", root, "/usr/sbin/nullmailer-send"))
	case len(args) == 4 && args[0] == "queue":
		root, binds := p.nullmailerRoot(ts, program)
		// It names its files by its process id: no process ids of its own.
		cmd := bound(ts, nil, binds, "chroot", root, "/usr/sbin/nullmailer-queue")
		cmd.Stdin = bytes.NewReader(fmt.Appendf(nil, "%s\n%s\n\n%s", strings.Trim(args[2], "<>"), args[3], ts.ReadFile(args[1])))
		if out, err := cmd.CombinedOutput(); err != nil {
			ts.Fatalf("nullmailer-queue: %v: %s", err, out)
		}
	case strings.Join(args, " ") == "stop":
		// Killed between the reply and the removal it would send again.
		empty := func() bool {
			files, err := os.ReadDir(filepath.Join(p.dir, spool, "queue"))
			return err == nil && len(files) == 0
		}
		if !poll(waitLimit, empty) {
			ts.Fatalf("nullmailer still has mail")
		}
		p.stop()
	default:
		ts.Fatalf("usage: nullmailer start [OPTION...]|queue FILE SENDER RECIPIENT|stop")
	}
}

// nullmailerRoot is its root and what has to be bound there.
func (p *peer) nullmailerRoot(ts *testscript.TestScript, program string) (root string, binds []bind) {
	usr := filepath.Dir(filepath.Dir(program))
	root = filepath.Join(p.dir, "root")
	for _, b := range []bind{{usr, "usr"}, {"/lib", "lib"}, {"/lib64", "lib64"}, {"/dev", "dev"}} {
		if _, err := os.Stat(b.ours); err != nil {
			continue // no lib64 on some machines
		}
		p.folders(ts, 0, 0o755, filepath.Join("root", b.system))
		binds = append(binds, bind{b.ours, filepath.Join(root, b.system)})
	}
	return root, binds
}
