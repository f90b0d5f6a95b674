package gate

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	ln, err := Listen("unix:"+path, 0o620)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != os.ModeSocket|0o620 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if ln.Addr().String() != path {
		t.Errorf("address %s", ln.Addr())
	}
	if _, err := Listen("unix:"+path, 0o600); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a socket in use was taken: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file stayed")
	}

	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	if ln, err = Listen("unix:"+path, 0o600); err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error("a file that is not ours was removed")
	}
	if _, err := Listen("unix:"+path, 0o600); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if _, err := Listen("unix:"+filepath.Join(dir, "none", "s"), 0o600); err == nil {
		t.Error("a missing folder")
	}
}

// TestUnixPeers: whoever may open the socket counts as a client on the loopback.
func TestUnixPeers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen("unix:"+path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	loop := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	w := openOn(t, ln, Limits{Connections: 10, PerClient: 10}, &Listener{Name: "local", Protocol: "smtp", RelayFrom: loop, XclientFrom: loop}, nil)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "220 served\r\n" {
		t.Fatal(line, err)
	}
	met := <-w.met
	if s := met.Session; s.Client.String() != "127.0.0.1:0" || !s.Relaying || !met.MayXclient() || s.Host(t.Context()) != "localhost" {
		t.Errorf("session %+v", s)
	}
}

// TestSystemd: a socket of a parent is found by its name, as often as it is
// asked for.
func TestSystemd(t *testing.T) {
	if os.Getenv("GATE_TEST_CHILD") != "" {
		servePassed(t)
		return
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSystemd$", "-test.v")
	child.Env = append(os.Environ(), "GATE_TEST_CHILD=1", "LISTEN_FDS=4", "LISTEN_FDNAMES=smtp:null:two:two")
	child.ExtraFiles = []*os.File{file, plain, plain, plain}
	out := make(chan []byte)
	go func() {
		b, _ := child.CombinedOutput()
		out <- b
	}()
	for _, want := range []string{"hello first", "hello second"} {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(c)
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
		_ = c.Close()
	}
	if b := <-out; !child.ProcessState.Success() {
		t.Errorf("%s", b)
	}
}

func servePassed(t *testing.T) {
	env := func(key string) string {
		if key == "LISTEN_PID" {
			return strconv.Itoa(os.Getpid())
		}
		return os.Getenv(key)
	}
	for _, greeting := range []string{"hello first", "hello second"} {
		ln, err := passed("smtp", env, os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, greeting)
		_ = c.Close()
		_ = ln.Close()
	}
	for name, want := range map[string]string{"null": "no listening stream socket", "two": "several sockets", "other": "no socket of that name was given; there are smtp, null, two, two"} {
		if _, err := passed(name, env, os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := passed("smtp", env, 1); err == nil || !strings.Contains(err.Error(), "no sockets") {
		t.Errorf("sockets of another process: %v", err)
	}
}

func TestNothingPassed(t *testing.T) {
	if _, err := Listen("systemd:smtp", 0); err == nil || !strings.Contains(err.Error(), "given no sockets") {
		t.Error(err)
	}
	if _, err := Listen("127.0.0.1:-1", 0); err == nil {
		t.Error("a bad address")
	}
}
