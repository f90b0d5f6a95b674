package smtpd

import (
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// TestExtensions: the parameters of RFC 3461 and RFC 6531, the rule named for
// each.
func TestExtensions(t *testing.T) {
	mail := func(params, want string) string {
		return "MAIL FROM:<a@b.example> " + params + "\n< " + want + "\nRSET\n< 250\n"
	}
	rcpt := func(params, want string) string { return "RCPT TO:<b@example.net> " + params + "\n< " + want + "\n" }
	const wide = "MAIL FROM:<ü@bücher.example> smtputf8\n< 250\n"
	for name, dialogue := range map[string]string{
		"RET (RFC 3461 4.3)":                  hi + mail("RET=FULL", "250") + mail("ret=hdrs", "250") + mail("RET=FROB", "501 5.5.4 RET") + mail("RET", "501") + mail("RET=FULL RET=HDRS", "501 5.5.4 A parameter is given twice") + bye[1:],
		"ENVID (4.4)":                         hi + mail("ENVID=QQ314159", "250") + mail("ENVID=a+20b+3D", "250") + mail("ENVID=a+2", "501 5.5.4 ENVID") + mail("ENVID=+0D+0A", "501") + mail("ENVID=+C3+BC", "501") + mail("ENVID="+strings.Repeat("x", 100), "250") + mail("ENVID="+strings.Repeat("x", 101), "501") + mail("ENVID", "501") + bye[1:],
		"NOTIFY (4.1)":                        hi + from + rcpt("NOTIFY=NEVER", "250") + rcpt("NOTIFY=success,Failure,DELAY", "250") + rcpt("NOTIFY=NEVER,SUCCESS", "501 5.5.4 NOTIFY") + rcpt("NOTIFY=FROB", "501") + rcpt("NOTIFY=SUCCESS,", "501") + rcpt("NOTIFY", "501") + rcpt("NOTIFY=DELAY,DELAY,DELAY,DELAY", "501") + bye[1:],
		"ORCPT (4.2)":                         hi + from + rcpt("ORCPT=rfc822;b+2Bx@example.net", "250") + rcpt("ORCPT=x400;/S=a/", "501 5.5.4") + rcpt("ORCPT=b@example.net", "501 5.5.4 ORCPT") + rcpt("ORCPT=;b@example.net", "501") + rcpt("ORCPT=rfc822;", "501") + rcpt("ORCPT=rfc822;a+0Ab", "501") + rcpt("ORCPT=rfc822;a+b", "501") + rcpt("ORCPT=rfc822;"+strings.Repeat("x", 493), "250") + rcpt("ORCPT=rfc822;"+strings.Repeat("x", 494), "501") + bye[1:],
		"ORCPT in UTF-8 (RFC 6533 3)":         hi + from + "RCPT TO:<b@example.net> ORCPT=utf-8;ü@example.net\n< 501\nRSET\n< 250\n" + wide + rcpt("ORCPT=utf-8;ü@example.net", "250") + rcpt("ORCPT=rfc822;ü@example.net", "501") + rcpt("ORCPT=utf-8;ü+20", "501") + rcpt("NOTIFY=ü", "501") + bye[1:],
		"they belong to their verbs":          hi + "MAIL FROM:<> ORCPT=rfc822;a\n< 555\n" + from + rcpt("ENVID=1", "555") + bye[1:],
		"a UTF-8 sender (RFC 6531 3.7.1)":     hi + "MAIL FROM:<ü@client.example.org>\n< 553 5.6.7\nMAIL FROM:<a@bücher.example>\n< 553 5.6.7\n" + wide + to + bye[1:],
		"a UTF-8 recipient":                   hi + from + "RCPT TO:<josé@example.net>\n< 553 5.6.7\nRCPT TO:<a@bücher.example>\n< 553 5.6.7\nRSET\n< 250\n" + wide + "RCPT TO:<josé@example.net>\n< 250" + bye,
		"the second transaction says it anew": hi + wide + "RSET\n< 250\n" + from + "RCPT TO:<josé@example.net>\n< 553 5.6.7" + bye,
		"SMTPUTF8 takes no value (3.4)":       hi + mail("SMTPUTF8=yes", "501 5.5.4") + mail("SMTPUTF8=", "501") + mail("SMTPUTF8 SMTPUTF8", "501") + bye[1:],
		"bytes that are no UTF-8":             hi + "MAIL FROM:<a\\x\\x@client.example.org> SMTPUTF8\n< 501 5.1.7\n" + wide + "RCPT TO:<\\x@example.net>\n< 501 5.1.3" + bye,
		"overlong UTF-8":                      hi + "MAIL FROM:<a\xc0\xaf@client.example.org> SMTPUTF8\n< 501 5.1.7" + bye,
		"domains that are none (RFC 5891 4)":  hi + "MAIL FROM:<a@ü\u200d.example> SMTPUTF8\n< 501 5.1.7\n" + wide + "RCPT TO:<b@example＠.net>\n< 501 5.1.3\nRCPT TO:<b@-ü.net>\n< 501\nRCPT TO:<b@ü/.net>\n< 501" + bye,
		"a look-alike is another domain":      hi + wide + "RCPT TO:<b@ехаmрlе.net>\n< 550 5.7.1" + bye,
		"replies in UTF-8 (3.7.4.2)":          hi + wide + "RCPT TO:<nein@example.net>\n< 550 5.7.1 Grüße\r\n" + "RSET\n< 250\n" + from + "RCPT TO:<nein@example.net>\n< 550 5.7.1 Gr????e\r\n" + bye[1:],
		"VRFY (3.7.4.2)":                      hi + "VRFY ü\n< 553 5.6.7\nVRFY ü SMTPUTF8\n< 252\nVRFY \\x SMTPUTF8\n< 501\nVRFY b SMTPUTF8\n< 252" + bye,
		"PRDR: one recipient":                 hi + "MAIL FROM:<> PRDR\n< 250\n" + to + "DATA\n< 354\n.\n< 353 A reply\n< 250 2.0.0 <b@example.net> Ok: queued as\n< 250 2.0.0 Ok: queued as" + bye,
		"PRDR: every RCPT, by BDAT (4.4)":     hi + "MAIL FROM:<> PRDR\n< 250\n" + to + "RCPT TO:<c@example.net>\n< 250\nRCPT TO:<x@x.example>\n< 550\n>BDAT 0\\r\\n\n< 250\n>BDAT 0 LAST\\r\\n\n< 353\n< 250 2.0.0 <b@example.net> \n< 250 2.0.0 <c@example.net> \n< 250 2.0.0 Ok: queued" + bye,
		"PRDR: refused as a whole":            hi + "MAIL FROM:<> PRDR\n< 250\n" + to + "DATA\n< 354\n\\n\n.\n< 554 5.6.11" + nothing + bye[1:],
		"PRDR is not for the next message":    hi + "MAIL FROM:<> PRDR\n< 250\nRSET\n< 250\n" + from + to + "DATA\n< 354\n.\n< 250" + nothing + bye[1:],
		"PRDR takes no value":                 hi + mail("PRDR=1", "501") + bye[1:],
		"XFORWARD from a stranger":            hi + "XFORWARD NAME=a\n< 550 5.7.0" + bye,
		"LHLO is LMTP's":                      hi + "LHLO x\n< 500" + bye,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).policy(hooks.Rcpt, func(tx *hooks.Transaction) hooks.Decision {
				if tx.Current.Address.Local == "nein" {
					return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.1", "Grüße")}
				}
				return hooks.Decision{}
			}).start()
			play(t, r.dial(), strings.ReplaceAll(dialogue, "\r\n\n", "\r\n"))
		})
	}
}

