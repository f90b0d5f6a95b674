package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

func address(t testing.TB, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

func jobTo(t testing.TB, s *sink, body string, rcpts ...string) *send.Job {
	t.Helper()
	m := &queue.Message{ID: "0000000000000AB", Sender: address(t, "s@client.example"), Arrived: time.Now()}
	j := &send.Job{Message: m, Body: message.Bytes(body), TLS: "none"}
	if s != nil {
		j.NextHop = send.NextHop{Scheme: "smtp", Host: s.addr.Addr().String(), Port: strconv.Itoa(int(s.addr.Port()))}
	}
	if len(rcpts) == 0 {
		rcpts = []string{"r@example.net"}
	}
	for i, r := range rcpts {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: address(t, r)})
		j.Recipients = append(j.Recipients, i)
	}
	return j
}

func newClient(t testing.TB, change func(*Options)) *Client {
	t.Helper()
	o := Options{Resolver: &dns.Zone{}}
	if change != nil {
		change(&o)
	}
	c := New(o, Settings{Hostname: "mx.here.example"})
	t.Cleanup(func() { c.Close() })
	return c
}

// outcomes checks that there is one for each recipient and returns them in order.
func outcomes(t testing.TB, j *send.Job, list []send.Outcome) []send.Outcome {
	t.Helper()
	if len(list) != len(j.Recipients) {
		t.Fatalf("%d outcomes for %d recipients: %+v", len(list), len(j.Recipients), list)
	}
	slices.SortFunc(list, func(a, b send.Outcome) int { return a.Recipient - b.Recipient })
	for i, o := range list {
		if o.Recipient != j.Recipients[i] {
			t.Fatalf("outcomes are about %+v", list)
		}
	}
	return list
}

