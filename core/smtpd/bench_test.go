package smtpd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// sink is the server's side of a connection of which only reading matters.
type sink struct {
	net.Conn
	from io.Reader
	out  *bytes.Buffer // nil: dropped
}

func (s sink) Read(p []byte) (int, error) { return s.from.Read(p) }
func (s sink) Write(p []byte) (int, error) {
	if s.out != nil {
		return s.out.Write(p)
	}
	return len(p), nil
}
func (sink) SetDeadline(time.Time) error      { return nil }
func (sink) SetReadDeadline(time.Time) error  { return nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }
func (sink) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.7:4711"))
}

// direct serves one connection without a gate and returns what was answered.
func (r *rig) direct(from io.Reader) []byte {
	chain := hooks.NewChain(r.handlers, hooks.Options{})
	out := &bytes.Buffer{}
	r.server.Serve(r.t.Context(), &gate.Conn{
		Conn: sink{from: from, out: out}, Chain: chain, Listener: r.listener,
		Session: &hooks.Session{ID: "session1", Started: time.Now(), Protocol: "smtp"},
	})
	chain.Wait()
	return out.Bytes()
}

// segments are a client's packets, n messages of them.
type segments struct {
	one  []string
	n, i int
}

func (s *segments) Read(p []byte) (int, error) {
	if s.i == len(s.one) {
		s.i = 0
		s.n--
	}
	if s.n <= 0 {
		return 0, io.EOF
	}
	n := copy(p, s.one[s.i])
	if n < len(s.one[s.i]) {
		s.one = append([]string{}, s.one...)
		s.one = append(s.one[:s.i+1], append([]string{s.one[s.i][n:]}, s.one[s.i+1:]...)...)
		s.one[s.i] = s.one[s.i][:n]
	}
	s.i++
	return n, nil
}

// void is a door and a recorder that keep nothing.
type void struct{}

// voidMail keeps nothing of a message.
type voidMail struct{ tx *hooks.Transaction }

func (void) begin(_ context.Context, _ *hooks.Chain, tx *hooks.Transaction, _ relay) mail {
	return &voidMail{tx}
}
func (void) relay(*hooks.Transaction, bool) relay                               { return nil }
func (void) Limits(*hooks.Session) int64                                        { return 1 << 30 }
func (void) Meant(_ *hooks.Session, a message.Address) (message.Address, error) { return a, nil }
func (void) Ours(string) bool                                                   { return true }
func (void) Untag(*hooks.Recipient)                                             {}
func (void) Postmaster() message.Address                                        { return message.Address{} }
func (voidMail) Write([]byte)                                                   {}
func (voidMail) Refuse(message.Reply)                                           {}
func (void) Stage(*hooks.Transaction, hooks.StageRun)                           {}
func (voidMail) Refused() bool                                                  { return false }
func (voidMail) AnswerEach()                                                    {}
func (voidMail) Abort()                                                         {}
func (v voidMail) End(context.Context) intake.Answer {
	return intake.Answer{Reply: message.NewReply(250, "2.0.0", "Ok: queued as "+v.tx.ID)}
}
func (void) Connected(*hooks.Session)                                          {}
func (void) Disconnected(*hooks.Session)                                       {}
func (void) Refused(*hooks.Transaction, hooks.Stage, string, message.Reply)    {}
func (void) Verdict(*hooks.Transaction, record.Verdict, message.Reply, string) {}

