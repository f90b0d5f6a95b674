package tcpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/gate"
)

// nameTimeout bounds the look-ups of names for one connection.
const nameTimeout = 60 * time.Second

// one brings a connection to its program and waits for its end. met is called once
// nothing is left to do but to wait.
func (s *Server) one(ctx context.Context, c *accepted, met func()) {
	met = sync.OnceFunc(met)
	defer met()
	// The server may be told to end, and this connection still be looked up for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), nameTimeout+s.IdentTimeout)
	defer cancel()
	process, err := s.begin(ctx, c)
	_ = c.file.Close() // the program's alone from here on
	if err != nil {
		if !errors.Is(err, errDenied) {
			s.logf(1, "warning: dropping connection, %v", err)
		}
		if s.Verbosity >= 2 {
			status := dropped
			if errors.Is(err, errDenied) {
				status = denied
			}
			s.logf(2, "end %d status %d", os.Getpid(), status)
		}
		return
	}
	met()
	state, err := process.Wait()
	if err != nil {
		s.logf(1, "warning: unable to wait for %d: %v", process.Pid, err)
		return
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok {
		s.logf(2, "end %d status %d", process.Pid, int(status))
	}
}

var errDenied = errors.New("denied")

// begin finds out who the client is, asks the rules, and starts the program.
func (s *Server) begin(ctx context.Context, c *accepted) (*os.Process, error) {
	if err := s.prepare(c); err != nil {
		return nil, err
	}
	facts := s.facts(ctx, c)
	rule, err := s.rule(gate.Client{IP: c.remote.Addr(), Name: facts.remoteHost, Info: facts.remoteInfo})
	if err != nil {
		return nil, err
	}
	if rule.Deny {
		s.told(os.Getpid(), "deny", c, facts)
		return nil, errDenied
	}
	env := append(facts.environ(c), rule.Vars...)
	program, err := lookPath(s.Program[0], env)
	if err != nil {
		return nil, fmt.Errorf("unable to run %s: %w", s.Program[0], err)
	}
	process, err := os.StartProcess(program, s.Program, &os.ProcAttr{
		Env: dedupe(env), Files: []*os.File{c.file, c.file, os.Stderr},
	})
	if err != nil {
		return nil, fmt.Errorf("unable to run %s: %w", s.Program[0], err)
	}
	s.told(process.Pid, "ok", c, facts)
	return process, nil
}

// prepare sets the socket's options, and writes the banner before anything is asked.
func (s *Server) prepare(c *accepted) error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Control(func(fd uintptr) {
		if !s.KeepOptions && c.remote.Addr().Is4() {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, "")
		}
		if s.NoDelay {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
	})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c.file, s.Banner); err != nil {
		return fmt.Errorf("unable to print banner: %w", err)
	}
	return nil
}

// told logs who comes and what becomes of them, as two lines that stay together.
func (s *Server) told(pid int, what string, c *accepted, f facts) {
	s.logf(2, "pid %d from %s\ntcpserver: %s %d %s:%s:%s %s:%s:%s:%s", pid, c.remote.Addr(), what, pid,
		safe(f.localHost), c.local.Addr(), portText(c.local), safe(f.remoteHost), c.remote.Addr(), safe(f.remoteInfo), portText(c.remote))
}