func TestBytesArriveAsTheyAre(t *testing.T) {
	c := newClient(t, nil)
	s := newSink(t, nil)
	all := make([]byte, 0, 256)
	for i := 1; i < 256; i++ {
		if i != '\r' && i != '\n' {
			all = append(all, byte(i))
		}
	}
	for name, body := range map[string]string{
		"plain":            "Subject: x\r\n\r\ntext\r\n",
		"dots":             "\r\n.\r\n..\r\n...\r\n.x\r\n.. y\r\n.\r\n\r\n.\r\nlast.\r\n.\r\n",
		"starts with dot":  ".\r\nx\r\n",
		"998 and more":     "\r\n" + strings.Repeat("x", 998) + "\r\n." + strings.Repeat("y", 5000) + "\r\n",
		"8 bit and NUL":    "\r\n" + string(all) + "\x00\r\n",
		"only a line end":  "\r\n",
		"blank at the end": "a: b\r\n\r\n\r\n\r\n",
		"large":            "\r\n" + strings.Repeat(".dots and text in a line that is long enough\r\n", 40_000),
	} {
		j := jobTo(t, s, body)
		o := outcomes(t, j, c.Deliver(t.Context(), j))
		if o[0].Result != send.Delivered || o[0].Reply.String() != "250 2.0.0 Ok: queued as SINK" {
			t.Errorf("%s: %+v", name, o[0])
		}
		mails := s.got()
		if got := mails[len(mails)-1].data; string(got) != body {
			t.Errorf("%s: got %d bytes for %d: %.80q", name, len(got), len(body), got)
		}
	}
	for name, body := range map[string][2]string{
		"no line end at the end": {"a: b\r\n\r\nx", "a: b\r\n\r\nx\r\n"},
		"lone CR and LF":         {"a\n.\nb\r.\rc\r\n", "a\r\n.\r\nb\r\n.\r\nc\r\n"},
		"CR at the end":          {"a\r", "a\r\n"},
		"empty":                  {"", ""}, // never so: our trace fields are in front
	} {
		j := jobTo(t, s, body[0])
		outcomes(t, j, c.Deliver(t.Context(), j))
		mails := s.got()
		if got := mails[len(mails)-1].data; string(got) != body[1] {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if s.sessions != 1 {
		t.Errorf("%d sessions for messages one after the other", s.sessions)
	}
}

func TestEnvelope(t *testing.T) {
	c := newClient(t, nil)
	s := newSink(t, nil)
	j := jobTo(t, s, "\r\n", `"a@b \"c\\"@example.net`, "Mixed.Case+Tag@example.net", "x@[192.0.2.7]")
	outcomes(t, j, c.Deliver(t.Context(), j))
	bounce := jobTo(t, s, "\r\n")
	bounce.Message.Sender, bounce.Message.Double = message.Address{}, true
	outcomes(t, bounce, c.Deliver(t.Context(), bounce))
	got := s.got()
	if want := []string{`"a@b \"c\\"@example.net`, "Mixed.Case+Tag@example.net", "x@[192.0.2.7]"}; !slices.Equal(got[0].rcpts, want) {
		t.Errorf("recipients %q", got[0].rcpts)
	}
	if got[0].from != "<s@client.example> BODY=8BITMIME SIZE=2" || got[1].from != "<> BODY=8BITMIME SIZE=2" {
		t.Errorf("senders %q, %q", got[0].from, got[1].from)
	}
	if cmds := s.said(); cmds[0] != "EHLO mx.here.example" {
		t.Errorf("it said %q", cmds)
	}
}

func TestAddressBeyondASCII(t *testing.T) {
	c := newClient(t, nil)
	s := newSink(t, nil)
	j := jobTo(t, s, "\r\n", "josé@example.net", "b@example.net")
	o := outcomes(t, j, c.Deliver(t.Context(), j))
	if o[0].Result != send.Bounced || o[0].Reply.Status() != "5.6.7" || o[1].Result != send.Delivered {
		t.Errorf("%+v", o)
	}
}

func TestReplies(t *testing.T) {
	refuse := func(verb, match, reply string) func(*sink) {
		return func(s *sink) {
			s.answer = func(_ *sink, _ int, v, line string) (string, bool) {
				return reply, v == verb && strings.Contains(line, match)
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*sink)
		want   []string // of three recipients
	}{
		{"one recipient refused", refuse("RCPT", "r2@", "550 5.1.1 no r2 here"), []string{"delivered 250 2.0.0", "bounced 550 5.1.1 no r2 here", "delivered 250 2.0.0"}},
		{"one deferred, several lines", refuse("RCPT", "r2@", "450-4.2.0 greylisted\r\n450 4.2.0 come back"), []string{"delivered 250", "deferred 450 4.2.0 greylisted come back", "delivered 250"}},
		{"all refused", refuse("RCPT", "@", "550 no"), []string{"bounced 550 no", "bounced 550 no", "bounced 550 no"}},
		{"sender refused", refuse("MAIL", "", "553 5.1.8 bad sender"), []string{"bounced 553 5.1.8", "bounced 553", "bounced 553"}},
		{"sender deferred", refuse("MAIL", "", "451 4.7.1 later"), []string{"deferred 451 4.7.1", "deferred 451", "deferred 451"}},
		{"DATA refused", refuse("DATA", "", "554 5.5.1 no valid recipients"), []string{"bounced 554 5.5.1", "bounced 554", "bounced 554"}},
		{"message refused", func(s *sink) { s.dot = func(int) string { return "554 5.7.1 spam" } }, []string{"bounced 554 5.7.1 spam", "bounced 554", "bounced 554"}},
		{"message deferred", func(s *sink) { s.dot = func(int) string { return "452 4.3.1 full" } }, []string{"deferred 452 4.3.1 full", "deferred 452", "deferred 452"}},
		{"421 at RCPT", refuse("RCPT", "r2@", "421 4.3.2 going down"), []string{"deferred 421 4.3.2", "deferred 421", "deferred 421"}},
		{"421 greeting", func(s *sink) { s.greet = "421 4.7.0 too many connections" }, []string{"deferred 421 4.7.0", "deferred 421", "deferred 421"}},
		{"554 greeting", func(s *sink) { s.greet = "554 5.7.1 go away" }, []string{"deferred 554 5.7.1", "deferred 554", "deferred 554"}},
		{"EHLO unknown", refuse("EHLO", "", "502 5.5.1 what"), []string{"delivered 250", "delivered 250", "delivered 250"}},
		{"garbage at the greeting", func(s *sink) { s.greet = "hello there" }, []string{"deferred 451 4.4.2", "deferred 451", "deferred 451"}},
		{"a code that is none", refuse("MAIL", "", "999 what"), []string{"deferred 451 4.4.2", "deferred 451", "deferred 451"}},
		{"dropped at RCPT", refuse("RCPT", "", ""), []string{"deferred 451 4.4.2", "deferred 451", "deferred 451"}},
		{"dropped behind the dot", func(s *sink) { s.dot = func(int) string { return "" } }, []string{"deferred 451 4.4.2", "deferred 451", "deferred 451"}},
		{"too big", func(s *sink) { s.ehlo = []string{"SIZE 10"} }, []string{"bounced 552 5.3.4", "bounced 552", "bounced 552"}},
		{"a reply without end", func(s *sink) { s.greet = strings.Repeat("220-"+strings.Repeat("x", 500)+"\r\n", 1000) + "220 x" }, []string{"deferred 451 4.4.2", "deferred 451", "deferred 451"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSink(t, test.change)
			c := newClient(t, nil)
			j := jobTo(t, s, "a: b\r\n\r\nbody\r\n", "r1@example.net", "r2@example.net", "r3@example.net")
			for i, o := range outcomes(t, j, c.Deliver(t.Context(), j)) {
				if got := o.Result.String() + " " + o.Reply.String(); !strings.HasPrefix(got, test.want[i]) {
					t.Errorf("recipient %d: %s; want %s", i, got, test.want[i])
				}
				if o.Unreached && !strings.Contains(test.name, "greeting") && test.name != "a reply without end" {
					t.Errorf("unreached: %+v", o)
				}
			}
		})
	}
}

func TestTooManyRecipients(t *testing.T) {
	s := newSink(t, func(s *sink) {
		var n atomic.Int64
		s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) {
			switch verb {
			case "MAIL":
				n.Store(0)
			case "RCPT":
				return "452 4.5.3 too many recipients", n.Add(1) > 2
			}
			return "", false
		}
	})
	c := newClient(t, nil)
	j := jobTo(t, s, "\r\nx\r\n", "a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example")
	for _, o := range outcomes(t, j, c.Deliver(t.Context(), j)) {
		if o.Result != send.Delivered {
			t.Errorf("%+v", o)
		}
	}
	var sizes []int
	for _, m := range s.got() {
		sizes = append(sizes, len(m.rcpts))
	}
	if !slices.Equal(sizes, []int{2, 2, 1}) || s.sessions != 1 {
		t.Errorf("transactions of %v in %d sessions", sizes, s.sessions)
	}
}

func TestReuse(t *testing.T) {
	s := newSink(t, func(s *sink) {
		s.answer = func(_ *sink, _ int, verb, line string) (string, bool) {
			return "550 5.1.1 no", verb == "RCPT" && strings.Contains(line, "no@")
		}
	})
	c := newClient(t, nil)
	for _, rcpt := range []string{"a@x.example", "no@x.example", "b@x.example"} {
		j := jobTo(t, s, "\r\n", rcpt)
		outcomes(t, j, c.Deliver(t.Context(), j))
	}
	if len(s.got()) != 2 || s.sessions != 1 {
		t.Errorf("%d messages in %d sessions", len(s.got()), s.sessions)
	}
	if n := strings.Count(strings.Join(s.said(), "\n"), "EHLO"); n != 1 {
		t.Errorf("%d EHLO", n)
	}
}

// A connection that died while it was idle costs nobody anything.
func TestDeadIdleConnection(t *testing.T) {
	for _, how := range []string{"", "421 4.4.2 idle for too long"} {
		s := newSink(t, func(s *sink) {
			var mails atomic.Int64
			s.answer = func(_ *sink, session int, verb, _ string) (string, bool) {
				if verb == "MAIL" && session == 1 && mails.Add(1) > 1 {
					return how, true
				}
				return "", false
			}
		})
		c := newClient(t, nil)
		for range 3 {
			j := jobTo(t, s, "\r\nx\r\n")
			if o := outcomes(t, j, c.Deliver(t.Context(), j)); o[0].Result != send.Delivered {
				t.Errorf("%q: %+v", how, o)
			}
		}
		if len(s.got()) != 3 || s.sessions != 2 {
			t.Errorf("%q: %d messages in %d sessions", how, len(s.got()), s.sessions)
		}
	}
}

// The connection is lost behind the dot of a reused session: it must not be
// tried again at once, since the message may have arrived.
func TestUnknownOutcomeIsNotRepeated(t *testing.T) {
	s := newSink(t, func(s *sink) {
		s.dot = func(n int) string {
			if n == 2 {
				return ""
			}
			return "250 ok"
		}
	})
	c := newClient(t, nil)
	for i := range 2 {
		j := jobTo(t, s, "\r\nx\r\n")
		o := outcomes(t, j, c.Deliver(t.Context(), j))
		if want := []send.Result{send.Delivered, send.Deferred}[i]; o[0].Result != want {
			t.Errorf("%d: %+v", i, o)
		}
	}
	if len(s.got()) != 2 {
		t.Errorf("%d messages", len(s.got()))
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Timeouts.Idle = 20 * time.Millisecond })
	quit := make(chan struct{})
	s := newSink(t, func(s *sink) {
		s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) {
			if verb == "QUIT" {
				close(quit)
			}
			return "", false
		}
	})
	j := jobTo(t, s, "\r\n")
	outcomes(t, j, c.Deliver(t.Context(), j))
	select {
	case <-quit:
	case <-time.After(10 * time.Second):
		t.Error("no QUIT")
	}
	c.Close()
	if c.pool.count != 0 {
		t.Errorf("%d idle connections", c.pool.count)
	}
}

