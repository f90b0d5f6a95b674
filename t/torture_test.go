package t

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
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

// torturePlugin is asked about every message; its processes are killed, too.
const torturePlugin = `
[limits]
connections_per_client = 500

[[policy]]
use   = "%s"
words = ["a word that no message has"]
`

// The daemon runs under load while all goes wrong that can, at random: it is killed,
// and so are its plugins; its disk is full, or fails; it has no descriptors left; a
// second daemon wants its directory; the next hop is down, hangs or wants none of it;
// and what is on the disk is damaged, in a copy. Whatever was answered 250 arrives,
// whole; what arrives twice was under way at the next hop when the daemon died, or was
// sent a second time by a client that had no answer (RFC 5321 section 6.1).
// POSTERN_TORTURE sets the time, POSTERN_TORTURE_SEED the order of events.
func TestTorture(t *testing.T) {
	if os.Getenv(envOwnNetwork) != "" || testing.Short() {
		t.Skip("not in this process, or -short")
	}
	t.Parallel()
	limit := 20 * time.Second
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
	r := newRack(t, rand.New(rand.NewPCG(seed, 1)))
	r.run(limit)
	r.settle()
}

// rack is a daemon with all around it that can fail.
type rack struct {
	t      *testing.T
	random *rand.Rand
	dir    string
	host   string
	disk   *badDisk // nil where there can be none
	g      *gateway
	s      *sink
	l      *load

	up       bool           // the next hop takes mail
	twice    int            // how much may arrive twice
	happened map[string]int // how often each thing did
	copies   damaged
}

func newRack(t *testing.T, random *rand.Rand) *rack {
	r := &rack{t: t, random: random, dir: t.TempDir(), host: fmt.Sprintf("127.%d.%d.254", 64+os.Getpid()>>8&63, os.Getpid()&255), happened: map[string]int{}}
	var err error
	if r.disk, err = newBadDisk(t, filepath.Join(r.dir, "var")); err != nil {
		t.Logf("without a disk that fails: %v", err)
	}
	ports, err := freePorts(r.host, 2)
	if err != nil {
		t.Fatal(err)
	}
	bin := needBinaries(t)
	config := fmt.Sprintf(tortureConfig, ports[0], ports[1]) + fmt.Sprintf(torturePlugin, filepath.Join(bin, "plugins", "checker"))
	r.must(os.WriteFile(filepath.Join(r.dir, "postern.toml"), []byte(config), 0o644))
	second := strings.Replace(config, ports[0], r.host+":0", 1)
	r.must(os.WriteFile(filepath.Join(r.dir, "second.toml"), []byte(second), 0o644))
	r.s = newSink(ports[1])
	t.Cleanup(r.s.down)
	r.g = &gateway{bin: bin, dir: r.dir, smtp: ports[0], env: append(os.Environ(), "POSTERN_CONFIG="+filepath.Join(r.dir, "postern.toml"))}
	t.Cleanup(r.g.end)
	r.must(r.g.start())
	return r
}

func (r *rack) must(err error) {
	if err != nil {
		r.t.Helper()
		log := ""
		if r.g != nil {
			log = tail(r.g.log(), 8<<10)
		}
		r.t.Fatalf("%v\nso far: %v\n%s", err, r.happened, log)
	}
}

// torment is one thing that goes wrong, and how often, compared with others.
type torment struct {
	name   string
	weight int
	do     func()
}

func (r *rack) torments() []torment {
	list := []torment{
		{"daemon killed", 8, r.kill},
		{"next hop changes", 4, r.hop},
		{"plugin killed", 3, r.killPlugin},
		{"second daemon", 1, r.second},
		{"no descriptors", 2, r.starve},
		{"reloads", 1, r.reload},
		{"damaged copy", 1, r.damage},
	}
	if r.disk != nil {
		list = append(list, torment{"disk full", 2, r.fill}, torment{"disk fails", 2, r.failDisk})
	}
	return list
}

func (r *rack) run(limit time.Duration) {
	// The same number of messages in a long run: all are kept, to be compared.
	pace := min(loadRate, int(2*loadMax/limit.Seconds()))
	r.l = newLoadOf(r.g.smtp, 0, 2*loadMax, true)
	r.l.begin(6, max(pace, 10))
	r.t.Cleanup(r.l.end)
	list := r.torments()
	all := 0
	for _, one := range list {
		all += one.weight
	}
	first := slices.Clone(list) // each once at least, if there is time
	r.random.Shuffle(len(first), func(i, k int) { first[i], first[k] = first[k], first[i] })
	for end := time.Now().Add(limit); time.Now().Before(end); {
		r.pause(700)
		if len(first) > 0 {
			r.happened[first[0].name]++
			first[0].do()
			first = first[1:]
			continue
		}
		n := r.random.IntN(all)
		for _, one := range list {
			if n -= one.weight; n < 0 {
				r.happened[one.name]++
				one.do()
				break
			}
		}
		if !r.g.running() {
			r.must(errors.New("the daemon ended by itself"))
		}
	}
	r.l.end()
}

// pause is a random moment.
func (r *rack) pause(most int) {
	<-time.After(time.Duration(r.random.IntN(most)) * time.Millisecond)
}

func (r *rack) kill() {
	r.must(r.g.kill9())
	if r.up {
		r.twice += 20 // one window of connections to the destination may be open
	}
	r.must(r.g.start())
}

// hop has the next hop be another one. What hangs is closed with the next change.
func (r *rack) hop() {
	r.s.down()
	r.s.set(nil)
	r.up = false
	switch r.random.IntN(5) {
	case 0: // down
		return
	case 1:
		r.s.set(map[string]string{"connect": "hang"})
	case 2:
		r.s.set(map[string]string{"dot": "451 4.3.0 Not now"})
	case 3:
		r.s.set(map[string]string{"rcpt": "450 4.2.0 Not now"})
	default:
		r.up = true
	}
	r.must(r.s.up(nil))
}

