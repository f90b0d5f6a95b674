package smtpd

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// bubble runs a test in virtual time, with a rig that ends inside it.
func bubble(t *testing.T, l Limits, set func(*rig), f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, l)
		if set != nil {
			set(r)
		}
		r.start()
		f(t, r)
	})
}

// TestErrorBudget: the N-th negative reply is still sent, the next command gets
// 421; what a policy or the recipient limit defers does not count.
func TestErrorBudget(t *testing.T) {
	for _, line := range []string{"FROB", "RCPT TO:<x@example.net>", "MAIL FROM:<a@b@c>", "NO\x00OP", "NOOP " + strings.Repeat("x", 5000), ""} {
		r := newRig(t, Limits{Errors: 3}).start()
		c := r.greeted()
		for range 3 {
			c.say(line, "50")
		}
		c.say(line, "421 4.7.0 Too many errors")
		c.closed()
	}
	r := newRig(t, Limits{Errors: 3, Recipients: 1}).policy(hooks.Rcpt, func(tx *hooks.Transaction) hooks.Decision {
		if tx.Current.Address.Local == "later" {
			return hooks.Decision{Verb: hooks.Defer}
		}
		return hooks.Decision{}
	}).start()
	c := r.greeted()
	c.say("MAIL FROM:<>", "250")
	for range 5 {
		c.say("RCPT TO:<later@example.net>", "450 4.7.1")
	}
	c.say("RCPT TO:<a@example.net>", "250")
	for range 5 {
		c.say("RCPT TO:<b@example.net>", "452 4.5.3")
	}
	for range 3 {
		c.say("RCPT TO:<b@@example.net>", "501")
	}
	c.say("DATA", "421")
	c.closed()
}

// TestRecipientLimit: those under the limit get the message (RFC 5321 4.5.3.1.10).
func TestRecipientLimit(t *testing.T) {
	r := newRig(t, Limits{Recipients: 2}).start()
	c := r.greeted()
	play(t, c, from+"RCPT TO:<a@example.net>\n< 250\nRCPT TO:<b@example.net>\n< 250\nRCPT TO:<c@example.net>\n< 452 4.5.3\nDATA\n< 354\n.\n< 250")
	if m := r.door.all()[0]; len(m.rcpts) != 2 {
		t.Errorf("recipients %v", m.rcpts)
	}
}

// TestMessageLimit: more transactions than allowed end the connection.
func TestMessageLimit(t *testing.T) {
	r := newRig(t, Limits{Messages: 2}).start()
	c := r.greeted()
	play(t, c, from+"RSET\n< 250\n"+from+"RSET\n< 250\nMAIL FROM:<>\n< 421 4.7.0\n<")
}