func TestStartTLS(t *testing.T) {
	config := certificate(t)
	s := newSink(t, func(s *sink) { s.tls = config })
	c := newClient(t, nil)
	for _, mode := range []string{"may", "none"} {
		j := jobTo(t, s, "\r\nx\r\n")
		j.TLS = mode
		o := outcomes(t, j, c.Deliver(t.Context(), j))
		mails := s.got()
		if got := mails[len(mails)-1].tls; got != (mode == "may") || o[0].Result != send.Delivered {
			t.Errorf("%s: TLS %v, %+v", mode, got, o)
		}
		if strings.HasPrefix(o[0].TLS, "TLSv1.3 TLS_") != (mode == "may") {
			t.Errorf("%s: %q", mode, o[0].TLS)
		}
	}
	for _, line := range s.said() {
		if strings.HasPrefix(line, "EHLO") && line != "EHLO mx.here.example" {
			t.Errorf("it said %q", line)
		}
	}
}

func TestBrokenTLS(t *testing.T) {
	for name, change := range map[string]func(*sink){
		"handshake": func(s *sink) { s.tls = &tls.Config{} }, // it has no certificate
		"refused": func(s *sink) {
			s.tls = certificate(t)
			s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) { return "454 4.7.0 not now", verb == "STARTTLS" }
		},
		"injection": func(s *sink) {
			s.tls = certificate(t)
			s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) {
				return "220 go\r\n250-evil\r\n250 SIZE", verb == "STARTTLS"
			}
		},
	} {
		s := newSink(t, change)
		c := newClient(t, nil)
		for range 2 {
			j := jobTo(t, s, "\r\nx\r\n")
			j.TLS = "may"
			o := outcomes(t, j, c.Deliver(t.Context(), j))
			if o[0].Result != send.Delivered || o[0].TLS != "" {
				t.Errorf("%s: %+v", name, o)
			}
			c.pool.close()
			c.pool.closed = false
		}
		want := 3 // the second message knows that TLS does not work
		if name == "refused" {
			want = 2
		}
		if s.sessions != want {
			t.Errorf("%s: %d sessions", name, s.sessions)
		}
	}
}

