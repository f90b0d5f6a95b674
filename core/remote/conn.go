package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/postern-mta/postern/core/message"
)

// conn is one session with a host, greeted and ready for MAIL.
type conn struct {
	host   host
	key    poolKey
	wire   *wire
	client *smtp.Client
	tls    string // as outcomes name it, "" in the clear
	sent   int    // transactions so far
	timer  *time.Timer
}

// errTLS marks a handshake that failed: the same host may be asked in the clear.
var errTLS = errors.New("TLS handshake")

// connect opens a session. With mode may, TLS is used where the host offers it
// and works; its certificate is not verified, since who could read the mail in
// the clear gains nothing by a false one.
func (c *Client) connect(ctx context.Context, h host, mode string) (*conn, error) {
	secure := mode != "none" && !c.clear.has(h.addr)
	cn, err := c.open(ctx, h, secure)
	if errors.Is(err, errTLS) && ctx.Err() == nil {
		c.clear.set(h.addr)
		c.o.Log.Info("TLS does not work with a host; it gets its mail in the clear", "peer", h.String(), "error", err)
		cn, err = c.open(ctx, h, false)
	}
	if err != nil {
		if f, ok := errors.AsType[failure](err); ctx.Err() == nil && (!ok || !f.reached) {
			c.down.set(h.addr)
		}
		return nil, err
	}
	c.down.drop(h.addr)
	cn.key = poolKey{h, mode}
	return cn, nil
}

func (c *Client) open(ctx context.Context, h host, secure bool) (cn *conn, err error) {
	dialing, done := context.WithTimeout(ctx, c.o.Timeouts.Connect)
	nc, err := c.o.Dial(dialing, "tcp", h.addr.String())
	late := dialing.Err() != nil && ctx.Err() == nil
	done()
	if err != nil {
		why := plainError(err)
		if late {
			why = fmt.Sprintf("no connection within %s", c.o.Timeouts.Connect)
		}
		return nil, failure{reply: message.NewReply(451, "4.4.1", "%s: %s", h.name, why)}
	}
	w := &wire{Conn: nc}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	defer func() {
		if err != nil {
			_ = nc.Close()
		}
	}()
	cn = &conn{host: h, wire: w}
	if err := c.greet(cn); err != nil {
		return nil, err
	}
	if offered, _ := cn.client.Extension("STARTTLS"); !secure || !offered {
		return cn, nil
	}
	code, more, err := w.exchange("STARTTLS", c.o.Timeouts.Command)
	switch {
	case err != nil:
		return nil, failure{reply: message.NewReply(451, "4.4.2", "%s: STARTTLS: %s", h.name, plainError(err)), reached: true}
	case code != 220:
		return cn, nil // it won't, and the session goes on in the clear
	case more: // somebody speaks before the handshake (CVE-2011-0411 the other way round)
		return nil, fmt.Errorf("%w: bytes behind the reply to STARTTLS", errTLS)
	}
	return c.secure(ctx, cn)
}

// greet waits for the greeting and says EHLO, or HELO where that is unknown.
func (c *Client) greet(cn *conn) error {
	cn.client = smtp.NewClient(cn.wire)
	cn.client.CommandTimeout = c.o.Timeouts.Greeting
	cn.client.SubmissionTimeout = c.o.Timeouts.DataEnd
	cn.wire.budget = 3 * maxReply // greeting, EHLO and HELO
	err := cn.client.Hello(c.set.Load().Helo)
	if err == nil {
		return nil
	}
	if r, ok := replyOf(err); ok {
		// A host that sends everybody away is not what a sender should hear of:
		// the recipients wait, whatever the code (as qmail and Postfix do it).
		return failure{reply: r, reached: true}
	}
	return failure{reply: message.NewReply(451, "4.4.2", "%s: no greeting: %s", cn.host.name, plainError(err))}
}

// secure makes the session a TLS one and says EHLO again (RFC 3207 section 4.2).
func (c *Client) secure(ctx context.Context, cn *conn) (*conn, error) {
	conf := &tls.Config{
		InsecureSkipVerify: true, // see connect
		MinVersion:         tls.VersionTLS10,
		ClientSessionCache: c.sessions,
	}
	if _, err := netip.ParseAddr(strings.Trim(cn.host.name, "[]")); err != nil {
		conf.ServerName = cn.host.name
	}
	t := tls.Client(cn.wire.Conn, conf)
	shaking, done := context.WithTimeout(ctx, c.o.Timeouts.Handshake)
	err := t.HandshakeContext(shaking)
	done()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTLS, err)
	}
	// No greeting comes behind STARTTLS; the library wants one.
	next := &conn{host: cn.host, wire: &wire{Conn: t, canned: []byte("220 TLS\r\n")}}
	if err := c.greet(next); err != nil {
		if f, ok := errors.AsType[failure](err); ok && !f.reached { // it fell silent behind the handshake
			return nil, fmt.Errorf("%w: %w", errTLS, err)
		}
		return nil, err
	}
	state := t.ConnectionState()
	next.tls = strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1) + " " + tls.CipherSuiteName(state.CipherSuite)
	return next, nil
}

// quitTimeout bounds the goodbye.
const quitTimeout = 5 * time.Second

// quit ends the session as RFC 5321 section 4.1.1.10 wants it.
func (cn *conn) quit() {
	_, _, _ = cn.wire.exchange("QUIT", quitTimeout) // the connection is closed whatever comes
	cn.close()
}

// leave says goodbye without waiting for the answer.
func (cn *conn) leave() {
	_ = cn.wire.SetDeadline(time.Now().Add(quitTimeout))
	_, _ = cn.wire.Write([]byte("QUIT\r\n"))
	cn.close()
}

func (cn *conn) close() { _ = cn.wire.Close() }

// replyOf is what a server said that refused something; ok is false where it
// said nothing, or nothing that is a reply of class 4 or 5.
func replyOf(err error) (r message.Reply, ok bool) {
	e, ok := errors.AsType[*smtp.SMTPError](err)
	if !ok || e.Code < 400 || e.Code > 599 {
		return r, false
	}
	r = message.Reply{Code: e.Code, Text: bound(e.Message)}
	for i, n := range e.EnhancedCode {
		if n < 0 || n > 999 || i == 0 && n != e.Code/100 {
			r.Enhanced = [3]int{}
			return r, true
		}
		r.Enhanced[i] = n
	}
	return r, true
}

// accepted is the reply to a message that was taken.
func accepted(text string) message.Reply {
	r := message.Reply{Code: 250, Text: bound(text)}
	word, rest, _ := strings.Cut(text, " ")
	if e, ok := message.ParseEnhanced(word); ok {
		r.Enhanced = e
		r.Text = bound(strings.ReplaceAll(rest, "\n"+word+" ", "\n"))
	}
	return r
}

// maxText bounds what is kept of a reply's text.
const maxText = 1 << 10

func bound(s string) string { return s[:min(len(s), maxText)] }
