package smtpd

import (
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// xforwardNames are the attributes of XFORWARD, as Postfix's XFORWARD_README has
// them.
var xforwardNames = [...]string{"NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"}

// Replies of XFORWARD.
var (
	errNoXforward     = message.NewReply(550, "5.7.0", "XFORWARD is not for you")
	errXforwardSyntax = message.NewReply(501, "5.5.4", "Syntax: XFORWARD NAME=value ..., with values in xtext")
)

// xforward keeps what the client says of the one that stands behind it, for the
// log and the story of the next transaction. Several commands add up. No right
// and no policy depends on it: that is XCLIENT's work.
func xforward(c *conn, arg string) {
	if !c.peer.MayXclient() || c.lacks("XFORWARD") {
		c.refuse(c.stage(), errNoXforward)
		return
	}
	f := hooks.Forwarded{}
	if c.s.Forwarded != nil {
		f = *c.s.Forwarded
	}
	if bad := parseXforward(arg, &f); bad != nil {
		c.refuse(c.stage(), *bad)
		return
	}
	c.s.Forwarded = &f
	c.send(okNoop)
}

// parseXforward reads NAME=value pairs into f, each name once at most.
func parseXforward(arg string, f *hooks.Forwarded) *message.Reply {
	seen := map[string]bool{}
	for word := range strings.FieldsSeq(arg) {
		key, coded, ok := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		value, fine := decodeXtext(coded)
		if !ok || !fine || seen[key] {
			return &errXforwardSyntax
		}
		seen[key] = true
		if isUnavailable(value) {
			value = ""
		}
		if !setXforward(f, key, value) {
			r := message.NewReply(501, "5.5.4", "Bad %s attribute", clip(key))
			return &r
		}
	}
	if len(seen) == 0 {
		return &errXforwardSyntax
	}
	return nil
}

// setXforward sets one attribute; "" is one that is not available. Names and
// addresses may be of any kind, so they are texts and no more.
func setXforward(f *hooks.Forwarded, key, value string) bool {
	switch key {
	case "NAME":
		f.Name = value
	case "ADDR":
		if ip, ok := xclientAddr(value); ok && ip != netip.IPv4Unspecified() {
			value = ip.String()
		}
		f.Addr = value
	case "PORT":
		if _, ok := xclientPort(value); !ok {
			return false
		}
		f.Port = value
	case "PROTO":
		f.Proto = value
	case "HELO":
		f.Helo = value
	case "IDENT":
		f.Ident = value
	case "SOURCE":
		f.Source = strings.ToUpper(value)
		return value == "" || f.Source == "LOCAL" || f.Source == "REMOTE"
	default:
		return false
	}
	return true
}

// tellForwarded puts what was forwarded into the story of a transaction.
func (c *conn) tellForwarded() {
	if c.s.Forwarded == nil {
		return
	}
	c.server.record.Stage(c.tx, hooks.StageRun{Stage: hooks.Mail, Time: time.Now(), Handlers: []hooks.HandlerRun{{
		Policy: "xforward", Reason: c.s.Forwarded.String(),
	}}})
}
