package smtpd

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

const nothing = "\nNOOP\n< 250 2.0.0 Ok\r\n" // and no reply stood before it

// TestChunks: RFC 3030, the rule named for each.
func TestChunks(t *testing.T) {
	const binary = "MAIL FROM:<s@client.example.org> BODY=BINARYMIME\n< 250\n"
	for name, dialogue := range map[string]string{
		"one chunk (2)": hi + from + to + ">BDAT 5 LAST\\r\\nab\\r\\n.\n< 250 2.0.0 Ok: queued as " + nothing + bye,
		"three chunks and an empty last one (4.2)":     hi + from + to + ">BDAT 3\\r\\nabc\n< 250 2.0.0 Ok\r\n\n>BDAT 0\\r\\n\n< 250 2.0.0 Ok\r\n\n>BDAT 4 last\\r\\nd\\r\\ne\n< 250 2.0.0 Ok: queued" + nothing + bye,
		"an empty message":                             hi + from + to + "BDAT 0 LAST\n< 250 2.0.0 Ok: queued" + bye,
		"pipelined with the envelope (4.2)":            "< 220\n>EHLO x\\r\\nMAIL FROM:<s@client.example.org>\\r\\nRCPT TO:<b@example.net>\\r\\nBDAT 3\\r\\nabcBDAT 2 LAST\\r\\n\\r\\nNOOP\\r\\n\n< 250-mx\n< 250 2.1.0\n< 250 2.1.5\n< 250 2.0.0 Ok\r\n\n< 250 2.0.0 Ok: queued\n< 250 2.0.0 Ok\r\n" + bye,
		"without a size (2)":                           hi + from + to + "BDAT\n< 501 5.5.4\n<",
		"a size that is none":                          hi + from + to + "BDAT x LAST\n< 501 5.5.4\n<",
		"a negative size":                              hi + from + to + "BDAT -5 LAST\n< 501 5.5.4\n<",
		"a signed size":                                hi + from + to + "BDAT +5 LAST\n< 501 5.5.4\n<",
		"a hexadecimal size":                           hi + from + to + "BDAT 0x5 LAST\n< 501\n<",
		"a size beyond 64 bits":                        hi + from + to + "BDAT 18446744073709551621 LAST\n< 501\n<",
		"another word behind the size":                 hi + from + to + "BDAT 5 FIRST\n< 501\n<",
		"two words behind the size":                    hi + from + to + "BDAT 5 LAST LAST\n< 501\n<",
		"two blanks":                                   hi + from + to + "BDAT 5  LAST\n< 501\n<",
		"a NUL in the command: its chunk is unknown":   hi + from + to + "BDAT 5\\0\n< 501 5.5.4\n<",
		"a bare LF in the command":                     hi + from + to + ">BDAT 5\\nNOOP\\r\\n\n< 501 5.5.4\n<",
		"a tab instead of a blank":                     hi + from + to + "BDAT\t5\n< 501 5.5.4\n<",
		"a blank in front":                             hi + from + to + " BDAT 5\n< 501 5.5.4\n<",
		"a line without an end":                        hi + from + to + ">BDAT " + strings.Repeat("5", 3000) + "\n< 501\n<",
		"before EHLO: read as data":                    "< 220\n>BDAT 6\\r\\nRSET\\r\\n\n< 503 5.5.1 Say EHLO" + nothing + bye,
		"before MAIL: read as data (2)":                hi + ">BDAT 6 LAST\\r\\nRSET\\r\\n\n< 503 5.5.1 Send MAIL" + nothing + bye,
		"before RCPT: read as data (2)":                hi + from + ">BDAT 6\\r\\nRSET\\r\\n\n< 503 5.5.1 Send RCPT" + nothing + to + bye,
		"after LAST (2)":                               hi + from + to + ">BDAT 1 LAST\\r\\nx\n< 250\n>BDAT 6 LAST\\r\\nRSET\\r\\n\n< 503 5.5.1 Send MAIL" + nothing + bye,
		"no valid recipient: read as data":             hi + from + "RCPT TO:<x@elsewhere.example>\n< 550\n>BDAT 6 LAST\\r\\nRSET\\r\\n\n< 554 5.5.1" + nothing + to + bye,
		"DATA between chunks (2)":                      hi + from + to + ">BDAT 1\\r\\nx\n< 250\nDATA\n< 503 5.5.1 A message comes in chunks\n>BDAT 0 LAST\\r\\n\n< 250 2.0.0 Ok: queued" + bye,
		"MAIL, RCPT, STARTTLS, XCLIENT between them":   hi + from + to + ">BDAT 1\\r\\nx\n< 250\nMAIL FROM:<>\n< 503\nRCPT TO:<c@example.net>\n< 503 5.5.1 A message comes\nSTARTTLS\n< 503\nXCLIENT ADDR=192.0.2.1\n< 503\n>BDAT 0 LAST\\r\\n\n< 250 2.0.0 Ok: queued" + bye,
		"NOOP, HELP, VRFY between chunks (2)":          hi + from + to + ">BDAT 1\\r\\nx\n< 250\nNOOP\n< 250\nHELP\n< 214\nVRFY x\n< 252\nFROB\n< 500\n>BDAT 0 LAST\\r\\n\n< 250 2.0.0 Ok: queued" + bye,
		"RSET between chunks (2)":                      hi + from + to + ">BDAT 3\\r\\nold\n< 250\nRSET\n< 250\n>BDAT 3 LAST\\r\\nold\n< 503\n" + from + to + ">BDAT 3 LAST\\r\\nnew\n< 250 2.0.0 Ok: queued" + bye,
		"EHLO between chunks (RFC 5321 4.1.4)":         hi + from + to + ">BDAT 3\\r\\nold\n< 250\nEHLO again\n< 250\nDATA\n< 503 5.5.1 Send MAIL\n" + from + to + "DATA\n< 354\n.\n< 250" + bye,
		"BINARYMIME wants BDAT (3)":                    hi + binary + to + "DATA\n< 503 5.5.1 A message with BODY=BINARYMIME\n>BDAT 5 LAST\\r\\na\\0\\rb\\n\n< 250 2.0.0 Ok: queued" + bye,
		"BINARYMIME is not for the next message":       hi + binary + to + ">BDAT 0 LAST\\r\\n\n< 250\n" + from + to + ">BDAT 2 LAST\\r\\n\\n\\n\n< 554 5.6.11" + bye,
		"BINARYMIME is forgotten by RSET":              hi + binary + to + "RSET\n< 250\n" + from + to + "DATA\n< 354\n.\n< 250" + bye,
		"bare LF (config: bare_lf)":                    hi + from + to + ">BDAT 3 LAST\\r\\na\\nb\n< 554 5.6.11 The message has a line that ends with LF" + nothing + bye,
		"bare CR":                                      hi + from + to + ">BDAT 3 LAST\\r\\na\\rb\n< 554 5.6.11 The message has a CR" + nothing + bye,
		"NUL":                                          hi + from + to + ">BDAT 3 LAST\\r\\na\\0b\n< 554 5.6.11 The message has a NUL" + nothing + bye,
		"CR at the end of the message":                 hi + from + to + ">BDAT 2 LAST\\r\\na\\r\n< 554 5.6.11 The message has a CR" + nothing + bye,
		"CR at the end, before an empty last chunk":    hi + from + to + ">BDAT 2\\r\\na\\r\n< 250\nBDAT 0 LAST\n< 554 5.6.11 The message has a CR" + nothing + bye,
		"CRLF across two chunks":                       hi + from + to + ">BDAT 2\\r\\na\\r\n< 250\n>BDAT 0\\r\\n\n< 250\n>BDAT 2 LAST\\r\\n\\nb\n< 250 2.0.0 Ok: queued" + bye,
		"CR and text across two chunks":                hi + from + to + ">BDAT 2\\r\\na\\r\n< 250\n>BDAT 1 LAST\\r\\nb\n< 554 5.6.11 The message has a CR" + nothing + bye,
		"a fault in the first chunk is told there":     hi + from + to + ">BDAT 1\\r\\n\\n\n< 554 5.6.11\n>BDAT 6\\r\\nRSET\\r\\n\n< 503 5.5.1 Send MAIL\n>BDAT 0 LAST\\r\\n\n< 503\nDATA\n< 503 5.5.1 Send MAIL\nRCPT TO:<b@example.net>\n< 503" + nothing + bye,
		"over the size in one chunk, alive (RFC 1870)": hi + from + to + ">BDAT 1048577 LAST\\r\\n" + strings.Repeat("x", 1048577) + "\n< 552 5.3.4" + nothing + bye,
		"over the size by two chunks":                  hi + from + to + ">BDAT 1048576\\r\\n" + strings.Repeat("x", 1048576) + "\n< 250\n>BDAT 1 LAST\\r\\nx\n< 552 5.3.4" + nothing + bye,
		"the size exactly":                             hi + from + to + ">BDAT 1048576\\r\\n" + strings.Repeat("x", 1048576) + "\n< 250\n>BDAT 0 LAST\\r\\n\n< 250 2.0.0 Ok: queued" + bye,
		"a chunk beyond all bounds ends it":            hi + from + to + ">BDAT 99999999999999999 LAST\\r\\n\n< 552 5.3.4 The message is much larger\n<",
		"such a one outside a transaction too":         hi + ">BDAT 99999999999999999 LAST\\r\\n\n< 552 5.3.4\n<",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).start()
			play(t, r.dial(), strings.ReplaceAll(dialogue, "\r\n\n", "\r\n"))
		})
	}
}

