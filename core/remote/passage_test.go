package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// talker is a next hop in memory, for virtual time. answer gets the number of the
// connection and the command, the end of a message as ".", and returns the reply:
// "" hangs up, "hang" never answers.
type talker struct {
	answer func(n int, line string) string
	ehlo   string // further lines of the reply to EHLO

	mu   sync.Mutex
	n    int
	said []string
	text string // of the last message
}

var talkerWay = send.Way{NextHop: send.NextHop{Scheme: send.SchemeSMTP, Host: "192.0.2.1"}, TLS: "none"}

func (k *talker) dial(context.Context, netip.Addr, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	k.mu.Lock()
	k.n++
	n := k.n
	k.mu.Unlock()
	go k.serve(far, n)
	return near, nil
}

// serve ends when the connection does.
func (k *talker) serve(c net.Conn, n int) {
	defer c.Close()
	r := bufio.NewReader(c)
	out, text := "220 talker\r\n", ""
	for {
		if _, err := c.Write([]byte(out)); err != nil {
			return
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		k.mu.Lock()
		k.said = append(k.said, line)
		k.mu.Unlock()
		reply, usual := k.reply(n, line)
		if strings.HasPrefix(reply, "354") {
			if _, err := c.Write([]byte(reply + "\r\n")); err != nil {
				return
			}
			for text = ""; !strings.HasSuffix("\r\n"+text, "\r\n.\r\n"); {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				text += line
			}
			k.mu.Lock()
			k.text = strings.TrimSuffix(text, ".\r\n")
			k.mu.Unlock()
			reply, usual = k.reply(n, ".")
		}
		switch reply {
		case "":
			return
		case "usual":
			reply = usual
		case "hang":
			_, _ = r.ReadString('\n') // nothing comes before the end
			return
		}
		out = reply + "\r\n"
		if strings.HasPrefix(line, "QUIT") {
			_, _ = c.Write([]byte(out))
			return
		}
	}
}

func (k *talker) reply(n int, line string) (reply, usual string) {
	verb, _, _ := strings.Cut(line, " ")
	switch verb {
	case "EHLO":
		usual = "250-talker\r\n" + k.ehlo + "250 8BITMIME"
	case "DATA":
		usual = "354 go on"
	case "RCPT":
		usual = "250 2.1.5 " + line[len("RCPT TO:"):]
	default:
		usual = "250 2.0.0 " + verb
	}
	k.mu.Lock()
	answer := k.answer
	k.mu.Unlock()
	if answer != nil {
		if reply = answer(n, line); reply != "usual" {
			return reply, usual
		}
	}
	return usual, usual
}

// turn makes it answer otherwise from now on.
func (k *talker) turn(answer func(n int, line string) string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = answer
}

func (k *talker) all() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.said)
}

// verbs are the commands but those that begin and end sessions.
func (k *talker) verbs() string {
	var list []string
	for _, line := range k.all() {
		if verb, _, _ := strings.Cut(line, " "); verb != "EHLO" && verb != "QUIT" {
			list = append(list, verb)
		}
	}
	return strings.Join(list, " ")
}

// after answers what is said in the first n connections, and as usual otherwise.
func after(n int, prefix, reply string) func(int, string) string {
	return func(at int, line string) string {
		if at <= n && strings.HasPrefix(line, prefix) {
			return reply
		}
		return "usual"
	}
}

func envelopeTo(t testing.TB, rcpts ...string) *queue.Message {
	m := &queue.Message{ID: "0000000000000AB", Sender: address(t, "s@client.example"), Arrived: time.Now()}
	for _, r := range rcpts {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: address(t, r)})
	}
	return m
}

// offered opens a passage and offers recipients until one is refused.
func offered(t testing.TB, c *Client, way send.Way, rcpts ...string) (intake.Passage, []message.Reply) {
	p := c.Open(way)
	var replies []message.Reply
	m := envelopeTo(t)
	for _, r := range rcpts {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: address(t, r)})
		reply := p.Offer(t.Context(), m)
		if replies = append(replies, reply); !reply.Positive() {
			m.Recipients = m.Recipients[:len(m.Recipients)-1]
		}
	}
	return p, replies
}