func (r *rack) killPlugin() {
	for _, pids := range r.g.children() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// second starts another daemon on the directory: it says why it does not start, and
// the first one goes on.
func (r *rack) second() {
	cmd := exec.Command(filepath.Join(r.g.bin, "postern"), "serve", "-c", "second.toml")
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by another process") {
		r.must(fmt.Errorf("a second daemon: %v\n%s", err, out))
	}
	if !greeting(r.g.smtp) {
		r.must(errors.New("the second daemon has hurt the first"))
	}
}

// starve leaves the daemon hardly any descriptors, and has many clients come. When
// they are gone, it takes connections as before.
func (r *rack) starve() {
	pid := r.g.cmd.Process.Pid
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	r.must(err)
	old, err := descriptorLimit(pid, uint64(len(open)+r.random.IntN(12)))
	r.must(err)
	var crowd []net.Conn
	for range 60 {
		if c, err := net.DialTimeout("tcp", r.g.smtp, time.Second); err == nil {
			crowd = append(crowd, c)
		}
	}
	r.pause(1000)
	for _, c := range crowd {
		_ = c.Close()
	}
	_, err = descriptorLimit(pid, old)
	r.must(err)
	if !poll(30*time.Second, func() bool { return greeting(r.g.smtp) }) {
		r.must(errors.New("no connection is taken after descriptors ran out"))
	}
}

func (r *rack) reload() {
	for range 5 {
		r.must(r.g.cmd.Process.Signal(syscall.SIGHUP))
	}
}

func (r *rack) fill() {
	r.disk.fill(int64(r.random.IntN(64 << 20)))
	r.pause(1500)
	if r.random.IntN(3) == 0 { // a start on a full disk may be refused, not more
		r.must(r.g.kill9())
		r.twice += 20
		if err := r.g.start(); err != nil && r.g.running() {
			r.must(err)
		}
	}
	r.disk.empty()
	if !r.g.running() {
		r.must(r.g.start())
	}
}

func (r *rack) failDisk() {
	r.disk.fail()
	r.pause(2500)
	r.disk.mend()
}

// settle mends all that is broken and holds what arrived against what was taken.
func (r *rack) settle() {
	t := r.t
	r.s.down()
	r.s.set(nil)
	r.must(r.s.up(nil))
	taken := func() bool { c := dialLoad(r.g.smtp); defer c.close(); return c != nil && r.l.one(c) == 250 }
	if !poll(90*time.Second, taken) {
		r.must(errors.New("all is well again, and no mail is taken"))
	}
	r.must(r.g.cmd.Process.Signal(syscall.SIGALRM))
	// As long as mail keeps arriving, the rest is on its way: only a queue that
	// stands still has lost it.
	var a audit
	for before := -1; ; before = a.arrived {
		poll(15*time.Second, func() bool {
			a = r.l.audit(r.s.arrivals())
			return len(a.missing) == 0
		})
		if len(a.missing) == 0 || a.arrived == before {
			break
		}
		_ = r.g.cmd.Process.Signal(syscall.SIGALRM)
	}
	for _, name := range slices.Sorted(maps.Keys(r.happened)) {
		t.Logf("%-16s %d", name, r.happened[name])
	}
	t.Logf("%d accepted, %d arrived, %d of them twice (at most %d may), %d more sent again by a client without an answer; replies %s", r.l.count(), a.arrived, len(a.twice), r.twice, a.resent, r.l)
	t.Logf("damaged copies: %+v", r.copies)
	if len(a.missing) > 0 || len(a.damaged) > 0 {
		t.Logf("the queue:\n%s", r.g.ask("queue", "summary", "--json"))
		if r.disk != nil {
			t.Logf("the file system: %s", r.disk.fsck())
		}
		log := r.g.log()
		for _, token := range few(a.missing) {
			t.Logf("of %s the log says:\n%s", token, told(log, token))
		}
		t.Errorf("missing %d %q, damaged %d %q\n%s", len(a.missing), few(a.missing), len(a.damaged), few(a.damaged), tail(log, 8<<10))
	}
	if len(a.twice) > r.twice {
		t.Errorf("%d arrived twice, at most %d may", len(a.twice), r.twice)
	}
	if r.l.count() == 0 || len(r.s.faults()) > 0 {
		t.Errorf("accepted %d, faults at the next hop: %q", r.l.count(), r.s.faults())
	}
	if log := r.g.log(); strings.Contains(log, "panic:") || strings.Contains(log, "fatal error:") {
		t.Errorf("a panic:\n%s", from(log, "panic:", "fatal error:"))
	}
	r.must(r.g.stop())
	if out := string(r.g.ask("queue", "fsck")); !strings.Contains(out, ": 0 faults") {
		t.Errorf("fsck: %s", out)
	}
}

// told is what the log says of a recipient whose name begins with token, and of the
// messages to it.
func told(log, token string) string {
	words := []string{token}
	for line := range strings.Lines(log) {
		if id := logID.FindStringSubmatch(line); id != nil && strings.Contains(line, token) && !slices.Contains(words, id[1]) {
			words = append(words, id[1])
		}
	}
	var out strings.Builder
	for line := range strings.Lines(log) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			out.WriteString(line)
		}
	}
	return out.String()
}

var logID = regexp.MustCompile(` id=(\S+)`)

// from is the log from the first of the words on, some of it.
func from(log string, words ...string) string {
	for _, w := range words {
		if i := strings.Index(log, w); i >= 0 {
			return log[i:min(len(log), i+8<<10)]
		}
	}
	return ""
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