// TestChunkPolicies: stage data runs at the first chunk (hooks: data), whose
// octets are read whatever it says.
func TestChunkPolicies(t *testing.T) {
	const open = hi + from + to + ">BDAT 6\\r\\nRSET\\r\\n\n"
	for name, one := range map[string]struct {
		at       hooks.Stage
		d        hooks.Decision
		dialogue string
		verdicts string
	}{
		"data reject":    {hooks.Data, hooks.Decision{Verb: hooks.Reject}, open + "< 554 5.7.1\n>BDAT 6 LAST\\r\\nRSET\\r\\n\n< 503 5.5.1" + nothing + bye, "message rejected 554 p0"},
		"data defer":     {hooks.Data, hooks.Decision{Verb: hooks.Defer}, open + "< 451 4.7.1" + nothing + bye, "message deferred 451 p0"},
		"data close":     {hooks.Data, hooks.Decision{Verb: hooks.Drop}, open + "< 421 4.7.0\n<", "message deferred 421 p0"},
		"data discard":   {hooks.Data, hooks.Decision{Verb: hooks.Discard}, open + "< 250 2.0.0 Ok\r\n\n>BDAT 2 LAST\\r\\n\\n\\0\n< 250 2.0.0 Ok: queued as" + bye, "message discarded 250 p0: "},
		"connect reject": {hooks.Connect, hooks.Decision{Verb: hooks.Reject}, "< 554\n>BDAT 6\\r\\nQUIT\\r\\n\n< 503 5.5.1\nNOOP\n< 503\nQUIT\n< 221\n<", "connection rejected 554 p0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).on(one.at, one.d).start()
			play(t, r.dial(), strings.ReplaceAll(one.dialogue, "\r\n\n", "\r\n"))
			r.stop()
			<-r.done
			if got := strings.Join(r.story.told(), "\n"); got != one.verdicts {
				t.Errorf("verdicts %q, want %q", got, one.verdicts)
			}
		})
	}
}

