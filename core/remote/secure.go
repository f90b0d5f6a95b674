package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// errTLS marks TLS that did not come about: the same host may be asked in the
// clear, where that is allowed.
var errTLS = errors.New("TLS handshake")

// startTLS makes the session a TLS one (RFC 3207). Where the host won't, the
// session goes on in the clear if it may.
func (c *Client) startTLS(ctx context.Context, cn *conn) error {
	refused := func(why string) error {
		if !cn.way.required() {
			return nil
		}
		return failure{reply: message.NewReply(451, "4.7.4", "%s: TLS is required, and %s", cn.host.name, why), peer: cn.peer()}
	}
	if !cn.ext.startTLS {
		return refused("not offered")
	}
	r, err := cn.wire.exchange(c.o.Timeouts.Command, "STARTTLS")
	switch {
	case err != nil:
		return failure{reply: message.NewReply(451, "4.4.2", "%s: STARTTLS: %s", cn.host.name, plainError(err)), reached: true, peer: cn.peer()}
	case r.Code != 220:
		return refused("refused: " + bound(r).String())
	case cn.wire.unasked(): // somebody speaks before the handshake (CVE-2011-0411 the other way round)
		return fmt.Errorf("%w: bytes behind the reply to STARTTLS", errTLS)
	}
	if err := c.handshake(ctx, cn); err != nil {
		return err
	}
	// What was offered before the handshake counts for nothing (RFC 3207 section 4.2).
	err = c.greet(cn, false)
	if f, ok := errors.AsType[failure](err); ok && f.peer == "" { // it fell silent behind the handshake
		return fmt.Errorf("%w: %w", errTLS, err)
	}
	return err
}

// handshake puts TLS below the session. Only level verify looks at the
// certificate: it must chain to a known authority and bear the name by which the
// host was found (RFC 7817 section 3 has the rules, which are crypto/tls's own).
// Otherwise it is not looked at, since who could read the mail in the clear gains
// nothing by a false one.
func (c *Client) handshake(ctx context.Context, cn *conn) error {
	verify := cn.way.tls == "verify"
	conf := &tls.Config{ServerName: cn.host.tlsName(), InsecureSkipVerify: !verify, MinVersion: tls.VersionTLS12}
	switch {
	case verify:
		conf.RootCAs = cn.roots
	case cn.way.required():
		conf.ClientSessionCache = c.sessions
	default:
		conf.ClientSessionCache = c.sessions
		conf.MinVersion = tls.VersionTLS10 // old TLS is better than none
	}
	if err := cn.wire.SetDeadline(time.Time{}); err != nil { // it was the last command's
		return fmt.Errorf("%w: %s", errTLS, plainError(err))
	}
	t := tls.Client(cn.wire.Conn, conf)
	shaking, done := context.WithTimeout(ctx, c.o.Timeouts.Handshake)
	err := t.HandshakeContext(shaking)
	done()
	if err != nil {
		return fmt.Errorf("%w: %s", errTLS, plainError(err))
	}
	cn.wire = newWire(t)
	state := t.ConnectionState()
	cn.tls = strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1) + " " + tls.CipherSuiteName(state.CipherSuite)
	return nil
}
