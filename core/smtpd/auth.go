package smtpd

import (
	"context"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/auth"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Replies of AUTH, and of MAIL where one must have logged in.
var (
	okAuth        = message.NewReply(235, "2.7.0", "Authentication succeeded")
	errNoAuth     = message.NewReply(502, "5.5.1", "AUTH is not offered here")
	errAuthTwice  = message.NewReply(503, "5.5.1", "You have authenticated already")
	errAuthClear  = message.NewReply(538, "5.7.11", "Encryption is required for AUTH: say STARTTLS first")
	errMechanism  = message.NewReply(504, "5.5.4", "That mechanism is not offered; see the reply to EHLO")
	errAuthBase64 = message.NewReply(501, "5.5.2", "That is not base64 (RFC 4648)")
	errAuthCancel = message.NewReply(501, "5.7.0", "Authentication cancelled")
	errAuthLong   = message.NewReply(500, "5.5.6", "The line is too long for any mechanism here")
	errAuthSteps  = message.NewReply(501, "5.5.2", "That mechanism has no such step")
	errMustAuth   = message.NewReply(530, "5.7.0", "Authentication required: this server takes mail from its users only")
	errSenderUser = message.NewReply(553, "5.7.1", "You may not send under that address")
	errAuthSyntax = message.NewReply(501, "5.5.4", "AUTH takes an address in xtext, or <>")
)

// maxAuthSteps bounds the challenges of one exchange: SCRAM needs three.
const maxAuthSteps = 4

// mechanisms are those of AUTH that this client may use once TLS is there. Where
// there is no back-end, a policy that judges logins needs the password.
func (c *conn) mechanisms() []string {
	if c.server.auth == nil || c.lacks("AUTH") {
		return nil
	}
	list := c.server.auth.Offers(c.peer.Listener.Auth)
	if len(list) == 0 && c.chain.Asks(hooks.Auth, &c.whole) {
		list = auth.ByPassword(c.peer.Listener.Auth)
	}
	if len(c.without) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(name string) bool { return c.lacks("AUTH " + name) })
}

// offersAuth tells whether AUTH is there for this client once TLS is.
func (c *conn) offersAuth() bool { return len(c.mechanisms()) > 0 }

// authenticate: RFC 4954 section 4.
func authenticate(c *conn, arg string) {
	name, initial, has := strings.Cut(arg, " ")
	switch {
	case !c.offersAuth():
		c.refuse(hooks.Auth, errNoAuth)
		return
	case !c.s.Extended:
		c.refuse(hooks.Auth, errSayHello)
		return
	case c.s.Authenticated:
		c.refuse(hooks.Auth, errAuthTwice)
		return
	case c.s.TLS == nil:
		c.refuse(hooks.Auth, errAuthClear)
		return
	}
	name = strings.ToUpper(name)
	if !slices.Contains(c.mechanisms(), name) {
		c.refuse(hooks.Auth, errMechanism)
		return
	}
	var response []byte
	if has {
		var bad *message.Reply
		if response, bad = decodeResponse(strings.TrimLeft(initial, " ")); bad != nil {
			c.refuse(hooks.Auth, *bad)
			return
		}
	}
	c.exchange(c.server.auth.Begin(name), response)
}

// exchange runs a mechanism to its end. A nil response is none.
func (c *conn) exchange(x auth.Exchange, response []byte) {
	c.peer.Stands(hooks.Auth)
	for range maxAuthSteps {
		challenge, l, err := x.Next(response)
		switch {
		case err != nil:
			c.refuse(hooks.Auth, message.ReplyOf(err))
			return
		case l != nil:
			c.judgeLogin(l)
			return
		}
		c.out = append(c.out, "334 "...)
		c.out = base64.StdEncoding.AppendEncode(c.out, challenge)
		c.out = append(c.out, "\r\n"...)
		c.armed = false
		line, fault, err := c.in.line(c.wait)
		if err != nil {
			c.lost(err)
			return
		}
		var bad *message.Reply
		switch {
		case fault == lineLong:
			bad = &errAuthLong
		case fault != lineFine:
			bad = &faultReplies[fault]
		case string(line) == "*":
			bad = &errAuthCancel
		default:
			response, bad = decodeResponse(string(line))
		}
		if bad != nil {
			c.refuse(hooks.Auth, *bad)
			return
		}
	}
	c.refuse(hooks.Auth, errAuthSteps)
}