func TestHang(t *testing.T) {
	for _, at := range []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"} {
		s := newSink(t, func(s *sink) {
			s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) { return "hang", verb == at }
			if at == "greeting" {
				s.greet = "hang"
			}
			if at == "dot" {
				s.dot = func(int) string { return "hang" }
			}
		})
		// First by the timeouts, then by the caller's context.
		short := 50 * time.Millisecond
		c := newClient(t, func(o *Options) {
			o.Timeouts = Timeouts{Greeting: short, Command: short, DataInit: short, DataEnd: short}
		})
		j := jobTo(t, s, "\r\nx\r\n")
		o := outcomes(t, j, c.Deliver(t.Context(), j))
		if o[0].Result != send.Deferred || o[0].Reply.Code != 451 {
			t.Errorf("%s: %+v", at, o)
		}
		if o[0].Unreached != (at == "greeting" || at == "EHLO") {
			t.Errorf("%s: unreached %v", at, o[0].Unreached)
		}
		ctx, cancel := context.WithTimeout(t.Context(), short)
		o = outcomes(t, j, newClient(t, nil).Deliver(ctx, j))
		cancel()
		if o[0].Result != send.Deferred || o[0].Unreached {
			t.Errorf("%s, by the context: %+v", at, o)
		}
		s.close()
	}
}

func TestRefusedConnectionIsUnreached(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	c := newClient(t, nil)
	j := jobTo(t, &sink{addr: addr}, "\r\n")
	o := outcomes(t, j, c.Deliver(t.Context(), j))
	if !o[0].Unreached || o[0].Reply.Status() != "4.4.1" || o[0].Peer != "" || !strings.Contains(o[0].Reply.Text, "refused") {
		t.Errorf("%+v", o)
	}
}

// body that fails in the middle: no final dot may be sent.
type torn struct{ message.Bytes }

func (b torn) ReadAt(p []byte, off int64) (int, error) {
	if off >= 40_000 {
		return 0, errors.New("disk")
	}
	return b.Bytes.ReadAt(p, off)
}

