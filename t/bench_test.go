package t

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-mta/postern/t/policies"
)

// Benchmarks of the built binary, for docs/benchmarks.md: `make bench`.

// benched is a gateway for benchmarks, stopped at the end.
type benched struct {
	addr string
	pid  int
}

// startBenched starts the binary in a folder of its own; policies is text for
// the configuration's end.
func startBenched(b testing.TB, policies string) *benched {
	b.Helper()
	bin, err := binaries()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	addrs, err := freePorts("127.0.0.1", 1)
	if err != nil {
		b.Fatal(err)
	}
	text := fmt.Sprintf(`[server]
hostname = "mx.example.net"
[[listen]]
address = %q
tls = "off"
[limits]
connections = 20000
connections_per_client = 20000
[[domain]]
name = "example.net"
recipients = "any"
[[route]]
to_domain = ["*"]
next_hop = "discard"
[console]
address = ""
%s`, addrs[0], policies)
	file := filepath.Join(dir, "postern.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "postern"), "serve", "-c", file)
	cmd.Dir = dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
	})
	for range 2000 {
		if greeting(addrs[0]) {
			return &benched{addr: addrs[0], pid: cmd.Process.Pid}
		}
		time.Sleep(time.Millisecond)
	}
	text2, _ := os.ReadFile(log.Name())
	b.Fatalf("no greeting:\n%s", text2)
	return nil
}

