package smtpd

import (
	"strings"
	"unicode/utf8"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// maxHelo bounds the argument of EHLO: a domain has 255 octets at most.
const maxHelo = 255

// Replies of commands that stand outside a transaction.
var (
	okHelp        = message.NewReply(214, "2.0.0", "")
	okNoop        = message.NewReply(250, "2.0.0", "Ok")
	okQuit        = message.NewReply(221, "2.0.0", "Bye")
	okVrfy        = message.NewReply(252, "2.1.5", "Addresses are not verified here; send the mail and see")
	errVrfySyntax = message.NewReply(501, "5.5.4", "The address is no UTF-8")
	errExpn       = message.NewReply(502, "5.5.1", "Lists are not expanded here")
	errHTTP       = message.NewReply(421, "5.7.0", "This is a mail server, it does not speak HTTP")
	errHelo       = message.NewReply(501, "5.5.4", "The name must be 1 to 255 printable ASCII characters; write your host name or [your.ip.address]")
	errGone       = message.NewReply(503, "5.5.1", "You were refused, only QUIT is left")
	errRules      = message.NewReply(554, "5.7.1", "")
)

// meet runs stage connect and greets, at the start and after XCLIENT.
func (c *conn) meet() {
	if d := c.runConnect(); d.Verb.Refuses() {
		c.shut(hooks.Connect, d)
		c.refusedBy(hooks.Connect, d)
	} else if d := c.runImplicit(); d.Verb.Refuses() {
		c.shut(hooks.TLS, d)
		c.refusedBy(hooks.TLS, d)
	} else {
		// RFC 5321 section 4.2: our name is the first word of a greeting.
		word := " ESMTP"
		if c.lmtp() {
			word = " LMTP"
		}
		if own := c.peer.Listener.Greeting; own != "" {
			word += " " + own
		}
		c.send(message.Reply{Code: 220, Text: c.server.hostname + word})
	}
	c.met = beginning{c.s.Marks, c.s.Notes}
	c.greeted = [2]hooks.Marks{c.s.Marks, c.s.Marks}
	_ = c.flush() // a failure ends the conversation
}

// shut makes the connection a refused one: every later command but QUIT is
// refused too. RFC 5321 section 3.1 has 503 for them; where the refusal was for
// now, it is repeated, since a client that did not listen would take 503 for a
// bounce.
func (c *conn) shut(at hooks.Stage, d hooks.Decision) {
	later := errGone
	if d.Reply.Temporary() || at != hooks.Connect {
		later = d.Reply // RFC 3207 section 4.1 says so for TLS
	}
	c.banned = &ban{later, d.Disconnect || later.Code == 421}
	c.story(outcome{d.Reply, d.By})
}

// story records a refused connection, once.
func (c *conn) story(o outcome) {
	if !c.storied {
		c.storied = true
		c.verdict(&c.whole, o)
	}
}

func ehlo(c *conn, arg string) { c.hello(arg, true) }
func helo(c *conn, arg string) { c.hello(arg, false) }

// hello: RFC 5321 section 4.1.1.1. An accepted one ends a transaction (section
// 4.1.4); a refused one leaves a client that must say it again.
func (c *conn) hello(name string, extended bool) {
	if !isHelo(name) {
		c.refuse(hooks.Helo, errHelo)
		return
	}
	c.reset()
	c.s.Helo, c.s.Extended, c.said = name, extended, false
	c.s.Retract(&c.greeted[0], &c.greeted[1]) // scores don't grow with each EHLO
	c.greeted[0] = c.s.Marks
	d, offers := c.askHelo()
	c.greeted[1] = c.s.Marks
	if d.Verb.Refuses() {
		c.story(outcome{d.Reply, d.By})
		c.refusedBy(hooks.Helo, d)
		return
	}
	c.said = true
	r := message.Reply{Code: 250, Text: c.server.hostname}
	if extended {
		r.Text += "\n" + strings.Join(offers, "\n")
	}
	c.send(r)
}

// askHelo asks stage helo, and settles which extensions the client is offered from
// here on; HELO may take some away too, for commands that need no EHLO.
func (c *conn) askHelo() (hooks.Decision, []string) {
	c.without = nil
	offers := c.capabilities()
	if !c.chain.Has(hooks.Helo) {
		return hooks.Decision{}, offers
	}
	c.whole.Capabilities = offers
	d := c.chain.Run(c.work, hooks.Helo, &c.whole)
	said := c.whole.Capabilities
	c.whole.Capabilities = nil
	return d, c.settleOffers(offers, said)
}

func isHelo(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && s[0] != ' ' && len(s) <= maxHelo
}

// rset: RFC 5321 section 4.1.1.5.
func rset(c *conn, _ string) {
	c.reset()
	c.send(okNoop)
}

func noop(c *conn, _ string) { c.send(okNoop) }
func expn(c *conn, _ string) { c.refuse(c.stage(), errExpn) }

// vrfy: RFC 5321 section 4.1.1.6; RFC 6531 section 3.7.4.2 for SMTPUTF8 behind
// the address.
func vrfy(c *conn, arg string) {
	what, param := arg, ""
	if i := strings.LastIndexByte(arg, ' '); i >= 0 {
		what, param = arg[:i], arg[i+1:]
	}
	switch {
	case isASCII(arg):
	case !utf8.ValidString(arg):
		c.refuse(c.stage(), errVrfySyntax)
		return
	case !strings.EqualFold(param, "SMTPUTF8") || isASCII(what) || c.lacks("SMTPUTF8"):
		c.refuse(c.stage(), errNotASCII)
		return
	}
	c.send(okVrfy)
}

// quit: RFC 5321 section 4.1.1.10.
func quit(c *conn, _ string) {
	c.send(okQuit)
	c.over = true
}

// http turns away what is no mail client, before its body is taken for commands.
func http(c *conn, _ string) { c.refuse(c.stage(), errHTTP) }

// help lists the commands, or tells one's syntax.
func help(c *conn, arg string) {
	r := okHelp
	if v := c.find(arg); v != nil && v.syntax != "" {
		r.Text = "Syntax: " + v.syntax
		c.send(r)
		return
	}
	names := make([]string, 0, len(c.server.verbs))
	for _, v := range c.server.verbs {
		if v.syntax != "" && c.speaks(&v) {
			names = append(names, v.name)
		}
	}
	r.Text = "Commands: " + strings.Join(names, " ") + "\nFor one of them: HELP command"
	c.send(r)
}
