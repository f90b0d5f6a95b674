package smtpd

import (
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// okEach begins the replies to each recipient (draft-hall-prdr-00 section 4.5).
var okEach = message.Reply{Code: 353, Text: "A reply for each recipient follows, then one for the message"}

// taken is an RCPT that was answered 250.
type taken struct {
	given message.Address
	rcpt  *hooks.Recipient // of the transaction, or one that a policy discarded
}

// lmtp tells whether the listener speaks LMTP (RFC 2033).
func (c *conn) lmtp() bool { return c.peer.Listener.Protocol == "lmtp" }

// endText lets intake judge the message whose text has come, answers, and ends
// the transaction. whole: the client sees it as the message's end, else as that
// of one chunk that was refused.
func (c *conn) endText(whole bool) {
	c.peer.Stands(hooks.Message)
	answer := c.mail.End(c.work)
	c.mail = nil
	c.refused = nil // intake told the story
	if answer.Reply.Positive() {
		c.s.Totals.Messages++
		c.s.Totals.Bytes += c.tx.Size
	}
	switch {
	case whole && c.lmtp():
		c.sendEach(&answer)
	case whole && c.prdr && (answer.Reply.Positive() || answer.Each != nil):
		c.send(okEach)
		c.sendEach(&answer)
		c.sendFinal(answer.Reply)
	default:
		c.sendFinal(answer.Reply)
	}
	if answer.Disconnect {
		c.over, c.lingering = true, true
	}
	c.reset()
}

// sendFinal sends the reply to a message as a whole.
func (c *conn) sendFinal(r message.Reply) {
	if r.Negative() {
		c.negative(r, r.Permanent(), false)
		return
	}
	c.send(r)
}

// sendEach sends a reply for each RCPT that was answered 250, in their order, an
// address that was given twice not left out (RFC 2033 section 4.2). However many
// refuse the message, it is one error.
func (c *conn) sendEach(a *intake.Answer) {
	wrong := false
	for i := range c.taken {
		r := a.For(c.taken[i].rcpt)
		r.Text = c.taken[i].given.Path() + " " + r.Text
		if r.Negative() {
			c.negative(r, r.Permanent() && !wrong, false)
			wrong = wrong || r.Permanent()
			continue
		}
		c.send(r)
	}
}
