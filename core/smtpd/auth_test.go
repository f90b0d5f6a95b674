package smtpd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// users is a password file: anna and bert, whose password is "secret", bert's
// with SCRAM of 4096 iterations.
const users = "anna:$2y$04$LwmVYEPJyX1srZI2gteI4.RYOmS5uC6maKRlJFeKOPIszOcwts7bO\n" +
	"bert:$scram-sha-256$4096$c2FsdHNhbHRzYWx0$UdmKRUjfgm0U6mfMFFn/tGaEoriNY2YlrUES5w+4kaA=$ZH6upP+u0RFc4kNZYflxg+txwr3oIlzDM/JXePM5XCY=\n"

// passwordFile writes them.
func passwordFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withAuth lets a rig offer TLS and AUTH.
func withAuth(t *testing.T, r *rig) *rig {
	t.Helper()
	a, err := auth.New(auth.Options{Files: []string{passwordFile(t)}})
	if err != nil {
		t.Fatal(err)
	}
	r.server.auth, r.listener.Auth = a, auth.Mechanisms()
	return withTLS(t, r)
}

// b64 is what stands in an exchange.
func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// inTLS is a client that has said EHLO, STARTTLS and EHLO.
func (r *rig) inTLS() *client {
	c := r.greeted()
	c.secure()
	c.say("EHLO client.example.org", "250")
	return c
}

