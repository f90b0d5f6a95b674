package smtpd

import (
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// play runs a dialogue: lines that begin with "<" are what a reply must begin
// with, "<" alone is the end, those with ">" are sent without a CRLF, all others
// with one.
func play(t *testing.T, c *client, dialogue string) {
	t.Helper()
	dialogue = strings.Replace(strings.TrimSpace(dialogue), "\n\nQUIT", "\nQUIT", 1)
	for line := range strings.SplitSeq(dialogue, "\n") {
		line = strings.TrimLeft(line, "\t")
		if want, ok := strings.CutPrefix(line, "<"); ok {
			c.want(strings.TrimSpace(want))
			continue
		}
		line = strings.NewReplacer(`\0`, "\x00", `\r`, "\r", `\n`, "\n", `\a`, "\a", `\x`, "\xff").Replace(line)
		if raw, ok := strings.CutPrefix(line, ">"); ok {
			c.send(raw)
			continue
		}
		c.send(line + "\r\n")
	}
}

// opening is what dialogues begin with.
const (
	hi   = "< 220 mx.example.net ESMTP\nEHLO client.example.org\n< 250-mx.example.net\n"
	from = "MAIL FROM:<s@client.example.org>\n< 250 2.1.0\n"
	to   = "RCPT TO:<b@example.net>\n< 250 2.1.5\n"
	bye  = "\nQUIT\n< 221 2.0.0\n<"
)

// TestDialogues: conduct on the wire, the rule named for each.
func TestDialogues(t *testing.T) {
	for name, dialogue := range map[string]string{
		"a message (RFC 5321 3.3)":                     hi + from + to + "DATA\n< 354\nSubject: x\n\nhello\n..dot\n.\n< 250 2.0.0 Ok: queued as " + bye,
		"an empty message":                             hi + from + to + "DATA\n< 354\n.\n< 250 2.0.0" + bye,
		"HELO is one line (4.1.1.1)":                   "< 220\nHELO client.example.org\n< 250 mx.example.net\r\n" + from + to + bye,
		"EHLO without a name (4.1.1.1)":                "< 220\nEHLO\n< 501 5.5.4\nHELO \n< 501 5.5.4" + bye,
		"EHLO with a control character":                "< 220\nEHLO a\\ab\n< 501 5.5.4\nMAIL FROM:<>\n< 503" + bye,
		"EHLO with 8-bit":                              "< 220\nEHLO a\\xb\n< 501 5.5.4" + bye,
		"EHLO of 256 octets":                           "< 220\nEHLO " + strings.Repeat("a", 256) + "\n< 501" + bye,
		"EHLO of 255 octets":                           "< 220\nEHLO " + strings.Repeat("a", 255) + "\n< 250" + bye,
		"EHLO with literals (4.1.3)":                   "< 220\nEHLO [192.0.2.7]\n< 250\nEHLO [IPv6:2001:db8::7]\n< 250" + bye,
		"a refused EHLO keeps the transaction (4.1.4)": hi + from + "EHLO\n< 501\n" + to + bye,
		"MAIL before EHLO (4.1.4)":                     "< 220\nMAIL FROM:<a@b.example>\n< 503 5.5.1 Say EHLO" + bye,
		"RCPT before EHLO":                             "< 220\nRCPT TO:<a@example.net>\n< 503 5.5.1 Say EHLO" + bye,
		"commands that need no EHLO (4.1.4)":           "< 220\nNOOP\n< 250 2.0.0\nRSET\n< 250 2.0.0\nHELP\n< 214-2.0.0\nVRFY x\n< 252 2.1.5\nEXPN x\n< 502 5.5.1" + bye,
		"RCPT before MAIL (4.1.4)":                     hi + "RCPT TO:<b@example.net>\n< 503 5.5.1 Send MAIL" + bye,
		"DATA before MAIL":                             hi + "DATA\n< 503 5.5.1 Send MAIL" + bye,
		"DATA before RCPT":                             hi + from + "DATA\n< 503 5.5.1 Send RCPT" + bye,
		"DATA without a valid recipient (3.3)":         hi + from + "RCPT TO:<x@elsewhere.example>\n< 550 5.7.1\nDATA\n< 554 5.5.1\n" + to + "DATA\n< 354\n.\n< 250" + bye,
		"nested MAIL (4.1.4)":                          hi + from + "MAIL FROM:<b@b.example>\n< 503 5.5.1 A message is under way\n" + to + bye,
		"DATA with an argument":                        hi + from + to + "DATA now\n< 501 5.5.4\nDATA\n< 354\n.\n< 250" + bye,
		"RSET and QUIT with an argument (4.1.1.5)":     hi + "RSET x\n< 501 5.5.4\nQUIT x\n< 501 5.5.4" + bye,
		"RCPT after RSET (4.1.1.5)":                    hi + from + to + "RSET\n< 250 2.0.0\nRCPT TO:<b@example.net>\n< 503" + bye,
		"RCPT after a second EHLO (4.1.4)":             hi + from + to + "EHLO again.example\n< 250\nRCPT TO:<b@example.net>\n< 503" + bye,
		"NOOP with a text (4.1.1.9)":                   hi + "NOOP hello there\n< 250 2.0.0\nNOOP \n< 250" + bye,
		"HELP for a verb (4.1.1.8)":                    hi + "HELP mail\n< 214 2.0.0 Syntax: MAIL FROM\nHELP me\n< 214-2.0.0 Commands: EHLO HELO MAIL" + bye,
		"VRFY without an address":                      hi + "VRFY\n< 501 5.5.4" + bye,
		"an unknown command (4.2.4)":                   hi + "FROBNICATE now\n< 500 5.5.2\nFROBNICATEFROBNICATE\n< 500 5.5.2\n\\x\n< 500 5.5.2" + bye,
		"empty lines":                                  hi + "\n< 500 5.5.2\n   \n< 500 5.5.2" + bye,
		"verbs have no case (2.4)":                     hi + "mail from:<a@client.example.org>\n< 250\nrCpT tO:<b@example.net>\n< 250\nrset\n< 250" + bye,
		"a blank behind the path":                      hi + "MAIL FROM:<a@client.example.org> \n< 250" + bye,
		"a blank before the path":                      hi + "MAIL FROM: <a@client.example.org>\n< 250\nRCPT TO: <b@example.net>\n< 250" + bye,
		"null sender, null recipient (4.5.5)":          hi + "MAIL FROM:<>\n< 250\nRCPT TO:<>\n< 501 5.1.3" + bye,
		"<postmaster> (4.5.1)":                         hi + from + "RCPT TO:<PostMaster>\n< 250\nRCPT TO:<postmaster@example.net>\n< 250" + bye,
		"a sender without a domain":                    hi + "MAIL FROM:<postmaster>\n< 553 5.1.7\nMAIL FROM:<joe>\n< 501 5.1.7" + bye,
		"no path":                                      hi + "MAIL\n< 501 5.5.4\nMAIL FROM:\n< 501 5.1.7\nMAIL TO:<a@b.example>\n< 501 5.5.4\nMAIL FROM<a@b.example>\n< 501 5.5.4\nMAIL FROM:a@b.example\n< 501 5.1.7" + bye,
		"bad senders (4.1.2)":                          hi + "MAIL FROM:<a@b.example\n< 501 5.1.7\nMAIL FROM:<a@b@c.example>\n< 501 5.1.7\nMAIL FROM:<a@b.example>x\n< 501 5.1.7" + bye,
		"bad recipients (4.1.2)":                       hi + from + "RCPT\n< 501\nRCPT TO:<a@b@example.net>\n< 501 5.1.3\nRCPT TO:<@example.net>\n< 501\nRCPT TO:<a@>\n< 501\nRCPT TO:<a@example..net>\n< 501\nRCPT TO:<a b@example.net>\n< 501\nRCPT TO:<\"a@example.net>\n< 501" + bye,
		"control characters in an address":             hi + "MAIL FROM:<a\\ab@client.example.org>\n< 501" + bye,
		"literals (4.1.3)":                             hi + "MAIL FROM:<a@[192.0.2.1]>\n< 250\nRSET\n< 250\nMAIL FROM:<a@[IPv6:2001:db8::1]>\n< 250" + bye,
		"a source route is dropped (4.1.1.3)":          hi + from + "RCPT TO:<@relay.example:b@example.net>\n< 250" + bye,
		"no relaying (7.1)":                            hi + from + "RCPT TO:<a%elsewhere.example@elsewhere.example>\n< 550 5.7.1\nRCPT TO:<\"a@example.net\"@elsewhere.example>\n< 550 5.7.1" + bye,
		"no such recipient":                            hi + from + "RCPT TO:<nobody@example.net>\n< 550 5.1.1" + bye,
		"8-bit addresses (RFC 6531 3.2)":               hi + "MAIL FROM:<\u00fc@client.example.org>\n< 553 5.6.7\n" + from + "RCPT TO:<jos\u00e9@example.net>\n< 553 5.6.7\nRCPT TO:<a\\x@example.net>\n< 501 5.1.3" + bye,
		"SIZE (RFC 1870 6)":                            hi + "MAIL FROM:<a@b.example> SIZE=1000\n< 250\nRSET\n< 250\nMAIL FROM:<a@b.example> SIZE=1048577\n< 552 5.3.4\nMAIL FROM:<a@b.example> SIZE=1048576\n< 250" + bye,
		"SIZE that is none":                            hi + "MAIL FROM:<> SIZE=abc\n< 501 5.5.4\nMAIL FROM:<> SIZE=-1\n< 501 5.5.4\nMAIL FROM:<> SIZE\n< 501 5.5.4\nMAIL FROM:<> SIZE=\n< 501 5.5.4\nMAIL FROM:<> SIZE=99999999999999999999999\n< 552 5.3.4\nMAIL FROM:<> SIZE=1 SIZE=2\n< 501 5.5.4" + bye,
		"BODY (RFC 6152)":                              hi + "MAIL FROM:<> BODY=FROB\n< 501 5.5.4\nMAIL FROM:<> body=8bitmime\n< 250\nRSET\n< 250\nMAIL FROM:<> BODY=7BIT SIZE=3\n< 250" + bye,
		"unknown parameters (4.1.1.11)":                hi + "MAIL FROM:<> FROB=1\n< 555 5.5.4\nMAIL FROM:<> FROB\n< 555 5.5.4\nMAIL FROM:<> NOTIFY=NEVER\n< 555\nMAIL FROM:<> AUTH=<>\n< 555\n" + from + "RCPT TO:<b@example.net> RET=FULL\n< 555\nRCPT TO:<b@example.net> SMTPUTF8\n< 555\nRCPT TO:<b@example.net> SIZE=1\n< 555" + bye,
		"bad parameters (4.1.2)":                       hi + "MAIL FROM:<> =1\n< 501 5.5.4\nMAIL FROM:<> SIZE=1=2\n< 501 5.5.4\nMAIL FROM:<> -A=1\n< 501" + bye,
		"bare LF in a command (2.3.8)":                 hi + "NOOP\\nRSET\n< 501 5.5.2\nNOOP\n< 250" + bye,
		"bare CR in a command":                         hi + "NOOP\\rRSET\n< 501 5.5.2\nNOOP\\r\n< 501 5.5.2" + bye,
		"NUL in a command":                             hi + "NO\\0OP\n< 501 5.5.2\nMAIL FROM:<a\\0b@client.example.org>\n< 501" + bye,
		"bare LF in EHLO":                              "< 220\nEHLO a.example\\nMAIL FROM:<a@b.example>\n< 501 5.5.2\nMAIL FROM:<a@b.example>\n< 503" + bye,
		"a long line (4.5.3.1.4)":                      hi + "NOOP " + strings.Repeat("x", 2043) + "\n< 250\nNOOP " + strings.Repeat("x", 2044) + "\n< 500 5.5.2\nNOOP " + strings.Repeat("x", 100000) + "\n< 500 5.5.2\nNOOP\n< 250" + bye,
		"a path of 3000 octets (4.5.3.1.3)":            hi + from + "RCPT TO:<" + strings.Repeat("l", 3000) + "@example.net>\n< 500" + bye,
		"a local part of 64 (4.5.3.1.1)":               hi + from + "RCPT TO:<" + strings.Repeat("l", 64) + "@example.net>\n< 250" + bye,
		"STARTTLS where it is not offered":             hi + "STARTTLS\n< 502 5.5.1" + bye,
		"XCLIENT from a stranger":                      hi + "XCLIENT ADDR=192.0.2.9\n< 550 5.7.0" + bye,
		"verbs of later versions are unknown":          hi + "ETRN x\n< 500\nTURN\n< 500\nBURL imap://x LAST\n< 500" + bye,
		"a bare LF in the text (config: bare_lf)":      hi + from + to + "DATA\n< 354\none\\ntwo\n.\n< 554 5.6.11\nNOOP\n< 250" + bye,
		"a bare CR in the text":                        hi + from + to + "DATA\n< 354\none\\rtwo\n.\n< 554 5.6.11" + bye,
		"a NUL in the text":                            hi + from + to + "DATA\n< 354\none\\0two\n.\n< 554 5.6.11" + bye,
		"HTTP":                                         "< 220\nPOST / HTTP/1.1\n< 421 5.7.0\n<",
		"HTTP in the middle":                           hi + from + "get / HTTP/1.0\n< 421 5.7.0\n<",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).start()
			play(t, r.dial(), dialogue)
		})
	}
}