// TestSmugglingInChunks: every end-of-data variant inside BDAT, in every cut of
// packets and chunks: one message at most, nothing of it run, and what is taken
// is taken whole.
func TestSmugglingInChunks(t *testing.T) {
	const smuggled = "MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<smug@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled body\r\n.\r\n"
	r := newRig(t, Limits{}).start()
	for _, end := range append([]string{"\r\n.\r\n"}, smugglers...) {
		for _, cutting := range []string{"whole", "bytes", "chunks", "each"} {
			before := len(r.door.all())
			c := r.greeted()
			c.begin()
			text := "Subject: x\r\n\r\nfirst body" + end + smuggled
			at := strings.Index(text, "first body") + len("first body")
			chunks := []string{text}
			switch cutting {
			case "chunks":
				chunks = []string{text[:at+len(end)/2], text[at+len(end)/2:]}
			case "each": // a chunk of its own for every octet of the end
				chunks = append(append([]string{text[:at]}, strings.Split(end, "")...), text[at+len(end):])
			}
			got := ""
			for i, one := range chunks {
				last := ""
				if i == len(chunks)-1 {
					last = " LAST"
				}
				c.send(fmt.Sprintf("BDAT %d%s\r\n", len(one), last))
				if cutting == "bytes" {
					for _, b := range []byte(one) {
						c.send(string([]byte{b}))
					}
				} else {
					c.send(one)
				}
				if reply := c.reply(); !strings.HasPrefix(got, "554 5.6.11") {
					got = reply
				} else if !strings.HasPrefix(reply, "503 5.5.1") {
					t.Fatalf("%q %s: %q behind a refused chunk", end, cutting, reply)
				}
			}
			if bad := hasBare(text); bad != strings.HasPrefix(got, "554 5.6.11") || !bad && !strings.HasPrefix(got, "250 2.0.0 Ok: queued") {
				t.Fatalf("%q %s: reply %q", end, cutting, got)
			}
			c.say("NOOP", "250 2.0.0 Ok\r\n")
			c.say("QUIT", "221")
			c.closed()
			mails := r.door.all()[before:]
			if len(mails) != 1 || mails[0].sender != "s@client.example.org" {
				t.Fatalf("%q %s: %d messages", end, cutting, len(mails))
			}
			if m := mails[0]; m.refusal == nil && string(m.text) != text {
				t.Fatalf("%q %s: taken as %q", end, cutting, m.text)
			} else if m.refusal != nil && hasBare(strings.TrimSuffix(string(m.text), "\r")) {
				t.Fatalf("%q %s: the door saw %q", end, cutting, m.text)
			}
		}
	}
}

