package store

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// redisServer runs a Redis of the test's own on a unix socket, with a password, and
// gives the options that lead there.
func redisServer(t testing.TB) RedisOptions {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is missing, and CI=true")
		}
		t.Skip("left out: redis-server is missing")
	}
	dir, err := os.MkdirTemp("", "pr") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, password := filepath.Join(dir, "s"), filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--requirepass", "secret", "--dir", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var said strings.Builder
	ready := func() bool {
		return strings.Contains(said.String(), "Ready to accept connections") || strings.Contains(said.String(), "is now ready to accept")
	}
	for buf := make([]byte, 4096); !ready(); {
		n, err := out.Read(buf)
		if said.Write(buf[:n]); err != nil && !ready() {
			t.Fatalf("redis-server: %v\n%s", err, said.String())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the server
	return RedisOptions{URL: "unix://" + socket, PasswordFile: password, Timeout: 20 * time.Second, Connections: 8}
}

func openRedis(t testing.TB, o RedisOptions) *Remote {
	t.Helper()
	r, err := OpenRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// By the server's own clock what expired leaves the server too.
func TestRedisForgetsByItself(t *testing.T) {
	r := openRedis(t, redisServer(t))
	if err := r.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, r, "short", "x", time.Hour)
	put(t, r, "ever", "x", 0)
	if _, err := r.Incr(t.Context(), []byte("n"), 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := r.Take(t.Context(), []byte("b"), 1, 2, time.Hour); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for key, expires := range map[string]bool{"postern:v:short": true, "postern:v:ever": false, "postern:v:n": true, "postern:b:b": true} {
		left, err := r.db.PTTL(t.Context(), key).Result()
		if err != nil || (left > 0) != expires || left > time.Hour+time.Second {
			t.Errorf("%s: %v left, %v", key, left, err)
		}
	}
	put(t, r, "short", "y", 0)
	if left := r.db.PTTL(t.Context(), "postern:v:short").Val(); left > 0 {
		t.Errorf("put for ever: %v left", left)
	}
	holds(t, r, "n", "5")
}

func TestRedisThatIsAway(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // it takes connections, and says nothing
	r := openRedis(t, RedisOptions{URL: "redis://" + ln.Addr().String(), Timeout: 50 * time.Millisecond, Connections: 2})
	for range 5 {
		if _, _, err := r.Get(t.Context(), []byte("k")); err == nil {
			t.Error("an answer")
		}
	}
	if _, failing := r.Failing(); !failing || r.Failures() != 5 {
		t.Errorf("%v, %d failures", failing, r.Failures())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Put(ctx, []byte("k"), nil, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, address := range []string{"redis://:hush@x", "redis://x/y", "http://x", "redis://%zz"} {
		if _, err := OpenRedis(RedisOptions{URL: address}); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