// TestAuthDialogues: RFC 4954, the section named for each; all in TLS.
func TestAuthDialogues(t *testing.T) {
	right, wrong := "AUTH PLAIN "+b64("\x00anna\x00secret"), "AUTH PLAIN "+b64("\x00anna\x00wrong")
	for name, dialogue := range map[string]string{
		"PLAIN with an initial response (4)":            right + "\n< 235 2.7.0",
		"PLAIN without (4)":                             "AUTH PLAIN\n< 334 \r\n" + b64("\x00anna\x00secret") + "\n< 235 2.7.0",
		"mechanisms have no case (4)":                   "auth plain " + b64("\x00anna\x00secret") + "\n< 235 2.7.0",
		"LOGIN":                                         "AUTH LOGIN\n< 334 VXNlcm5hbWU6\n" + b64("anna") + "\n< 334 UGFzc3dvcmQ6\n" + b64("secret") + "\n< 235 2.7.0",
		"LOGIN with a name":                             "AUTH LOGIN " + b64("anna") + "\n< 334 UGFzc3dvcmQ6\n" + b64("secret") + "\n< 235 2.7.0",
		"a password by PLAIN, a SCRAM entry":            "AUTH PLAIN " + b64("\x00bert\x00secret") + "\n< 235 2.7.0",
		"once a session (4)":                            right + "\n< 235\n" + right + "\n< 503 5.5.1 You have",
		"again after EHLO (4)":                          right + "\n< 235\nEHLO x\n< 250\n" + right + "\n< 503 5.5.1",
		"not in a transaction (4)":                      from + right + "\n< 503 5.5.1 A message is under way\n" + to,
		"a wrong password (6)":                          wrong + "\n< 535 5.7.8\n" + right + "\n< 235",
		"nobody (6)":                                    "AUTH PLAIN " + b64("\x00nobody\x00secret") + "\n< 535 5.7.8",
		"to act as another (RFC 4616 2)":                "AUTH PLAIN " + b64("root\x00anna\x00secret") + "\n< 535 5.7.8",
		"cancelled (4)":                                 "AUTH PLAIN\n< 334 \r\n*\n< 501 5.7.0\n" + right + "\n< 235",
		"cancelled at the password":                     "AUTH LOGIN\n< 334\n" + b64("anna") + "\n< 334\n*\n< 501 5.7.0\nNOOP\n< 250",
		"no base64 (4)":                                 "AUTH PLAIN ****\n< 501 5.5.2\nAUTH PLAIN\n< 334\nAGFubmE\n< 501 5.5.2\nAUTH PLAIN\n< 334\nAG Fu\n< 501 5.5.2\nAUTH PLAIN *\n< 501 5.5.2",
		"an empty initial response (4)":                 "AUTH PLAIN =\n< 501 5.5.2\nAUTH LOGIN =\n< 501 5.5.2\nAUTH PLAIN\n< 334\n\n< 501 5.5.2",
		"a response too long (4)":                       "AUTH PLAIN\n< 334\n" + strings.Repeat("A", 13000) + "\n< 500 5.5.6\nAUTH PLAIN\n< 334\n" + b64("\x00anna\x00"+strings.Repeat("x", 1500)) + "\n< 535\nAUTH PLAIN " + strings.Repeat("A", 13000) + "\n< 500\nNOOP\n< 250",
		"NUL, bare CR and bare LF":                      "AUTH PLAIN\n< 334\nAAA\\0A\n< 501 5.5.2\nAUTH PLAIN\n< 334\nAAA\\nA\n< 501 5.5.2\nAUTH LOGIN " + b64("an\x00na") + "\n< 501 5.5.2",
		"NUL in the password":                           "AUTH PLAIN " + b64("\x00anna\x00secret\x00") + "\n< 501 5.5.2",
		"an unknown mechanism (4)":                      "AUTH CRAM-MD5\n< 504 5.5.4\nAUTH PLAIN-X x\n< 504 5.5.4\nAUTH EXTERNAL =\n< 504",
		"no mechanism (4)":                              "AUTH\n< 501 5.5.4 Syntax: AUTH",
		"a command in place of a response":              "AUTH LOGIN\n< 334\nMAIL FROM:<a@client.example.org>\n< 501 5.5.2\nRCPT TO:<b@example.net>\n< 503",
		"AUTH= of MAIL (5)":                             right + "\n< 235\nMAIL FROM:<a@b.example> AUTH=<>\n< 250\nRSET\n< 250\nMAIL FROM:<a@b.example> AUTH=e+3Dmc2@example.com\n< 250\nRSET\n< 250\nMAIL FROM:<> AUTH=a+\n< 501 5.5.4\nMAIL FROM:<> AUTH=\n< 501\nMAIL FROM:<> AUTH=no\n< 501 5.5.4",
		"SCRAM of another mind (RFC 5802 7)":            "AUTH SCRAM-SHA-256 " + b64("p=tls-unique,,n=bert,r=x") + "\n< 501 5.5.2\nAUTH SCRAM-SHA-256\n< 334 \r\n" + b64("n,,n=bert,r=x") + "\n< 334\n" + b64("c=biws,r=y,p=AAAA") + "\n< 535 5.7.8",
		"after AUTH the client relays (config E)":       from + "RCPT TO:<x@elsewhere.example>\n< 550 5.7.1\nRSET\n< 250\n" + right + "\n< 235\n" + from + "RCPT TO:<x@elsewhere.example>\n< 250",
		"a login survives RSET, EHLO and a message":     right + "\n< 235\n" + from + to + "DATA\n< 354\n.\n< 250\nRSET\n< 250\nEHLO x\n< 250\n" + from + "RCPT TO:<x@elsewhere.example>\n< 250",
		"a failed login leaves no trace":                wrong + "\n< 535\n" + from + "RCPT TO:<x@elsewhere.example>\n< 550",
		"HELP tells of it":                              "HELP AUTH\n< 214 2.0.0 Syntax: AUTH mechanism",
		"in HELO's session there is no AUTH (RFC 5321)": "HELO x\n< 250\n" + right + "\n< 503 5.5.1 Say EHLO",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Limits{}, func(r *rig) { withAuth(t, r) }, func(t *testing.T, r *rig) {
				play(t, r.inTLS(), dialogue+bye)
			})
		})
	}
}

