package t

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/dns"
)

// The same scenarios are played with `postern tcpserver` and with the real one.
func TestTcpserver(t *testing.T) {
	bin := needBinaries(t)
	makes := map[string][]string{"postern": {filepath.Join(bin, "postern"), "tcpserver"}}
	if real, err := exec.LookPath("tcpserver"); err == nil {
		makes["ucspi-tcp"] = []string{real}
	} else if os.Getenv("CI") == "true" {
		t.Error("tcpserver is missing, and CI=true")
	}
	for name, command := range makes {
		for _, s := range []struct {
			name string
			play func(*testing.T, tcpserverMake)
		}{
			{"environment", tcpEnvironment},
			{"limit", tcpLimit},
			{"rules", tcpRules},
			{"missing_rules", tcpMissingRules},
			{"banner", tcpBanner},
			{"log", tcpLog},
			{"term", tcpTerm},
			{"refusals", tcpRefusals},
			{"accounts", tcpAccounts},
			{"names", tcpNames},
			{"ident", tcpIdent},
			{"socket", tcpSocket},
		} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				s.play(t, tcpserverMake{ours: name == "postern", command: command})
			})
		}
	}
}

type tcpserverMake struct {
	ours    bool
	command []string
}

// tcpserverRun is one that runs.
type tcpserverRun struct {
	t    *testing.T
	cmd  *exec.Cmd
	port string
	mu   sync.Mutex
	log  bytes.Buffer
}

func (r *tcpserverRun) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *tcpserverRun) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// start runs it with a free port; options stand before 127.0.0.1 0.
func (m tcpserverMake) start(t *testing.T, env []string, args ...string) *tcpserverRun {
	t.Helper()
	r := &tcpserverRun{t: t}
	i := 0
	for i < len(args) && args[i] != "--" {
		i++
	}
	full := append(append([]string{"-1"}, args[:i]...), "127.0.0.1", "0")
	full = append(append(m.command[1:len(m.command):len(m.command)], full...), args[i+1:]...)
	r.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), m.command[0], full...)
	r.cmd.Env, r.cmd.Stderr = append(os.Environ(), env...), r
	r.cmd.WaitDelay = time.Minute
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no port: %v\n%s", err, r.text())
	}
	r.port = strings.TrimSpace(line)
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		_ = r.cmd.Wait()
		if t.Failed() {
			t.Log(r.text())
		}
	})
	return r
}

// dial connects, from an address of the loopback.
func (r *tcpserverRun) dial(from string) net.Conn {
	r.t.Helper()
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(r.t.Context(), "tcp", "127.0.0.1:"+r.port)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// said is all that a connection says.
func (r *tcpserverRun) said(from string) string {
	r.t.Helper()
	b, err := io.ReadAll(r.dial(from))
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		r.t.Fatal(err)
	}
	return string(b)
}

