package smtpd

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// cutConn gives the server its input in pieces that end at the cuts.
type cutConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c cutConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestSmugglingDialogue plays every end-of-data variant at the engine, in every
// cut (attack 1): one message, one reply, and the session goes on behind it.
func TestSmugglingDialogue(t *testing.T) {
	const smuggled = "MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<smug@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled body\r\n.\r\n"
	for _, normalise := range []bool{false, true} {
		r := newRig(t, Limits{NormaliseLF: normalise}).start()
		for _, end := range smugglers {
			for _, cutting := range []string{"whole", "bytes", "two"} {
				before := len(r.door.all())
				c := r.greeted()
				c.begin()
				c.say("DATA", "354")
				head := "Subject: x\r\n\r\nfirst body"
				switch cutting {
				case "whole":
					c.send(head + end + smuggled)
				case "two":
					c.send(head + end[:len(end)/2])
					c.send(end[len(end)/2:])
					c.send(smuggled)
				case "bytes":
					for _, b := range []byte(head + end + smuggled) {
						c.send(string([]byte{b}))
					}
				}
				got := c.reply()
				if strings.HasPrefix(got, "250") == strings.Contains(got, "5.6.11") {
					t.Fatalf("%q %s: reply %q", end, cutting, got)
				}
				c.say("NOOP", "250 2.0.0 Ok\r\n")
				c.say("QUIT", "221")
				c.closed()
				mails := r.door.all()[before:]
				if len(mails) != 1 || mails[0].sender != "s@client.example.org" {
					t.Fatalf("%q %s: %d messages", end, cutting, len(mails))
				}
				m := mails[0]
				if bad := hasBare(string(m.text)); bad && m.refusal == nil {
					t.Fatalf("%q %s: taken with a bare line end: %q", end, cutting, m.text)
				}
			}
		}
	}
}

func hasBare(s string) bool {
	s = strings.ReplaceAll(s, "\r\n", "")
	return strings.ContainsAny(s, "\r\n\x00")
}

// TestFaultyTextIsNotSeen: what holds a fault never reaches the door, not even
// the header part of it.
func TestFaultyTextIsNotSeen(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	c.begin()
	c.say("DATA", "354")
	c.send("Subject: x\nBcc: y\r\n\r\nbody\r\n.\r\n")
	c.want("554 5.6.11")
	if m := r.door.all()[0]; len(m.text) != 0 {
		t.Errorf("the door saw %q", m.text)
	}
}

// TestLargeText: a text of many buffers with dots arrives whole.
func TestLargeText(t *testing.T) {
	r := newRig(t, Limits{}).start()
	r.door.limit = 100 << 20
	var text strings.Builder
	rnd := rand.New(rand.NewPCG(3, 4))
	for text.Len() < 3<<20 {
		text.WriteString(strings.Repeat(".", rnd.IntN(3)) + strings.Repeat("x", rnd.IntN(2000)) + "\r\n")
	}
	stuffed := strings.ReplaceAll("\r\n"+text.String(), "\r\n.", "\r\n..")[2:]
	c := r.greeted()
	c.begin()
	c.say("DATA", "354")
	c.send(stuffed + ".\r\nNOOP\r\n")
	c.want("250 2.0.0 Ok: queued")
	c.want("250 2.0.0 Ok\r\n")
	if got := string(r.door.all()[0].text); got != text.String() {
		t.Errorf("got %d bytes, want %d", len(got), text.Len())
	}
}

// TestPipelining: a batch is answered in order, in one write (RFC 2920 3.2).
func TestPipelining(t *testing.T) {
	r := newRig(t, Limits{})
	var writes atomic.Int32
	r.tap = func(c net.Conn) net.Conn { return cutConn{c, &writes} }
	r.start()
	c := r.greeted()
	writes.Store(0)
	c.send("MAIL FROM:<s@client.example.org>\r\nRCPT TO:<p1@example.net>\r\nRCPT TO:<p@foreign@bad>\r\nRCPT TO:<p2@example.net>\r\nDATA\r\n")
	for _, want := range []string{"250 2.1.0", "250 2.1.5", "501", "250 2.1.5", "354"} {
		c.want(want)
	}
	if n := writes.Load(); n != 1 {
		t.Errorf("%d writes for a batch", n)
	}
	c.send("Subject: x\r\n\r\nx\r\n.\r\nMAIL FROM:<s@client.example.org>\r\nRCPT TO:<p3@example.net>\r\nDATA\r\n")
	for _, want := range []string{"250 2.0.0 Ok: queued", "250 2.1.0", "250 2.1.5", "354"} {
		c.want(want)
	}
	c.send(".\r\nRSET\r\nQUIT\r\n")
	for _, want := range []string{"250 2.0.0 Ok: queued", "250 2.0.0 Ok", "221"} {
		c.want(want)
	}
	c.closed()

	c = r.greeted()
	c.say("MAIL FROM:<s@client.example.org>", "250")
	writes.Store(0)
	var batch strings.Builder
	for i := range 40 {
		fmt.Fprintf(&batch, "RCPT TO:<q%d@example.net>\r\n", i)
	}
	c.send(batch.String())
	for range 40 {
		c.want("250 2.1.5")
	}
	if n := writes.Load(); n > 4 {
		t.Errorf("%d writes for 40 recipients", n)
	}
}

