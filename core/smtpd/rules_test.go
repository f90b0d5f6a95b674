package smtpd

import (
	"strings"
	"testing"
)

// TestRules: the rules of the dialogue that the tables of each extension leave
// out, by RFC and section. See also TestDialogues (RFC 5321), TestChunks (RFC
// 3030), TestExtensions (RFC 3461, RFC 6531, PRDR), TestLMTP (RFC 2033),
// TestAuthDialogues (RFC 4954), TestStartTLS and TestTLSRequired (RFC 3207).
func TestRules(t *testing.T) {
	domain := strings.Repeat(strings.Repeat("d", 61)+".", 4) // 248 octets
	for name, dialogue := range map[string]string{
		// RFC 5321
		"RFC 5321 2.3.5 a host name may have hyphens and digits":  "< 220\nEHLO 1-2.example-3\n< 250" + bye,
		"RFC 5321 3.3 MAIL again after a message":                 hi + from + to + "DATA\n< 354\n.\n< 250\n" + from + to + "DATA\n< 354\n.\n< 250" + bye,
		"RFC 5321 3.5.3 VRFY does not say who exists":             hi + "VRFY b@example.net\n< 252 2.1.5\nVRFY nobody@example.net\n< 252 2.1.5" + bye,
		"RFC 5321 3.6 a relay is not a gateway for strangers":     hi + from + "RCPT TO:<b@elsewhere.example>\n< 550 5.7.1" + bye,
		"RFC 5321 3.8 QUIT in a transaction":                      hi + from + to + "QUIT\n< 221 2.0.0\n<",
		"RFC 5321 4.1.1.1 HELO then EHLO":                         "< 220\nHELO x\n< 250 mx\nEHLO x\n< 250-mx\nHELO x\n< 250 mx" + bye,
		"RFC 5321 4.1.1.3 the same recipient twice":               hi + from + to + to + "DATA\n< 354\n.\n< 250" + bye,
		"RFC 5321 4.1.1.4 the end of data ends the transaction":   hi + from + to + "DATA\n< 354\n.\n< 250\nDATA\n< 503 5.5.1\n" + to[:len("RCPT TO:<b@example.net>")] + "\n< 503 5.5.1" + bye,
		"RFC 5321 4.1.1.4 text at once behind DATA is no command": hi + from + to + "DATA\nQUIT\n.\n< 354\n< 250" + nothing + bye[1:],
		"RFC 5321 4.1.1.9 NOOP keeps the transaction":             hi + from + "NOOP\n< 250\n" + to + "NOOP x y\n< 250\nDATA\n< 354\n.\n< 250" + bye,
		"RFC 5321 4.1.4 HELP, VRFY, EXPN keep the transaction":    hi + from + "HELP\n< 214\nVRFY x\n< 252\nEXPN x\n< 502\n" + to + "DATA\n< 354\n.\n< 250" + bye,
		"RFC 5321 4.1.4 RSET before anything":                     "< 220\nRSET\n< 250\nQUIT\n< 221\n<",
		"RFC 5321 4.1.4 QUIT before EHLO":                         "< 220\nQUIT\n< 221\n<",
		"RFC 5321 4.1.4 nothing is lost by a wrong command":       hi + from + to + "FROB\n< 500\nEXPN\n< 502\nRCPT TO:<x\n< 501\nDATA x\n< 501\nDATA\n< 354\n.\n< 250" + bye,
		"RFC 5321 4.2.5 after QUIT nothing is run":                hi + "QUIT\n< 221\n<",
		"RFC 5321 4.5.1 postmaster, quoted and in any case":       hi + from + "RCPT TO:<\"postmaster\"@example.net>\n< 250\nRCPT TO:<POSTMASTER@example.net>\n< 250" + bye,
		"RFC 5321 4.5.2 a line of one dot more":                   hi + from + to + "DATA\n< 354\n..\n...\n.x\n.\n< 250" + bye,
		"RFC 5321 4.5.3.1.1 a local part beyond 64 is let pass":   hi + from + "RCPT TO:<" + strings.Repeat("l", 65) + "@example.net>\n< 250" + bye,
		"RFC 5321 4.5.3.1.2 a domain of 255 octets":               hi + "MAIL FROM:<a@" + domain + "example>\n< 250\nRSET\n< 250\nMAIL FROM:<a@" + domain + "eexample>\n< 501" + bye,
		"RFC 5321 4.5.3.1.4 a command line of 512 octets":         hi + "NOOP " + strings.Repeat("x", 505) + "\n< 250" + bye,
		"RFC 5321 4.5.3.1.6 a text line of 1000 octets and more":  hi + from + to + "DATA\n< 354\n" + strings.Repeat("x", 998) + "\n" + strings.Repeat("y", 60000) + "\n.\n< 250" + bye,
		"RFC 5321 7.8 8-bit without BODY is taken":                hi + from + to + "DATA\n< 354\nSubject: \u00fc\n\n\u00e9\n.\n< 250" + bye,

		// RFC 1870
		"RFC 1870 6.1 SIZE=0 and 20 digits":               hi + "MAIL FROM:<> SIZE=0\n< 250\nRSET\n< 250\nMAIL FROM:<> SIZE=00000000000000000001\n< 250" + bye,
		"RFC 1870 6.1 SIZE=-1, signs, blanks, fractions":  hi + "MAIL FROM:<> SIZE=-1\n< 501 5.5.4\nMAIL FROM:<> SIZE=+1\n< 501\nMAIL FROM:<> SIZE= 1\n< 501\nMAIL FROM:<> SIZE=1.0\n< 501\nMAIL FROM:<> SIZE=0x10\n< 501" + bye,
		"RFC 1870 6.1 a refused SIZE leaves no sender":    hi + "MAIL FROM:<a@b.example> SIZE=99999999\n< 552 5.3.4\n" + "RCPT TO:<b@example.net>\n< 503" + bye,
		"RFC 1870 6.2 SIZE is for MAIL alone":             hi + from + "RCPT TO:<b@example.net> SIZE=1\n< 555 5.5.4" + bye,
		"RFC 1870 6.3 a text beyond its SIZE is taken":    hi + "MAIL FROM:<> SIZE=1\n< 250\n" + to + "DATA\n< 354\nmore than one octet\n.\n< 250" + bye,
		"RFC 1870 6.4 the limit is that of the text":      hi + from + to + "DATA\n< 354\n" + strings.Repeat(strings.Repeat(".", 1022)+"\n", 1024) + ".\n< 250" + bye,
		"RFC 6152 3 BODY is 7BIT or 8BITMIME, no other":   hi + "MAIL FROM:<> BODY=7BIT\n< 250\nRSET\n< 250\nMAIL FROM:<> BODY=8BITMIME\n< 250\nRSET\n< 250\nMAIL FROM:<> BODY\n< 501\nMAIL FROM:<> BODY=8BIT\n< 501 5.5.4" + bye,
		"RFC 2920 3.1 MAIL, RCPT, DATA in one group":      "< 220\n>EHLO x\\r\\n\n< 250\n>MAIL FROM:<a@b.example>\\r\\nRCPT TO:<b@example.net>\\r\\nRCPT TO:<c@example.net>\\r\\nDATA\\r\\n\n< 250 2.1.0\n< 250 2.1.5\n< 250 2.1.5\n< 354\n.\n< 250" + bye,
		"RFC 2920 3.1 RSET, MAIL in one group":            hi + from + ">RSET\\r\\nMAIL FROM:<a@b.example>\\r\\nRCPT TO:<b@example.net>\\r\\n\n< 250\n< 250\n< 250" + bye,
		"RFC 2920 3.1 QUIT behind the dot":                hi + from + to + "DATA\n< 354\n>x\\r\\n.\\r\\nQUIT\\r\\n\n< 250\n< 221\n<",
		"RFC 2920 3.2 one bad recipient of a group":       hi + ">MAIL FROM:<a@b.example>\\r\\nRCPT TO:<nobody@example.net>\\r\\nRCPT TO:<b@example.net>\\r\\nDATA\\r\\n\n< 250\n< 550 5.1.1\n< 250\n< 354\n.\n< 250" + bye,
		"RFC 2920 3.2 a group whose MAIL is refused":      hi + ">MAIL FROM:<a@b.example> SIZE=x\\r\\nRCPT TO:<b@example.net>\\r\\nDATA\\r\\n\n< 501\n< 503\n< 503" + bye,
		"RFC 3030 2 BDAT 0 is a chunk":                    hi + from + to + ">BDAT 0\\r\\nBDAT 0\\r\\nBDAT 0 LAST\\r\\n\n< 250\n< 250\n< 250 2.0.0 Ok: queued" + bye,
		"RFC 3030 2 the words of a chunk are no commands": hi + from + to + ">BDAT 10 LAST\\r\\nQUIT\\r\\n.\\r\\nx\n< 250 2.0.0 Ok: queued" + nothing + bye[1:],
		"RFC 3030 3 BODY=BINARYMIME with SIZE":            hi + "MAIL FROM:<> BODY=BINARYMIME SIZE=2\n< 250\n" + to + ">BDAT 2 LAST\\r\\n\\n\\r\n< 250 2.0.0 Ok: queued" + bye,
		"RFC 3207 4 STARTTLS takes no parameter":          hi + "STARTTLS x\n< 501 5.5.4" + bye,
		"RFC 3461 4 NOTIFY and ORCPT together, any order": hi + from + "RCPT TO:<b@example.net> ORCPT=rfc822;a@b NOTIFY=FAILURE\n< 250\nRCPT TO:<c@example.net> NOTIFY=FAILURE ORCPT=rfc822;a@b\n< 250" + bye,
		"RFC 3461 5.1 the parameters end with RSET":       hi + "MAIL FROM:<> RET=FULL ENVID=x\n< 250\nRSET\n< 250\nMAIL FROM:<> ENVID=y\n< 250" + bye,
		"RFC 6531 3.1 SMTPUTF8 and 8BITMIME together":     hi + "MAIL FROM:<> SMTPUTF8 BODY=8BITMIME\n< 250" + bye,
		"RFC 6531 3.4 UTF-8 in a text without SMTPUTF8":   hi + from + to + "DATA\n< 354\nSubject: \u00fc\n\n.\n< 250" + bye,
		"RFC 4954 3 AUTH where it is not offered":         hi + "AUTH PLAIN =\n< 502 5.5.1" + bye,
		"XCLIENT_README only for those it is offered to":  hi + "XCLIENT ADDR=192.0.2.9\n< 550 5.7.0\nXFORWARD ADDR=192.0.2.9\n< 550 5.7.0" + bye,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).start()
			play(t, r.dial(), strings.ReplaceAll(dialogue, "\r\n\n", "\r\n"))
		})
	}
}