// TestCapabilities: what EHLO lists, in the clear, to a stranger and to a client
// that may use XCLIENT.
func TestCapabilities(t *testing.T) {
	const plain = "250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-LIMITS RCPTMAX=1000\r\n"
	r := newRig(t, Limits{}).start()
	c := r.dial()
	c.want("220")
	if got := c.say("EHLO x", "250"); got != plain+"250 PRDR\r\n" {
		t.Errorf("EHLO: %q", got)
	}
	r.peer = "127.0.0.1:99"
	c = r.dial()
	c.want("220")
	if got := c.say("EHLO x", "250"); got != plain+"250-PRDR\r\n250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n" {
		t.Errorf("EHLO: %q", got)
	}
}

// TestEnvelope: what comes to the door.
func TestEnvelope(t *testing.T) {
	var params []hooks.Param
	r := newRig(t, Limits{}).policy(hooks.Data, func(tx *hooks.Transaction) hooks.Decision {
		params = tx.Params
		if !tx.Recipients[0].Ours || tx.Size != 77 || tx.Current != nil {
			t.Errorf("at data: %+v", tx)
		}
		return hooks.Decision{}
	}).start()
	c := r.greeted()
	c.say(`MAIL FROM:<"s p"@Client.example.org> size=77 body=8bitmime`, "250")
	for _, to := range []string{"<b@Example.NET>", `<"x@y"@example.net>`, "<postmaster>", "<b@example.net>", "<@r.example,@q.example:c@example.net>"} {
		c.say("RCPT TO:"+to, "250")
	}
	c.say("DATA", "354")
	c.send("Subject: x\r\n\r\n..\r\n.\r\n")
	id := c.want("250 2.0.0 Ok: queued as ")
	m := r.door.all()[0]
	if got := strings.Join(m.rcpts, " "); got != `b@example.net "x@y"@example.net postmaster@example.net c@example.net` {
		t.Errorf("recipients %s", got)
	}
	if m.sender != `"s p"@client.example.org` || string(m.text) != "Subject: x\r\n\r\n.\r\n" || !strings.Contains(id, m.tx.ID) {
		t.Errorf("sender %s, text %q, reply %q for %s", m.sender, m.text, id, m.tx.ID)
	}
	if len(params) != 2 || params[0] != (hooks.Param{Key: "SIZE", Value: "77"}) || params[1] != (hooks.Param{Key: "BODY", Value: "8BITMIME"}) {
		t.Errorf("parameters %v", params)
	}
}

// TestEchoIsClean: replies hold printable ASCII only (attack 14).
func TestEchoIsClean(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	for _, line := range []string{"FROB\x1b[31m\x9b", "VRFY \x1b]0;x\a", "MAIL FROM:<\x1b[2J@x.example>", "HELP \x1b", "MAIL FROM:<> \x1b=1", "MAIL FROM:<> A" + strings.Repeat("A", 900)} {
		c.send(line + "\r\n")
		for i, b := range []byte(c.reply()) {
			if (b < ' ' || b > '~') && b != '\r' && b != '\n' {
				t.Errorf("%q: byte %#x at %d of the reply", line, b, i)
			}
		}
	}
}