// BenchmarkDialogue is the engine's own cost of a message: envelope pipelined,
// text behind, in one session.
func BenchmarkDialogue(b *testing.B) {
	for _, size := range []int{0, 4 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			s := newServer(Options{Hostname: "mx.example.net"})
			s.door, s.record = void{}, void{}
			text := strings.Repeat(strings.Repeat("x", 70)+"\r\n", size/72) + ".\r\n"
			one := []string{"MAIL FROM:<sender@client.example.org> SIZE=4096\r\nRCPT TO:<recipient@example.net>\r\nDATA\r\n"}
			for len(text) > 4096 {
				one, text = append(one, text[:4096]), text[4096:]
			}
			one = append(one, text)
			chain := hooks.NewChain([]hooks.Entry{{Name: "rule", Handler: handler{"rule", []hooks.Stage{hooks.Rcpt}, rule}}}, hooks.Options{Log: slog.New(slog.DiscardHandler)})
			from := io.MultiReader(strings.NewReader("EHLO x\r\n"), &segments{one: one, n: b.N})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			session := &hooks.Session{ID: "session1", Started: time.Now()}
			s.Serve(b.Context(), &gate.Conn{Conn: sink{from: from}, Session: session, Chain: chain, Listener: &gate.Listener{}})
			b.StopTimer()
			if session.Totals.Messages != b.N {
				b.Fatalf("%d of %d messages", session.Totals.Messages, b.N)
			}
		})
	}
}

// BenchmarkIdle tells what an idle session holds once it has said something: the
// gate's part and the goroutine included, the socket not.
func BenchmarkIdle(b *testing.B) {
	r := newRig(b, Limits{}).start()
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := used()
	nears := make([]net.Conn, 0, b.N)
	for range b.N {
		near, far := net.Pipe()
		r.conns <- placed{far, r.peer}
		nears = append(nears, near)
		var reply [1024]byte
		for i, line := range []string{"", "EHLO client.example.org\r\n", "MAIL FROM:<a@b.example>\r\n", "RSET\r\n"} {
			if i > 0 {
				_, _ = io.WriteString(near, line)
			}
			if _, err := near.Read(reply[:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(used()-before)/float64(b.N), "B/session")
	for _, c := range nears {
		_ = c.Close()
	}
}

// commands are the lines of a session, as often as they are wanted.
const commands = "EHLO client.example.org\r\nMAIL FROM:<sender@client.example.org> SIZE=4096 BODY=8BITMIME\r\n" +
	"RCPT TO:<recipient@example.net>\r\nDATA\r\nRSET\r\nNOOP\r\n"

// readCommands reads them, and tells how many there were.
func readCommands(in *input) (n int) {
	for {
		line, fault, err := in.line(func() error { return nil })
		if err != nil {
			return n
		}
		if fault == lineFine && len(line) > 0 {
			n++
		}
	}
}

func BenchmarkLineReader(b *testing.B) {
	pool := sync.Pool{New: func() any { return new(bigBuffer) }}
	text := bytes.Repeat([]byte(commands), 100)
	from := bytes.NewReader(nil)
	in := &input{}
	in.start(sink{from: from}, &pool)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		from.Reset(text)
		if n := readCommands(in); n != 600 {
			b.Fatalf("%d lines of 600", n)
		}
	}
}

func TestLinesTakeNoMemory(t *testing.T) {
	pool := sync.Pool{New: func() any { return new(bigBuffer) }}
	text := bytes.Repeat([]byte(commands), 100)
	from := bytes.NewReader(nil)
	in := &input{}
	in.start(sink{from: from}, &pool)
	if n := testing.AllocsPerRun(20, func() {
		from.Reset(text)
		if n := readCommands(in); n != 600 {
			t.Errorf("%d lines of 600", n)
		}
	}); n >= 1 { // a collection of garbage may empty the pool once
		t.Errorf("600 command lines take memory %v times", n)
	}
}

func TestDotsTakeNoMemory(t *testing.T) {
	text := []byte(strings.Repeat("a line of text\r\n..stuffed\r\n", 400))
	var room [maxCuts]cut
	var n counted
	if allocs := testing.AllocsPerRun(100, func() {
		d := dots{line: true}
		c := d.scan(text, &room)
		c.write(text, &n)
	}); allocs != 0 {
		t.Errorf("unstuffing takes memory %v times", allocs)
	}
}
