package t

import (
	"net"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// eximAccount is the number of Debian-exim in Exim's own passwd file.
const eximAccount = 64801

// cmdExim runs an Exim of the script's own at ${PEER}, which relays to the sink,
// refuses gone@ and defers later@ any domain:
//
//	exim start
//	exim stop
func cmdExim(ts *testscript.TestScript, _ bool, args []string) {
	needRoot(ts, "Exim")
	program := unpacked(ts, "exim/usr/sbin/exim4")
	p := newPeer(ts, "exim")
	p.verb(ts, args, func() {
		p.folders(ts, eximAccount, 0o750, "spool", "logs")
		p.pair(ts, eximAccount)
		host, port, err := net.SplitHostPort(ts.Getenv("PEER"))
		ts.Check(err)
		sinkHost, sinkPort, err := net.SplitHostPort(ts.Getenv("SINK"))
		ts.Check(err)
		p.file(ts, "exim.conf", strings.NewReplacer("PROGRAM", program, "DIR", p.dir, "HOST", host, "SINKPORT", sinkPort, "PORT", port, "SINK", sinkHost).Replace(eximConf), 0o644)
		binds := p.accounts(ts, map[string]int{"Debian-exim": eximAccount})
		p.start(ts, apart(ts, binds, program, "-C", filepath.Join(p.dir, "exim.conf"), "-bdf", "-q2s", "-oP", filepath.Join(p.dir, "pid")), ts.Getenv("PEER"))
	})
}

// It offers what Exim can offer: CHUNKING, DSN, SMTPUTF8, PIPELINING, STARTTLS.
const eximConf = `primary_hostname = exim.example
exim_path = PROGRAM
spool_directory = DIR/spool
log_file_path = DIR/logs/%s
local_interfaces = HOST
daemon_smtp_ports = PORT
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = DIR/cert.pem
tls_privatekey = DIR/key.pem
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
deliver_drop_privilege = true
message_size_limit = 20M
split_spool_directory = false
acl_smtp_rcpt = recipients
acl_smtp_data = message
qualify_domain = exim.example

begin acl
recipients:
  deny local_parts = gone
       message = 550 5.1.1 Exim knows nobody named $local_part
  defer local_parts = later
        message = 451 4.7.1 Exim wants to hear of $local_part later
  accept
message:
  deny condition = ${if eq{$h_Subject:}{refuse me}}
       message = 554 5.6.0 Exim does not like the subject
  accept

begin routers
sink:
  driver = manualroute
  route_list = * SINK byname
  transport = sink
  self = send

begin transports
sink:
  driver = smtp
  port = SINKPORT
  allow_localhost
  hosts_avoid_tls = *

begin retry
* * F,1m,1s
`
