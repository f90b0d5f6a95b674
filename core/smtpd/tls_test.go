package smtpd

import (
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// withTLS lets a rig offer STARTTLS with a certificate of its own.
func withTLS(t *testing.T, r *rig) *rig {
	t.Helper()
	certs, err := gate.NewCertificates("mx.example.net", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.listener.StartTLS = true
	r.server.tls = certs.Config
	return r
}

// secure says STARTTLS and does the client's part.
func (c *client) secure() {
	c.t.Helper()
	c.say("STARTTLS", "220 2.0.0")
	c.handshake()
}

func (c *client) handshake() {
	c.t.Helper()
	for range c.lines { // the reader of the clear has ended
		c.t.Fatal("a reply too many")
	}
	t := tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.nc = t
	c.listen()
}

// TestStartTLS: RFC 3207: offered once, forgets what was said in clear.
func TestStartTLS(t *testing.T) {
	var seen *hooks.TLSFact
	r := withTLS(t, newRig(t, Limits{})).policy(hooks.TLS, func(tx *hooks.Transaction) hooks.Decision {
		seen = tx.Session.TLS
		if tx.Session.Helo != "" || tx.ID != "" {
			t.Errorf("at tls: %+v", tx.Session)
		}
		return hooks.Decision{}
	}).start()
	c := r.greeted()
	if got := c.say("EHLO x", "250"); !strings.Contains(got, "STARTTLS\r\n") {
		t.Errorf("not offered: %q", got)
	}
	c.begin()
	c.say("STARTTLS now", "501 5.5.4")
	c.secure()
	for line, want := range map[string]string{"MAIL FROM:<a@b.example>": "503 5.5.1 Say EHLO", "DATA": "503", "RCPT TO:<b@example.net>": "503", "STARTTLS": "503"} {
		c.say(line, want)
	}
	if got := c.say("EHLO x", "250"); strings.Contains(got, "STARTTLS") {
		t.Errorf("offered again: %q", got)
	}
	c.say("STARTTLS", "503 5.5.1 TLS is active")
	c.say("DATA", "503 5.5.1 Send MAIL")
	c.begin()
	c.say("DATA", "354")
	c.send("x\r\n.\r\n")
	c.want("250 2.0.0 Ok: queued")
	c.say("QUIT", "221")
	if seen == nil || seen.Version != "TLS 1.3" || seen.Cipher == "" || seen.Client != "" {
		t.Errorf("stage tls saw %+v", seen)
	}
}

// TestStartTLSInjection: what came in clear behind STARTTLS is not run (attack 2).
func TestStartTLSInjection(t *testing.T) {
	r := withTLS(t, newRig(t, Limits{})).start()
	c := r.greeted()
	c.send("STARTTLS\r\nEHLO injected\r\nMAIL FROM:<injected@evil.example>\r\nRCPT TO:<b@example.net>\r\n")
	c.want("220 2.0.0")
	c.handshake()
	if got := c.say("EHLO client.example.org", "250-mx.example.net"); !strings.Contains(got, "PIPELINING") {
		t.Errorf("the first reply in TLS: %q", got)
	}
	c.say("RCPT TO:<b@example.net>", "503 5.5.1 Send MAIL")
}

// TestHandshakeFails: garbage, or silence, ends that connection only.
func TestHandshakeFails(t *testing.T) {
	r := withTLS(t, newRig(t, Limits{})).start()
	other, c := r.greeted(), r.greeted()
	c.say("STARTTLS", "220")
	go func() { _, _ = c.nc.Write([]byte(strings.Repeat("EHLO in the clear\r\n", 5))) }()
	c.listen()
	for range c.lines { // whatever TLS says, then the end
	}
	other.say("NOOP", "250")

	bubble(t, Limits{CommandTimeout: time.Minute}, func(r *rig) { withTLS(t, r) }, func(t *testing.T, r *rig) {
		c := r.greeted()
		c.say("STARTTLS", "220")
		start := time.Now()
		c.listen()
		for range c.lines {
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("silence ended after %s", d)
		}
		synctest.Wait()
	})
}

// TestRefusedAtTLS: a refusal after the handshake answers every command but
// QUIT (RFC 3207 section 4.1).
func TestRefusedAtTLS(t *testing.T) {
	r := withTLS(t, newRig(t, Limits{})).on(hooks.TLS, hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(554, "5.7.0", "Not secure enough")}).start()
	c := r.greeted()
	c.secure()
	c.say("EHLO x", "554 5.7.0 Not secure enough")
	c.say("MAIL FROM:<>", "554 5.7.0")
	c.say("QUIT", "221")
	if got := r.story.told(); len(got) != 1 || got[0] != "connection rejected 554 p0" {
		t.Errorf("verdicts %v", got)
	}
}

// TestXclient: the facts of the client behind a proxy, a session that starts
// anew, and no rights but those of the new address.
func TestXclient(t *testing.T) {
	var connects []string
	var last *hooks.Session
	r := newRig(t, Limits{})
	r.peer = "127.0.0.1:99"
	rules, errs := gate.ParseRules(strings.NewReader("203.0.113.66:deny\n:allow\n"))
	if errs != nil {
		t.Fatal(errs)
	}
	r.listener.Rules = rules
	r.listener.RelayFrom = r.listener.XclientFrom
	r.policy(hooks.Connect, func(tx *hooks.Transaction) hooks.Decision {
		last = tx.Session
		connects = append(connects, tx.Session.Client.String()+" "+tx.Session.Host(t.Context())+" "+tx.Session.Helo+" "+tx.Session.User)
		if len(tx.Session.Notes) > 0 {
			t.Errorf("notes of the client before: %v", tx.Session.Notes)
		}
		if tx.Session.Client.Addr().String() == "203.0.113.9" {
			return hooks.Decision{Verb: hooks.Reject}
		}
		return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.SetConnNote, Name: "seen", Any: true}}}
	}).start()
	c := r.greeted()
	play(t, c, from+"RCPT TO:<x@elsewhere.example>\n< 250\nXCLIENT ADDR=192.0.2.7\n< 503 5.5.1\nRSET\n< 250")
	play(t, c, "XCLIENT ADDR=192.0.2.7 PORT=1234 name=Client.Example HELO=its+2Bname LOGIN=joe+20d PROTO=ESMTP DESTADDR=198.51.100.9 DESTPORT=26\n< 220 mx.example.net ESMTP\nMAIL FROM:<>\n< 503 5.5.1 Say EHLO")
	if last.Local.String() != "198.51.100.9:26" || last.Relaying || !last.Authenticated {
		t.Errorf("session %+v", last)
	}
	play(t, c, "XCLIENT ADDR=IPV6:2001:db8::7 NAME=[TEMPUNAVAIL]\n< 220\nEHLO x\n< 250\n"+from+"RCPT TO:<x@elsewhere.example>\n< 550 5.7.1\nRSET\n< 250")
	play(t, c, "XCLIENT ADDR=[UNAVAILABLE]\n< 220\nEHLO x\n< 250\n"+from+"RCPT TO:<x@elsewhere.example>\n< 550 5.7.1\nRSET\n< 250")
	for _, bad := range []string{"ADDR=1.2.3", "ADDR=2001:db8::7%eth0", "ADDR", "=x", "PORT=65536", "PROTO=LMTP", "NAME=a..b", "HELO=a+0Ab", "HELO=a+0", "HELO=a+zz", "HELO=", "FROB=1", "ADDR=192.0.2.1 ADDR=192.0.2.2", "LOGIN=" + strings.Repeat("x", 256)} {
		c.say("XCLIENT "+bad, "501 5.5.4")
	}
	c.say("XCLIENT", "501 5.5.4")
	play(t, c, "XCLIENT ADDR=203.0.113.9\n< 554 5.7.1 Refused by policy\nEHLO x\n< 503 5.5.1\nQUIT\n< 221\n<")
	want := []string{"127.0.0.1:99 localhost  ", "192.0.2.7:1234 client.example its+name joe d", "[2001:db8::7]:0   ", "0.0.0.0:0   ", "203.0.113.9:0   "}
	if strings.Join(connects, "|") != strings.Join(want, "|") {
		t.Errorf("connect saw %q", connects)
	}
	c = r.greeted()
	play(t, c, "XCLIENT ADDR=203.0.113.66\n< 554 5.7.1 mx.example.net connections from your address\n<")
}

// TestXclientAfterRefusal: a refused session stays one: XCLIENT is no way out.
func TestXclientAfterRefusal(t *testing.T) {
	r := newRig(t, Limits{}).on(hooks.Connect, hooks.Decision{Verb: hooks.Reject})
	r.peer = "127.0.0.1:99"
	r.start()
	play(t, r.dial(), "< 554\nXCLIENT ADDR=192.0.2.7\n< 503"+bye)
}

func FuzzXclient(f *testing.F) {
	for _, s := range []string{"ADDR=192.0.2.7 PORT=1", "NAME=[UNAVAILABLE] HELO=a+2Bb", "LOGIN=+00", "ADDR=IPV6:::1", "X=+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		x, bad := parseXclient(s)
		if bad != nil {
			return
		}
		for _, v := range []*string{x.Name, x.Helo, x.Login, x.Proto} {
			if v != nil && strings.ContainsFunc(*v, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q: value %q", s, *v)
			}
		}
		if x.Addr.Zone() != "" || x.Addr.Is4In6() {
			t.Errorf("%q: address %s", s, x.Addr)
		}
	})
}
