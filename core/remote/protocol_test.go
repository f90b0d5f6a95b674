package remote

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// RFC 2033 section 4.2: by LMTP each recipient that was taken has its own answer
// to the message.
func TestLMTP(t *testing.T) {
	for _, where := range []string{"tcp", "unix"} {
		for _, ext := range [][]string{{"8BITMIME"}, {"8BITMIME", "PIPELINING"}} {
			s := newSink(t, func(s *sink) {
				s.lmtp, s.ehlo = true, ext
				if where == "unix" {
					s.path = filepath.Join(t.TempDir(), "lmtp")
				}
				s.answer = func(_ *sink, _ int, verb, line string) (string, bool) {
					return "550 5.1.1 no such mailbox", verb == "RCPT" && strings.Contains(line, "none@")
				}
				s.dotFor = func(_ int, rcpt string) string {
					switch rcpt {
					case "full@x.example":
						return "452-4.2.2 over\r\n452 4.2.2 quota"
					case "virus@x.example":
						return "554 5.7.1 refused"
					}
					return "250 2.1.5 <" + rcpt + "> Saved"
				}
			})
			c := newClient(t, nil)
			for range 2 { // the second over the same session
				j := jobTo(t, s, "\r\n.x\r\n", "a@x.example", "none@x.example", "full@x.example", "a@x.example", "virus@x.example")
				j.NextHop.Scheme = send.SchemeLMTP
				if where == "unix" {
					j.NextHop = send.NextHop{Scheme: send.SchemeLMTP, Path: s.path}
				}
				want := []string{"delivered 250 2.1.5 <a@x.example>", "bounced 550 5.1.1", "deferred 452 4.2.2 over quota", "delivered 250 2.1.5 <a@x.example>", "bounced 554 5.7.1"}
				for i, o := range outcomes(t, j, c.Deliver(t.Context(), j)) {
					if got := o.Result.String() + " " + o.Reply.String(); !strings.HasPrefix(got, want[i]) || o.Reach != send.AtEnd {
						t.Errorf("%s %v, recipient %d: %s, %+v", where, ext, i, got, o)
					}
					if where == "unix" && o.Peer != s.path {
						t.Errorf("peer %q", o.Peer)
					}
				}
			}
			if s.sessions != 1 || len(s.got()) != 2 || string(s.got()[1].data) != "\r\n.x\r\n" || s.said()[0] != "LHLO mx.here.example" {
				t.Errorf("%s %v: %d sessions, %+v", where, ext, s.sessions, s.got())
			}
		}
	}
}

// Faults of LMTP servers: recipients whose answer came keep it.
func TestLMTPFaults(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*sink)
		want   []string
	}{
		"dropped between the answers": {func(s *sink) {
			s.dotFor = func(_ int, r string) string {
				if r == "b@x.example" {
					return ""
				}
				return "250 2.0.0 ok"
			}
		}, []string{"delivered 250", "deferred 451 4.4.2", "deferred 451 4.4.2"}},
		"one answer for all, then 421": {func(s *sink) {
			s.dotFor = func(_ int, r string) string {
				if r == "a@x.example" {
					return "250 ok"
				}
				return "421 4.3.2 going down"
			}
		}, []string{"delivered 250", "deferred 421", "deferred 421"}},
		"it speaks SMTP": {func(s *sink) { s.lmtp = false }, []string{"deferred 500 5.5.1", "deferred 500", "deferred 500"}},
		"no socket":      {func(s *sink) {}, []string{"deferred 451 4.4.1", "deferred 451", "deferred 451"}},
	} {
		s := newSink(t, func(s *sink) {
			s.lmtp, s.path = true, filepath.Join(t.TempDir(), "lmtp")
			test.change(s)
		})
		j := jobTo(t, s, "\r\nx\r\n", "a@x.example", "b@x.example", "c@x.example")
		j.NextHop = send.NextHop{Scheme: send.SchemeLMTP, Path: s.path}
		if name == "no socket" {
			j.NextHop.Path += "-none"
		}
		for i, o := range outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j)) {
			if got := o.Result.String() + " " + o.Reply.String(); !strings.HasPrefix(got, test.want[i]) {
				t.Errorf("%s, recipient %d: %s; want %s", name, i, got, test.want[i])
			}
		}
	}
}

