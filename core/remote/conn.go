package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// way is how a route wants its next hop to be talked to. Connections are shared
// by those who want the same.
type way struct {
	scheme string // smtp, smtps or lmtp
	tls    string
	auth   send.Login
	source netip.Addr
}

// wayOf is the way of a job. A password never goes over the wire in the clear, so
// authentication makes TLS a must.
func wayOf(j *send.Job) way {
	w := way{scheme: j.NextHop.Scheme, tls: j.TLS, auth: j.Auth, source: j.Source}
	if w.scheme == send.SchemeMX {
		w.scheme, w.auth = send.SchemeSMTP, send.Login{}
	}
	if w.auth != (send.Login{}) && w.tls != "verify" {
		w.tls = "encrypt"
	}
	return w
}

// required tells whether nothing may go without TLS.
func (w way) required() bool {
	return w.scheme == send.SchemeSMTPS || w.tls == "encrypt" || w.tls == "verify"
}

// conn is one session with a host, greeted and ready for MAIL.
type conn struct {
	host host
	way  way
	wire *wire
	ext  extensions
	tls  string // as outcomes name it, "" in the clear
	sent int    // transactions so far

	roots *x509.CertPool // see Client.roots

	timer *time.Timer
}

func (cn *conn) lmtp() bool   { return cn.way.scheme == send.SchemeLMTP }
func (cn *conn) key() poolKey { return poolKey{cn.host, cn.way, cn.roots} }
func (cn *conn) close()       { _ = cn.wire.Close() }
func (cn *conn) peer() string { return cn.host.String() }

// connect opens a session. With TLS level may, TLS is used where the host offers
// it and works, and the host gets its mail in the clear where it doesn't.
func (c *Client) connect(ctx context.Context, h host, w way) (*conn, error) {
	secure := w.required() || w.tls != "none" && !c.clear.has(h.place())
	cn, err := c.open(ctx, h, w, secure)
	if errors.Is(err, errTLS) && ctx.Err() == nil {
		if w.required() {
			err = failure{reply: message.NewReply(451, "4.7.5", "%s: %v", h.name, err), peer: h.String()}
		} else {
			c.clear.set(h.place())
			c.o.Log.Info("TLS does not work with a host; it gets its mail in the clear", "peer", h.String(), "error", err)
			cn, err = c.open(ctx, h, w, false)
		}
	}
	if err != nil {
		if f, ok := errors.AsType[failure](err); ctx.Err() == nil && (!ok || f.peer == "") {
			c.down.set(h.place())
		}
		return nil, err
	}
	c.down.drop(h.place())
	return cn, nil
}

// open makes one attempt to come to the point where MAIL can be said.
func (c *Client) open(ctx context.Context, h host, w way, secure bool) (cn *conn, err error) {
	nc, err := c.dial(ctx, h, w)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	defer func() {
		if err != nil {
			_ = nc.Close()
		}
	}()
	cn = &conn{host: h, way: w, roots: c.roots(w), wire: newWire(nc)}
	if w.scheme == send.SchemeSMTPS {
		if err := c.handshake(ctx, cn); err != nil {
			return nil, err
		}
	}
	if err := c.greet(cn, true); err != nil {
		return nil, err
	}
	if secure && cn.tls == "" {
		if err := c.startTLS(ctx, cn); err != nil {
			return nil, err
		}
	}
	if w.auth != (send.Login{}) {
		if err := c.authenticate(cn); err != nil {
			return nil, err
		}
	}
	return cn, nil
}

// dial opens the connection below a session.
func (c *Client) dial(ctx context.Context, h host, w way) (net.Conn, error) {
	dialing, done := context.WithTimeout(ctx, c.o.Timeouts.Connect)
	network, address := h.endpoint()
	nc, err := c.o.Dial(dialing, w.source, network, address)
	late := dialing.Err() != nil && ctx.Err() == nil
	done()
	if err == nil {
		return nc, nil
	}
	why := plainError(err)
	if late {
		why = fmt.Sprintf("no connection within %s", c.o.Timeouts.Connect)
	}
	return nil, failure{reply: message.NewReply(451, "4.4.1", "%s: %s", h.name, why)}
}

// dialNet is the Dial of real networks.
func dialNet(ctx context.Context, source netip.Addr, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1} // each command has a time-out of its own
	if source.IsValid() && network == "tcp" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return d.DialContext(ctx, network, address)
}

// greet waits for the greeting, where there is one, and says EHLO (HELO where
// that is unknown) or LHLO. Nothing is sent before the greeting has come, and
// nothing together with EHLO: RFC 2920 section 3.1 wants EHLO to end a group, and
// some servers close the connection otherwise.
func (c *Client) greet(cn *conn, greeting bool) error {
	t := c.o.Timeouts
	if greeting {
		if r, err := cn.wire.reply(t.Greeting); err != nil || r.Code != 220 {
			return ungreeted(cn, r, err)
		}
	}
	name := c.set.Load().Helo
	verb := "EHLO "
	if cn.lmtp() {
		verb = "LHLO "
	}
	r, err := cn.wire.exchange(t.Greeting, verb, name)
	cn.ext = extensions{}
	if err == nil && r.Code == 250 {
		cn.ext = parseExtensions(r.Text)
		return nil
	}
	if err == nil && r.Permanent() && !cn.lmtp() { // RFC 5321 section 3.2
		r, err = cn.wire.exchange(t.Greeting, "HELO ", name)
	}
	if err != nil || r.Code != 250 {
		return ungreeted(cn, r, err)
	}
	return nil
}

// ungreeted is why a session did not begin. A host that sends everybody away is
// not what a sender should hear of: the recipients wait, whatever the code (as
// qmail and Postfix do it).
func ungreeted(cn *conn, r message.Reply, err error) error {
	if err == nil && r.Negative() {
		return failure{reply: bound(r), reached: true, peer: cn.peer()}
	}
	if err == nil {
		err = errBadReply
	}
	return failure{reply: message.NewReply(451, "4.4.2", "%s: no greeting: %s", cn.host.name, plainError(err))}
}

// quitTimeout bounds the goodbye.
const quitTimeout = 5 * time.Second

// quit ends the session as RFC 5321 section 4.1.1.10 wants it.
func (cn *conn) quit() {
	_, _ = cn.wire.exchange(quitTimeout, "QUIT") // the connection is closed whatever comes
	cn.close()
}

// leave says goodbye without waiting for the answer.
func (cn *conn) leave() {
	cn.wire.out = cn.wire.out[:0]
	cn.wire.say("QUIT")
	_ = cn.wire.flush(quitTimeout) // the connection is closed whatever comes
	cn.close()
}

// plainError is an error's text without addresses of ours.
func plainError(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Err != nil {
		return e.Err.Error()
	}
	return strings.TrimSpace(err.Error())
}