// TestAuthInTheClear: without TLS it is neither offered nor done (RFC 4954
// section 4, reply 538), and where it is off, not at all.
func TestAuthInTheClear(t *testing.T) {
	r := withAuth(t, newRig(t, Limits{})).start()
	c := r.greeted()
	if got := c.say("EHLO x", "250"); strings.Contains(got, "AUTH") {
		t.Errorf("offered in the clear: %q", got)
	}
	play(t, c, "AUTH PLAIN "+b64("\x00anna\x00secret")+"\n< 538 5.7.11\nAUTH LOGIN\n< 538\nRSET\n< 250")
	c.secure()
	c.say("AUTH PLAIN", "503 5.5.1 Say EHLO")
	if got := c.say("EHLO x", "250"); !strings.Contains(got, "\r\n250-AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n") && !strings.HasSuffix(got, "\r\n250 AUTH SCRAM-SHA-256 PLAIN LOGIN\r\n") {
		t.Errorf("not offered in TLS: %q", got)
	}

	r = withAuth(t, newRig(t, Limits{}))
	r.listener.Auth = nil
	c = r.start().inTLS()
	if got := c.say("EHLO x", "250"); strings.Contains(got, "AUTH") {
		t.Errorf("offered where it is off: %q", got)
	}
	play(t, c, "AUTH PLAIN =\n< 502 5.5.1\nMAIL FROM:<> AUTH=<>\n< 555 5.5.4")
}

// TestAuthSession: what policies see of a login, and the mail after it; what
// MAIL's AUTH= of a stranger counts for.
func TestAuthSession(t *testing.T) {
	var seen []string
	yes := true
	r := withAuth(t, newRig(t, Limits{}))
	r.policy(hooks.Mail, func(tx *hooks.Transaction) hooks.Decision {
		seen = append(seen, tx.Session.User)
		for _, p := range tx.Params {
			seen = append(seen, p.Key+"="+p.Value)
		}
		return hooks.Decision{}
	})
	r.on(hooks.Mail, hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.9", "users only here")})
	r.handlers[1].When.Authenticated = &yes
	c := r.start().inTLS()
	play(t, c, "MAIL FROM:<a@b.example> AUTH=boss@example.net\n< 250\nRSET\n< 250\nAUTH PLAIN "+b64("\x00anna\x00secret")+"\n< 235\nMAIL FROM:<a@b.example> AUTH=boss@example.net\n< 550 5.7.9"+bye)
	if want := []string{"", "AUTH=<>", "anna", "AUTH=boss@example.net"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// TestGuessingEnds: failures answer later and later, count as errors, and in the
// end the client is turned away, in a new connection too.
func TestGuessingEnds(t *testing.T) {
	bubble(t, Limits{Errors: 4}, func(r *rig) { withAuth(t, r) }, func(t *testing.T, r *rig) {
		start, tries := time.Now(), 0
		for range 20 {
			c := r.inTLS()
			got := ""
			for !strings.HasPrefix(got, "421") {
				c.send("AUTH PLAIN " + b64("\x00anna\x00wrong") + "\r\n")
				if got = c.reply(); strings.HasPrefix(got, "535") {
					tries++
				}
			}
			c.closed()
			if strings.HasPrefix(got, "421 4.7.0 Too many failed logins") {
				break
			}
		}
		if took := time.Since(start); tries < 20 || tries > 22 || took < time.Minute {
			t.Errorf("%d tries in %s", tries, took)
		}
		c := r.inTLS()
		c.say("AUTH PLAIN "+b64("\x00anna\x00secret"), "421 4.7.0")
		c.closed()
	})
}

// TestAuthLoops: an exchange that is begun and given up, malformed, or of no
// mechanism, again and again, ends with the error budget; a mechanism has a bounded
// number of steps (checklist 13).
func TestAuthLoops(t *testing.T) {
	for name, round := range map[string]string{
		"cancelled":     "AUTH LOGIN\r\n*\r\n",
		"no base64":     "AUTH PLAIN\r\n!\r\n",
		"no mechanism":  "AUTH X\r\n",
		"empty":         "AUTH LOGIN\r\n\r\n",
		"a wrong SCRAM": "AUTH SCRAM-SHA-256 " + b64("n,,n=bert,r=x") + "\r\n" + b64("c=biws,r=x,p=AAAA") + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Limits{Errors: 5}, func(r *rig) { withAuth(t, r) }, func(t *testing.T, r *rig) {
				c := r.inTLS()
				got, wrong := "", 0
				go func() {
					for range 100 {
						if _, err := c.nc.Write([]byte(round)); err != nil {
							return
						}
					}
				}()
				for got = c.reply(); !strings.HasPrefix(got, "421"); got = c.reply() {
					if got == "" {
						t.Fatal("it ended without a word")
					}
					if got[0] == '5' {
						wrong++
					}
				}
				if wrong != 5 {
					t.Errorf("%d refusals, then %q", wrong, got)
				}
				_ = c.nc.Close()
			})
		})
	}
}