func TestUnreadableMessage(t *testing.T) {
	s := newSink(t, nil)
	c := newClient(t, nil)
	j := jobTo(t, s, "")
	j.Body = torn{message.Bytes(bytes.Repeat([]byte("x\r\n"), 30_000))}
	o := outcomes(t, j, c.Deliver(t.Context(), j))
	if o[0].Result != send.Deferred || o[0].Reply.Status() != "4.3.0" {
		t.Errorf("%+v", o)
	}
	s.close()
	if len(s.got()) != 0 {
		t.Error("a torn message was delivered")
	}
}

func TestConcurrentDeliveries(t *testing.T) {
	s := newSink(t, nil)
	c := newClient(t, nil)
	done := make(chan send.Outcome)
	const n = 40
	for i := range n {
		j := jobTo(t, s, fmt.Sprintf("\r\nmessage %d\r\n", i))
		go func() { done <- c.Deliver(context.Background(), j)[0] }()
	}
	for range n {
		if o := <-done; o.Result != send.Delivered {
			t.Errorf("%+v", o)
		}
	}
	if len(s.got()) != n {
		t.Errorf("%d messages", len(s.got()))
	}
}

func FuzzStuffer(f *testing.F) {
	for _, s := range []string{"", ".", "\r\n.\r\n", "a\n.\nb", "x\r.\r\n", "\r\r\n\n", "..\r\n."} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, body []byte, cut int) {
		s, once := stuffer{}, stuffer{}
		once.add(body)
		once.finish()
		step := max(cut&63, 1)
		for i := 0; i < len(body); i += step {
			s.add(body[i:min(i+step, len(body))])
		}
		s.finish()
		if !bytes.Equal(s.out, once.out) {
			t.Fatalf("%q in pieces is %q, at once %q", body, s.out, once.out)
		}
		wire := string(s.out)
		end := strings.Index("\r\n"+wire, "\r\n.\r\n")
		if end+len("\r\n.\r\n") != len("\r\n"+wire) {
			t.Fatalf("%q ends early: %q", body, wire)
		}
		for i := range len(wire) {
			if wire[i] == '\n' && (i == 0 || wire[i-1] != '\r') || wire[i] == '\r' && (i+1 == len(wire) || wire[i+1] != '\n') {
				t.Fatalf("%q has a lone CR or LF: %q", body, wire)
			}
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte("250 ok\r\n"))
	f.Add([]byte("250-a\r\n250 b\r\nrest"))
	f.Add([]byte("25\n"))
	f.Add([]byte("-1-x\n220 y\n"))
	f.Add([]byte("250-2.1.5 a\r\n250-2.1.5 b\r\n250 2.1.5 c\r\n550 5.7.1\r\n"))
	f.Add([]byte("250-" + strings.Repeat("x", 5000) + "\r\n250 y\r\n"))
	f.Add([]byte("250-a\n251 b\n"))
	f.Add([]byte("250 8BITMIME\r\n250-AUTH=LOGIN\r\n250 SIZE 99999999999999999999\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		all, slow := bufio.NewReader(bytes.NewReader(said)), bufio.NewReader(iotest.OneByteReader(bytes.NewReader(said)))
		for range len(said) + 1 {
			r, err := readReply(all)
			again, errAgain := readReply(slow)
			if r != again || (err == nil) != (errAgain == nil) {
				t.Fatalf("%q: %v %v, and byte by byte %v %v", said, r, err, again, errAgain)
			}
			if err != nil {
				return
			}
			if r.Code < 200 || r.Code > 599 || len(r.Text) > maxReply || r.Enhanced[0] != 0 && r.Enhanced[0] != r.Code/100 {
				t.Fatalf("%+v out of %q", r, said)
			}
			if e := parseExtensions(r.Text); e.size < 0 {
				t.Fatalf("%+v out of %q", e, said)
			}
		}
		t.Fatalf("more replies than bytes in %q", said)
	})
}

func BenchmarkDeliver(b *testing.B) {
	s := newSink(b, nil)
	c := newClient(b, nil)
	j := jobTo(b, s, "Subject: x\r\n\r\n"+strings.Repeat("some text in a line of a usual length, say so\r\n", 85))
	b.ReportAllocs()
	for b.Loop() {
		if o := c.Deliver(context.Background(), j); o[0].Result != send.Delivered {
			b.Fatal(o)
		}
	}
}

func BenchmarkStuffer(b *testing.B) {
	body := []byte(strings.Repeat("some text in a line of a usual length, say so\r\n", 700))
	b.SetBytes(int64(len(body)))
	s := stuffer{out: make([]byte, 0, 2*len(body))}
	for b.Loop() {
		s.out = s.out[:0]
		s.add(body)
	}
}