// TestNoTextLeaks: after each way a message can end, nothing of it is in the next
// one: not its text, its recipients, its parameters or its faults.
func TestNoTextLeaks(t *testing.T) {
	const old = "MAIL FROM:<old@client.example.org> BODY=BINARYMIME SMTPUTF8 RET=FULL ENVID=old PRDR\n< 250\nRCPT TO:<old@example.net> NOTIFY=NEVER\n< 250\n"
	const plain = "MAIL FROM:<old@client.example.org> RET=FULL\n< 250\nRCPT TO:<old@example.net> NOTIFY=NEVER\n< 250\n"
	for name, before := range map[string]string{
		"a refused first chunk":         plain + ">BDAT 4\\r\\nold\\n\n< 554\n",
		"a refused later chunk":         plain + ">BDAT 3\\r\\nold\n< 250\n>BDAT 4\\r\\nold\\0\n< 554\n>BDAT 3\\r\\nold\n< 503\n>BDAT 3 LAST\\r\\nold\n< 503\n",
		"a refused last chunk":          plain + ">BDAT 3\\r\\nold\n< 250\n>BDAT 4 LAST\\r\\nold\\r\n< 554\n",
		"a refused end of chunks":       old + ">BDAT 6 LAST\\r\\nrefuse\n< 550\n",
		"a refused end of data":         plain + "DATA\n< 354\nold\\nold\n.\n< 554\n",
		"an end that intake refused":    plain + "DATA\n< 354\nrefuse\n.\n< 550\n",
		"a taken message":               old + ">BDAT 4 LAST\\r\\nold\\r\n< 353\n< 250\n< 250\n",
		"RSET between chunks":           old + ">BDAT 4\\r\\nold\\r\n< 250\nRSET\n< 250\n",
		"EHLO between chunks":           old + ">BDAT 4\\r\\nold\\r\n< 250\nEHLO again\n< 250\n",
		"HELO between chunks":           old + ">BDAT 4\\r\\nold\\r\n< 250\nHELO again\n< 250\n",
		"VRFY, then RSET":               old + "VRFY ü SMTPUTF8\n< 252\nRSET\n< 250\n",
		"a BDAT of a bad order, RSET":   "MAIL FROM:<old@client.example.org> BODY=BINARYMIME\n< 250\n>BDAT 3\\r\\nold\n< 503\nRSET\n< 250\n",
		"too large":                     plain + ">BDAT 1048577\\r\\n" + strings.Repeat("x", 1048577) + "\n< 552\n",
		"DATA of BINARYMIME, then RSET": old + "DATA\n< 503\nRSET\n< 250\n",
		"XFORWARD from a stranger":      "XFORWARD NAME=old\n< 550\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.door.answer = func(m *shelved) intake.Answer {
				switch {
				case string(bytes.TrimSpace(m.text)) == "refuse":
					return intake.Answer{Reply: message.NewReply(550, "5.7.1", "ü no")}
				case m.refusal != nil:
					return intake.Answer{Reply: *m.refusal}
				}
				return intake.Answer{Reply: message.NewReply(250, "2.0.0", "ü")}
			}
			r.start()
			c := r.greeted()
			play(t, c, before+"RCPT TO:<b@example.net>\n< 503\nDATA\n< 503\n>BDAT 3\\r\\nold\n< 503")
			play(t, c, "MAIL FROM:<new@client.example.org>\n< 250\nRCPT TO:<ü@example.net>\n< 553\nRCPT TO:<new@example.net>\n< 250\nDATA\n< 354\nnew\n.\n< 250 2.0.0 ??\r\n")
			play(t, c, from+to+">BDAT 2 LAST\\r\\na\\n\n< 554 5.6.11")
			mails := r.door.all()
			m := mails[len(mails)-2]
			if string(m.text) != "new\r\n" || m.sender != "new@client.example.org" || strings.Join(m.rcpts, " ") != "new@example.net" || len(m.tx.Params) != 0 || len(m.tx.Recipients[0].Params) != 0 || m.tx.Session.Forwarded != nil {
				t.Errorf("%+v: %q", m, m.text)
			}
			for _, m := range mails {
				if m.ended == m.aborted {
					t.Errorf("ended %v, aborted %v: %q", m.ended, m.aborted, m.text)
				}
			}
		})
	}
}

