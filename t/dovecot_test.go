package t

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// vmailAccount owns the mailboxes; it has no name.
const vmailAccount = 64821

// cmdDovecot runs a Dovecot of the script's own that speaks LMTP at ${PEER} and at
// the socket ${PEERSOCKET}. It has the users b, c and full; the mailbox of full
// takes nothing. Mail is in mail/USER/new in its folder:
//
//	dovecot start
//	dovecot stop
func cmdDovecot(ts *testscript.TestScript, _ bool, args []string) {
	needRoot(ts, "Dovecot")
	mustHave(ts, "/usr/lib/dovecot/lmtp", "Dovecot's LMTP server")
	p := newPeer(ts, "dovecot")
	p.verb(ts, args, func() {
		p.folders(ts, vmailAccount, 0o755, "mail", "logs")
		p.pair(ts, 0)
		host, port, err := net.SplitHostPort(ts.Getenv("PEER"))
		ts.Check(err)
		p.file(ts, "dovecot.conf", strings.NewReplacer("DIR", p.dir, "HOST", host, "PORT", port, "SOCKET", ts.Getenv("PEERSOCKET")).Replace(dovecotConf), 0o644)
		var users strings.Builder
		for _, user := range []string{"b", "c", "full"} {
			quota := "*:storage=20M"
			if user == "full" {
				quota = "*:storage=1B"
			}
			fmt.Fprintf(&users, "%s:::::::userdb_quota_rule=%s\n", user, quota)
		}
		p.file(ts, "users", users.String(), 0o644)
		p.start(ts, exec.Command("dovecot", "-F", "-c", filepath.Join(p.dir, "dovecot.conf")), ts.Getenv("PEER"))
	})
}

const dovecotConf = `base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/logs/main
protocols = lmtp
hostname = peer.example
auth_username_format = %Ln
mail_uid = 64821
mail_gid = 64821
first_valid_uid = 64821
first_valid_gid = 64821
mail_home = DIR/mail/%n
mail_location = maildir:DIR/mail/%n
mail_save_crlf = yes
mail_plugins = quota
plugin {
  quota = maildir:User quota
}
ssl = yes
ssl_cert = <DIR/cert.pem
ssl_key = <DIR/key.pem
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = passwd-file
  args = DIR/users
}
service lmtp {
  inet_listener lmtp {
    address = HOST
    port = PORT
  }
  unix_listener SOCKET {
    mode = 0666
  }
}
`