// TestTextBehindRefusedData: a client that sends its text without waiting for
// DATA's reply is cut where DATA was refused, so that the text is not run (attack
// 3).
func TestTextBehindRefusedData(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	c.send("MAIL FROM:<s@client.example.org>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\nMAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<smug@example.net>\r\nDATA\r\nx\r\n.\r\n")
	for _, want := range []string{"250", "550", "554 5.5.1", "421 4.7.0"} {
		c.want(want)
	}
	c.closed()
	if n := len(r.door.all()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestNothingLeaks: whatever ends a transaction leaves nothing of it (checklist
// 7 and 37).
func TestNothingLeaks(t *testing.T) {
	refuseOnce := func(at hooks.Stage, verb hooks.Verb) func(*rig) {
		return func(r *rig) {
			var done atomic.Bool
			r.policy(at, func(tx *hooks.Transaction) hooks.Decision {
				if tx.Sender.Local == "first" && !done.Swap(true) {
					return hooks.Decision{Verb: verb, Edits: []hooks.Edit{{Kind: hooks.SetNote, Name: "left", Any: "behind"}}}
				}
				return hooks.Decision{}
			})
		}
	}
	const open = "MAIL FROM:<first@client.example.org> SIZE=99 BODY=8BITMIME\n< 250\nRCPT TO:<first@example.net>\n< 250\n"
	for name, one := range map[string]struct {
		dialogue string
		set      func(*rig)
	}{
		"RSET":                    {open + "RSET\n< 250", nil},
		"EHLO":                    {open + "EHLO again\n< 250", nil},
		"HELO":                    {open + "HELO again\n< 250", nil},
		"end of data":             {open + "DATA\n< 354\nfirst text\n.\n< 250", nil},
		"refused text":            {open + "DATA\n< 354\nfirst\\ntext\n.\n< 554", nil},
		"discarded text":          {open + "DATA\n< 354\nfirst text\n.\n< 250", refuseOnce(hooks.Data, hooks.Discard)},
		"rejected at data":        {open + "DATA\n< 554", refuseOnce(hooks.Data, hooks.Reject)},
		"deferred at data":        {open + "DATA\n< 451", refuseOnce(hooks.Data, hooks.Defer)},
		"rejected at mail":        {"MAIL FROM:<first@client.example.org> SIZE=99\n< 550", refuseOnce(hooks.Mail, hooks.Reject)},
		"discarded at mail":       {open + "RSET\n< 250", refuseOnce(hooks.Mail, hooks.Discard)},
		"discarded at mail, sent": {open + "DATA\n< 354\nfirst text\n.\n< 250", refuseOnce(hooks.Mail, hooks.Discard)},
		"syntax at mail":          {"MAIL FROM:<first@client.example.org> SIZE=99 FROB\n< 555", nil},
		"rejected at rcpt":        {"MAIL FROM:<first@client.example.org>\n< 250\nRCPT TO:<first@example.net>\n< 550\nRSET\n< 250", refuseOnce(hooks.Rcpt, hooks.Reject)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{Recipients: 1})
			r.policy(hooks.Data, func(tx *hooks.Transaction) hooks.Decision {
				if tx.Sender.Local == "second" && (len(tx.Notes) > 0 || len(tx.Params) > 0 || tx.Size != 0 || len(tx.Recipients) != 1 || tx.Refusal != nil) {
					t.Errorf("left behind: %+v", tx)
				}
				return hooks.Decision{}
			})
			if one.set != nil {
				one.set(r)
			}
			r.start()
			c := r.greeted()
			play(t, c, one.dialogue)
			for _, line := range []string{"RCPT TO:<x@example.net>", "DATA"} {
				c.say(line, "503 5.5.1 Send MAIL")
			}
			before := len(r.door.all())
			c.say("MAIL FROM:<second@client.example.org>", "250")
			c.say("DATA", "503 5.5.1 Send RCPT")
			c.say("RCPT TO:<second@example.net>", "250")
			c.say("DATA", "354")
			c.send("second text\r\n.\r\n")
			c.want("250")
			mails := r.door.all()
			if len(mails) != before+1 || mails[before].sender != "second@client.example.org" || strings.Join(mails[before].rcpts, " ") != "second@example.net" || string(mails[before].text) != "second text\r\n" {
				t.Errorf("%d messages, the last is %+v", len(mails)-before, mails[len(mails)-1])
			}
		})
	}
}