// TestChunksAfterTLS: STARTTLS forgets a transaction with its text parameters.
func TestChunksAfterTLS(t *testing.T) {
	w := newWhole(t, Limits{})
	c := w.dial()
	c.say("EHLO x", "250")
	c.say("MAIL FROM:<s@x.example> BODY=BINARYMIME SMTPUTF8", "250")
	c.say("RCPT TO:<t@example.net>", "250")
	c.secure()
	c.say("EHLO x", "250")
	c.send("BDAT 6\r\nQUIT\r\n")
	c.want("503 5.5.1 Send MAIL")
	c.begin()
	c.send("BDAT 2 LAST\r\na\n")
	c.want("554 5.6.11")
	c.begin()
	c.send("BDAT 18 LAST\r\nSubject: x\r\n\r\nlast")
	c.want("250 2.0.0 Ok: queued as")
	if got := w.texts[len(w.texts)-1]; !strings.HasSuffix(got, "\r\nSubject: x\r\n\r\nlast") {
		t.Errorf("not byte for byte: %q", got)
	}
	c.say("MAIL FROM:<s@x.example> BODY=BINARYMIME", "250")
	c.say("RCPT TO:<t@example.net>", "250")
	c.send("BDAT 20 LAST\r\nSubject: x\r\n\r\n\r\n\n\r\x00b")
	c.want("250 2.0.0 Ok: queued as")
	if got := w.texts[len(w.texts)-1]; !strings.HasSuffix(got, "\r\nSubject: x\r\n\r\n\r\n\n\r\x00b") {
		t.Errorf("not byte for byte: %q", got)
	}
}