// safe is a text from outside as part of a line whose parts have colons between them.
func safe(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i == 100 {
			b.WriteString("...")
			break
		}
		if c := s[i]; c < 33 || c > 126 || c == '%' || c == ':' {
			b.WriteByte('?')
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// facts are what is found out about a connection; "" is unknown.
type facts struct {
	localHost, remoteHost, remoteInfo string
}

// facts asks for all of it at once.
func (s *Server) facts(ctx context.Context, c *accepted) facts {
	var f facts
	var asking sync.WaitGroup
	names, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	if f.localHost = s.LocalHost; f.localHost == "" {
		asking.Go(func() { f.localHost = s.name(names, c.local.Addr()) })
	}
	if s.RemoteHost {
		asking.Go(func() { f.remoteHost = s.remoteName(names, c.remote.Addr()) })
	}
	if s.RemoteInfo {
		asking.Go(func() { f.remoteInfo = ident(ctx, c.local, c.remote, s.IdentTimeout) })
	}
	asking.Wait()
	return f
}

// name is what the reverse DNS says of an address.
func (s *Server) name(ctx context.Context, ip netip.Addr) string {
	if s.DNS == nil {
		return ""
	}
	names, err := s.DNS.LookupPTR(ctx, ip)
	if err != nil || len(names) == 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(names[0], "."))
}

// remoteName is the client's name; in paranoid mode one that leads back to it.
func (s *Server) remoteName(ctx context.Context, ip netip.Addr) string {
	if !s.Paranoid || s.DNS == nil {
		return s.name(ctx, ip)
	}
	name, err := dns.FCrDNS(ctx, s.DNS, ip)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// environ is the program's environment but for what the rules set: ours without what
// is not known of this connection.
func (f facts) environ(c *accepted) []string {
	set := []string{
		"TCPLOCALHOST=" + f.localHost, "TCPREMOTEHOST=" + f.remoteHost, "TCPREMOTEINFO=" + f.remoteInfo,
	}
	proto := "TCP"
	if c.remote.Addr().Is6() {
		proto = "TCP6"
	}
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name != "TCPLOCALHOST" && name != "TCPREMOTEHOST" && name != "TCPREMOTEINFO" {
			env = append(env, v)
		}
	}
	env = append(
		env, "PROTO="+proto, "TCPLOCALIP="+c.local.Addr().String(), "TCPLOCALPORT="+portText(c.local),
		"TCPREMOTEIP="+c.remote.Addr().String(), "TCPREMOTEPORT="+portText(c.remote),
	)
	for _, v := range set {
		if !strings.HasSuffix(v, "=") {
			env = append(env, v)
		}
	}
	return env
}

// dedupe keeps the last value of each variable.
func dedupe(env []string) []string {
	last := make(map[string]int, len(env))
	for i, v := range env {
		name, _, _ := strings.Cut(v, "=")
		last[name] = i
	}
	var out []string
	for i, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if last[name] == i {
			out = append(out, v)
		}
	}
	return out
}

// lookPath finds a program in the PATH of the environment that it gets.
func lookPath(program string, env []string) (string, error) {
	if strings.Contains(program, "/") {
		return program, nil
	}
	path := "/bin:/usr/bin"
	for _, v := range env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + program
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", exec.ErrNotFound
}

// rulesCache keeps a file of rules that is in the language for as long as it is the
// same: reading it anew for each connection would cost more than the connection.
type rulesCache struct {
	mu    sync.Mutex
	was   os.FileInfo
	rules *gate.RuleFile
}

// rule is what the rules say of a client. A file that is not there denies, unless it
// may be missing.
func (s *Server) rule(c gate.Client) (gate.Rule, error) {
	if s.Rules == "" {
		return gate.Rule{}, nil
	}
	file, keep, err := s.rules.open(s.Rules)
	if errors.Is(err, fs.ErrNotExist) && s.AllowNoRules {
		return gate.Rule{}, nil
	}
	if err != nil {
		return gate.Rule{}, fmt.Errorf("unable to read %s: %w", s.Rules, err)
	}
	if !keep {
		defer file.Close()
	}
	rule, _, err := file.FindClient(c)
	if err != nil {
		return rule, fmt.Errorf("unable to read %s: %w", s.Rules, err)
	}
	return rule, nil
}

// open is the file as it is now; keep tells that it is not to be closed.
func (k *rulesCache) open(name string) (file *gate.RuleFile, keep bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := os.Stat(name)
	if err != nil {
		return nil, false, err
	}
	if k.was != nil && os.SameFile(k.was, now) && k.was.ModTime().Equal(now.ModTime()) && k.was.Size() == now.Size() {
		return k.rules, true, nil
	}
	if file, err = gate.OpenRules(name); err != nil {
		return nil, false, err
	}
	if _, err := file.Rules(); err != nil {
		return file, false, nil // compiled: opened each time, so that it is always the newest
	}
	k.was, k.rules = now, file
	return file, true, nil
}