// cpu is the processor time that the gateway's threads have used.
func (g *benched) cpu(b *testing.B) (sum time.Duration) {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", g.pid))
	if err != nil || len(threads) == 0 {
		b.Fatal("no threads", err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}

// resident is the gateway's resident memory in bytes.
func (g *benched) resident(b testing.TB) float64 {
	b.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages * os.Getpagesize())
}

// benchBody is a message of 4 KB with its end.
func benchBody() []byte {
	return []byte("Subject: benchmark\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 56) + ".\r\n")
}

// accept sends b.N messages of 4 KB over that many sessions, each durable before
// its 250, and reports the gateway's own processor time for one.
func accept(b *testing.B, g *benched, sessions int) {
	b.Helper()
	before := g.cpu(b)
	b.ResetTimer()
	push(b, g, sessions, b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(float64((g.cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/msg")
}

// push sends n messages of 4 KB over that many sessions.
func push(b *testing.B, g *benched, sessions, n int) {
	b.Helper()
	body := benchBody()
	work := make(chan struct{})
	var all sync.WaitGroup
	failed := make(chan error, sessions)
	for range sessions {
		all.Go(func() {
			if err := acceptSession(g.addr, body, work); err != nil {
				failed <- err
				for range work { // the others go on
				}
			}
		})
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
}

func acceptSession(addr string, body []byte, work <-chan struct{}) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(s []byte, want string) error {
		if _, err := c.Write(s); err != nil {
			return err
		}
		lines, err := readReply(r)
		if err == nil && !strings.HasPrefix(lines[len(lines)-1], want) {
			err = fmt.Errorf("%.20q got %q", s, lines)
		}
		return err
	}
	if err := say(nil, "220"); err != nil {
		return err
	}
	if err := say([]byte("EHLO bench.example\r\n"), "250"); err != nil {
		return err
	}
	for range work {
		for _, step := range [][2]string{{"MAIL FROM:<s@client.example>\r\n", "250"}, {"RCPT TO:<r@example.net>\r\n", "250"}, {"DATA\r\n", "354"}} {
			if err := say([]byte(step[0]), step[1]); err != nil {
				return err
			}
		}
		if err := say(body, "250"); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkAccept takes 4 KB messages in, each durable before its 250, on kept
// connections; the next hop is discard, so delivery and removal are part of it.
func BenchmarkAccept(b *testing.B) {
	for _, sessions := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) { accept(b, startBenched(b, ""), sessions) })
	}
}

func tenPolicies(b *testing.B) string {
	b.Helper()
	text, err := policies.Ten(b.TempDir(), "reject@example.net")
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// BenchmarkAcceptTenPolicies is the same with ten Lua policies at work.
func BenchmarkAcceptTenPolicies(b *testing.B) {
	b.Run("sessions=64", func(b *testing.B) { accept(b, startBenched(b, tenPolicies(b)), 64) })
}

// BenchmarkRecorder is what the flight recorder costs a gateway with ten Lua
// policies: one that records and one that does not take 4 KB messages in turns,
// b.N rounds of a thousand. It reports medians, and the median of what recording adds in percent.
func BenchmarkRecorder(b *testing.B) {
	for _, mode := range []string{"", "bodies = true\n"} {
		name := "bodies"
		if mode == "" {
			name = "headers"
		}
		b.Run(name, func(b *testing.B) {
			const sessions, round = 64, 1000
			with := [2]*benched{startBenched(b, "[recorder]\nenabled = false\n"+tenPolicies(b)), startBenched(b, "[recorder]\n"+mode+tenPolicies(b))}
			for _, g := range with { // warm: scripts have their states
				push(b, g, sessions, round)
			}
			var cpu, took [2][]float64
			b.ResetTimer()
			for i := range 2 * b.N {
				k := (i + i/2) % 2 // off on, on off
				g := with[k]
				before, start := g.cpu(b), time.Now()
				push(b, g, sessions, round)
				took[k] = append(took[k], time.Since(start).Seconds()/round*1e6)
				cpu[k] = append(cpu[k], float64((g.cpu(b)-before).Microseconds())/round)
			}
			b.StopTimer()
			for k, name := range [2]string{"off", "on"} {
				b.ReportMetric(median(cpu[k]), name+"-cpu-µs/msg")
				b.ReportMetric(1e6/median(took[k]), name+"-msgs/s")
			}
			b.ReportMetric(added(cpu), "%cpu")
			b.ReportMetric(added(took), "%time")
		})
	}
}

// added is the median of what the second of each pair has more, in percent.
func added(pairs [2][]float64) float64 {
	var more []float64
	for i, off := range pairs[0] {
		more = append(more, 100*(pairs[1][i]/off-1))
	}
	return median(more)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// BenchmarkIdleConnection holds b.N connections after EHLO and reports what each
// costs the gateway in resident memory.
func BenchmarkIdleConnection(b *testing.B) {
	const held = 1000
	g := startBenched(b, "")
	for b.Loop() {
		before := g.resident(b)
		conns := make([]net.Conn, 0, held)
		for range held {
			c, err := net.Dial("tcp", g.addr)
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, c)
			r := bufio.NewReaderSize(c, 512)
			if _, err := readReply(r); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Write([]byte("EHLO bench.example\r\n")); err != nil {
				b.Fatal(err)
			}
			if _, err := readReply(r); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((g.resident(b)-before)/held/1024, "KiB/conn")
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

// BenchmarkStart is the time from the start of the process to its greeting, with
// the built-in policies.
func BenchmarkStart(b *testing.B) {
	if _, err := binaries(); err != nil { // building is not starting
		b.Fatal(err)
	}
	for b.Loop() {
		startOnce(b)
	}
}

func startOnce(b *testing.B) {
	b.Helper()
	bin, err := binaries()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	addrs, err := freePorts("127.0.0.1", 1)
	if err != nil {
		b.Fatal(err)
	}
	text := fmt.Sprintf("[[listen]]\naddress = %q\n[[domain]]\nname = \"localhost\"\nrecipients = \"any\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"local\"\n[[policy]]\nuse = \"greylist\"\n[[policy]]\nuse = \"content_signatures\"\n[console]\naddress = \"\"\n", addrs[0])
	file := filepath.Join(dir, "postern.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "postern"), "serve", "-c", file)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for range 5000 {
		if greeting(addrs[0]) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	b.StartTimer()
}
