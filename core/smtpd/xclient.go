package smtpd

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// xclientNames are the attributes of XCLIENT, as Postfix's XCLIENT_README has
// them.
var xclientNames = [...]string{"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"}

// Replies of XCLIENT.
var (
	errNoXclient     = message.NewReply(550, "5.7.0", "XCLIENT is not for you")
	errXclientSyntax = message.NewReply(501, "5.5.4", "Syntax: XCLIENT NAME=value ..., with values in xtext")
)

// xclient gives the session the facts of the client that stands behind this
// one, a proxy or a test. The session starts anew: stage connect runs again,
// then 220, then EHLO is due.
func xclient(c *conn, arg string) {
	if !c.mayXclient() {
		c.refuse(hooks.Connect, errNoXclient)
		return
	}
	facts, bad := parseXclient(arg)
	if bad != nil {
		c.refuse(hooks.Connect, *bad)
		return
	}
	c.reset()
	c.said, c.storied, c.errors, c.without = false, false, 0, nil
	c.whole = hooks.Transaction{Session: c.s}
	if err := c.peer.Xclient(c.work, facts); err != nil {
		c.deniedByRules(err)
		return
	}
	c.meet()
}

// mayXclient tells whether XCLIENT is there for this client.
func (c *conn) mayXclient() bool { return c.peer.MayXclient() && !c.lacks("XCLIENT") }

// deniedByRules refuses the new client as the gate refuses one.
func (c *conn) deniedByRules(err error) {
	r := errRules
	r.Text = c.server.hostname + " " + err.Error()
	c.server.record.Refused(&c.whole, hooks.Connect, "gate", r)
	c.negative(r, true, true)
}

// parseXclient reads NAME=value pairs. [UNAVAILABLE] and [TEMPUNAVAIL] stand for
// an empty fact. An address that is not available becomes the unspecified one,
// so that the proxy's own rights don't pass to its client.
func parseXclient(arg string) (gate.Xclient, *message.Reply) {
	var x gate.Xclient
	seen := map[string]bool{}
	for word := range strings.FieldsSeq(arg) {
		key, coded, ok := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		value, fine := decodeXtext(coded)
		if !ok || !fine || seen[key] {
			return x, &errXclientSyntax
		}
		seen[key] = true
		if isUnavailable(value) {
			value = ""
		}
		if !setXclient(&x, key, value) {
			r := message.NewReply(501, "5.5.4", "Bad %s attribute", clip(key))
			return x, &r
		}
	}
	return x, nil
}

func isUnavailable(s string) bool {
	return strings.EqualFold(s, "[UNAVAILABLE]") || strings.EqualFold(s, "[TEMPUNAVAIL]")
}

// setXclient sets one attribute; "" is one that is not available.
func setXclient(x *gate.Xclient, key, value string) (ok bool) {
	switch key {
	case "ADDR":
		x.Addr, ok = xclientAddr(value)
	case "DESTADDR":
		x.DestAddr, ok = xclientAddr(value)
	case "PORT":
		x.Port, ok = xclientPort(value)
	case "DESTPORT":
		x.DestPort, ok = xclientPort(value)
	case "NAME":
		name, err := message.ParseDomain(value)
		x.Name, ok = &name, value == "" || err == nil
	case "HELO":
		x.Helo, ok = &value, value == "" || isHelo(value)
	case "LOGIN":
		x.Login, ok = &value, true
	case "PROTO":
		value = strings.ToUpper(value)
		x.Proto, ok = &value, value == "" || value == "SMTP" || value == "ESMTP"
	}
	return ok
}

func xclientAddr(s string) (netip.Addr, bool) {
	if s == "" {
		return netip.IPv4Unspecified(), true
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "IPV6:") {
		s = s[5:]
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}

func xclientPort(s string) (*uint16, bool) {
	if s == "" {
		return new(uint16), true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	port := uint16(n)
	return &port, err == nil
}

// maxXtext bounds a value; Postfix's own bound is 255.
const maxXtext = 255

// decodeXtext reads a value in xtext (RFC 3461 section 4). What it stands for
// must be printable ASCII.
func decodeXtext(coded string) (string, bool) {
	s, ok := message.DecodeXtext(coded)
	return s, ok && printable(s) && s != "" && len(s) <= maxXtext
}
