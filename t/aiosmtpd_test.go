package t

import (
	"net"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdAiosmtpd runs t/testdata/aiosmtpd_serves.py at ${PEER}; mail for NAME@ is the
// file kept/NAME in its folder:
//
//	aiosmtpd start
//	aiosmtpd stop
func cmdAiosmtpd(ts *testscript.TestScript, _ bool, args []string) {
	// The system's Python has the package, whatever other one stands on PATH.
	const python = "/usr/bin/python3"
	mustHave(ts, python, "Python")
	if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
		tb := worldOf(ts).tb
		missing(tb.Skip, tb.Fatal, "aiosmtpd")
	}
	p := newPeer(ts, "aiosmtpd")
	p.verb(ts, args, func() {
		p.folders(ts, -1, 0o755, "kept")
		p.pair(ts, -1)
		host, port, err := net.SplitHostPort(ts.Getenv("PEER"))
		ts.Check(err)
		p.start(ts, exec.Command(python, filepath.Join(repository(), "t/testdata/aiosmtpd_serves.py"), host, port,
			filepath.Join(p.dir, "kept"), filepath.Join(p.dir, "cert.pem"), filepath.Join(p.dir, "key.pem")), ts.Getenv("PEER"))
	})
}