// TestUTF8Envelope: domains come to the door with A-labels, and as they were
// given beside; the two spellings are one recipient.
func TestUTF8Envelope(t *testing.T) {
	r := newRig(t, Limits{})
	r.listener.RelayFrom = append(r.listener.RelayFrom, r.listener.XclientFrom...)
	r.peer = "127.0.0.1:9"
	r.start()
	c := r.greeted()
	c.say("MAIL FROM:<ü@Größe.example> SMTPUTF8 RET=hdrs ENVID=a+20", "250")
	for _, to := range []string{"ö@BÜCHER.example", "ö@xn--bcher-kva.example", "ö@example.net"} {
		c.say("RCPT TO:<"+to+"> NOTIFY=never ORCPT=utf-8;ö@x", "250")
	}
	c.say("DATA", "354")
	c.send("Subject: ü\r\n\r\n.\r\n")
	c.want("250")
	m := r.door.all()[0]
	tx := m.tx
	if m.sender != "ü@xn--gre-6ka8i.example" || tx.Given.Domain != "größe.example" && tx.Given.Domain != "Größe.example" || string(m.text) != "Subject: ü\r\n\r\n" {
		t.Errorf("sender %s, given %s: %q", m.sender, tx.Given, m.text)
	}
	if got := strings.Join(m.rcpts, " "); got != "ö@xn--bcher-kva.example ö@example.net" {
		t.Errorf("recipients %s", got)
	}
	if got := tx.Recipients[0].Given.Domain; !strings.HasSuffix(got, "CHER.example") && !strings.HasSuffix(got, "cher.example") || got == tx.Recipients[0].Address.Domain {
		t.Errorf("given %s", got)
	}
	if got := tx.Params; len(got) != 3 || got[1].Value != "HDRS" || got[2].Value != "a+20" {
		t.Errorf("parameters %v", got)
	}
	if got := tx.Recipients[1].Params; len(got) != 2 || got[0].Value != "NEVER" || got[1].Value != "utf-8;ö@x" {
		t.Errorf("parameters %v", got)
	}
}

