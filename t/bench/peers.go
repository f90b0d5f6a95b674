//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/postern-mta/postern/t/policies"
)

// peer is a server that can be measured: how its folder is filled, how it is
// started in it, and how it is asked to end.
type peer struct {
	name  string
	about string
	more  bool // it does more than the first one, so ratios are those of it to the first
	// prepare writes the configuration and returns the command that starts it.
	prepare func(ctx context.Context, b *bench, s *server) ([]string, error)
	// stop asks it to end; nil: SIGTERM to what the command started.
	stop func(s *server) *exec.Cmd
}

// server is a peer that runs.
type server struct {
	peer *peer
	dir  string
	addr netip.AddrPort // where it listens
	hop  netip.AddrPort // its next hop
	more string         // for the end of Postern's configuration
	g    *group
	cmd  *exec.Cmd
	log  *os.File
}

func peers() []*peer {
	return []*peer{
		{name: "postern", about: "Postern", prepare: posternWith("", "")},
		{name: "postfix", about: "Postfix, its defaults", prepare: postfix, stop: func(s *server) *exec.Cmd {
			return exec.Command("postfix", "-c", filepath.Join(s.dir, "etc"), "stop")
		}},
		{name: "haraka", about: "Haraka, its disk queue", prepare: haraka},
		{name: "postern-lua", about: "Postern with ten Lua policies", more: true, prepare: posternWith("", "lua")},
		{name: "postern-nosync", about: "Postern built without its syncs", prepare: posternWith("nosync", "")},
	}
}

