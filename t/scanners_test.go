package t

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// eicar is the text that every scanner takes for a virus, in two halves: this file
// is none.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-` + `STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// rules has rspamd do what the subject says: actions, and edits of the message.
const rules = `rspamd_config:register_symbol({ name = 'POSTERN_ACTION', type = 'prefilter', callback = function(task)
  local action = (task:get_header('Subject') or ''):match('^action (.+)$')
  if action then task:set_pre_result({ action = action, message = 'as the subject says', module = 'test' }) end
end })
rspamd_config:register_symbol({ name = 'POSTERN_MILTER', type = 'prefilter', callback = function(task)
  local instead = (task:get_header('Subject') or ''):match('^reject, but (.+)$')
  if instead then
    task:set_milter_reply({ reject = instead })
    task:set_pre_result({ action = 'reject', message = 'not said', module = 'test' })
  end
end })
rspamd_config:register_symbol({ name = 'POSTERN_EDIT', score = 2.5, callback = function(task)
  if not (task:get_header('Subject') or ''):match('edit') then return false end
  task:set_milter_reply({ add_headers = { ['X-Added'] = 'by rspamd', ['X-Top'] = { value = 'top', order = 0 } }, remove_headers = { ['X-Spam-Status'] = 0 } })
  return true
end })
rspamd_config:register_symbol({ name = 'POSTERN_FACTS', score = 0.5, callback = function(task)
  local from, to = task:get_from('smtp'), task:get_recipients('smtp')
  return tostring(task:get_from_ip()) == '127.0.0.1' and task:get_helo() == 'mail.example.org' and from and from[1].addr == 'ann@example.org' and not to
end })
`

// The plugin's process asks a real rspamd.
func TestRspamd(t *testing.T) {
	worker, controller := startRspamd(t)
	p, chain := scannerPlugin(t, "rspamd", map[string]any{"address": worker, "controller": controller, "controller_password": "teach-me", "add_headers": "always"})
	for _, c := range []struct {
		subject, body string
		verb          hooks.Verb
		text          string
	}{
		{"the minutes", "Dear all\r\n", hooks.Pass, ""},
		{"an offer", gtube + "\r\n", hooks.Reject, "Gtube pattern"},
		{"action soft reject", "x\r\n", hooks.Defer, "as the subject says"},
		{"action reject", "x\r\n", hooks.Reject, "as the subject says"},
		{"action rewrite subject", "x\r\n", hooks.Pass, ""},
		{"action add header", "x\r\n", hooks.Pass, ""},
		{"action greylist", "x\r\n", hooks.Pass, ""},
		{"action quarantine", "x\r\n", hooks.Quarantine, ""},
		{"action discard", "x\r\n", hooks.Discard, ""},
		{"reject, but discard", "x\r\n", hooks.Discard, ""},
		{"reject, but quarantine", "x\r\n", hooks.Quarantine, ""},
		{"please edit", strings.Repeat("0123456789abcdef\r\n", 40<<10), hooks.Pass, ""}, // 720 KB
	} {
		d, tx := judgeBy(t, chain, c.subject, c.body)
		if d.Verb != c.verb || !strings.Contains(d.Reply.Text, c.text) {
			t.Errorf("%s: %v %v", c.subject, d.Verb, d.Reply)
		}
		field := func(name string) string { text, _ := tx.Header.Get(name); return text }
		switch c.subject {
		case "the minutes":
			if tx.Total() != 0.5 || tx.Scores[0].Why != "POSTERN_FACTS(0.5)" {
				t.Errorf("rspamd was told something else: %v, %v", tx.Scores, tx.Results)
			}
		case "action rewrite subject":
			if field("Subject") != "*** SPAM *** action rewrite subject" || field("X-Spam") != "Yes" {
				t.Errorf("%q, %q", field("Subject"), field("X-Spam"))
			}
		case "action add header":
			if field("X-Spam") != "Yes" || field("X-Rspamd-Action") != "add header" {
				t.Errorf("%q, %q", field("X-Spam"), field("X-Rspamd-Action"))
			}
		case "please edit":
			if field("X-Added") != "by rspamd" || field("X-Top") != "top" || tx.Header.Count("X-Spam-Status") != 0 || tx.Total() != 3 {
				t.Errorf("%q, %v", tx.Header.Bytes(), tx.Scores)
			}
		}
	}
	_, otherwise := scannerPlugin(t, "rspamd", map[string]any{"address": worker, "on_greylist": "defer", "on_discard": "quarantine", "on_quarantine": "reject", "on_soft_reject": "pass", "on_reject": "discard"})
	for subject, want := range map[string]hooks.Verb{
		"action greylist": hooks.Defer, "action discard": hooks.Quarantine, "action quarantine": hooks.Reject, "action soft reject": hooks.Pass, "action reject": hooks.Discard,
	} {
		if d, _ := judgeBy(t, otherwise, subject, "x\r\n"); d.Verb != want {
			t.Errorf("%s, and the settings say otherwise: %v %v, want %v", subject, d.Verb, d.Reply, want)
		}
	}
	for _, spam := range []bool{true, false} {
		text := strings.Replace(plainMail, "%s", fmt.Sprint("lesson ", spam), 1)
		for i := range 40 { // of words that no run before has taught it
			text += fmt.Sprintf("lorem%[1]x ipsum%[1]x dolor%[1]x sit amet\r\n", time.Now().UnixNano()+int64(i))
		}
		if said, err := p.Learn(t.Context(), plugin.Lesson{Spam: spam, ID: "X", Body: message.Bytes(text)}); err != nil || said != "" {
			t.Errorf("spam %v: %q, %v", spam, said, err)
		}
	}
}