// TestAuthTimesOut: the command timeout is that of a response too.
func TestAuthTimesOut(t *testing.T) {
	bubble(t, Limits{CommandTimeout: time.Minute}, func(r *rig) { withAuth(t, r) }, func(t *testing.T, r *rig) {
		c := r.inTLS()
		c.say("AUTH LOGIN", "334")
		start := time.Now()
		c.want("421 4.4.2")
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after %s", d)
		}
		c.closed()
	})
}

// TestSubmission: RFC 6409 section 4.3: nothing is taken from a stranger.
func TestSubmission(t *testing.T) {
	r := withAuth(t, newRig(t, Limits{}))
	r.listener.Protocol = "submission"
	r.start()
	c := r.greeted()
	play(t, c, "MAIL FROM:<anna@example.net>\n< 530 5.7.0 Authentication required\nRCPT TO:<b@example.net>\n< 503\nVRFY x\n< 252")
	c.secure()
	play(t, c, "EHLO x\n< 250\nMAIL FROM:<>\n< 530\nAUTH PLAIN "+b64("\x00anna\x00secret")+"\n< 235\nMAIL FROM:<anna@example.net>\n< 250\nRCPT TO:<x@elsewhere.example>\n< 250\nDATA\n< 354\n.\n< 250"+bye)

	r = newRig(t, Limits{})
	r.listener.Protocol, r.listener.RelayFrom = "submission", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	play(t, r.start().greeted(), "MAIL FROM:<anna@example.net>\n< 250\nRCPT TO:<x@elsewhere.example>\n< 250"+bye)
}

// TestSenderRule: who logged in sends under its own address (RFC 6409 section
// 6.1).
func TestSenderRule(t *testing.T) {
	r := withAuth(t, newRig(t, Limits{}))
	r.listener.Sender = auth.OwnAddress(r.door.Ours)
	c := r.start().inTLS()
	play(t, c, "MAIL FROM:<stranger@example.net>\n< 250\nRSET\n< 250\nAUTH PLAIN "+b64("\x00anna\x00secret")+"\n< 235\nMAIL FROM:<bert@example.net>\n< 553 5.7.1\nMAIL FROM:<anna@example.org>\n< 553\nMAIL FROM:<Anna+x@example.net>\n< 250\nRSET\n< 250\nMAIL FROM:<>\n< 250"+bye)
}

// TestTLSRequired: RFC 3207 section 4: nothing but STARTTLS is done before it.
func TestTLSRequired(t *testing.T) {
	r := withAuth(t, newRig(t, Limits{}))
	r.listener.RequireTLS = true
	c := r.start().greeted()
	for _, line := range []string{"MAIL FROM:<>", "RCPT TO:<b@example.net>", "DATA", "VRFY x", "EXPN x", "HELP", "RSET", "AUTH PLAIN =", "MAIL"} {
		c.say(line, "530 5.7.0 Must issue a STARTTLS command first")
	}
	play(t, c, "NOOP\n< 250\nHELO x\n< 250\nEHLO x\n< 250\nFROB\n< 500")
	c.secure()
	play(t, c, hi[strings.IndexByte(hi, '\n')+1:]+from+to+"DATA\n< 354\n.\n< 250"+bye)
}