func peerNamed(name string) (*peer, error) {
	var names []string
	for _, p := range peers() {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return nil, fmt.Errorf("there is no peer %q; there are %s", name, strings.Join(names, ", "))
}

// freePort is one that nobody listens on this moment.
func freePort() (netip.AddrPort, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer ln.Close()
	return netip.ParseAddrPort(ln.Addr().String())
}

// start starts a peer in a folder of its own and returns when it greets.
func (b *bench) start(ctx context.Context, p *peer, hop netip.AddrPort, more string) (*server, error) {
	dir, err := os.MkdirTemp(b.dir, p.name+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	s := &server{peer: p, dir: dir, hop: hop, more: more}
	return s, b.startIn(ctx, s)
}

// relay starts Postern as a relay to hop.
func (b *bench) relay(ctx context.Context, hop netip.AddrPort) (*server, error) {
	p, err := peerNamed("postern")
	if err != nil {
		return nil, err
	}
	return b.start(ctx, p, hop, "")
}

// startIn starts a server, maybe again, in its folder.
func (b *bench) startIn(ctx context.Context, s *server) (err error) {
	if s.addr, err = freePort(); err != nil {
		return err
	}
	args, err := s.peer.prepare(ctx, b, s)
	if err != nil {
		return err
	}
	if s.log, err = os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	s.g = newGroup(s.dir, s.peer.name)
	args = s.g.wrap(args...)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.g.end()
		return err
	}
	if err := s.greets(ctx, time.Minute); err != nil {
		text, _ := os.ReadFile(s.log.Name())
		s.end()
		return fmt.Errorf("%s: %w\n%s", s.peer.name, err, text[:min(len(text), 4000)])
	}
	return nil
}

// greets waits for the server's greeting.
func (s *server) greets(ctx context.Context, patience time.Duration) error {
	end := time.Now().Add(patience)
	for ctx.Err() == nil {
		if greeted(s.addr) {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("it does not greet")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return ctx.Err()
}

func greeted(at netip.AddrPort) bool {
	c, err := net.DialTimeout("tcp", at.String(), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "220") {
		return false
	}
	_, _ = fmt.Fprint(c, "QUIT\r\n")
	return true
}

// end stops it: gently at first.
func (s *server) end() {
	defer s.log.Close()
	if s.peer.stop != nil {
		_ = s.peer.stop(s).Run()
		_ = s.cmd.Wait()
		for range 100 {
			if len(s.g.pids()) == 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	} else {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		stuck := time.AfterFunc(30*time.Second, func() { _ = s.cmd.Process.Kill() })
		_ = s.cmd.Wait()
		stuck.Stop()
	}
	s.g.end()
}

// away stops it and removes its folder.
func (s *server) away() {
	s.end()
	_ = os.RemoveAll(s.dir)
}

// posternWith is Postern as a relay. With the kind "lua" it has ten policies, with
// "keep" it delivers next to nothing.
func posternWith(tags, kind string) func(context.Context, *bench, *server) ([]string, error) {
	return func(ctx context.Context, b *bench, s *server) ([]string, error) {
		exe, err := b.binary(ctx, tags)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf(`[server]
hostname = "bench.example"
data_dir = %q
control = %q
[[listen]]
address = %q
tls = "off"
relay_from = ["127.0.0.0/8"]
[limits]
connections = 20000
connections_per_client = 20000
message_size = "100MiB"
[delivery]
concurrency_remote = 200
per_destination = 50
[console]
address = ""
`, filepath.Join(s.dir, "var"), filepath.Join(s.dir, "control"), s.addr)
		if s.hop.IsValid() {
			text += fmt.Sprintf("[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n", s.hop)
		}
		if kind == "keep" {
			text += fmt.Sprintf("[[delivery.rule]]\ndestination = [%q]\nrate = \"1/day\"\n", s.hop)
		}
		if kind == "lua" {
			more, err := policies.Ten(s.dir, "reject@dest.example")
			if err != nil {
				return nil, err
			}
			text += more
		}
		if err := os.WriteFile(filepath.Join(s.dir, "postern.toml"), []byte(text+s.more), 0o644); err != nil {
			return nil, err
		}
		return []string{exe, "serve", "-c", filepath.Join(s.dir, "postern.toml")}, nil
	}
}

// postfix is an instance of its own of the installed Postfix. It differs from what
// Debian sets up in what a relay on a free port of loopback needs, and in nothing
// that its speed depends on.
func postfix(_ context.Context, _ *bench, s *server) ([]string, error) {
	for _, dir := range []string{"etc", "spool", "data"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(s.dir, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix needs root and its Debian package: %w: %s", err, out)
	}
	main := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/log
myhostname = bench.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:%[2]d
disable_dns_lookups = yes
smtpd_relay_restrictions = permit_mynetworks, reject
local_recipient_maps =
alias_maps =
smtputf8_enable = no
`, s.dir, s.hop.Port())
	dist, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		return nil, err
	}
	var master strings.Builder
	for line := range strings.Lines(string(dist)) {
		f := strings.Fields(line)
		if len(f) >= 8 && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, " ") {
			f[4] = "n" // no chroot, which would have to be filled
			if f[0] == "smtp" && f[1] == "inet" {
				f[0] = s.addr.String()
			}
			line = strings.Join(f, " ") + "\n"
		}
		master.WriteString(line)
	}
	for name, text := range map[string]string{"main.cf": main, "master.cf": master.String()} {
		if err := os.WriteFile(filepath.Join(s.dir, "etc", name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return []string{"postfix", "-c", filepath.Join(s.dir, "etc"), "start"}, nil
}

// haraka relays through its queue on disk, with a plugin of ours in the place of
// those that look up who may relay and where to.
func haraka(_ context.Context, b *bench, s *server) ([]string, error) {
	home := filepath.Join(b.root, "bin/peers/haraka/node_modules/Haraka")
	if _, err := os.Stat(home); err != nil {
		return nil, errors.New("haraka is not installed: ./t/packages.sh haraka")
	}
	for _, dir := range []string{"config", "plugins", "queue"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	connection, err := os.ReadFile(filepath.Join(home, "config/connection.ini"))
	if err != nil {
		return nil, err
	}
	plugin := fmt.Sprintf(`exports.register = function () {
  this.register_hook('connect', 'known')
  this.register_hook('rcpt', 'any')
  this.register_hook('get_mx', 'hop')
}
exports.known = function (next, connection) { connection.relaying = true; next() }
exports.any = function (next) { next(OK) }
exports.hop = function (next) { next(OK, { exchange: '127.0.0.1', port: %d, priority: 0 }) }
`, s.hop.Port())
	for name, text := range map[string]string{
		"config/connection.ini":  string(connection),
		"config/smtp.ini":        fmt.Sprintf("listen=%s\nnodes=0\n", s.addr),
		"config/me":              "bench.example\n",
		"config/log.ini":         "[main]\nlevel=warn\n",
		"config/outbound.ini":    "enable_tls=false\nlocal_mx_ok=true\nconcurrency_max=100\n",
		"config/plugins":         "relay_bench\n",
		"plugins/relay_bench.js": plugin,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return []string{"node", filepath.Join(home, "bin/haraka"), "-c", s.dir}, nil
}