// TestLimitsLine: RFC 9422 section 3.
func TestLimitsLine(t *testing.T) {
	r := newRig(t, Limits{Recipients: 7, Messages: 3}).start()
	c := r.dial()
	c.want("220")
	if got := c.say("EHLO x", "250"); !strings.Contains(got, "\r\n250-LIMITS RCPTMAX=7 MAILMAX=3\r\n") {
		t.Errorf("%q", got)
	}
}

// TestPRDRDiffers: each recipient gets its own reply, then the whole.
func TestPRDRDiffers(t *testing.T) {
	r := newRig(t, Limits{Errors: 2})
	r.door.answer = func(m *shelved) intake.Answer {
		a := intake.Answer{Reply: message.NewReply(250, "2.0.0", "Ok: queued as X")}
		if len(m.tx.Recipients) > 1 {
			a.Each = map[*hooks.Recipient]message.Reply{m.tx.Recipients[1]: message.NewReply(452, "4.2.2", "Full")}
		}
		return a
	}
	r.start()
	c := r.greeted()
	play(t, c, "MAIL FROM:<> PRDR\n< 250\n"+to+"RCPT TO:<c@example.net>\n< 250\n"+to+"DATA\n< 354\n.\n< 353\n< 250 2.0.0 <b@example.net> Ok\n< 452 4.2.2 <c@example.net> Full\n< 250 2.0.0 <b@example.net>\n< 250 2.0.0 Ok: queued as X"+nothing+"MAIL FROM:<>\n< 250\n"+to+"DATA\n< 354\n.\n< 250 2.0.0 Ok: queued as X"+bye)
}

// TestLMTP: RFC 2033, the rule named for each.
func TestLMTP(t *testing.T) {
	const hi = "< 220 mx.example.net LMTP\nLHLO client.example.org\n< 250-mx.example.net\n"
	each := "< 250 2.0.0 <b@example.net> Ok: queued as \n< 250 2.0.0 <C@example.net> Ok: queued as \n< 250 2.0.0 <b@example.net> Ok: queued as "
	const three = to + "RCPT TO:<C@EXAMPLE.net>\n< 250\nRCPT TO:<nobody@example.net>\n< 550\n" + to
	for name, dialogue := range map[string]string{
		"LHLO alone (4.1)":                  "< 220 mx.example.net LMTP\r\nEHLO x\n< 500\nHELO x\n< 500\nMAIL FROM:<>\n< 503 5.5.1 Say LHLO first\nLHLO\n< 501\nLHLO x\n< 250\nHELP\n< 214-2.0.0 Commands: LHLO MAIL" + bye,
		"a reply for each RCPT (4.2)":       hi + from + three + "DATA\n< 354\n.\n" + each + nothing + bye[1:],
		"by BDAT, a reply for each at LAST": hi + from + three + ">BDAT 2\\r\\n\\r\\n\n< 250 2.0.0 Ok\r\n>BDAT 0 LAST\\r\\n\n" + each + nothing + bye[1:],
		"a refused text, for each (4.2)":    hi + from + three + "DATA\n< 354\n\\n\n.\n< 554 5.6.11 <b@example.net> The\n< 554 5.6.11 <C@example.net> The\n< 554 5.6.11 <b@example.net> The" + nothing + bye[1:],
		"a refused last chunk, for each":    hi + from + three + ">BDAT 1 LAST\\r\\n\\n\n< 554 5.6.11 <b@\n< 554 5.6.11 <C@\n< 554 5.6.11 <b@" + nothing + bye[1:],
		"a refused chunk before, once":      hi + from + three + ">BDAT 1\\r\\n\\n\n< 554 5.6.11 The\n>BDAT 0 LAST\\r\\n\n< 503" + nothing + bye[1:],
		"no valid recipient is 503 (4.2)":   hi + from + "RCPT TO:<nobody@example.net>\n< 550\nDATA\n< 503 5.5.1 No valid\n>BDAT 6 LAST\\r\\nRSET\\r\\n\n< 503 5.5.1 No valid" + nothing + bye[1:],
		"no recipient is 503":               hi + from + "DATA\n< 503" + bye,
		"PRDR is not offered":               hi + "MAIL FROM:<> PRDR\n< 555" + bye,
		"a second LHLO resets":              hi + from + to + "LHLO x\n< 250\nRCPT TO:<b@example.net>\n< 503" + bye,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{Errors: 5})
			r.listener.Protocol = "lmtp"
			r.start()
			play(t, r.dial(), strings.ReplaceAll(dialogue, "\r\n\n", "\r\n"))
		})
	}
}