// RFC 3461: parameters go on as they came, to hosts that offer DSN and to no
// other; how far the message got is told.
func TestDSN(t *testing.T) {
	for _, test := range []struct {
		name       string
		ext        []string
		lmtp       bool
		change     func(*queue.Message)
		mail, rcpt string
		reach      send.Reach
	}{
		{"offered", []string{"DSN"}, false, func(*queue.Message) {}, " RET=HDRS ENVID=En+2BV1", " NOTIFY=FAILURE ORCPT=rfc822;orig@example.net", send.Handed},
		{"not offered", nil, false, func(*queue.Message) {}, "", "", send.Relayed},
		{"LMTP", nil, true, func(*queue.Message) {}, "", "", send.AtEnd},
		{"LMTP with DSN", []string{"dsn"}, true, func(*queue.Message) {}, " RET=HDRS ENVID=En+2BV1", " NOTIFY=FAILURE ORCPT=rfc822;orig@example.net", send.Handed},
		{"nothing said", []string{"DSN"}, false, func(m *queue.Message) {
			m.Ret, m.EnvID, m.Recipients[0].Notify, m.Recipients[0].Original = "", "", "", ""
		}, "", "", send.Handed},
		{"a policy's address", []string{"DSN"}, false, func(m *queue.Message) { m.Recipients[0].Original = `"a b+"@example.net` }, " RET=HDRS ENVID=En+2BV1", ` NOTIFY=FAILURE ORCPT=rfc822;"a+20b+2B"@example.net`, send.Handed},
		{"beyond ASCII without SMTPUTF8", []string{"DSN"}, false, func(m *queue.Message) { m.Recipients[0].Original = "utf-8;jos\u00e9@example.net" }, " RET=HDRS ENVID=En+2BV1", ` NOTIFY=FAILURE ORCPT=utf-8;jos\x{E9}@example.net`, send.Handed},
		{"beyond ASCII with SMTPUTF8", []string{"DSN", "SMTPUTF8"}, false, func(m *queue.Message) { m.Recipients[0].Original = "utf-8;jos\u00e9@example.net" }, " RET=HDRS ENVID=En+2BV1", " NOTIFY=FAILURE ORCPT=utf-8;jos\u00e9@example.net", send.Handed},
		{"commands in it", []string{"DSN"}, false, func(m *queue.Message) {
			m.Ret, m.EnvID, m.Recipients[0].Notify, m.Recipients[0].Original = "FULL\r\nRSET", "a b", "NEVER\r\nQUIT", "rfc822;a\r\nDATA"
		}, "", "", send.Handed},
	} {
		s := newSink(t, func(s *sink) { s.ehlo, s.lmtp = test.ext, test.lmtp })
		j := jobTo(t, s, "\r\nx\r\n")
		if test.lmtp {
			j.NextHop.Scheme = send.SchemeLMTP
		}
		j.Message.Ret, j.Message.EnvID = "HDRS", "En+2BV1"
		j.Message.Recipients[0].Notify, j.Message.Recipients[0].Original = "FAILURE", "rfc822;orig@example.net"
		test.change(j.Message)
		o := outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j))[0]
		if o.Result != send.Delivered || o.Reach != test.reach {
			t.Errorf("%s: %+v", test.name, o)
			continue
		}
		m := s.got()[0]
		if m.from != "<s@client.example>"+test.mail || m.lines[0] != "RCPT TO:<r@example.net>"+test.rcpt {
			t.Errorf("%s: %q, %q", test.name, m.from, m.lines)
		}
	}
}

