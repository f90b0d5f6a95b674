package remote

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/send"
)

// liar is a next hop that answers well until a command, and there with what the
// test says, again and again while it is read.
type liar struct {
	ln      net.Listener
	at      string // a verb; "greeting", "dot"
	says    string
	forever bool
	wg      sync.WaitGroup
	sent    int // bytes of the lie
}

func newLiar(t *testing.T, at, says string, forever bool) *liar {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{ln: ln, at: at, says: says, forever: forever}
	l.wg.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		l.serve(c)
	})
	t.Cleanup(l.end)
	return l
}

func (l *liar) end() {
	_ = l.ln.Close()
	l.wg.Wait()
}

func (l *liar) serve(c net.Conn) {
	script := []struct{ at, says string }{
		{"greeting", "220 liar\r\n"}, {"EHLO", "250 liar\r\n"}, {"MAIL", "250 ok\r\n"}, {"RCPT", "250 ok\r\n"}, {"DATA", "354 go\r\n"}, {"dot", "250 ok\r\n"},
	}
	buf := make([]byte, 4096)
	for _, step := range script {
		if step.at != "greeting" {
			for all := ""; !strings.HasSuffix(all, "\r\n") || step.at == "dot" && !strings.HasSuffix(all, "\r\n.\r\n"); {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				all += string(buf[:n])
			}
		}
		if step.at == l.at {
			l.lie(c)
			return
		}
		if _, err := io.WriteString(c, step.says); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, c) // it never closes
}

// lie ends with the client's patience: at 64 MB the test fails.
func (l *liar) lie(c net.Conn) {
	for {
		n, err := io.WriteString(c, l.says)
		if l.sent += n; err != nil || l.sent > 64<<20 {
			return
		}
		if !l.forever {
			_, _ = io.Copy(io.Discard, c)
			return
		}
	}
}

// TestHostileReplies: replies without an end, with codes that are none, with CR
// alone, and hosts that never close, at each step: the message waits, little is
// read, and nobody is told that it arrived (checklist 28).
func TestHostileReplies(t *testing.T) {
	for what, one := range map[string]struct {
		says    string
		forever bool
	}{
		"a reply without end":        {strings.Repeat("250-and so on\r\n", 1000), true},
		"a line without end":         {"250 " + strings.Repeat("x", 8000), true},
		"code 199":                   {"199 what\r\n", false},
		"code 999":                   {"999 what\r\n", false},
		"code 000":                   {"000 what\r\n", false},
		"CR alone":                   {"250 ok\r", false},
		"two codes":                  {"250-ok\r\n550 no\r\n", false},
		"nothing but line ends":      {"\r\n\r\n", false},
		"NUL":                        {"\x00\x00\x00 ok\r\n", false},
		"silence":                    {"", false},
		"a half reply":               {"25", false},
		"a reply that never gets on": {"250-ok\r\n", false},
	} {
		for _, at := range []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"} {
			t.Run(what+" at "+at, func(t *testing.T) {
				t.Parallel()
				l := newLiar(t, at, one.says, one.forever)
				short := 100 * time.Millisecond
				c := newClient(t, func(o *Options) {
					o.Timeouts = Timeouts{Greeting: short, Command: short, DataInit: short, DataEnd: short}
				})
				j := jobTo(t, &sink{addr: l.ln.Addr().(*net.TCPAddr).AddrPort()}, "\r\nx\r\n")
				o := outcomes(t, j, c.Deliver(t.Context(), j))[0]
				if o.Result != send.Deferred || o.Reply.Code != 451 || len(o.Reply.Text) > maxText {
					t.Errorf("%+v", o)
				}
				c.Close()
				l.end()
				if l.sent > 16<<20 {
					t.Errorf("%d bytes were taken", l.sent)
				}
			})
		}
	}
}

// TestNeverCloses: a host that takes the message and neither answers QUIT nor
// closes holds nothing up (checklist 28).
func TestNeverCloses(t *testing.T) {
	l := newLiar(t, "", "", false)
	c := newClient(t, nil)
	j := jobTo(t, &sink{addr: l.ln.Addr().(*net.TCPAddr).AddrPort()}, "\r\nx\r\n")
	if o := outcomes(t, j, c.Deliver(t.Context(), j))[0]; o.Result != send.Delivered {
		t.Errorf("%+v", o)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Close()
	}()
	select {
	case <-done:
	case <-time.After(quitTimeout + 10*time.Second):
		t.Error("the client does not end")
	}
}
