package t

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPostfix runs a Postfix of the script's own, which listens at ${POSTFIX} and
// relays to the sink, but for what postfixMain and header_checks refuse; the script is left out where that can't be:
//
//	postfix start
//	postfix stop
func cmdPostfix(ts *testscript.TestScript, _ bool, args []string) {
	tb := worldOf(ts).tb
	switch strings.Join(args, " ") {
	case "start":
		if os.Getuid() != 0 {
			missing(tb.Skip, tb.Fatal, "root, which Postfix needs,")
		}
		if _, err := lookPath(ts, "postfix"); err != nil {
			missing(tb.Skip, tb.Fatal, "Postfix")
		}
		dir, err := os.MkdirTemp("", "postern-t-postfix-")
		ts.Check(err)
		ts.Setenv("POSTFIX_DIR", dir)
		ts.Check(writePostfix(dir, ts.Getenv("POSTFIX"), ts.Getenv("SINK")))
		ts.Defer(func() {
			_, _ = postfix(dir, "stop")
			if tb.Failed() {
				text, _ := os.ReadFile(filepath.Join(dir, "log"))
				tb.Logf("Postfix's log:\n%s", tail(string(text), 8<<10))
			}
			_ = os.RemoveAll(dir)
		})
		out, err := postfix(dir, "start")
		if err != nil {
			ts.Fatalf("Postfix does not start: %v: %s", err, out)
		}
		if !poll(startLimit, func() bool { return greeting(ts.Getenv("POSTFIX")) }) {
			ts.Fatalf("Postfix does not greet: %s", out)
		}
	case "stop":
		out, err := postfix(ts.Getenv("POSTFIX_DIR"), "stop")
		if err != nil {
			ts.Fatalf("%v: %s", err, out)
		}
	default:
		ts.Fatalf("usage: postfix start|stop")
	}
}

func postfix(dir, verb string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "postfix", "-c", dir, verb)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Path = "/usr/sbin/postfix"
	if path, err := exec.LookPath("postfix"); err == nil {
		cmd.Path = path
	}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// inet_interfaces must be an address that an interface really has, or Postfix
// ends without a word (no terminal, no syslog); where it listens, master.cf says.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/log
inet_protocols = ipv4
inet_interfaces = loopback-only
local_header_rewrite_clients =
myhostname = next.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = check_recipient_access inline:{
  {no@example.net = 550 5.1.1 Nobody of that name} {later@example.net = 450 4.2.1 Come back later}
  {b@ask.example = OK} {ask.example = 550 5.1.1 Nobody of that name}}, permit_mynetworks, reject
header_checks = regexp:%[1]s/header_checks
smtp_dns_support_level = disabled
relayhost = [%[2]s]:%[3]s
smtp_line_length_limit = 0
message_size_limit = 20480000
disable_vrfy_command = yes
`

// Services that a relay needs, none of them in a chroot.
const postfixMaster = `%[1]s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
`

func writePostfix(dir, listen, relay string) error {
	relayHost, relayPort, err := net.SplitHostPort(relay)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "queue"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "header_checks"), []byte("/^Subject: unwanted/ REJECT Not this\n"), 0o644); err != nil {
		return err
	}
	main := fmt.Sprintf(postfixMain, dir, relayHost, relayPort)
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte(main), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "master.cf"), fmt.Appendf(nil, postfixMaster, listen), 0o644); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	out, err := exec.Command("chown", "postfix", data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