// logged waits until the log has a line.
func (r *tcpserverRun) logged(pattern string) {
	r.t.Helper()
	find := regexp.MustCompile("(?m)^" + pattern + "$")
	for deadline := time.Now().Add(time.Minute); !find.MatchString(r.text()); {
		if time.Now().After(deadline) {
			r.t.Fatalf("no line %s in\n%s", pattern, r.text())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const tcpShow = `env | grep -E '^(PROTO|TCP|RULE|MINE)' | sort`

func tcpEnvironment(t *testing.T, m tcpserverMake) {
	r := m.start(t, []string{"TCPREMOTEINFO=stale", "TCPREMOTEHOST=stale", "MINE=stays"}, "-RHl", "local.example", "--", "sh", "-c", tcpShow)
	c := r.dial("127.0.0.9")
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	want := "MINE=stays\nPROTO=TCP\nTCPLOCALHOST=local.example\nTCPLOCALIP=127.0.0.1\nTCPLOCALPORT=" + r.port + "\nTCPREMOTEIP=127.0.0.9\nTCPREMOTEPORT=" + port + "\n"
	if string(got) != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

// Beyond the limit connections wait, and are served once one ends.
func tcpLimit(t *testing.T, m tcpserverMake) {
	r := m.start(t, nil, "-vRHl0", "-c2", "--", "sh", "-c", "echo here; read line")
	var line [5]byte
	first := []net.Conn{r.dial("127.0.0.2"), r.dial("127.0.0.3")}
	for _, c := range first {
		if _, err := io.ReadFull(c, line[:]); err != nil || string(line[:]) != "here\n" {
			t.Fatal(err)
		}
	}
	third := r.dial("127.0.0.4")
	r.logged("tcpserver: status: 2/2")
	_ = third.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := third.Read(line[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over the limit: %v", err)
	}
	_ = third.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(first[0], "done\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(third, line[:]); err != nil || string(line[:]) != "here\n" {
		t.Errorf("after one has ended: %v", err)
	}
	if strings.Contains(r.text(), "3/2") {
		t.Error(r.text())
	}
}

// compiled is a database of rules by a make's own compiler.
func (m tcpserverMake) compiled(t *testing.T, name, rules string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tcprules", name, name+".tmp")
	if m.ours {
		cmd = exec.CommandContext(t.Context(), m.command[0], "rules", "compile", "-", name)
	}
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

const tcpRulesText = "127.0.0.5:deny,RULE=\"no\"\n127.0.0.6:allow,RULE=\"six\",TCPLOCALHOST='other',PROTO='X'\n127.0.0.6:deny\n:allow\n"

func tcpRules(t *testing.T, m tcpserverMake) {
	file := filepath.Join(t.TempDir(), "rules.cdb")
	m.compiled(t, file, tcpRulesText)
	r := m.start(t, nil, "-vRHl0", "-x", file, "--", "sh", "-c", tcpShow)
	if got := r.said("127.0.0.5"); got != "" {
		t.Errorf("denied: %q", got)
	}
	r.logged(`tcpserver: deny \d+ 0:127.0.0.1:` + r.port + ` :127.0.0.5::\d+`)
	r.logged(`tcpserver: end \d+ status 25600`)
	if got := r.said("127.0.0.6"); !strings.Contains(got, "RULE=six\n") || !strings.Contains(got, "TCPLOCALHOST=other\n") || !strings.Contains(got, "PROTO=X\n") {
		t.Error(got)
	}
	if got := r.said("127.0.0.7"); !strings.Contains(got, "TCPREMOTEIP=127.0.0.7\n") || strings.Contains(got, "RULE") {
		t.Error(got)
	}
	m.compiled(t, file, "127.0.0.7:deny\n") // seen by the next connection
	if got := r.said("127.0.0.7"); got != "" {
		t.Error(got)
	}
	if got := r.said("127.0.0.5"); got == "" {
		t.Error("no rule, no program")
	}
	if !m.ours {
		return
	}
	text := filepath.Join(t.TempDir(), "rules")
	for _, rules := range []string{"127.0.0.7:deny\n", "127.0.0.6/31:deny\n:allow\n"} {
		if err := os.WriteFile(text, []byte(rules), 0o600); err != nil {
			t.Fatal(err)
		}
		r = m.start(t, nil, "-vRHl0", "-x", text, "--", "sh", "-c", tcpShow)
		if r.said("127.0.0.7") != "" || r.said("127.0.0.8") == "" {
			t.Errorf("rules in their language: %s", rules)
		}
	}
	if err := os.WriteFile(text, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.said("127.0.0.8"); got != "" {
		t.Error("broken rules let in", got)
	}
	r.logged(`tcpserver: warning: dropping connection, .*rules:1: .*no colon.*`)
}

func tcpMissingRules(t *testing.T, m tcpserverMake) {
	none := filepath.Join(t.TempDir(), "none.cdb")
	r := m.start(t, nil, "-QRHl0", "-x"+none, "--", "echo", "here")
	if got := r.said("127.0.0.5"); got != "" {
		t.Error(got)
	}
	r.logged(`tcpserver: warning: dropping connection, unable to read .*`)
	r = m.start(t, nil, "-XRHl0", "-x", none, "--", "echo", "here")
	if got := r.said("127.0.0.5"); got != "here\n" {
		t.Error(got)
	}
}

// The banner comes before the rules are asked.
func tcpBanner(t *testing.T, m tcpserverMake) {
	file := filepath.Join(t.TempDir(), "rules.cdb")
	m.compiled(t, file, tcpRulesText)
	r := m.start(t, nil, "-RHl0", "-B", "220 hello\r\n", "-x", file, "--", "echo", "here")
	if got := r.said("127.0.0.5"); got != "220 hello\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.said("127.0.0.6"); got != "220 hello\r\nhere\n" {
		t.Errorf("%q", got)
	}
}

func tcpLog(t *testing.T, m tcpserverMake) {
	r := m.start(t, nil, "-vRHl0", "--", "sh", "-c", "echo $$; exit 3")
	pid := strings.TrimSpace(r.said("127.0.0.5"))
	r.logged(`tcpserver: status: 0/40\ntcpserver: status: 1/40\ntcpserver: pid ` + pid + ` from 127.0.0.5\ntcpserver: ok ` + pid + ` 0:127.0.0.1:` + r.port + ` :127.0.0.5::\d+\ntcpserver: end ` + pid + ` status 768\ntcpserver: status: 0/40`)
	r = m.start(t, nil, "-QvRHl0", "--", "sh", "-c", "kill -KILL $$")
	r.said("127.0.0.5")
	r.logged(`tcpserver: end \d+ status 9`)
	r = m.start(t, nil, "-RHl0", "--", "/nonexistent/program")
	r.said("127.0.0.5")
	r.logged(`tcpserver: (fatal|warning: dropping connection,).* unable to run /nonexistent/program: .*`)
	if strings.Contains(r.text(), "status") {
		t.Error(r.text())
	}
	r = m.start(t, nil, "-vqRHl0", "--", "/nonexistent/program")
	r.said("127.0.0.5")
	r.said("127.0.0.5")
	if m.ours && r.text() != "" {
		t.Error("said in spite of -q:", r.text())
	}
}

// TERM ends the server, and not the programs that run.
func tcpTerm(t *testing.T, m tcpserverMake) {
	r := m.start(t, nil, "-RHl0", "--", "sh", "-c", "echo here; read line; echo got $line")
	c := r.dial("127.0.0.5")
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || line != "here\n" {
		t.Fatal(line, err)
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state, err := r.cmd.Process.Wait(); err != nil || state.ExitCode() != 0 {
		t.Errorf("%v %v", state, err)
	}
	if _, err := net.DialTimeout("tcp", "127.0.0.1:"+r.port, time.Minute); err == nil {
		t.Error("it still listens")
	}
	if _, err := io.WriteString(c, "it\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "got it\n" {
		t.Errorf("%q %v", rest, err)
	}
}

func tcpRefusals(t *testing.T, m tcpserverMake) {
	r := m.start(t, nil, "-RHl0", "--", "true")
	for _, c := range []struct {
		args string
		want int
		text string
	}{
		{"", 100, "usage: tcpserver"},
		{"-v 127.0.0.1 0", 100, "usage: tcpserver"},
		{"-Z 127.0.0.1 0 true", 100, "usage: tcpserver"},
		{"-RHl0 127.0.0.1 " + r.port + " true", 111, "tcpserver: fatal: unable to bind: address already (used|in use)"},
		{"-q 127.0.0.1 " + r.port + " true", 111, "^$"},
		{"-RHl0 127.0.0.1 no-such-service true", 111, "tcpserver: fatal: unable to figure out port number for no-such-service"},
	} {
		cmd := exec.CommandContext(t.Context(), m.command[0], append(m.command[1:len(m.command):len(m.command)], strings.Fields(c.args)...)...)
		out, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != c.want || !regexp.MustCompile(c.text).Match(out) {
			t.Errorf("%s: %v, %s", c.args, err, out)
		}
	}
}

func tcpAccounts(t *testing.T, m tcpserverMake) {
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	for _, args := range [][]string{{"-u", "65534", "-g65533"}, {"-U"}} {
		r := m.start(t, []string{"UID=65534", "GID=65533"}, append(append([]string{"-RHl0"}, args...), "--", "sh", "-c", "id -u; id -g; id -G")...)
		if got := r.said("127.0.0.5"); got != "65534\n65533\n65533\n" {
			t.Errorf("%v: %q", args, got)
		}
	}
}

// names by a server of names at port 53 of an address of the loopback.
func tcpNames(t *testing.T, m tcpserverMake) {
	cache := "127.53.0.1"
	if m.ours {
		cache = "127.53.0.2"
	}
	zone := &dns.Zone{
		PTR: map[string][]string{"127.0.0.8": {"Good.example"}, "127.0.0.9": {"bad.example"}, "127.0.0.1": {"here.example"}},
		A:   map[string][]string{"good.example": {"127.0.0.8"}, "bad.example": {"127.0.0.1"}},
	}
	server, err := zone.Listen(cache + ":53")
	if err != nil {
		t.Skip("no name server at port 53: ", err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { served <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	env := []string{"DNSCACHEIP=" + cache}
	file := filepath.Join(t.TempDir(), "rules.cdb")
	m.compiled(t, file, "=bad.example:deny\n=.example:allow,RULE=\"named\"\n:allow\n")
	for _, c := range []struct{ flags, from, want string }{
		{"-vRp", "127.0.0.8", "PROTO=TCP\nRULE=named\nTCPLOCALHOST=here.example\nTCPREMOTEHOST=good.example\n"},
		{"-vRp", "127.0.0.9", "PROTO=TCP\nTCPLOCALHOST=here.example\n"},
		{"-vR", "127.0.0.9", ""},
		{"-vRpP", "127.0.0.9", ""},
		{"-vRH", "127.0.0.9", "PROTO=TCP\nTCPLOCALHOST=here.example\n"},
		{"-vR", "127.0.0.7", "PROTO=TCP\nTCPLOCALHOST=here.example\n"},
	} {
		r := m.start(t, env, c.flags, "-x", file, "--", "sh", "-c", `env | grep -E '^(PROTO|RULE|TCP.*HOST)' | sort`)
		if got := r.said(c.from); got != c.want {
			t.Errorf("%s from %s: %q, want %q", c.flags, c.from, got, c.want)
		}
	}
}

// ident at the client's port 113.
func tcpIdent(t *testing.T, m tcpserverMake) {
	from := "127.113.0.1"
	if m.ours {
		from = "127.113.0.2"
	}
	ln, err := net.Listen("tcp", from+":113")
	if err != nil {
		t.Skip("no ident server at port 113: ", err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	asked := make(chan string, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			asked <- line
			ports := strings.TrimSpace(line)
			_, _ = fmt.Fprintf(c, "%s : USERID : UNIX : joe\r\n", ports)
			_ = c.Close()
		}
	}()
	file := filepath.Join(t.TempDir(), "rules.cdb")
	m.compiled(t, file, "joe@"+from+":allow,RULE=\"joe\"\n:allow\n")
	r := m.start(t, nil, "-vHl0", "-t5", "-x", file, "--", "sh", "-c", tcpShow)
	c := r.dial(from)
	got, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(got), "TCPREMOTEINFO=joe\n") || !strings.Contains(string(got), "RULE=joe\n") {
		t.Errorf("%s %v", got, err)
	}
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	if line := strings.ReplaceAll(strings.TrimSpace(<-asked), " ", ""); line != port+","+r.port {
		t.Errorf("asked %q", line)
	}
	r.logged(`tcpserver: ok \d+ 0:127.0.0.1:\d+ :` + from + `:joe:` + port)
	r = m.start(t, nil, "-RHl0", "--", "sh", "-c", tcpShow)
	if got := r.said(from); strings.Contains(got, "TCPREMOTEINFO") {
		t.Error("asked in spite of -R:", got)
	}
}

// What programs find at their descriptors: one that blocks, with Nagle's algorithm and
// without keepalive, unless it is told otherwise.
func tcpSocket(t *testing.T, m tcpserverMake) {
	if _, err := exec.LookPath("perl"); err != nil {
		missing(t.Skip, t.Fatal, "perl")
		return
	}
	show := `use Socket; use Fcntl; $| = 1; $SIG{PIPE} eq "IGNORE" and print "sigpipe ignored ";
print fcntl(STDIN, F_GETFL, 0) & O_NONBLOCK ? "nonblocking " : "blocking ";
print unpack("i", getsockopt(STDIN, 6, 1)), unpack("i", getsockopt(STDIN, SOL_SOCKET, SO_KEEPALIVE));
opendir(my $d, "/proc/self/fd"); print " ", scalar(grep { /^\d+$/ && $_ > 2 && $_ != fileno($d) && readlink("/proc/self/fd/$_") =~ /socket/ } readdir($d));`
	for flags, want := range map[string]string{"-RHl0": "blocking 00 0", "-RHDl0": "blocking 10 0", "-RHDdoOl0": "blocking 00 0"} {
		r := m.start(t, nil, flags, "-b3", "--", "perl", "-e", show)
		if got := r.said("127.0.0.5"); got != want {
			t.Errorf("%s: %q, want %q", flags, got, want)
		}
	}
}