// RFC 6531: SMTPUTF8 is said where it is needed and nowhere else; what needs it
// goes to no host without it, except that a domain has a form in ASCII.
func TestSMTPUTF8(t *testing.T) {
	for _, test := range []struct {
		name             string
		announced        bool
		sender, rcpt     string
		body             string
		with, without    string // outcome where the host offers it, and where it doesn't
		mailWith, toBare string
	}{
		{"ASCII alone", true, "s@client.example", "r@x.example", "Subject: x\r\n\r\nbödy\r\n", "delivered", "delivered", "<s@client.example> BODY=8BITMIME", "r@x.example"},
		{"header", true, "s@client.example", "r@x.example", "Subject: ä\r\n\r\nx\r\n", "delivered", "bounced 550 5.6.7", "<s@client.example> BODY=8BITMIME SMTPUTF8", ""},
		{"a part's header", true, "s@client.example", "r@x.example", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; name=ä\r\n\r\nx\r\n--b--\r\n", "delivered", "bounced 550 5.6.7", "<s@client.example> BODY=8BITMIME SMTPUTF8", ""},
		{"header, not announced", false, "s@client.example", "r@x.example", "Subject: \xe4\r\n\r\nx\r\n", "delivered", "delivered", "<s@client.example> BODY=8BITMIME", "r@x.example"},
		{"recipient", true, "s@client.example", "josé@x.example", "Subject: x\r\n\r\nx\r\n", "delivered", "bounced 553 5.6.7", "<s@client.example> BODY=8BITMIME SMTPUTF8", ""},
		{"recipient's domain", true, "s@client.example", "r@bücher.example", "Subject: x\r\n\r\nx\r\n", "delivered", "delivered", "<s@client.example> BODY=8BITMIME SMTPUTF8", "r@xn--bcher-kva.example"},
		{"sender", true, "jösé@client.example", "r@x.example", "Subject: x\r\n\r\nx\r\n", "delivered", "bounced 550 5.6.7", "<jösé@client.example> BODY=8BITMIME SMTPUTF8", ""},
		{"sender's domain", true, "s@bücher.example", "r@x.example", "Subject: x\r\n\r\nx\r\n", "delivered", "delivered", "<s@bücher.example> BODY=8BITMIME SMTPUTF8", "r@x.example"},
		{"header and sender's domain", true, "s@bücher.example", "r@x.example", "Subject: ä\r\n\r\nx\r\n", "delivered", "bounced 550 5.6.7", "<s@bücher.example> BODY=8BITMIME SMTPUTF8", ""},
	} {
		for i, ext := range [][]string{{"8BITMIME", "SMTPUTF8"}, {"8BITMIME"}} {
			s := newSink(t, func(s *sink) { s.ehlo = ext })
			j := jobTo(t, s, test.body, test.rcpt, "plain@x.example")
			j.Message.Sender, j.Message.SMTPUTF8 = address(t, test.sender), test.announced
			o := outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j))
			want := []string{test.with, test.without}[i]
			if got := o[0].Result.String() + " " + o[0].Reply.String(); !strings.HasPrefix(got, want) {
				t.Errorf("%s, %v: %s; want %s", test.name, ext, got, want)
				continue
			}
			if strings.HasPrefix(test.without, "bounced 553") && o[1].Result != send.Delivered {
				t.Errorf("%s, %v: the other recipient: %+v", test.name, ext, o[1])
			}
			if o[0].Result != send.Delivered {
				continue
			}
			if m := s.got()[0]; i == 0 && m.from != test.mailWith || i == 1 && m.rcpts[0] != test.toBare || i == 1 && strings.Contains(m.from, "SMTPUTF8") {
				t.Errorf("%s, %v: %q to %q", test.name, ext, m.from, m.rcpts)
			} else if string(m.data) != test.body {
				t.Errorf("%s: %q", test.name, m.data)
			}
		}
	}
}

// RFC 3030: a binary message goes byte for byte by BDAT where that is offered;
// else it is rewritten or bounced.
func TestBinary(t *testing.T) {
	bytes := "a\x00b\rc\nd\r\n.\r\n" + strings.Repeat("x", 2000)
	mime := "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bytes
	for _, test := range []struct {
		ext        string
		body       string
		want, mail string
	}{
		{"8BITMIME BINARYMIME CHUNKING SIZE PIPELINING", mime, "delivered 250", " BODY=BINARYMIME SIZE="},
		{"8BITMIME BINARYMIME CHUNKING", mime, "delivered 250", " BODY=BINARYMIME"},
		{"8BITMIME BINARYMIME", mime, "delivered 250", " BODY=8BITMIME"},
		{"8BITMIME CHUNKING", mime, "delivered 250", " BODY=8BITMIME"},
		{"", mime, "delivered 250", ""},
		{"8BITMIME", "Subject: x\r\n\r\n" + bytes, "bounced 554 5.6.1", ""},
		{"8BITMIME BINARYMIME CHUNKING", "Subject: x\r\n\r\n" + bytes, "delivered 250", " BODY=BINARYMIME"},
		// What looks like a header section inside may be anything.
		{"8BITMIME", "Content-Type: message/rfc822\r\n\r\nX: a\x00b\r\n\r\nx\r\n", "bounced 554 5.6.1", ""},
		{"8BITMIME", "Content-Type: message/rfc822\r\n\r\nX: a\rb\r\n\r\nx\r\n", "bounced 554 5.6.1", ""},
		{"", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: a\nb\r\n\r\nx\r\n--b--\r\n", "bounced 554 5.6.1", ""},
	} {
		s := newSink(t, func(s *sink) { s.ehlo = strings.Fields(test.ext) })
		j := jobTo(t, s, test.body, "a@x.example", "b@x.example")
		j.Message.Binary = true
		for _, o := range outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j)) {
			if got := o.Result.String() + " " + o.Reply.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("%q: %s; want %s", test.ext, got, test.want)
			}
		}
		for _, m := range s.got() {
			chunked := strings.Contains(test.mail, "BINARYMIME")
			if m.bdat != chunked || !strings.HasPrefix(m.from, "<s@client.example>"+test.mail) || chunked && string(m.data) != test.body || len(m.rcpts) != 2 {
				t.Errorf("%q: %+v", test.ext, m)
			}
			if !chunked && decoded(t, m.data) != bytes {
				t.Errorf("%q: %q", test.ext, m.data)
			}
		}
	}
}

