package smtpd

import (
	"errors"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Replies of MAIL and RCPT.
var (
	okSender         = message.NewReply(250, "2.1.0", "Ok")
	okRecipient      = message.NewReply(250, "2.1.5", "Ok")
	errManyMails     = message.NewReply(421, "4.7.0", "Too many messages in one connection, please open another")
	errManyRcpts     = message.NewReply(452, "4.5.3", "Too many recipients, please send to the others in another message")
	errNullRcpt      = message.NewReply(501, "5.1.3", "A recipient can't be empty")
	errNoRule        = message.NewReply(550, "5.7.1", "Relaying denied: this server takes no mail for that recipient from you")
	errSenderMany    = message.NewReply(553, "5.7.1", "A sender that is another one for each recipient is taken from relaying and authenticated clients only")
	errSenderDomain  = message.NewReply(553, "5.1.7", "The sender's address needs a domain: write MAIL FROM:<user@example.org>")
	errNoWord        = errors.New("the word before the path is missing")
	errMailSyntax    = message.NewReply(501, "5.5.4", "Write MAIL FROM:<user@example.org>, or MAIL FROM:<>")
	errRcptSyntax    = message.NewReply(501, "5.5.4", "Write RCPT TO:<user@example.org>")
	errAddressSyntax = message.Reply{Code: 501, Enhanced: [3]int{5, 1, 3}}
)

// mailFrom: RFC 5321 section 4.1.1.2.
func mailFrom(c *conn, arg string) {
	a, rest, err := readPath(arg, "FROM:", message.ParseReversePath)
	if bad := senderFault(a, err); bad != nil {
		c.refuse(hooks.Mail, *bad)
		return
	}
	compared, err := intake.Canonical(a)
	if err != nil {
		c.refuse(hooks.Mail, *pathFault(err, errMailSyntax, 7))
		return
	}
	if bad := c.senderRefused(compared); bad != nil {
		c.refuse(hooks.Mail, *bad)
		return
	}
	if c.limits.Messages > 0 && c.s.Totals.Transacts >= c.limits.Messages {
		c.refuse(hooks.Mail, errManyMails)
		return
	}
	tx := hooks.NewTransaction(c.s, message.NewID(time.Now()))
	params, bad := c.readParams("MAIL", rest, tx)
	if bad != nil {
		c.refuse(hooks.Mail, *bad)
		return
	}
	tx.Params, tx.Given = params, a
	tx.Sender = compared
	utf8 := tx.Said("SMTPUTF8")
	if !utf8 && !a.IsASCII() {
		c.refuse(hooks.Mail, errNotASCII)
		return
	}
	c.tx, c.utf8, c.prdr = tx, utf8, tx.Said("PRDR")
	c.text.binary = slices.Contains(params, hooks.Param{Key: "BODY", Value: "BINARYMIME"})
	c.alarm.setBusy(true)
	c.s.Totals.Transacts++
	c.tellForwarded()
	switch d := c.chain.Run(c.work, hooks.Mail, tx); {
	case d.Verb.Refuses():
		c.endRefused(hooks.Mail, d)
		return
	case d.Verb == hooks.Discard:
		c.discarded = &d
	default:
		c.relay = c.server.door.relay(tx, c.prdr || c.lmtp())
	}
	c.send(okSender)
}

func senderFault(a message.Address, err error) *message.Reply {
	switch {
	case err != nil:
		return pathFault(err, errMailSyntax, 7)
	case !a.IsNull() && a.Domain == "":
		return &errSenderDomain
	}
	return nil
}

// pathFault is the reply to a path that can't be read: usage where there is
// none, else 501 5.1.detail with what is wrong (RFC 3463 section 3.2).
func pathFault(err error, usage message.Reply, detail int) *message.Reply {
	if errors.Is(err, errNoWord) {
		return &usage
	}
	r := errAddressSyntax
	r.Enhanced[2] = detail
	r.Text = usage.Text + ": " + err.Error()
	return &r
}

// endRefused refuses the transaction as a whole and forgets it.
func (c *conn) endRefused(at hooks.Stage, d hooks.Decision) {
	c.refused = &outcome{d.Reply, d.By}
	c.negative(d.Reply, d.Reply.Permanent(), d.Disconnect)
	c.reset()
}

// rcptTo: RFC 5321 section 4.1.1.3.
func rcptTo(c *conn, arg string) {
	c.tried = true
	a, rest, err := readPath(arg, "TO:", message.ParsePath)
	if bad := recipientFault(a, err); bad != nil {
		c.refuse(hooks.Rcpt, *bad)
		return
	}
	r := &hooks.Recipient{Given: a}
	var bad *message.Reply
	if r.Params, bad = c.readParams("RCPT", rest, c.tx); bad == nil {
		bad = c.recipientForm(r)
	}
	if bad != nil {
		c.refuse(hooks.Rcpt, *bad)
		return
	}
	if len(c.taken) >= c.limits.Recipients {
		c.refuseCounted(hooks.Rcpt, errManyRcpts, false) // RFC 5321 section 4.5.3.1.10: no error of the client's
		return
	}
	if a.Domain == "" {
		r.Address = c.server.door.Postmaster() // section 4.5.1
	}
	if r.Address, err = c.server.door.Meant(c.s, r.Address); err != nil {
		c.refuse(hooks.Rcpt, *pathFault(err, errRcptSyntax, 3))
		return
	}
	c.server.door.Untag(r)
	r.Ours = c.server.door.Ours(r.Address.Domain)
	c.tx.Current = r
	c.judgeRecipient()
	if c.tx != nil {
		c.tx.Current = nil
	}
}

func recipientFault(a message.Address, err error) *message.Reply {
	switch {
	case err != nil:
		return pathFault(err, errRcptSyntax, 3)
	case a.IsNull():
		return &errNullRcpt
	}
	return nil
}

// recipientForm brings a recipient's domain to the form in which domains are
// compared. UTF-8 is for those who said SMTPUTF8 (RFC 6531 section 3.7.1).
func (c *conn) recipientForm(r *hooks.Recipient) *message.Reply {
	if !c.utf8 && !r.Given.IsASCII() {
		return &errNotASCII
	}
	var err error
	if r.Address, err = intake.Canonical(r.Given); err != nil {
		return pathFault(err, errRcptSyntax, 3)
	}
	return nil
}

// judgeRecipient asks stage rcpt about tx.Current, whose last handler is the
// recipient rule; where not even that is there, nobody is let through.
func (c *conn) judgeRecipient() {
	d := hooks.Decision{Verb: hooks.Accept}
	if c.discarded == nil {
		d = c.chain.Run(c.work, hooks.Rcpt, c.tx)
	}
	switch {
	case d.Verb.Refuses():
		c.refused = &outcome{d.Reply, d.By}
		c.refusedBy(hooks.Rcpt, d)
		return
	case d.Verb == hooks.Pass:
		c.refused = &outcome{errNoRule, ourName}
		c.refuse(hooks.Rcpt, errNoRule)
		return
	}
	one, reply := taken{given: c.tx.Current.Given, rcpt: c.tx.Current}, okRecipient
	if d.Verb == hooks.Accept {
		if one.rcpt, reply = c.addRecipient(); one.rcpt == nil {
			return
		}
	}
	c.taken = append(c.taken, one) // a discarded one counts, the client was told 250 for it
	c.send(reply)
}

// addRecipient puts tx.Current, as policies left it, among the recipients, each
// address once, and returns the one that stands there with the reply to send. nil:
// the next hop refused it while the client waits, and the refusal is sent.
func (c *conn) addRecipient() (*hooks.Recipient, message.Reply) {
	r := c.tx.Current
	if r.Address != r.Given {
		if a, err := intake.Canonical(r.Address); err == nil {
			r.Address = a // one of a policy's
		}
		r.Ours = c.server.door.Ours(r.Address.Domain)
	}
	i := slices.IndexFunc(c.tx.Recipients, func(o *hooks.Recipient) bool { return o == r || o.Address == r.Address })
	if i >= 0 {
		return c.tx.Recipients[i], okRecipient
	}
	reply := okRecipient
	if c.relay != nil && c.discarded == nil {
		answer, by := c.relay.Offer(c.work, r)
		if answer.Negative() {
			c.refused = &outcome{answer, by}
			c.refuseFor(hooks.Rcpt, by, answer, answer.Permanent())
			return nil, answer
		}
		if !answer.IsZero() {
			reply = answer
		}
	}
	c.tx.Recipients = append(c.tx.Recipients, r)
	return r, reply
}

// reset ends the transaction, whatever it came to, and leaves nothing of it: at
// RSET, EHLO, STARTTLS and XCLIENT, after a refused MAIL or DATA, after the end
// of data, and at the connection's end. A transaction that was refused and led
// to no message gets its story here.
func (c *conn) reset() {
	t := c.transaction
	c.transaction = transaction{}
	if t.mail != nil {
		t.mail.Abort()
	}
	if t.relay != nil {
		t.relay.Close()
	}
	if t.tx != nil {
		c.alarm.setBusy(false)
		if t.refused != nil {
			t.tx.Current = nil
			c.verdict(t.tx, *t.refused)
		}
	}
	c.s.Forwarded = nil // it was for this transaction, as in Postfix
}