// TestPassage: what the client hears of a message to two recipients, and what the
// next hop was told, whatever it does in between.
func TestPassage(t *testing.T) {
	const usual = "MAIL RCPT RCPT DATA"
	for _, tc := range []struct {
		name   string
		answer func(int, string) string
		rcpts  string // what both RCPTs got
		end    string // what the message got
		verbs  string
		conns  int
	}{
		{"as usual", nil, "250 250", "250 2.0.0 .", usual, 1},
		{"MAIL refused", after(9, "MAIL", "550 5.7.1 not you"), "550 550", "", "MAIL", 1},
		{"MAIL put off", after(9, "MAIL", "450 4.7.1 later"), "450 450", "", "MAIL", 1},
		{"one refused", after(9, "RCPT TO:<b@", "550 5.1.1 no"), "250 550", "250", usual, 1},
		{"all refused", after(9, "RCPT", "550 5.1.1 no"), "550 550", "", "MAIL RCPT RCPT RSET", 1},
		{"421 at RCPT", after(9, "RCPT", "421 4.3.2 bye"), "421 421", "", "MAIL RCPT MAIL RCPT", 2},
		{"421 at the second RCPT", after(1, "RCPT TO:<b@", "421 4.3.2 bye"), "250 250", "250", "MAIL RCPT RCPT " + usual, 2},
		{"hangs up at the second RCPT", after(1, "RCPT TO:<b@", ""), "250 250", "250", "MAIL RCPT RCPT " + usual, 2},
		{"hangs up at RCPT always", after(9, "RCPT", ""), "451 451", "", "MAIL RCPT", 1},
		{"hangs at RCPT", after(9, "RCPT", "hang"), "451 451", "", "MAIL RCPT", 1},
		{"hangs at EHLO", after(9, "EHLO", "hang"), "451 451", "", "", 1},
		{"DATA refused", after(9, "DATA", "554 5.7.1 no data"), "250 250", "554 5.7.1 no data", usual + " RSET", 1},
		{"421 at DATA", after(1, "DATA", "421 4.4.2 idle"), "250 250", "250", usual + " " + usual, 2},
		{"421 at DATA always", after(9, "DATA", "421 4.4.2 idle"), "250 250", "421 4.4.2 idle", usual + " " + usual, 2},
		{"gone at DATA", after(1, "DATA", ""), "250 250", "250", usual + " " + usual, 2},
		{"250 to DATA", after(9, "DATA", "250 what"), "250 250", "451 4.4.2", usual + " " + usual, 2},
		{"refused at the dot", after(9, ".", "552 5.3.4 too much"), "250 250", "552 5.3.4 too much", usual, 1},
		{"put off at the dot", after(9, ".", "451 4.3.0 scanner"), "250 250", "451 4.3.0 scanner", usual, 1},
		{"hangs up behind the dot", after(9, ".", ""), "250 250", "451 4.4.2", usual, 1},
		{"hangs behind the dot", after(9, ".", "hang"), "250 250", "451 4.4.2 The answer to the message did not come in time", usual, 1},
		{"nonsense at RCPT", after(9, "RCPT", "hello"), "451 451", "", "MAIL RCPT", 1},
		{"354 at RCPT", after(9, "RCPT", "354 go"), "451 451", "", "MAIL RCPT", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &talker{answer: tc.answer}
				c := New(Options{Dial: k.dial}, Settings{Hostname: "mx.here.example"})
				start := time.Now()
				p, replies := offered(t, c, talkerWay, "a@example.net", "b@example.net")
				if got := fmt.Sprint(replies[0].Code, replies[1].Code); got != tc.rcpts {
					t.Errorf("RCPT got %s: %v", got, replies)
				}
				if took := time.Since(start); took > 2*time.Minute {
					t.Errorf("RCPT took %s", took)
				}
				var to []string
				for i, r := range []string{"a@example.net", "b@example.net"} {
					if replies[i].Positive() {
						to = append(to, r)
					}
				}
				if len(to) > 0 {
					body := message.Bytes("Subject: x\r\n\r\n.dot\r\n")
					start := time.Now()
					for i, s := range p.Send(t.Context(), envelopeTo(t, to...), body, true) {
						if !strings.HasPrefix(s.Reply.String(), tc.end) || s.Reply.IsZero() {
							t.Errorf("recipient %d got %q, want %q", i, s.Reply, tc.end)
						}
						if s.Reply.Positive() && (s.Peer == "" || k.text != "Subject: x\r\n\r\n..dot\r\n") {
							t.Errorf("%+v, the message %q", s, k.text)
						}
					}
					if took := time.Since(start); took > 9*time.Minute {
						t.Errorf("the message took %s", took)
					}
				}
				p.Close()
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if got := k.verbs(); got != tc.verbs || k.n != tc.conns {
					t.Errorf("%d connections, it said %s; want %d: %s", k.n, got, tc.conns, tc.verbs)
				}
			})
		})
	}
}

