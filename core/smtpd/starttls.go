package smtpd

import (
	"crypto/tls"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Replies of STARTTLS.
var (
	okTLS        = message.NewReply(220, "2.0.0", "Ready to start TLS")
	errTLSActive = message.NewReply(503, "5.5.1", "TLS is active already")
	errNoTLS     = message.NewReply(502, "5.5.1", "STARTTLS is not offered here")
	errHandshake = message.NewReply(454, "4.7.0", "The TLS handshake failed")
)

// offersTLS tells whether STARTTLS is there for this client.
func (c *conn) offersTLS() bool {
	return c.peer.Listener.StartTLS && c.server.tls != nil && c.server.tls() != nil
}

// startTLS: RFC 3207. What came in clear behind the command is dropped, and of
// what was said in clear nothing but the connection's own facts is kept.
func startTLS(c *conn, _ string) {
	switch {
	case c.s.TLS != nil:
		c.refuse(hooks.TLS, errTLSActive)
		return
	case !c.offersTLS():
		c.refuse(hooks.TLS, errNoTLS)
		return
	}
	c.reset()
	c.said, c.s.Helo, c.s.Extended = false, "", false
	c.send(okTLS)
	if c.flush() != nil {
		return
	}
	c.in.drop()
	t := tls.Server(c.nc, c.server.tls())
	c.alarm.set(time.Now().Add(c.limits.CommandTimeout)) // for all of the handshake
	if err := t.Handshake(); err != nil {
		c.server.record.Refused(&c.whole, hooks.TLS, ourName, message.NewReply(errHandshake.Code, errHandshake.Status(), "%s: %v", errHandshake.Text, err))
		c.over = true
		return
	}
	c.nc, c.in.nc = t, t
	c.s.TLS = tlsFact(t.ConnectionState())
	// Nothing is said until the client speaks again, so a refusal waits for that.
	if d := c.chain.Run(c.work, hooks.TLS, &c.whole); d.Verb.Refuses() {
		c.shut(hooks.TLS, d)
	}
}

func tlsFact(s tls.ConnectionState) *hooks.TLSFact {
	fact := &hooks.TLSFact{Version: tls.VersionName(s.Version), Cipher: tls.CipherSuiteName(s.CipherSuite)}
	if len(s.VerifiedChains) > 0 {
		fact.Client = s.PeerCertificates[0].Subject.String()
	}
	return fact
}