// A message without an end to its last line has none at a next hop that can be
// told so.
func TestNoLastLineEnd(t *testing.T) {
	for body, chunked := range map[string]bool{"a: b\r\n\r\nx": true, "x": true, "\r\nx\r\n": false, "": false} {
		s := newSink(t, func(s *sink) { s.ehlo = []string{"8BITMIME", "CHUNKING", "PIPELINING"} })
		j := jobTo(t, s, body)
		outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j))
		m := s.got()
		if len(m) != 1 || string(m[0].data) != body || m[0].bdat != chunked {
			t.Errorf("%q: %+v", body, m)
		}
	}
}

// No address, however it came into the queue, becomes a command.
func TestUnsafeAddresses(t *testing.T) {
	evil := message.Address{Local: "a>\r\nRSET\r\nMAIL FROM:<x", Domain: "x.example"}
	s := newSink(t, nil)
	c := newClient(t, nil)
	j := jobTo(t, s, "\r\nx\r\n", "a@x.example", "b@x.example")
	j.Message.Recipients[0].Address = evil
	if o := outcomes(t, j, c.Deliver(t.Context(), j)); o[0].Result != send.Bounced || o[0].Reply.Status() != "5.1.3" || o[1].Result != send.Delivered {
		t.Errorf("%+v", o)
	}
	j = jobTo(t, s, "\r\nx\r\n")
	j.Message.Sender = evil
	if o := outcomes(t, j, c.Deliver(t.Context(), j)); o[0].Result != send.Bounced {
		t.Errorf("%+v", o)
	}
	if len(s.got()) != 1 || slices.Contains(s.said(), "RSET") {
		t.Errorf("it said %q", s.said())
	}
}

// RFC 2920: commands go together only where that is offered, never with EHLO,
// never with the message; every reply belongs to its command.
func TestPipelining(t *testing.T) {
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
		want   []string
		mails  int
	}{
		{"all taken", nil, []string{"delivered 250", "delivered 250", "delivered 250"}, 1},
		{"one refused", refuse("RCPT", "r2@", "550 5.1.1 no"), []string{"delivered 250", "bounced 550 5.1.1", "delivered 250"}, 1},
		{"all refused", refuse("RCPT", "@", "450 4.2.0 no"), []string{"deferred 450", "deferred 450", "deferred 450"}, 0},
		{"sender refused", refuse("MAIL", "", "550 5.1.8 no"), []string{"bounced 550 5.1.8", "bounced 550", "bounced 550"}, 0},
		{"one is too many", refuse("RCPT", "r2@", "452 4.5.3 enough"), []string{"delivered 250", "deferred 452", "delivered 250"}, 1},
		{"DATA refused", refuse("DATA", "", "451 4.3.0 no"), []string{"deferred 451 4.3.0", "deferred 451", "deferred 451"}, 0},
		{"421", refuse("RCPT", "r2@", "421 4.3.2 going"), []string{"deferred 421", "deferred 421", "deferred 421"}, 0},
		{"a message for nobody", func(s *sink) {
			s.answer = func(_ *sink, _ int, v, _ string) (string, bool) {
				return map[string]string{"RCPT": "550 5.1.1 no", "DATA": "354 go"}[v], v == "RCPT"
			}
		}, []string{"bounced 550", "bounced 550", "bounced 550"}, 0},
	} {
		s := newSink(t, func(s *sink) {
			if test.change != nil {
				test.change(s)
			}
			s.ehlo = []string{"PIPELINING", "8BITMIME"}
		})
		c := newClient(t, nil)
		for range 2 {
			j := jobTo(t, s, "a: b\r\n\r\nbody\r\n", "r1@example.net", "r2@example.net", "r3@example.net")
			for i, o := range outcomes(t, j, c.Deliver(t.Context(), j)) {
				if got := o.Result.String() + " " + o.Reply.String(); !strings.HasPrefix(got, test.want[i]) {
					t.Errorf("%s, recipient %d: %s; want %s", test.name, i, got, test.want[i])
				}
			}
		}
		if len(s.got()) != 2*test.mails {
			t.Errorf("%s: %d messages", test.name, len(s.got()))
		}
	}
}