// TestChunkErrors: of a message's chunks that were on their way only the first
// refusal counts; those of no message do.
func TestChunkErrors(t *testing.T) {
	r := newRig(t, Limits{Errors: 3}).start()
	c := r.greeted()
	c.begin()
	c.send("BDAT 1\r\n\n" + strings.Repeat("BDAT 1\r\nx", 50) + "BDAT 0 LAST\r\nNOOP\r\n")
	c.want("554 5.6.11")
	for range 51 {
		c.want("503 5.5.1 Send MAIL")
	}
	c.want("250 2.0.0 Ok\r\n")
	c.send("BDAT 1 LAST\r\nxBDAT 1 LAST\r\nxNOOP\r\n")
	c.want("503")
	c.want("503")
	c.want("421 4.7.0 Too many errors")
	c.closed()
}

// TestManySmallChunks: a million chunks of one octet cost what their octets cost:
// no memory that grows, one write for many replies.
func TestManySmallChunks(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 10_000
	}
	r := newRig(t, Limits{}).start()
	r.door.limit = int64(n)
	c := r.greeted()
	c.begin()
	done := make(chan struct{})
	go func() {
		defer close(done)
		batch := strings.Repeat("BDAT 1\r\nx", 1000)
		for range n / 1000 {
			if _, err := io.WriteString(c.nc, batch); err != nil {
				t.Error(err)
				return
			}
		}
		_, _ = io.WriteString(c.nc, "BDAT 0 LAST\r\n")
	}()
	for range n {
		if line := <-c.lines; line != "250 2.0.0 Ok\r\n" {
			t.Fatalf("%q", line)
		}
	}
	c.want("250 2.0.0 Ok: queued as")
	<-done
	if m := r.door.all()[0]; len(m.text) != n {
		t.Errorf("%d octets", len(m.text))
	}
	if got := len(r.story.refusals); got != 0 {
		t.Errorf("%d records", got)
	}
}

// TestChunkDeadline: a text in chunks has the time that a text has, however it is
// cut; a client that drips chunks, or a chunk, ends (checklist 8 and 10).
func TestChunkDeadline(t *testing.T) {
	for name, drip := range map[string]string{"a chunk at a time": "BDAT 1\r\nx", "an octet at a time": ""} {
		bubble(t, Limits{DataTimeout: 10 * time.Minute, CommandTimeout: 5 * time.Minute, MinDataRate: 1000}, nil, func(t *testing.T, r *rig) {
			c := r.greeted()
			c.begin()
			start := time.Now()
			if drip == "" {
				c.send("BDAT 100000\r\n")
			}
			end := make(chan struct{})
			go func() {
				defer close(end)
				for range 1000 {
					if _, err := io.WriteString(c.nc, max(drip, "x")); err != nil {
						return
					}
					time.Sleep(4 * time.Minute)
				}
			}()
			got := c.reply()
			for strings.HasPrefix(got, "250") {
				got = c.reply()
			}
			if d := time.Since(start); !strings.HasPrefix(got, "421 4.4.2") || d > 11*time.Minute {
				t.Errorf("%s: %q after %s", name, got, d)
			}
			c.closed()
			_ = c.nc.Close()
			<-end
			if told := r.story.told(); len(told) != 1 || !strings.HasPrefix(told[0], "message deferred 421") {
				t.Errorf("%s: verdicts %q", name, told)
			}
		})
	}
}