// implicit connects with TLS from the first byte.
func (r *rig) implicit(show *tls.Certificate) *client {
	c := r.connect()
	config := &tls.Config{InsecureSkipVerify: true}
	if show != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return show, nil }
	}
	t := tls.Client(c.nc, config)
	if err := t.HandshakeContext(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	c.nc = t
	c.listen()
	return c
}

// TestImplicitTLS: RFC 8314 section 3: the handshake, the stages connect and tls,
// the greeting.
func TestImplicitTLS(t *testing.T) {
	var order []string
	note := func(what string) func(tx *hooks.Transaction) hooks.Decision {
		return func(tx *hooks.Transaction) hooks.Decision {
			order = append(order, what)
			if tx.Session.TLS == nil {
				t.Errorf("%s in the clear", what)
			}
			return hooks.Decision{}
		}
	}
	r := withAuth(t, newRig(t, Limits{})).policy(hooks.Connect, note("connect")).policy(hooks.TLS, note("tls"))
	r.listener.StartTLS, r.listener.ImplicitTLS = false, true
	c := r.start().implicit(nil)
	c.want("220 mx.example.net ESMTP")
	if got := c.say("EHLO x", "250"); strings.Contains(got, "STARTTLS") || !strings.Contains(got, "AUTH ") {
		t.Errorf("offers %q", got)
	}
	play(t, c, "STARTTLS\n< 503 5.5.1\n"+from+to+"DATA\n< 354\n.\n< 250"+bye)
	if !slices.Equal(order, []string{"connect", "tls"}) {
		t.Errorf("stages %v", order)
	}

	clear := r.connect()
	go func() { _, _ = clear.nc.Write([]byte("EHLO in the clear\r\n")) }()
	clear.listen()
	for line := range clear.lines {
		if strings.HasPrefix(line, "2") {
			t.Errorf("%q in the clear", line)
		}
	}

	r = withTLS(t, newRig(t, Limits{})).on(hooks.TLS, hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(554, "5.7.0", "Not secure enough")})
	r.listener.ImplicitTLS = true
	c = r.start().implicit(nil)
	play(t, c, "< 554 5.7.0 Not secure enough\nEHLO x\n< 554 5.7.0\nQUIT\n< 221")
}

// TestImplicitTLSWaits: a client that does not shake hands ends in time, and one
// that is asked to wait before the greeting is served after it.
func TestImplicitTLSWaits(t *testing.T) {
	bubble(t, Limits{CommandTimeout: time.Minute}, func(r *rig) {
		withTLS(t, r).listener.ImplicitTLS = true
		r.policy(hooks.Connect, func(tx *hooks.Transaction) hooks.Decision {
			if tx.Session.Early(t.Context(), 2*time.Second) {
				return tooEarly()
			}
			return hooks.Decision{}
		})
	}, func(t *testing.T, r *rig) {
		c := r.connect()
		start := time.Now()
		c.listen()
		for range c.lines {
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("silence ended after %s", d)
		}
		start = time.Now()
		c = r.implicit(nil)
		c.want("220 ")
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("greeted after %s", d)
		}
		c = r.implicit(nil)
		c.send("EHLO x\r\n")
		c.want("5")
	})
}

// TestClientCertificate: one that a listed authority vouches for is a fact of the
// session, by STARTTLS and from the start.
func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example.org"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	certs, err := gate.NewCertificates("mx.example.net", nil, nil)
	if err == nil {
		err = certs.SetClientCA(file)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		show *tls.Certificate
		want string
	}{{&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, "CN=relay.example.org"}, {&tls.Certificate{}, ""}} {
		var seen []string
		r := newRig(t, Limits{}).policy(hooks.TLS, func(tx *hooks.Transaction) hooks.Decision {
			seen = append(seen, tx.Session.TLS.Client)
			return hooks.Decision{}
		})
		r.listener.ImplicitTLS, r.server.tls = true, certs.Config
		play(t, r.start().implicit(tc.show), "< 220"+bye)
		if !slices.Equal(seen, []string{tc.want}) {
			t.Errorf("seen %q, want %q", seen, tc.want)
		}
	}
}

