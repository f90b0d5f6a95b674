package t

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const tortureConfig = `
[server]
hostname = "mx.example.net"

[[listen]]
address    = "%s"
tls        = "off"
relay_from = ["127.0.0.0/8"]

[[domain]]
name = "example.net"

[[route]]
to_domain = ["*"]
next_hop  = "smtp://%s"
tls       = "none"

[queue]
retry = ["1s"]

[console]
address = ""
`

// The daemon dies at random moments under load, the next hop down and up by
// turns. Whatever was answered 250 arrives, whole; what arrives twice was under
// way at the next hop when the daemon died. POSTERN_TORTURE sets the time.
func TestTorture(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" || testing.Short() {
		t.Skip("not in this process, or -short")
	}
	t.Parallel()
	limit := 12 * time.Second
	if text := os.Getenv("POSTERN_TORTURE"); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("POSTERN_TORTURE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("POSTERN_TORTURE_SEED=%d", seed)
	torture(t, limit, rand.New(rand.NewPCG(seed, 1)))
}

func torture(t *testing.T, limit time.Duration, random *rand.Rand) {
	dir := t.TempDir()
	host := fmt.Sprintf("127.%d.%d.254", 64+os.Getpid()>>8&63, os.Getpid()&255)
	ports, err := freePorts(host, 2)
	if err != nil {
		t.Fatal(err)
	}
	smtp, next := ports[0], ports[1]
	if err := os.WriteFile(filepath.Join(dir, "postern.toml"), fmt.Appendf(nil, tortureConfig, smtp, next), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSink(next)
	defer s.down()
	g := &gateway{bin: needBinaries(t), dir: dir, smtp: smtp, env: append(os.Environ(), "POSTERN_CONFIG="+filepath.Join(dir, "postern.toml"))}
	defer g.end()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatalf("%v\n%s", err, tail(g.log(), 8<<10))
		}
	}
	must(g.start())
	l := startLoad(smtp, 6, 0, true)
	defer l.end()

	kills, killedDelivering, up := 0, 0, false
	for end := time.Now().Add(limit); time.Now().Before(end); kills++ {
		<-time.After(time.Duration(random.IntN(700)) * time.Millisecond) // the random moment
		must(g.kill9())
		if up {
			killedDelivering++
		}
		if kills%3 == 1 {
			if up {
				s.down()
			} else {
				must(s.up(nil))
			}
			up = !up
		}
		must(g.start())
	}
	l.end()
	if !up {
		must(s.up(nil))
	}
	must(g.cmd.Process.Signal(syscall.SIGALRM))
	// As long as mail keeps arriving, the rest is on its way: only a queue that
	// stands still has lost it.
	var a audit
	for before := -1; ; before = a.arrived {
		poll(10*time.Second, func() bool {
			a = l.audit(s.arrivals())
			return len(a.missing) == 0
		})
		if len(a.missing) == 0 || a.arrived == before {
			break
		}
	}
	t.Logf("%d kills, %d of them with deliveries under way: %d accepted, %d arrived, %d of them twice; replies %s",
		kills, killedDelivering, l.count(), a.arrived, len(a.twice), l)
	if len(a.missing) > 0 || len(a.damaged) > 0 {
		t.Logf("the queue:\n%s", g.ask("queue", "summary", "--json"))
		t.Errorf("missing %d %q, damaged %d %q\n%s", len(a.missing), few(a.missing), len(a.damaged), few(a.damaged), tail(g.log(), 8<<10))
	}
	// One window of connections to the destination may be open at each death.
	if most := 20 * killedDelivering; len(a.twice) > most {
		t.Errorf("%d arrived twice, at most %d may", len(a.twice), most)
	}
	if l.count() == 0 || len(s.faults()) > 0 {
		t.Errorf("accepted %d, faults at the next hop: %q", l.count(), s.faults())
	}
	must(g.stop())
}

// ask runs a command beside the daemon.
func (g *gateway) ask(args ...string) []byte {
	cmd := exec.Command(filepath.Join(g.bin, "postern"), args...)
	cmd.Dir, cmd.Env = g.dir, g.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Appendf(out, "%v", err)
	}
	return out
}