// The plugin's process asks a real clamd, by TCP and by its unix socket, the first
// server of which is down.
func TestClamd(t *testing.T) {
	tcp, socket := startClamd(t)
	for _, address := range []string{"127.0.0.1:1, " + tcp, "/none.sock, " + socket} {
		_, chain := scannerPlugin(t, "clamd", map[string]any{"address": address, "max_size": "4MiB"})
		attached := "Content-Type: application/octet-stream\r\n\r\n" // of the body: the header section has ended
		if d, _ := judgeBy(t, chain, "a file", attached+eicar+"\r\n"); d.Verb != hooks.Reject || !strings.Contains(d.Reply.Text, "Eicar-Test-Postern") {
			t.Errorf("%s: %v %v", address, d.Verb, d.Reply)
		}
		d, tx := judgeBy(t, chain, "the minutes", "Dear all\r\n")
		if status, _ := tx.Header.Get("X-Virus-Status"); d.Verb != hooks.Pass || status != "Clean" {
			t.Errorf("%s: %v %v, %q", address, d.Verb, d.Reply, status)
		}
		for _, n := range []int{100 << 10, 300 << 10} { // over clamd's limit, and over ours
			if d, tx := judgeBy(t, chain, "large", strings.Repeat("0123456789abcdef\r\n", n)); d.Verb != hooks.Pass || tx.Results["clamd"]["skipped"] != "size" {
				t.Errorf("%s: %d lines: %v %v, %v", address, n, d.Verb, d.Reply, tx.Results)
			}
		}
	}
}

// scannerPlugin builds and loads a plugin, which is to be healthy but for servers
// that are down on purpose.
func scannerPlugin(t *testing.T, name string, settings map[string]any) (*plugin.Plugin, *hooks.Chain) {
	t.Helper()
	exe := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "../plugins/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p, problems, err := plugin.Load(exe, plugin.Options{Settings: settings})
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Health(ctx); err != nil && !strings.Contains(err.Error(), "127.0.0.1:1:") && !strings.Contains(err.Error(), "/none.sock") {
		t.Errorf("%s: %v", name, err)
	}
	chain := hooks.NewChain([]hooks.Entry{{Handler: p, Timeout: time.Minute}}, hooks.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(chain.Retire)
	return p, chain
}

// awaits waits until a scanner answers, which ended is not to do before.
func awaits(t *testing.T, what string, out *bytes.Buffer, ended <-chan error, answers func() bool) {
	t.Helper()
	limit, again := time.NewTimer(3*time.Minute), time.NewTicker(100*time.Millisecond)
	defer limit.Stop()
	defer again.Stop()
	for !answers() {
		select {
		case err := <-ended:
			t.Fatalf("%s ended before it was ready: %v\n%s", what, err, out)
		case <-limit.C:
			t.Fatalf("%s is not ready after three minutes", what)
		case <-again.C:
		}
	}
}

// startScanner runs a program until the test's end.
func startScanner(t *testing.T, what string, answers func() bool, exe string, args ...string) {
	t.Helper()
	cmd, out := exec.Command(exe, args...), &bytes.Buffer{}
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		ended <- cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-gone
	})
	awaits(t, what, out, ended, answers)
}