// TestCommandTimeout: silence, and a dripping line, end after the command
// timeout in every state (checklist 10).
func TestCommandTimeout(t *testing.T) {
	for _, before := range []string{"", "EHLO x", "MAIL FROM:<>", "RCPT TO:<a@example.net>"} {
		bubble(t, Limits{CommandTimeout: time.Minute}, nil, func(t *testing.T, r *rig) {
			c := r.dial()
			c.want("220")
			for _, line := range []string{"EHLO x", "MAIL FROM:<>", "RCPT TO:<a@example.net>"} {
				if before == "" {
					break
				}
				c.say(line, "250")
				if line == before {
					break
				}
			}
			start := time.Now()
			var drip sync.WaitGroup
			defer drip.Wait()
			drip.Go(func() { // a byte a second
				for range 120 {
					if _, err := c.nc.Write([]byte("E")); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
			c.want("421 4.4.2 Timed out waiting")
			if d := time.Since(start); d != time.Minute {
				t.Errorf("after %q it took %s", before, d)
			}
			c.closed()
		})
	}
}

// TestTimeoutSaysWhy: who ends lines with LF alone is told so.
func TestTimeoutSaysWhy(t *testing.T) {
	bubble(t, Limits{}, nil, func(t *testing.T, r *rig) {
		c := r.dial()
		c.want("220")
		c.send("EHLO x\n")
		c.want("421 4.4.2 Timed out: a command ends with CR and LF")
	})
}

// TestSlowReader: a client that never reads ends too.
func TestSlowReader(t *testing.T) {
	bubble(t, Limits{CommandTimeout: time.Minute}, nil, func(t *testing.T, r *rig) {
		near, far := net.Pipe()
		defer near.Close()
		start := time.Now()
		r.conns <- placed{far, r.peer}
		synctest.Wait()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.story.mu.Lock()
		defer r.story.mu.Unlock()
		if r.story.open != 0 || r.story.totals.Duration != time.Minute {
			t.Errorf("%d open after %s, it took %s", r.story.open, time.Since(start), r.story.totals.Duration)
		}
	})
}

// TestDataTimeout: the deadline of a text is data_timeout and what its bytes
// need at the least rate; a dripping client ends, a slow honest one does not.
func TestDataTimeout(t *testing.T) {
	l := Limits{DataTimeout: time.Minute, MinDataRate: 100}
	for _, one := range []struct {
		name  string
		bytes int           // a second
		most  int           // seconds
		want  string        // the reply
		took  time.Duration // about
	}{
		{"silence", 0, 600, "421 4.4.2", time.Minute},
		{"a byte a second", 1, 600, "421 4.4.2", time.Minute + 600*time.Millisecond},
		{"ninety a second", 90, 1200, "421 4.4.2", 10 * time.Minute},
		{"two hundred a second", 200, 1200, "250", 20 * time.Minute},
	} {
		t.Run(one.name, func(t *testing.T) {
			bubble(t, l, nil, func(t *testing.T, r *rig) {
				c := r.greeted()
				c.begin()
				c.say("DATA", "354")
				start := time.Now()
				var drip sync.WaitGroup
				defer drip.Wait()
				drip.Go(func() {
					for range one.most {
						if _, err := c.nc.Write([]byte(strings.Repeat("x", one.bytes))); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
					_, _ = c.nc.Write([]byte("\r\n.\r\n"))
				})
				c.want(one.want)
				if d := time.Since(start) - one.took; d < -2*time.Second || d > 2*time.Second {
					t.Errorf("it took %s", time.Since(start))
				}
				if m := r.door.all()[0]; m.ended == m.aborted {
					t.Errorf("ended %v, aborted %v", m.ended, m.aborted)
				}
				if got := r.story.told(); one.want != "250" && (len(got) != 1 || !strings.HasPrefix(got[0], "message deferred 421")) {
					t.Errorf("verdicts %v", got)
				}
			})
		})
	}
}

// TestFlood: a line without an end is skipped without being kept, and ends the
// connection (checklist 9).
func TestFlood(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	go func() {
		for range 300 {
			if _, err := c.nc.Write([]byte(strings.Repeat("A", 100000))); err != nil {
				return
			}
		}
	}()
	c.want("421 4.7.0 A command line without an end")
	c.closed()
}

// TestEndlessText: a text far beyond the limit is not read for ever.
func TestEndlessText(t *testing.T) {
	r := newRig(t, Limits{}).start()
	r.door.limit = 1000
	c := r.greeted()
	c.begin()
	c.say("DATA", "354")
	go func() {
		block := []byte(strings.Repeat("A", 1<<20))
		for range 100 {
			if _, err := c.nc.Write(block); err != nil {
				return
			}
		}
	}()
	c.want("552 5.3.4")
	c.closed()
	if got := r.story.told(); len(got) != 1 || !strings.HasPrefix(got[0], "message rejected 552") {
		t.Errorf("verdicts %v", got)
	}
}

// TestGoneInData: a client that leaves in the middle leaves no message, but a
// story.
func TestGoneInData(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	c.begin()
	c.say("DATA", "354")
	c.send("Subject: gone\r\n\r\nx\r\n")
	_ = c.nc.Close()
	r.stop()
	<-r.done
	if m := r.door.all()[0]; m.ended || !m.aborted {
		t.Errorf("ended %v, aborted %v", m.ended, m.aborted)
	}
	if got := r.story.told(); len(got) != 1 || !strings.HasPrefix(got[0], "message deferred 451 postern") {
		t.Errorf("verdicts %v", got)
	}
}

// TestStop: idle sessions end at once, a transaction may end within the grace.
func TestStop(t *testing.T) {
	bubble(t, Limits{}, func(r *rig) { r.server.grace = 10 * time.Second }, func(t *testing.T, r *rig) {
		fresh, idle, data, slow := r.dial(), r.greeted(), r.greeted(), r.greeted()
		fresh.want("220")
		data.begin()
		data.say("DATA", "354")
		data.send("x\r\n")
		slow.begin()
		synctest.Wait()
		start := time.Now()
		r.stop()
		for _, c := range []*client{fresh, idle} {
			c.want("421 4.3.2")
			c.closed()
		}
		time.Sleep(5 * time.Second)
		data.send("y\r\n.\r\n")
		data.want("250 2.0.0 Ok: queued")
		data.want("421 4.3.2")
		data.closed()
		slow.say("RCPT TO:<u@example.net>", "250")
		slow.want("421 4.3.2")
		slow.closed()
		<-r.done
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the stop took %s", d)
		}
	})
}

// TestStopEndsPolicies: the context of a policy that still runs ends with the
// grace.
func TestStopEndsPolicies(t *testing.T) {
	bubble(t, Limits{}, func(r *rig) {
		r.server.grace = 3 * time.Second
		r.handlers = append(r.handlers, hooks.Entry{Name: "slow", Timeout: time.Hour, Handler: handler{"slow", []hooks.Stage{hooks.Mail}, waitForEnd}})
	}, func(t *testing.T, r *rig) {
		c := r.greeted()
		c.send("MAIL FROM:<>\r\n")
		synctest.Wait()
		start := time.Now()
		r.stop()
		c.want("451 4.3.0")
		c.want("421 4.3.2")
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

// TestEarly: Session.Early sees what comes before the greeting and leaves it.
func TestEarly(t *testing.T) {
	set := func(r *rig) {
		r.handlers = append(r.handlers,
			hooks.Entry{Name: "watch", Mode: hooks.Shadow, Handler: handler{"watch", []hooks.Stage{hooks.Connect}, early(5 * time.Second)}},
			hooks.Entry{Name: "early", Handler: handler{"early", []hooks.Stage{hooks.Connect}, early(2 * time.Second)}})
	}
	bubble(t, Limits{}, set, func(t *testing.T, r *rig) {
		c, start := r.dial(), time.Now()
		c.want("220")
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("a quiet client waited %s", d)
		}
		c.say("EHLO x", "250")
		c.say("QUIT", "221")
	})
	bubble(t, Limits{}, set, func(t *testing.T, r *rig) {
		c, start := r.dial(), time.Now()
		c.send("EHLO x\r\n")
		c.want("554 5.7.1 You spoke too early")
		if d := time.Since(start); d != 0 {
			t.Errorf("an early talker waited %s", d)
		}
		c.want("503 5.5.1") // its EHLO was not lost
		c.say("QUIT", "221")
		c.closed()
	})
	bubble(t, Limits{}, func(r *rig) { r.handlers = nil; set(r); r.handlers = r.handlers[:1] }, func(t *testing.T, r *rig) {
		c, start := r.dial(), time.Now()
		c.want("220")
		if d := time.Since(start); d != 0 {
			t.Errorf("a shadow policy kept the client for %s", d)
		}
		c.say("EHLO x", "250")
	})
}

func tooEarly() hooks.Decision {
	return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(554, "5.7.1", "You spoke too early")}
}

// TestMillionRecipients: a client that names a million recipients gets an answer
// to each, and holds no more than those that the limit lets in (checklist 12).
func TestMillionRecipients(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 20_000
	}
	r := newRig(t, Limits{Recipients: 1000}).start()
	c := r.greeted()
	c.say("MAIL FROM:<s@client.example.org>", "250")
	go func() {
		var batch strings.Builder
		for i := range n {
			fmt.Fprintf(&batch, "RCPT TO:<r%d@example.net>\r\n", i)
			if batch.Len() > 8<<10 || i == n-1 {
				if _, err := io.WriteString(c.nc, batch.String()); err != nil {
					return
				}
				batch.Reset()
			}
		}
	}()
	for i := range n {
		want := "250 2.1.5"
		if i >= 1000 {
			want = "452 4.5.3"
		}
		if line := <-c.lines; !strings.HasPrefix(line, want) {
			t.Fatalf("recipient %d: %q", i, line)
		}
	}
	c.say("DATA", "354")
	c.send(".\r\n")
	c.want("250")
	if m := r.door.all()[0]; len(m.rcpts) != 1000 {
		t.Errorf("%d recipients", len(m.rcpts))
	}
}