// TestChunkCutOff: who goes away in a chunk, or between two, leaves no message.
func TestChunkCutOff(t *testing.T) {
	for _, sent := range []string{"BDAT 10\r\nhalf", "BDAT 4\r\nhalf", "BDAT 4\r\nhalfBDAT 10 LAST\r\nx"} {
		r := newRig(t, Limits{}).start()
		c := r.greeted()
		c.begin()
		c.send(sent)
		_ = c.nc.Close()
		for range c.lines {
		}
		r.stop()
		<-r.done
		m := r.door.all()[0]
		if m.ended || !m.aborted {
			t.Errorf("%q: ended %v, aborted %v", sent, m.ended, m.aborted)
		}
		if told := strings.Join(r.story.told(), " "); told != "message deferred 451 postern" {
			t.Errorf("%q: verdicts %q", sent, told)
		}
	}
}

// FuzzChunks holds the framing against a literal reading: the text is the octets
// of the chunks, faults are those of the whole, however packets and chunks cut it.
func FuzzChunks(f *testing.F) {
	for _, s := range append([]string{"", "Subject: x\r\n\r\nBDAT 3\r\nabc", "\r\n.\r\n", "\r", "\n"}, smugglers...) {
		f.Add([]byte(s), uint64(len(s)), false, false)
		f.Add([]byte("a\r\nb"+s+"\r"+s), uint64(7), true, true)
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64, normalise, binary bool) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		in := []byte("EHLO x\r\nMAIL FROM:<a@b.example>")
		if binary {
			in = append(in, " BODY=BINARYMIME"...)
		}
		in = append(in, "\r\nRCPT TO:<c@example.net>\r\n"...)
		for rest := text; ; {
			n := rnd.IntN(len(rest) + 1)
			if len(rest) > 3000 {
				n = len(rest)
			}
			last := n == len(rest)
			in = fmt.Appendf(in, "bdat %d", n)
			if last {
				in = append(in, " LAST"...)
			}
			in = append(append(in, "\r\n"...), rest[:n]...)
			if rest = rest[n:]; last {
				break
			}
		}
		r := newRig(t, Limits{NormaliseLF: normalise})
		r.handlers = []hooks.Entry{{Name: "rule", Handler: handler{"rule", []hooks.Stage{hooks.Rcpt}, rule}}}
		out := r.direct(&pieces{b: append(in, "QUIT\r\n"...), rand: rnd})
		mails := r.door.all()
		if len(mails) != 1 || !bytes.HasSuffix(out, []byte("221 2.0.0 Bye\r\n")) {
			t.Fatalf("%q: %d messages, %q", text, len(mails), out)
		}

		bare := literal(text, normalise)
		switch m := mails[0]; {
		case binary:
			if m.refusal != nil || !m.ended || !bytes.Equal(m.text, text) {
				t.Fatalf("%q came as %q, %v", text, m.text, m.refusal)
			}
		case bare == nil:
			if m.refusal == nil {
				t.Fatalf("%q was taken", text)
			}
		case m.refusal != nil || !m.ended || !bytes.Equal(m.text, bare):
			t.Fatalf("%q came as %q, %v, want %q", text, m.text, m.refusal, bare)
		}
	})
}

// literal is the text as it is to come through, nil where it must not.
func literal(b []byte, normalise bool) []byte {
	out := []byte{}
	for i, c := range b {
		switch {
		case c == 0, c == '\r' && (i+1 == len(b) || b[i+1] != '\n'), c == '\n' && !normalise && (i == 0 || b[i-1] != '\r'):
			return nil
		case c == '\n' && (i == 0 || b[i-1] != '\r'):
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}
