package smtpd

import (
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// ourName is who refused where no policy did.
const ourName = "postern"

// maxOut bounds the replies that gather for one write.
const maxOut = 4 << 10

// Farewells: the connection ends after them, and no policy changes them.
var (
	errTimeout       = message.NewReply(421, "4.4.2", "Timed out waiting for you, closing the connection")
	errNoCRLF        = message.NewReply(421, "4.4.2", "Timed out: a command ends with CR and LF, not with LF alone")
	errStopping      = message.NewReply(421, "4.3.2", "This server is shutting down, please try again later")
	errInternal      = message.NewReply(421, "4.3.0", "Internal failure, please try again later")
	errEndless       = message.NewReply(421, "4.7.0", "A command line without an end, closing the connection")
	errTooManyErrors = message.NewReply(421, "4.7.0", "Too many errors, closing the connection")
	errUnwaited      = message.NewReply(421, "4.7.0", "You must wait for the reply to DATA before you go on (RFC 2920)")
)

var faultReplies = [...]message.Reply{
	lineBytes: message.NewReply(501, "5.5.2", "A command must not hold NUL, CR alone or LF alone; it ends with CR and LF"),
	lineLong:  message.NewReply(500, "5.5.2", "The command line is too long"),
}

// send puts a reply behind those that wait to be sent.
func (c *conn) send(r message.Reply) {
	if c.lacks("ENHANCEDSTATUSCODES") {
		r.Enhanced = [3]int{} // RFC 2034 section 4 has them where they are offered
	}
	if c.utf8 {
		c.out = r.AppendUTF8(c.out)
	} else {
		c.out = r.Append(c.out)
	}
	if len(c.out) >= maxOut {
		_ = c.flush() // a failure ends the conversation
	}
}

// subject is what a refusal is about: the transaction, or the connection.
func (c *conn) subject() *hooks.Transaction {
	if c.tx != nil {
		return c.tx
	}
	return &c.whole
}

// stage is the one nearest to where the conversation stands, for refusals of
// commands that have no stage.
func (c *conn) stage() hooks.Stage {
	switch c.state() {
	case fresh:
		return hooks.Connect
	case ready:
		return hooks.Helo
	case chunking:
		return hooks.Data
	}
	return hooks.Mail
}

// refuse sends a refusal of the engine, as the policies of stage deny want it.
func (c *conn) refuse(at hooks.Stage, r message.Reply) { c.refuseCounted(at, r, true) }

func (c *conn) refuseCounted(at hooks.Stage, r message.Reply, counts bool) {
	c.refuseFor(at, ourName, r, counts)
}

// refuseFor sends somebody's refusal that its chain has not shown to stage deny.
func (c *conn) refuseFor(at hooks.Stage, by string, r message.Reply, counts bool) {
	tx := c.subject()
	r, hang := c.chain.Refuse(c.work, at, tx, r)
	c.server.record.Refused(tx, at, by, r)
	c.negative(r, counts, hang)
}

// refusedBy sends a policy's refusal, which its chain has shown to stage deny
// already. A deferral by a policy is no error of the client's.
func (c *conn) refusedBy(at hooks.Stage, d hooks.Decision) {
	c.server.record.Refused(c.subject(), at, d.By, d.Reply)
	c.negative(d.Reply, d.Reply.Permanent(), d.Disconnect)
}

// negative sends a negative reply and closes after it where asked to, or where
// the code says so (RFC 5321 section 3.8).
func (c *conn) negative(r message.Reply, counts, hang bool) {
	c.s.Totals.Refused++
	if counts {
		c.errors++
	}
	c.send(r)
	if hang || r.Code == 421 {
		c.over, c.lingering = true, true
	}
}

// farewell ends the connection with a reply of class 4.
func (c *conn) farewell(r message.Reply) {
	c.server.record.Refused(c.subject(), c.stage(), ourName, r)
	c.s.Totals.Refused++
	c.send(r)
	c.over = true
	if c.tx != nil && (c.mail != nil || c.transaction.refused == nil) {
		c.transaction.refused = &outcome{r, ourName}
	}
}

// verdict tells the recorder how a transaction, or a refused connection, ended.
func (c *conn) verdict(tx *hooks.Transaction, o outcome) {
	v := record.Deferred
	if o.reply.Permanent() {
		v = record.Rejected
	}
	c.server.record.Verdict(tx, v, o.reply, o.by)
}
