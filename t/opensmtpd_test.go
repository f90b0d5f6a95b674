package t

import (
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// Numbers of OpenSMTPD's accounts in its own passwd file.
const (
	opensmtpdAccount = 64811
	opensmtpqAccount = 64812
)

// cmdOpenSMTPD runs an OpenSMTPD of the script's own at ${PEER}, which relays to
// the sink, refuses gone@example.net and defers later@example.net. It takes nothing
// that is pipelined with EHLO:
//
//	opensmtpd start
//	opensmtpd stop
func cmdOpenSMTPD(ts *testscript.TestScript, _ bool, args []string) {
	needRoot(ts, "OpenSMTPD")
	program := unpacked(ts, "opensmtpd/usr/sbin/smtpd")
	p := newPeer(ts, "opensmtpd")
	p.verb(ts, args, func() {
		p.folders(ts, 0, 0o711, "spool", "spool/smtpd", "run", "lib", "lib/opensmtpd", "lib/opensmtpd/empty")
		p.folders(ts, opensmtpqAccount, 0o700, "spool/smtpd/queue", "spool/smtpd/purge")
		for _, name := range []string{"queue", "purge"} {
			ts.Check(os.Chown(filepath.Join(p.dir, "spool/smtpd", name), opensmtpqAccount, 0))
		}
		p.pair(ts, 0)
		host, port, err := net.SplitHostPort(ts.Getenv("PEER"))
		ts.Check(err)
		p.file(ts, "smtpd.conf", strings.NewReplacer("DIR", p.dir, "HOST", host, "PORT", port, "SINK", ts.Getenv("SINK")).Replace(opensmtpdConf), 0o600)
		p.file(ts, "hosts", "127.0.0.1 localhost\n"+host+" peer.example\n", 0o644)
		binds := append(p.accounts(ts, map[string]int{"opensmtpd": opensmtpdAccount, "opensmtpq": opensmtpqAccount}),
			bind{filepath.Join(p.dir, "hosts"), "/etc/hosts"},
			// Its paths are compiled in.
			bind{filepath.Join(p.dir, "spool"), "/var/spool"}, bind{filepath.Join(p.dir, "run"), "/run"}, bind{filepath.Join(p.dir, "lib"), "/var/lib"})
		p.start(ts, apart(ts, binds, program, "-d", "-f", filepath.Join(p.dir, "smtpd.conf")), ts.Getenv("PEER"))
	})
}

const opensmtpdConf = `pki peer.example cert "DIR/cert.pem"
pki peer.example key "DIR/key.pem"
filter gone phase rcpt-to match rcpt-to { "gone@example.net" } reject "550 5.1.1 OpenSMTPD knows nobody of this name"
filter later phase rcpt-to match rcpt-to { "later@example.net" } reject "451 4.7.1 OpenSMTPD wants to hear of it later"
filter both chain { gone, later }
listen on HOST port PORT tls pki peer.example hostname peer.example filter both
action "sink" relay host "smtp+notls://SINK"
match from any for any action "sink"
`