// TestPassageAnew: where policies changed the envelope, the next hop is told anew;
// it takes the message for all recipients, or one that answers one by one for some.
func TestPassageAnew(t *testing.T) {
	for _, tc := range []struct {
		name  string
		final []string
		whole bool
		want  string
		verbs string
	}{
		{"the same", []string{"a@example.net", "b@example.net"}, true, "250 250", "MAIL RCPT RCPT DATA"},
		{"one less", []string{"a@example.net"}, true, "250", "MAIL RCPT RCPT RSET MAIL RCPT DATA"},
		{"one more", []string{"a@example.net", "b@example.net", "c@example.net"}, true, "250 250 250", "MAIL RCPT RCPT RSET MAIL RCPT RCPT RCPT DATA"},
		{"one that is refused", []string{"a@example.net", "no@example.net"}, true, "451 451", "MAIL RCPT RCPT RSET MAIL RCPT RCPT RSET"},
		{"nobody is left", []string{"no@example.net"}, true, "550", "MAIL RCPT RCPT RSET MAIL RCPT RSET"},
		{"one by one", []string{"a@example.net", "no@example.net"}, false, "250 550", "MAIL RCPT RCPT RSET MAIL RCPT RCPT DATA"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &talker{answer: after(9, "RCPT TO:<no@", "550 5.1.1 nobody")}
				c := New(Options{Dial: k.dial}, Settings{Hostname: "mx.here.example"})
				p, _ := offered(t, c, talkerWay, "a@example.net", "b@example.net")
				var got []string
				for _, s := range p.Send(t.Context(), envelopeTo(t, tc.final...), message.Bytes("\r\n"), tc.whole) {
					got = append(got, fmt.Sprint(s.Reply.Code))
				}
				if s := strings.Join(got, " "); s != tc.want || k.verbs() != tc.verbs || k.n != 1 {
					t.Errorf("got %s over %d connections that said %s", s, k.n, k.verbs())
				}
				_ = c.Close()
			})
		})
	}
}

// TestPassageSender: a sender that a policy replaced behind MAIL is told anew.
func TestPassageSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &talker{}
		c := New(Options{Dial: k.dial}, Settings{Hostname: "mx.here.example"})
		p, _ := offered(t, c, talkerWay, "a@example.net")
		m := envelopeTo(t, "a@example.net")
		m.Sender = address(t, "other@client.example")
		if s := p.Send(t.Context(), m, message.Bytes("\r\n"), true); !s[0].Reply.Positive() {
			t.Errorf("%+v", s)
		}
		if got := k.all(); k.verbs() != "MAIL RCPT RSET MAIL RCPT DATA" || !strings.HasPrefix(got[4], "MAIL FROM:<other@client.example>") {
			t.Errorf("it said %q", got)
		}
		_ = c.Close()
	})
}

