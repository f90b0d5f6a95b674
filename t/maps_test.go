package t

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// listens starts the peer's process until it takes connections at addr.
func (p *peer) listens(ts *testscript.TestScript, cmd *exec.Cmd, addr string) {
	p.run(ts, cmd)
	if !poll(startLimit, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}) {
		ts.Fatalf("%s does not listen at %s", p.name, addr)
	}
}

// cmdRedis runs a Redis of the script's own at ${REDIS}, with the password secret,
// and tells it things:
//
//	redis start|stop
//	redis WORD...       stdout has the answer
func cmdRedis(ts *testscript.TestScript, _ bool, args []string) {
	_, err := lookPath(ts, "redis-server")
	if tb := worldOf(ts).tb; err != nil {
		missing(tb.Skip, tb.Fatal, "redis-server")
	}
	host, port, err := net.SplitHostPort(ts.Getenv("REDIS"))
	ts.Check(err)
	if len(args) > 0 && args[0] != "start" && args[0] != "stop" {
		ts.Check(ts.Exec("redis-cli", append([]string{"--no-auth-warning", "-e", "-a", "secret", "-h", host, "-p", port}, args...)...))
		return
	}
	p := newPeer(ts, "redis")
	p.verb(ts, args, func() {
		p.listens(ts, exec.Command("redis-server", "--bind", host, "--port", port, "--save", "", "--requirepass", "secret", "--dir", p.dir), ts.Getenv("REDIS"))
	})
}

// cmdPostgreSQL runs a PostgreSQL of the script's own at ${POSTGRES}, with the user
// postgres and the password secret, and tells it things:
//
//	postgresql start|stop
//	postgresql sql FILE
func cmdPostgreSQL(ts *testscript.TestScript, _ bool, args []string) {
	needRoot(ts, "PostgreSQL")
	tb := worldOf(ts).tb
	programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	account, err := user.Lookup("postgres")
	if len(programs) == 0 || err != nil {
		missing(tb.Skip, tb.Fatal, "PostgreSQL")
	}
	bin := programs[len(programs)-1]
	uid, err := strconv.Atoi(account.Uid)
	ts.Check(err)
	gid, err := strconv.Atoi(account.Gid)
	ts.Check(err)
	host, port, err := net.SplitHostPort(ts.Getenv("POSTGRES"))
	ts.Check(err)
	p := newPeer(ts, "postgresql")
	as := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...)
		cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "PGPASSWORD=secret")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	psql := func(args ...string) *exec.Cmd {
		return as("psql", append([]string{"-q", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "postgres"}, args...)...)
	}
	if len(args) == 2 && args[0] == "sql" {
		out, err := psql("-c", ts.ReadFile(args[1])).CombinedOutput()
		if err != nil {
			ts.Fatalf("psql: %v\n%s", err, out)
		}
		return
	}
	p.verb(ts, args, func() {
		data := filepath.Join(p.dir, "data")
		if _, err := os.Stat(data); err != nil {
			p.file(ts, "password", "secret\n", 0o644)
			ts.Check(os.Chown(p.dir, uid, gid))
			if out, err := as("initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", filepath.Join(p.dir, "password"), "--no-sync", "-E", "UTF8", "--locale", "C").CombinedOutput(); err != nil {
				ts.Fatalf("initdb: %v\n%s", err, out)
			}
		}
		cmd := as("postgres", "-D", data, "-h", host, "-p", port, "-k", p.dir, "-F", "-c", "shared_buffers=16MB")
		credential := cmd.SysProcAttr.Credential
		p.runAs(ts, cmd, credential)
		if !poll(startLimit, func() bool { return psql("-c", "SELECT 1").Run() == nil }) {
			ts.Fatalf("PostgreSQL does not answer:\n%s", p.log())
		}
	})
}

// cmdSlapd runs an OpenLDAP server of the script's own at ${LDAP}, with the entries
// of a file below dc=example,dc=net; cn=admin,dc=example,dc=net has the password
// secret, without which nothing is read:
//
//	slapd start FILE
//	slapd stop
func cmdSlapd(ts *testscript.TestScript, _ bool, args []string) {
	mustHave(ts, "/usr/sbin/slapd", "OpenLDAP's server")
	p := newPeer(ts, "slapd")
	if len(args) == 1 && args[0] == "stop" {
		p.stop()
		return
	}
	if len(args) != 2 || args[0] != "start" {
		ts.Fatalf("usage: slapd start FILE | stop")
	}
	conf := filepath.Join(p.dir, "slapd.conf")
	p.folders(ts, os.Getuid(), 0o700, "db", "logs")
	p.file(ts, "slapd.conf", strings.ReplaceAll(slapdConf, "DIR", p.dir), 0o600)
	if _, err := os.Stat(filepath.Join(p.dir, "db", "data.mdb")); err != nil {
		if out, err := exec.Command("/usr/sbin/slapadd", "-f", conf, "-l", ts.MkAbs(args[1])).CombinedOutput(); err != nil {
			ts.Fatalf("slapadd: %v\n%s", err, out)
		}
	}
	p.listens(ts, exec.Command("/usr/sbin/slapd", "-d", "0", "-h", fmt.Sprintf("ldap://%s/", ts.Getenv("LDAP")), "-f", conf), ts.Getenv("LDAP"))
}

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile DIR/pid
argsfile DIR/args
database mdb
suffix "dc=example,dc=net"
rootdn "cn=admin,dc=example,dc=net"
rootpw secret
directory DIR/db
access to * by users read by anonymous auth
`

// cmdWeb serves the files of a folder by HTTP at ${WEB}:
//
//	web start DIR
//	web stop
func cmdWeb(ts *testscript.TestScript, _ bool, args []string) {
	p := newPeer(ts, "web")
	if len(args) == 1 && args[0] == "stop" {
		p.stop()
		return
	}
	if len(args) != 2 || args[0] != "start" {
		ts.Fatalf("usage: web start DIR | stop")
	}
	host, port, err := net.SplitHostPort(ts.Getenv("WEB"))
	ts.Check(err)
	p.listens(ts, exec.Command("/usr/bin/python3", "-m", "http.server", "--bind", host, "--directory", ts.MkAbs(args[1]), port), ts.Getenv("WEB"))
}