// TestLMTPEach: replies that differ, and their errors; the id stands in each.
func TestLMTPEach(t *testing.T) {
	r := newRig(t, Limits{})
	r.listener.Protocol = "lmtp"
	r.door.answer = func(m *shelved) intake.Answer {
		return intake.Answer{Reply: message.NewReply(250, "2.0.0", "Ok: queued as %s", m.tx.ID), Each: map[*hooks.Recipient]message.Reply{
			m.tx.Recipients[0]: message.NewReply(550, "5.7.1", "no"),
		}}
	}
	r.policy(hooks.Rcpt, func(tx *hooks.Transaction) hooks.Decision {
		if tx.Current.Address.Local == "drop" {
			return hooks.Decision{Verb: hooks.Discard}
		}
		return hooks.Decision{}
	}).start()
	c := r.dial()
	c.want("220 mx.example.net LMTP\r\n")
	if got := c.say("LHLO x", "250"); !strings.Contains(got, "250-CHUNKING\r\n") || strings.Contains(got, "PRDR") {
		t.Errorf("LHLO: %q", got)
	}
	play(t, c, from+to+"RCPT TO:<drop@example.net>\n< 250\nRCPT TO:<c@example.net>\n< 250\nDATA\n< 354\n.\n< 550 5.7.1 <b@example.net> no")
	id := r.door.all()[0].tx.ID
	c.want("250 2.0.0 <drop@example.net> Ok: queued as " + id + "\r\n")
	c.want("250 2.0.0 <c@example.net> Ok: queued as " + id + "\r\n")
	c.say("QUIT", "221")
	c.closed()
}

// TestXforward: Postfix's XFORWARD_README. It tells the story, and nothing else.
func TestXforward(t *testing.T) {
	var seen []string
	r := newRig(t, Limits{}).policy(hooks.Mail, func(tx *hooks.Transaction) hooks.Decision {
		s := tx.Session
		seen = append(seen, s.Forwarded.String()+"|"+s.Client.String()+"|"+s.Helo)
		return hooks.Decision{}
	})
	r.peer = "127.0.0.1:9"
	r.start()
	c := r.greeted()
	play(t, c, "XFORWARD NAME=spike.example ADDR=IPv6:2001:DB8::1 port=4711\n< 250 2.0.0\nxforward HELO=a+20b PROTO=ESMTP IDENT=4B0C1 source=remote\n< 250\nXFORWARD NAME=[unavailable]\n< 250")
	play(t, c, "XFORWARD\n< 501\nXFORWARD NAME\n< 501\nXFORWARD NAME=\n< 501\nXFORWARD NAME=+0A\n< 501\nXFORWARD FROB=1\n< 501 5.5.4 Bad FROB\nXFORWARD PORT=x\n< 501\nXFORWARD SOURCE=x\n< 501\nXFORWARD NAME=a NAME=b\n< 501\nXFORWARD NAME="+strings.Repeat("x", 256)+"\n< 501")
	play(t, c, from+"XFORWARD NAME=x\n< 503\nRSET\n< 250\n"+from+"RSET\n< 250\nXFORWARD NAME=gone\n< 250\nEHLO x\n< 250\n"+from)
	want := []string{"addr=2001:db8::1 port=4711 proto=ESMTP helo=a b ident=4B0C1 source=REMOTE|127.0.0.1:9|client.example.org", "|127.0.0.1:9|client.example.org", "|127.0.0.1:9|x"}
	if got := strings.Join(seen, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("policies saw\n%s", got)
	}
	if got := strings.Join(r.story.runs, "\n"); got != "mail xforward "+strings.SplitN(want[0], "|", 2)[0] {
		t.Errorf("the story has %q", got)
	}
}

// FuzzXforward: whatever comes, values are printable, bounded ASCII.
func FuzzXforward(f *testing.F) {
	for _, s := range []string{"NAME=a ADDR=192.0.2.1 PORT=25", "HELO=+20", "SOURCE=local", "ADDR=IPV6:::1", "NAME=[UNAVAILABLE]", "PROTO==", "PORT=99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var x hooks.Forwarded
		if parseXforward(s, &x) != nil {
			return
		}
		for _, v := range []string{x.Name, x.Addr, x.Port, x.Proto, x.Helo, x.Ident, x.Source} {
			if !printable(v) || len(v) > maxXtext {
				t.Errorf("%q: %q", s, v)
			}
		}
	})
}
