package t

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// gtube is what every SpamAssassin takes for spam (1000 points).
const gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

const plainMail = "From: Ann <ann@example.org>\r\nTo: you@example.net\r\nSubject: %s\r\nX-Spam-Status: No, forged\r\n" +
	"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"

// The plugin's process asks a real spamd, by TCP and by its unix socket.
func TestSpamAssassin(t *testing.T) {
	tcp, socket := startSpamd(t)
	exe := filepath.Join(t.TempDir(), "spamassassin")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "../plugins/spamassassin").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, address := range []string{tcp, "unix:" + socket} {
		p, problems, err := plugin.Load(exe, plugin.Options{Settings: map[string]any{"address": address, "subject": "[SPAM]", "reject": 2000.0}})
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := p.Health(ctx); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		cancel()
		chain := hooks.NewChain([]hooks.Entry{{Handler: p, Timeout: time.Minute}}, hooks.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		spam := judgeBySpamd(t, chain, "an offer", gtube+"\r\n")
		if total := spam.Total(); total < 900 {
			t.Errorf("%s: GTUBE has %v points", address, total)
		}
		if !strings.Contains(spam.Scores[0].Why, "GTUBE") {
			t.Errorf("%s: rules %q", address, spam.Scores[0].Why)
		}
		status, _ := spam.Header.Get("X-Spam-Status")
		subject, _ := spam.Header.Get("Subject")
		if !strings.HasPrefix(status, "Yes, score=") || subject != "[SPAM] an offer" || spam.Header.Count("X-Spam-Status") != 1 {
			t.Errorf("%s: status %q, subject %q", address, status, subject)
		}
		ham := judgeBySpamd(t, chain, "the minutes", "Dear all,\r\n\r\nthe minutes of Monday's meeting are on the usual shelf.\r\n\r\nAnn\r\n")
		if total := ham.Total(); total > 4 {
			t.Errorf("%s: an ordinary mail has %v points: %v", address, total, ham.Scores)
		}
		if status, _ := ham.Header.Get("X-Spam-Status"); !strings.HasPrefix(status, "No, score=") || ham.Header.Count("X-Spam-Status") != 1 {
			t.Errorf("%s: status %q", address, status)
		}
		large := judgeBySpamd(t, chain, "large", strings.Repeat("0123456789abcdef\r\n", 30<<10)+gtube+"\r\n")
		if large.Results["spamassassin"]["skipped"] != "size" {
			t.Errorf("%s: a large message: %v", address, large.Results)
		}
		chain.Retire()
	}
}

// judgeBySpamd runs a message through the stages that the plugin has, which is to
// let it in.
func judgeBySpamd(t *testing.T, chain *hooks.Chain, subject, body string) *hooks.Transaction {
	t.Helper()
	d, tx := judgeBy(t, chain, subject, body)
	if d.Verb != hooks.Pass {
		t.Fatalf("%v %v", d.Verb, d.Reply)
	}
	return tx
}

// judgeBy runs a message through stages headers and message.
func judgeBy(t *testing.T, chain *hooks.Chain, subject, body string) (d hooks.Decision, tx *hooks.Transaction) {
	t.Helper()
	s := &hooks.Session{ID: message.NewID(time.Now()), Protocol: "smtp", Helo: "mail.example.org", Extended: true, Client: netip.MustParseAddrPort("127.0.0.1:4711")}
	tx = hooks.NewTransaction(s, message.NewID(time.Now()))
	tx.Sender = message.Address{Local: "ann", Domain: "example.org"}
	return judge(t, chain, tx, subject, body), tx
}

// judge gives tx that message, and runs it through stages headers and message.
func judge(t *testing.T, chain *hooks.Chain, tx *hooks.Transaction, subject, body string) (d hooks.Decision) {
	t.Helper()
	text := strings.Replace(plainMail, "%s", subject, 1) + body
	n, _ := message.HeaderLen([]byte(text))
	tx.Header, tx.Body = message.ParseHeader([]byte(text[:n])), message.Bytes(text)
	for _, at := range []hooks.Stage{hooks.Headers, hooks.Message} {
		if d = chain.Run(t.Context(), at, tx); d.Verb != hooks.Pass {
			break
		}
	}
	return d
}

// installed is where a server is that t/packages.sh installs.
func installed(t *testing.T, name string) string {
	t.Helper()
	exe, err := exec.LookPath(name)
	if err != nil {
		exe = "/usr/sbin/" + name
	}
	if _, err := os.Stat(exe); err != nil {
		missing(t.Skip, t.Fatal, name+", which t/packages.sh installs,")
	}
	return exe
}

// startSpamd runs a spamd of its own with local rules alone, and returns when it
// answers.
func startSpamd(t *testing.T) (tcp, socket string) {
	t.Helper()
	exe := installed(t, "spamd")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp = ln.Addr().String()
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	dir, err := os.MkdirTemp("", "spamd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // its own account makes the socket
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "spamd.sock")
	args := []string{"-L", "-i", "127.0.0.1", "-p", strconv.Itoa(port), "--socketpath=" + socket, "-m", "2", "--nouser-config", "-s", "stderr"}
	if os.Geteuid() == 0 {
		args = append(args, "--username=debian-spamd")
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	ready := make(chan bool, 1)
	reading.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "server started on") {
				ready <- true
				break
			}
			t.Log(lines.Text())
		}
		close(ready)
		_, _ = io.Copy(io.Discard, out)
	})
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		reading.Wait()
		_ = cmd.Wait()
	})
	select {
	case up := <-ready:
		if !up {
			t.Fatal("spamd ended before it was ready")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("spamd is not ready after two minutes")
	}
	return tcp, socket
}