// TestLimitsAreKept: RFC 9422 section 4: what LIMITS says is what happens.
func TestLimitsAreKept(t *testing.T) {
	r := newRig(t, Limits{Recipients: 2, Messages: 2}).start()
	c := r.dial()
	c.want("220")
	if got := c.say("EHLO x", "250"); !strings.Contains(got, "LIMITS RCPTMAX=2 MAILMAX=2\r\n") {
		t.Errorf("%q", got)
	}
	const three = "RCPT TO:<a@example.net>\n< 250\nRCPT TO:<b@example.net>\n< 250\nRCPT TO:<c@example.net>\n< 452 4.5.3\nDATA\n< 354\n.\n< 250\n"
	play(t, c, from+three+from+three+"MAIL FROM:<>\n< 421 4.7.0\n<")
}

// TestEnhancedStatus: RFC 2034 section 3: every reply of class 2, 4 and 5 but the
// greeting and EHLO's has a status of its own class.
func TestEnhancedStatus(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	c.send("FROB\r\n\r\nNO\x00OP\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<x@x.example>\r\nRCPT TO:<>\r\nRCPT TO:<b@example.net> X=y\r\n" +
		"BDAT 1\r\nxMAIL FROM:<>\r\nBDAT 0 LAST\r\nVRFY x\r\nEXPN x\r\nHELP\r\nNOOP\r\nRSET\r\nSTARTTLS\r\nAUTH PLAIN\r\nXCLIENT ADDR=1.2.3.4\r\nEHLO\r\nDATA\r\nBDAT x\r\n")
	n := 0
	for got := c.reply(); got != ""; got = c.reply() {
		n++
		for line := range strings.Lines(got) {
			if len(line) < 9 || line[4] != line[0] || line[5] != '.' {
				t.Errorf("%q", line)
			}
		}
	}
	if n != 23 {
		t.Errorf("%d replies", n)
	}
}
