package smtpd

import (
	"crypto/tls"
	"time"

	"github.com/postern-mta/postern/core/gate"
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
	return c.peer.Listener.StartTLS && !c.lacks("STARTTLS") && c.server.tls != nil && c.server.tls() != nil
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
	c.said, c.s.Helo, c.s.Extended, c.without = false, "", false, nil
	// RFC 3207 section 4.2: nor what policies made of it.
	c.s.Marks, c.s.Notes = c.met.marks, c.met.notes
	c.greeted = [2]hooks.Marks{c.s.Marks, c.s.Marks}
	c.send(okTLS)
	if c.flush() != nil {
		return
	}
	c.in.drop()
	if !c.handshake(c.server.tls()) {
		return
	}
	// Nothing is said until the client speaks again, so a refusal waits for that.
	if d := c.chain.Run(c.work, hooks.TLS, &c.whole); d.Verb.Refuses() {
		c.shut(hooks.TLS, d)
	}
}

// implicitTLS does the handshake where it comes first (RFC 8314 section 3). false:
// the connection is over.
func (c *conn) implicitTLS() bool {
	if !c.peer.Listener.ImplicitTLS {
		return true
	}
	if c.server.tls != nil {
		if config := c.server.tls(); config != nil {
			return c.handshake(config)
		}
	}
	c.server.log.Error("a listener with implicit TLS has no certificate", "listener", c.s.Listener)
	c.over = true
	return false
}

// runImplicit asks stage tls after a handshake that came before everything.
func (c *conn) runImplicit() hooks.Decision {
	if !c.peer.Listener.ImplicitTLS {
		return hooks.Decision{}
	}
	return c.chain.Run(c.work, hooks.TLS, &c.whole)
}

// handshake puts TLS over the connection. false: it failed, and all is over.
func (c *conn) handshake(config *tls.Config) bool {
	c.peer.Stands(hooks.TLS)
	t := tls.Server(c.nc, config)
	c.alarm.set(time.Now().Add(c.limits.CommandTimeout)) // for all of the handshake
	c.alarm.write(c.limits.CommandTimeout)
	if err := t.Handshake(); err != nil {
		c.server.record.Refused(&c.whole, hooks.TLS, ourName, message.NewReply(errHandshake.Code, errHandshake.Status(), "%s: %v", errHandshake.Text, err))
		c.over = true
		return false
	}
	c.nc, c.in.nc = t, t
	c.peer.Secured()
	s := t.ConnectionState()
	c.s.TLS = &hooks.TLSFact{
		Version: tls.VersionName(s.Version), Cipher: tls.CipherSuiteName(s.CipherSuite),
		Client: gate.VerifiedClient(s, config.ClientCAs),
	}
	return true
}
