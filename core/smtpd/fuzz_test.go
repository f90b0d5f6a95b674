package smtpd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// pieces is the reading side of a connection whose bytes come in random pieces.
type pieces struct {
	net.Conn
	b    []byte
	rand *rand.Rand
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := min(1+p.rand.IntN(700), len(p.b), len(to))
	copy(to, p.b[:n])
	p.b = p.b[n:]
	return n, nil
}

// FuzzLine holds the reader of command lines against a split of the whole at
// CRLF, whatever the packets.
func FuzzLine(f *testing.F) {
	f.Add([]byte("EHLO x\r\nNOOP\nRSET\r\n\r\r\n\x00\r\n"), uint64(1))
	f.Add([]byte(strings.Repeat("x", 600)+"\r\n"+strings.Repeat("y", 2048)+"\r\n"+strings.Repeat("z", 2049)+"\r\n"+strings.Repeat("z", 40000)+"\r\nQUIT\r\n"), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		pool := sync.Pool{New: func() any { return new(bigBuffer) }}
		in := &input{}
		in.start(&pieces{b: b, rand: rand.New(rand.NewPCG(seed, 0))}, &pool)
		rest := b
		for {
			line, fault, err := in.line(func() error { return nil })
			want, after, ok := bytes.Cut(rest, []byte("\r\n"))
			if !ok {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errFlood) {
					t.Fatalf("a line %q out of %q", line, rest)
				}
				return
			}
			rest = after
			if errors.Is(err, errFlood) && len(want) > maxSkipped {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case startsBDAT(want) && (len(want) > maxLine || bytes.ContainsAny(want, "\r\n\x00")):
				if fault != lineChunk {
					t.Fatalf("%q: fault %d", want, fault)
				}
				return // the connection ends there
			case len(want) > maxLine:
				if fault != lineLong {
					t.Fatalf("%d octets: fault %d", len(want), fault)
				}
			case bytes.ContainsAny(want, "\r\n\x00"):
				if fault != lineBytes {
					t.Fatalf("%q: fault %d", want, fault)
				}
			case fault != lineFine || !bytes.Equal(line, want):
				t.Fatalf("line %q fault %d, want %q", line, fault, want)
			}
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{" SIZE=1 BODY=8BITMIME", "A", " =", " A==", " SIZE=18446744073709551616", " -A=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wide := len(s)%2 == 0
		list, ok := parseParams(s, wide)
		if !ok {
			return
		}
		var b strings.Builder
		for _, p := range list {
			if p.Key != strings.ToUpper(p.Key) || !isKeyword(p.Key) || p.Value != "" && !isValue(p.Value, wide) {
				t.Errorf("%q: %+v", s, p)
			}
			b.WriteString(" " + p.Key)
			if p.Value != "" {
				b.WriteString("=" + p.Value)
			}
		}
		again, ok := parseParams(b.String(), wide)
		if !ok || len(again) != len(list) {
			t.Errorf("%q: %q reads as %v", s, b.String(), again)
		}
	})
}

// FuzzPath: what is read as a path can be written and read again, and holds
// nothing that ends a line.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"FROM:<a@b.example> SIZE=1", "from: <>", "FROM:<@a,@b:c@d.example>", `FROM:<"a b"@[192.0.2.1]>`, "FROM:<postmaster>", "FROM:<x-@b.example-@[]>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, rest, err := readPath(s, "FROM:", message.ParseReversePath)
		if err != nil {
			return
		}
		if strings.ContainsAny(a.String(), "\r\n\x00") {
			t.Errorf("%q: %q", s, a)
		}
		if b, _, err := message.ParseReversePath(a.Path()); err != nil || b != a {
			t.Errorf("%q: %q reads as %q, %v", s, a.Path(), b, err)
		}
		if rest != "" && rest[0] != ' ' {
			t.Errorf("%q: %q behind the path", s, rest)
		}
	})
}

// FuzzSession throws bytes at a whole engine: one reply a command at most, no
// panic, and nothing at the door that a transaction did not lead to.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.net>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"), uint64(1))
	f.Add([]byte("XCLIENT ADDR=192.0.2.1\r\nHELO x\r\nMAIL FROM:<> SIZE=3\r\nRCPT TO:<postmaster>\r\nDATA\r\n..\n.\r\n.\r\nNOOP\r\n"), uint64(2))
	f.Add([]byte("EHLO x\r\nXFORWARD NAME=a\r\nMAIL FROM:<a@b.example> BODY=BINARYMIME\r\nRCPT TO:<c@example.net>\r\nBDAT 5\r\na\nb\x00\rBDAT 0 LAST\r\nBDAT 3\r\nNOONOOP\r\n"), uint64(3))
	f.Add([]byte("EHLO x\r\nMAIL FROM:<ü@ü.example> SMTPUTF8 PRDR RET=FULL ENVID=+20\r\nRCPT TO:<ö@example.net> NOTIFY=NEVER ORCPT=utf-8;ö\r\nBDAT 1\r\nxBDAT 2 LAST\r\n\r\nBDAT\x001\r\n"), uint64(4))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		r := newRig(t, Limits{Errors: 50})
		r.handlers = []hooks.Entry{{Name: "rule", Handler: handler{"rule", []hooks.Stage{hooks.Rcpt}, rule}}}
		out := r.direct(&pieces{b: b, rand: rand.New(rand.NewPCG(seed, 0))})
		if bytes.Contains(out, []byte("421 4.3.0")) {
			t.Fatalf("it panicked: %q", out)
		}
		for _, m := range r.door.all() {
			if m.ended == m.aborted || len(m.rcpts) == 0 {
				t.Errorf("message %+v", m)
			}
			if m.ended && m.refusal == nil && hasBare(string(m.text)) && !binary(m) {
				t.Errorf("taken with a bare line end: %q", m.text)
			}
		}
	})
}

// binary tells whether a message came with BODY=BINARYMIME.
func binary(m *shelved) bool {
	return slices.Contains(m.tx.Params, hooks.Param{Key: "BODY", Value: "BINARYMIME"})
}