// TestPassageGivenUp: the next hop forgets, and its connection serves the next.
func TestPassageGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &talker{ehlo: "250-PIPELINING\r\n"}
		c := New(Options{Dial: k.dial}, Settings{Hostname: "mx.here.example"})
		for range 3 {
			p, _ := offered(t, c, talkerWay, "a@example.net")
			p.Close()
			p.Close()
		}
		if got := k.verbs(); got != "MAIL RCPT RSET MAIL RCPT RSET MAIL RCPT RSET" || k.n != 1 {
			t.Errorf("%d connections, it said %s", k.n, got)
		}
		// One that does not answer RSET is not kept.
		k.turn(after(9, "RSET", "hang"))
		p, _ := offered(t, c, talkerWay, "a@example.net")
		start := time.Now()
		p.Close()
		if took := time.Since(start); took > quitTimeout {
			t.Errorf("it waited for %s", took)
		}
		k.turn(nil)
		p, _ = offered(t, c, talkerWay, "a@example.net")
		p.Close()
		if k.n != 2 {
			t.Errorf("%d connections", k.n)
		}
		// A stop ends what is under way.
		k.turn(after(9, "RCPT", "hang"))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if r := c.Open(talkerWay).Offer(ctx, envelopeTo(t, "a@example.net")); r.Code != 451 || r.Status() != "4.3.2" {
			t.Errorf("a stop: %v", r)
		}
		k.turn(after(9, ".", "hang"))
		p, _ = offered(t, c, talkerWay, "a@example.net")
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if s := p.Send(ctx, envelopeTo(t, "a@example.net"), message.Bytes("\r\n"), true); s[0].Reply.Code != 451 || !strings.Contains(s[0].Reply.Text, "stopping") {
			t.Errorf("a stop behind the dot: %+v", s)
		}
		_ = c.Close()
	})
}

// TestPassageForm: what the message needs and the next hop lacks is found at RCPT
// where it is known there, else at the message, and never sent.
func TestPassageForm(t *testing.T) {
	for _, tc := range []struct {
		name string
		ehlo string
		m    func(m *queue.Message)
		body string
		rcpt string
		end  string
		mail string
	}{
		{"SIZE as it was said", "250-SIZE 5000\r\n", func(m *queue.Message) { m.Size = 4000 }, "\r\n", "250", "250", "MAIL FROM:<s@client.example> BODY=8BITMIME SIZE=4000"},
		{"none was said", "250-SIZE 5000\r\n", nil, "\r\n", "250", "250", "MAIL FROM:<s@client.example> BODY=8BITMIME"},
		{"too large as said", "250-SIZE 5000\r\n", func(m *queue.Message) { m.Size = 6000 }, "", "552 5.3.4", "", ""},
		{"too large as sent", "250-SIZE 5000\r\n", nil, "\r\n" + strings.Repeat("x", 6000), "250", "552 5.3.4", "MAIL FROM:<s@client.example> BODY=8BITMIME"},
		{"SMTPUTF8", "250-SMTPUTF8\r\n", func(m *queue.Message) { m.SMTPUTF8 = true }, "Subject: ü\r\n\r\n", "250", "250", "MAIL FROM:<s@client.example> BODY=8BITMIME SMTPUTF8"},
		{"SMTPUTF8 lacks, and is needed", "", func(m *queue.Message) { m.SMTPUTF8 = true }, "Subject: ü\r\n\r\n", "250", "550 5.6.7", "MAIL FROM:<s@client.example> BODY=8BITMIME"},
		{"SMTPUTF8 lacks, and is not needed", "", func(m *queue.Message) { m.SMTPUTF8 = true }, "Subject: u\r\n\r\n", "250", "250", "MAIL FROM:<s@client.example> BODY=8BITMIME"},
		{"the sender needs it", "", func(m *queue.Message) { m.SMTPUTF8, m.Sender.Local = true, "ü" }, "", "550 5.6.7", "", ""},
		{"the recipient needs it", "", func(m *queue.Message) { m.SMTPUTF8, m.Recipients[0].Address.Local = true, "ü" }, "", "553 5.6.7", "", ""},
		{"DSN goes on", "250-DSN\r\n", func(m *queue.Message) { m.Ret, m.EnvID = "HDRS", "x" }, "\r\n", "250", "250", "MAIL FROM:<s@client.example> BODY=8BITMIME RET=HDRS ENVID=x"},
		{"binary, rewritten", "", func(m *queue.Message) { m.Binary = true }, "MIME-Version: 1.0\r\nContent-Type: application/x-y\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\r\n", "250", "250", "MAIL FROM:<s@client.example> BODY=8BITMIME"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &talker{ehlo: tc.ehlo}
				c := New(Options{Dial: k.dial}, Settings{Hostname: "mx.here.example"})
				m := envelopeTo(t, "a@example.net")
				if tc.m != nil {
					tc.m(m)
				}
				p := c.Open(talkerWay)
				if r := p.Offer(t.Context(), m); !strings.HasPrefix(r.String(), tc.rcpt) {
					t.Errorf("RCPT got %v", r)
				} else if r.Positive() {
					if s := p.Send(t.Context(), m, message.Bytes(tc.body), true); !strings.HasPrefix(s[0].Reply.String(), tc.end) {
						t.Errorf("the message got %v", s[0].Reply)
					}
				}
				p.Close()
				_ = c.Close()
				synctest.Wait()
				mail := ""
				if said := k.all(); len(said) > 1 && strings.HasPrefix(said[1], "MAIL") {
					mail = said[1]
				}
				if mail != tc.mail {
					t.Errorf("it said %q", mail)
				}
			})
		})
	}
}

