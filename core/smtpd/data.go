package smtpd

import (
	"context"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Replies of DATA.
var (
	okData     = message.Reply{Code: 354, Text: "End data with <CR><LF>.<CR><LF>"}
	errSayRcpt = message.NewReply(503, "5.5.1", "Send RCPT TO first")
	errNobody  = message.NewReply(554, "5.5.1", "No valid recipients")
	// RFC 2033 section 4.2.
	errNobodyLMTP = message.NewReply(503, "5.5.1", "No valid recipients")
	errBareLF     = message.NewReply(554, "5.6.11", "The message has a line that ends with LF alone; lines end with CR and LF")
	errBareCR     = message.NewReply(554, "5.6.11", "The message has a CR without LF; lines end with CR and LF")
	errNUL        = message.NewReply(554, "5.6.11", "The message has a NUL in it; encode it (RFC 2045)")
	errCutOff     = message.NewReply(451, "4.4.2", "The connection was lost in the middle of the message") // for the story alone
	errOverflow   = message.NewReply(552, "5.3.4", "The message is much larger than this server takes, closing the connection")
)

// data: RFC 5321 section 4.1.1.4.
func data(c *conn, _ string) {
	no := c.opens()
	if no == nil && c.text.binary {
		no = func() { c.refuse(hooks.Data, errBinaryData) }
	}
	if no != nil {
		no()
		// Whoever did not wait for our answer may be sending a message's text
		// now, which must not be run as commands.
		c.afterData = len(c.in.buffered()) > 0
		return
	}
	c.send(okData)
	c.beginText()
	switch err := c.receive(); {
	case err != nil:
		c.refused = &outcome{errCutOff, ourName}
		c.lost(err)
		c.reset()
	case c.over: // errOverflow was sent
		c.reset()
	default:
		c.endText(true)
	}
}

// opens decides whether DATA, or the first BDAT, may begin a text. What it
// returns sends the refusal, which comes behind a chunk; nil: it may.
func (c *conn) opens() func() {
	no := func(r message.Reply) func() { return func() { c.refuse(hooks.Data, r) } }
	switch {
	case !c.tried:
		return no(errSayRcpt)
	case len(c.taken) == 0 && c.lmtp():
		return no(errNobodyLMTP)
	case len(c.taken) == 0:
		return no(errNobody)
	case c.discarded != nil:
		return nil
	}
	switch d := c.chain.Run(c.work, hooks.Data, c.tx); {
	case d.Verb.Refuses():
		return func() { c.endRefused(hooks.Data, d) }
	case d.Verb == hooks.Discard:
		c.discarded = &d
	}
	return nil
}

// beginText opens the door for the message's text.
func (c *conn) beginText() {
	c.text.since = time.Now()
	c.peer.Stands(hooks.Data)
	if c.discarded != nil {
		c.mail = dropped{c}
	} else {
		c.mail = c.server.door.begin(c.work, c.chain, c.tx, c.relay)
		if c.prdr || c.lmtp() {
			c.mail.AnswerEach()
		}
	}
}

// receive reads the text behind DATA to its end. An error is the connection's.
func (c *conn) receive() error {
	var room [maxCuts]cut
	d := dots{line: true, normalise: c.limits.NormaliseLF}
	p := &c.text.pace
	c.in.grow()
	for {
		k := c.take(&d, &room)
		if k.end {
			return nil
		}
		if k.more {
			continue
		}
		before := len(c.in.buffered())
		if err := c.moreText(p); err != nil {
			return err
		}
		if p.got += int64(len(c.in.buffered()) - before); c.overflows(p.got) {
			return nil
		}
	}
}

// take scans what is buffered and hands its content on; content with a fault in
// it is not seen by anyone.
func (c *conn) take(d *dots, room *[maxCuts]cut) chunk {
	b := c.in.buffered()
	known := d.faulty()
	k := d.scan(b, room)
	switch {
	case known:
	case d.faulty():
		c.mail.Refuse(textFault(&message.LineEnds{BareLF: d.bareLF, BareCR: d.bareCR, NUL: d.nul}))
	default:
		k.write(b, c.mail)
	}
	c.in.used(k.n)
	return k
}

// dataTime is how long a text of got bytes so far may take: the time that every
// text has, and what its bytes need at the least rate. A client that drips gains
// less than it spends.
func (c *conn) dataTime(got int64) time.Duration {
	rate := c.limits.MinDataRate
	return c.limits.DataTimeout + time.Duration(got/rate)*time.Second + time.Duration(got%rate)*time.Second/time.Duration(rate)
}

// overflow is how much beyond twice the limit is read and dropped, so that the
// client hears 552 after its end of data.
const overflow = 64 << 20

// overflows ends the connection of a client whose text has no end in sight.
func (c *conn) overflows(got int64) bool {
	limit := c.server.door.Limits(c.s)
	if limit <= 0 || got <= 2*limit+overflow {
		return false
	}
	c.refused = &outcome{errOverflow, ourName}
	c.negative(errOverflow, true, true)
	return true
}

// dropped is a mail that a policy wants taken and thrown away before its text.
type dropped struct{ c *conn }

func (dropped) Write([]byte)         {}
func (dropped) Refuse(message.Reply) {}
func (dropped) Refused() bool        { return false }
func (dropped) Abort()               {}
func (dropped) AnswerEach()          {}

// End tells the client what it would hear of a message that is kept.
func (d dropped) End(context.Context) intake.Answer {
	c := d.c
	r := message.NewReply(250, "2.0.0", "Ok: queued as "+c.tx.ID)
	c.server.record.Verdict(c.tx, record.Discarded, r, c.discarded.By+": "+c.discarded.Reason)
	return intake.Answer{Reply: r}
}