// More commands than the buffers between two hosts surely hold go in several
// groups.
func TestLongEnvelope(t *testing.T) {
	s := newSink(t, func(s *sink) { s.ehlo = []string{"PIPELINING"} })
	var rcpts []string
	for i := range 100 {
		rcpts = append(rcpts, fmt.Sprintf("%s%d@example.net", strings.Repeat("long", 50), i))
	}
	j := jobTo(t, s, "\r\nx\r\n", rcpts...)
	for _, o := range outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j)) {
		if o.Result != send.Delivered {
			t.Fatalf("%+v", o)
		}
	}
	if got := s.got(); len(got) != 1 || !slices.Equal(got[0].rcpts, rcpts) {
		t.Errorf("%d messages", len(got))
	}
}

// A host that says more than it was asked must not have its extra words taken
// for the answer to the message.
func TestUnaskedReplies(t *testing.T) {
	for _, ext := range [][]string{nil, {"PIPELINING"}} {
		s := newSink(t, func(s *sink) {
			s.ehlo = ext
			s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) {
				return "354 go on\r\n250 2.0.0 taken, whatever it is", verb == "DATA"
			}
			s.dot = func(int) string { return "554 5.7.1 refused" }
		})
		j := jobTo(t, s, "\r\nx\r\n")
		if o := outcomes(t, j, newClient(t, nil).Deliver(t.Context(), j))[0]; o.Result != send.Deferred {
			t.Errorf("%v: %+v", ext, o)
		}
	}
}

// RFC 5321 section 4.2 and RFC 2034.
func TestReadReply(t *testing.T) {
	for said, want := range map[string]string{
		"250 ok\r\n": "250 ok", "250\r\n": "250", "250-a\n250 b\n": "250 a b", "250 2.1.5\r\n": "250 2.1.5",
		"250-2.1.5 a\r\n250-2.1.5 b\r\n250 2.1.5 c\r\n": "250 2.1.5 a b c", "550 4.1.1 x\r\n": "550 4.1.1 x", "354 \r\n": "354",
		"450-4.2.0\r\n450 4.2.0 wait\r\n": "450 4.2.0  wait",
		"250-a\r\n550 b\r\n":              "", "199 x\r\n": "", "600 x\r\n": "", "25 x\r\n": "", "2500 x\r\n": "", "\r\n": "", "250_x\r\n": "", "250": "", "250-x\r\n": "",
	} {
		r, err := newWire(pipeOf(said)).reply(time.Second)
		if (err != nil) != (want == "") || err == nil && r.String() != want {
			t.Errorf("%q is %q, %v; want %q", said, r, err, want)
		}
	}
	e := parseExtensions("mx hello\npipelining\nSize 1000\n8bitmime\nAUTH LOGIN plain\nAUTH=CRAM-MD5 LOGIN\nDSN\nsmtputf8\nX")
	if !e.pipelining || e.size != 1000 || !e.sized || !e.eightBit || !e.dsn || !e.utf8 || e.startTLS || strings.Join(e.auth, " ") != "LOGIN PLAIN CRAM-MD5" {
		t.Errorf("%+v", e)
	}
}

// far is a host that is as far away as a packet needs 5 ms for.
func BenchmarkFarHost(b *testing.B) {
	for name, ext := range map[string][]string{"alone": {"8BITMIME"}, "pipelined": {"8BITMIME", "PIPELINING"}} {
		for _, rcpts := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s/%d", name, rcpts), func(b *testing.B) {
				s := newSink(b, func(s *sink) { s.ehlo, s.far = ext, 5*time.Millisecond })
				c := newClient(b, nil)
				var list []string
				for i := range rcpts {
					list = append(list, fmt.Sprintf("r%d@example.net", i))
				}
				j := jobTo(b, s, "Subject: x\r\n\r\nx\r\n", list...)
				for b.Loop() {
					if o := c.Deliver(context.Background(), j); o[0].Result != send.Delivered {
						b.Fatal(o)
					}
				}
			})
		}
	}
}