// TestListenersHaveTheirOwn: policies of one listener are not asked at another,
// whose limits of what may be done differ too (when.listener).
func TestListenersHaveTheirOwn(t *testing.T) {
	for name, want := range map[string]string{"mx": "550 5.7.5 not at mx", "inside": "250"} {
		r := newRig(t, Limits{}).on(hooks.Mail, hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.5", "not at mx")})
		r.handlers[0].When.Listener = []string{"mx"}
		r.listener = &gate.Listener{Name: name, Protocol: "smtp"}
		play(t, r.start().greeted(), "MAIL FROM:<>\n< "+want+bye)
	}
}

// TestProxyOfStrangers: a PROXY header is an unknown command where none is
// expected (attack 5): it changes nothing.
func TestProxyOfStrangers(t *testing.T) {
	r := newRig(t, Limits{})
	r.listener.RelayFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c := r.start().dial()
	play(t, c, "< 220\nPROXY TCP4 127.0.0.1 127.0.0.1 1 25\n< 500 5.5.2\nEHLO x\n< 250\n"+from+"RCPT TO:<x@elsewhere.example>\n< 550 5.7.1"+bye)
	c = r.dial()
	c.want("220")
	c.send("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x19EHLO x\r\n")
	for _, want := range []string{"500 5.5.2", "500 5.5.2", "501 5.5.2", "501 5.5.2"} {
		c.want(want)
	}
	play(t, c, "EHLO x\n< 250\n"+from+"RCPT TO:<x@elsewhere.example>\n< 550 5.7.1"+bye)
}

// FuzzAuth: whatever a client says in AUTH, the conversation goes on or ends as
// it should, and nobody is let in who is no user.
func FuzzAuth(f *testing.F) {
	path := filepath.Join(f.TempDir(), "users")
	if err := os.WriteFile(path, []byte(users), 0o600); err != nil {
		f.Fatal(err)
	}
	a, err := auth.New(auth.Options{Files: []string{path}})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"PLAIN AGFubmEAc2VjcmV0", "LOGIN\r\nYW5uYQ==\r\nc2VjcmV0", "PLAIN =", "PLAIN\r\n*", "LOGIN AA==\r\n\x00", "SCRAM-SHA-256 biwsbj1iZXJ0LHI9eA==\r\n=", "PLAIN\n\r\n"} {
		f.Add(s)
	}
	done, cancel := context.WithCancel(f.Context())
	cancel() // failures don't wait
	f.Fuzz(func(t *testing.T, text string) {
		r := newRig(t, Limits{})
		r.server.auth, r.listener.Auth = a, auth.Mechanisms()
		conn := &conn{server: r.server, peer: &gate.Conn{Listener: r.listener}, limits: r.server.limits.Load(), work: done, chain: hooks.NewChain(nil, hooks.Options{})}
		conn.s = &hooks.Session{ID: "x", Protocol: "smtp", Extended: true, TLS: &hooks.TLSFact{}, Relaying: true}
		conn.whole.Session, conn.said, conn.out = conn.s, true, conn.outSmall[:0]
		conn.nc = &deaf{text: "AUTH " + text + "\r\n"}
		conn.in.start(conn.nc, &r.server.buffers)
		conn.wait = func() error { return conn.flush() }
		conn.alarm.start(conn.nc, 0, func() {})
		for range 10 {
			line, fault, err := conn.in.line(conn.wait)
			if err != nil || fault != lineFine || conn.over {
				break
			}
			if word, arg, _ := strings.Cut(string(line), " "); strings.EqualFold(word, "AUTH") {
				authenticate(conn, arg)
			}
		}
		if conn.s.Authenticated && conn.s.User != "anna" && conn.s.User != "bert" {
			t.Fatalf("%q lets %q in", text, conn.s.User)
		}
	})
}