// decodeResponse: an empty response that stands behind the verb is "=".
func decodeResponse(s string) ([]byte, *message.Reply) {
	if s == "=" {
		return []byte{}, nil
	}
	if base64.StdEncoding.DecodedLen(len(s)) > auth.MaxResponse+2 {
		return nil, &errAuthLong
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, &errAuthBase64
	}
	return b, nil
}

// judgeLogin asks the policies of stage auth and the back-ends, and makes the
// session its user's. The password goes to whoever judges it and nowhere else.
func (c *conn) judgeLogin(l *auth.Login) {
	client := c.s.Client.Addr()
	if c.s.Relaying {
		client = netip.Addr{} // a webmail's failures are those of all its users
	}
	var d hooks.Decision
	user, err := c.server.auth.Check(c.work, client, l, func(ctx context.Context) (string, error) {
		d = c.askAuth(ctx, l)
		if d.Verb.Refuses() {
			return "", d.Reply
		}
		return d.User, nil
	})
	log := c.server.log.With("session", c.s.ID, "client", c.s.Client.String(), "listener", c.s.Listener, "mechanism", l.Mechanism)
	if d.By != "" {
		log = log.With("policy", d.By)
	}
	switch {
	case err == nil:
		log.Info("login", "user", user)
		c.s.User, c.s.Authenticated = user, true
		c.send(okAuth)
	case d.Verb.Refuses():
		log.Info("login failed", "user", l.User, "reply", d.Reply)
		c.refusedBy(hooks.Auth, d)
	default:
		r := message.ReplyOf(err)
		log.Info("login failed", "user", l.User, "reply", r)
		c.refuseCounted(hooks.Auth, r, r.Permanent())
	}
}

// askAuth asks stage auth.
func (c *conn) askAuth(ctx context.Context, l *auth.Login) hooks.Decision {
	if !c.chain.Has(hooks.Auth) {
		return hooks.Decision{}
	}
	c.whole.Login = &hooks.Login{Mechanism: l.Mechanism, User: l.User, Password: l.Password}
	defer func() { c.whole.Login = nil }()
	d := c.chain.Run(ctx, hooks.Auth, &c.whole)
	if d.Verb == hooks.Pass {
		return hooks.Decision{}
	}
	return d
}

// senderRefused tells why a client may not send at all (RFC 6409 section 4.3), or
// not under that address (section 6.1).
func (c *conn) senderRefused(sender message.Address) *message.Reply {
	l := c.peer.Listener
	switch {
	case c.s.Protocol == "submission" && !c.s.Authenticated && !c.s.Relaying:
		return &errMustAuth
	case sender.IsVERP() && !c.s.Authenticated && !c.s.Relaying:
		return &errSenderMany
	case c.s.Authenticated && l.Sender != nil && !l.Sender(c.s.User, sender.Owner()):
		return &errSenderUser
	}
	return nil
}

// authParam: RFC 4954 section 5. What a client says that has not authenticated
// counts as <>.
func authParam(c *conn, _ *hooks.Transaction, value *string) *message.Reply {
	if *value != "<>" {
		s, ok := message.DecodeXtext(*value)
		if !ok {
			return &errAuthSyntax
		}
		if a, rest, err := message.ParsePath("<" + s + ">"); err != nil || rest != "" || a.IsNull() {
			return &errAuthSyntax
		}
	}
	if !c.s.Authenticated {
		*value = "<>"
	}
	return nil
}

// beforeTLS are the commands that a listener takes that requires TLS (RFC 3207
// section 4), and HELO, which does nothing.
var beforeTLS = [...]string{"EHLO", "HELO", "LHLO", "NOOP", "QUIT", "STARTTLS", "XCLIENT"}

var errMustTLS = message.NewReply(530, "5.7.0", "Must issue a STARTTLS command first")

// mustStartTLS tells whether a command has to wait for TLS.
func (c *conn) mustStartTLS(v *verb) bool {
	return c.peer.Listener.RequireTLS && c.s.TLS == nil && v.syntax != "" && !slices.Contains(beforeTLS[:], v.name)
}