// anyPort is a port of this host that is free.
func anyPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// openFolder is a folder that accounts of others may write to.
func openFolder(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startRspamd runs a rspamd of its own, with no rules but ours.
func startRspamd(t *testing.T) (worker, controller string) {
	t.Helper()
	exe := installed(t, "rspamd")
	dir := openFolder(t, "rspamd")
	worker, controller = anyPort(t), anyPort(t)
	conf := strings.NewReplacer("@DIR@", dir, "@WORKER@", worker, "@CONTROLLER@", controller).Replace(`
options { pidfile = "@DIR@/pid"; tempdir = "@DIR@"; control_socket = "@DIR@/control mode=0600"; cache_file = "@DIR@/cache"; hs_cache_dir = "@DIR@"; history_file = "@DIR@/history";
  url_tld = "@DIR@/tld"; filters = ""; disable_hyperscan = true; dns { nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; } }
logging { type = "console"; level = "warning"; }
metric { name = "default"; actions { reject = 15; "add header" = 6; "rewrite subject" = 8; greylist = 4; quarantine = { flags = ["no_threshold"]; } discard = { flags = ["no_threshold"]; } } }
lua = "@DIR@/rules.lua";
worker { type = "normal"; bind_socket = "@WORKER@"; count = 1; }
worker { type = "controller"; bind_socket = "@CONTROLLER@"; count = 1; password = "teach-me"; enable_password = "teach-me"; }
classifier "bayes" { tokenizer { name = "osb"; } backend = "sqlite3"; min_tokens = 1;
  statfile { symbol = "BAYES_HAM"; path = "@DIR@/ham.sqlite"; spam = false; } statfile { symbol = "BAYES_SPAM"; path = "@DIR@/spam.sqlite"; spam = true; } }
`)
	for name, text := range map[string]string{"rspamd.conf": conf, "rules.lua": rules, "tld": "com\nnet\norg\nexample\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-f", "-c", filepath.Join(dir, "rspamd.conf")}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "_rspamd", "-g", "_rspamd")
	}
	ping := func(address string) bool {
		r, err := http.Get("http://" + address + "/ping")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		return err == nil && strings.HasPrefix(string(text), "pong")
	}
	startScanner(t, "rspamd", func() bool { return ping(worker) && ping(controller) }, exe, args...)
	return worker, controller
}

// startClamd runs a clamd of its own whose database is one signature.
func startClamd(t *testing.T) (tcp, socket string) {
	t.Helper()
	exe := installed(t, "clamd")
	dir := openFolder(t, "clamd")
	tcp, socket = anyPort(t), filepath.Join(dir, "socket")
	_, port, _ := net.SplitHostPort(tcp)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o755); err != nil {
		t.Fatal(err)
	}
	signature := "Eicar-Test-Postern:0:*:" + hex.EncodeToString([]byte(eicar)) + "\n"
	conf := fmt.Sprintf("DatabaseDirectory %s/db\nTCPSocket %s\nTCPAddr 127.0.0.1\nLocalSocket %s\nForeground yes\nStreamMaxLength 1M\nTemporaryDirectory %s\n", dir, port, socket, dir)
	if os.Geteuid() == 0 {
		conf += "User root\n"
	}
	for name, text := range map[string]string{"clamd.conf": conf, "db/eicar.ndb": signature} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	startScanner(t, "clamd", func() bool {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		defer c.Close()
		line := make([]byte, 5)
		_, err = io.WriteString(c, "zPING\x00")
		if err == nil {
			_, err = io.ReadFull(c, line)
		}
		return err == nil && string(line) == "PONG\x00"
	}, exe, "-c", filepath.Join(dir, "clamd.conf"))
	return tcp, socket
}