// TestPassageWays: nothing is said in the clear where TLS must be, nothing to
// ourselves, and nothing where no server can be asked.
func TestPassageWays(t *testing.T) {
	for _, tc := range []struct {
		name string
		way  func(w *send.Way)
		own  bool
		want string
	}{
		{"encrypt", func(w *send.Way) { w.TLS = "encrypt" }, false, "451 4.7.4"},
		{"a password", func(w *send.Way) { w.Auth = send.Login{User: "me", PasswordFile: "none"} }, false, "451 4.7.4"},
		{"ourselves", func(*send.Way) {}, true, "451 4.3.5"},
		{"mx", func(w *send.Way) { w.NextHop = send.NextHop{Scheme: send.SchemeMX} }, false, "451 4.3.5"},
		{"nothing", func(w *send.Way) { *w = send.Way{} }, false, "451 4.3.5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &talker{}
				c := New(Options{Dial: k.dial, Own: func(netip.AddrPort) bool { return tc.own }}, Settings{Hostname: "mx.here.example"})
				w := talkerWay
				tc.way(&w)
				p, replies := offered(t, c, w, "a@example.net", "b@example.net")
				for _, r := range replies {
					if !strings.HasPrefix(r.String(), tc.want) {
						t.Errorf("got %v", r)
					}
				}
				for _, s := range p.Send(t.Context(), envelopeTo(t, "a@example.net"), message.Bytes("\r\n"), true) {
					if !strings.HasPrefix(s.Reply.String(), tc.want) {
						t.Errorf("the message got %v", s.Reply)
					}
				}
				if got := k.verbs(); strings.Contains(got, "MAIL") {
					t.Errorf("it said %s", got)
				}
				_ = c.Close()
			})
		})
	}
}

// TestPassageLMTP: each recipient has its own answer.
func TestPassageLMTP(t *testing.T) {
	s := newSink(t, func(s *sink) {
		s.lmtp = true
		s.dotFor = func(_ int, r string) string {
			if strings.HasPrefix(r, "full@") {
				return "452 4.2.2 full"
			}
			return "250 2.0.0 " + r
		}
	})
	c := newClient(t, nil)
	way := send.Way{NextHop: jobTo(t, s, "").NextHop, TLS: "none"}
	way.Scheme = send.SchemeLMTP
	p, _ := offered(t, c, way, "a@example.net", "full@example.net")
	sent := p.Send(t.Context(), envelopeTo(t, "a@example.net", "full@example.net"), message.Bytes("\r\n"), false)
	if sent[0].Reply.String() != "250 2.0.0 a@example.net" || sent[1].Reply.Code != 452 {
		t.Errorf("%+v", sent)
	}
}

// TestNameless: a failure does not tell strangers where our next hop is.
func TestNameless(t *testing.T) {
	zone, err := dns.ParseZone("")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(context.Context, netip.Addr, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	for host, want := range map[string]string{
		"192.0.2.1":        "451 4.4.1 The next hop: connection refused",
		"secret.example":   "451 4.4.4 The next hop has no address",
		"geheim-ü.example": "451 4.4.4 The next hop has no address",
	} {
		c := New(Options{Dial: refused, Resolver: zone}, Settings{Hostname: "mx.here.example"})
		w := talkerWay
		w.Host = host
		p, replies := offered(t, c, w, "a@example.net")
		sent := p.Send(t.Context(), envelopeTo(t, "a@example.net"), message.Bytes("\r\n"), true)
		probed := NewCallouts(c, CalloutSettings{}).Verify(t.Context(), w, address(t, "a@example.net"))
		for _, r := range []message.Reply{replies[0], sent[0].Reply, probed.Reply} {
			if r.String() != want {
				t.Errorf("%s: %q", host, r)
			}
		}
		_ = c.Close()
	}
}
