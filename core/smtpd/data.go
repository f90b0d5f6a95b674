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
	okData      = message.Reply{Code: 354, Text: "End data with <CR><LF>.<CR><LF>"}
	errSayRcpt  = message.NewReply(503, "5.5.1", "Send RCPT TO first")
	errNobody   = message.NewReply(554, "5.5.1", "No valid recipients")
	errBareLF   = message.NewReply(554, "5.6.11", "The message has a line that ends with LF alone; lines end with CR and LF")
	errBareCR   = message.NewReply(554, "5.6.11", "The message has a CR without LF; lines end with CR and LF")
	errNUL      = message.NewReply(554, "5.6.11", "The message has a NUL in it; encode it (RFC 2045)")
	errCutOff   = message.NewReply(451, "4.4.2", "The connection was lost in the middle of the message") // for the story alone
	errOverflow = message.NewReply(552, "5.3.4", "The message is much larger than this server takes, closing the connection")
)

// data: RFC 5321 section 4.1.1.4.
func data(c *conn, _ string) {
	if !c.open() {
		// Whoever did not wait for our answer may be sending a message's text
		// now, which must not be run as commands.
		c.afterData = len(c.in.buffered()) > 0
		return
	}
	c.send(okData)
	answer, err := c.receive()
	switch {
	case err != nil:
		c.refused = &outcome{errCutOff, ourName}
		c.lost(err)
		c.reset()
		return
	case c.over: // errOverflow was sent
		c.reset()
		return
	}
	c.refused = nil // intake told the story
	c.reset()
	if answer.Reply.Negative() {
		c.negative(answer.Reply, answer.Reply.Permanent(), answer.Disconnect)
		return
	}
	c.send(answer.Reply)
	if answer.Disconnect {
		c.over, c.lingering = true, true
	}
}

// open decides whether DATA may begin.
func (c *conn) open() bool {
	switch {
	case !c.tried:
		c.refuse(hooks.Data, errSayRcpt)
		return false
	case c.taken == 0:
		c.refuse(hooks.Data, errNobody)
		return false
	case c.discarded != nil:
		return true
	}
	switch d := c.chain.Run(c.work, hooks.Data, c.tx); {
	case d.Verb.Refuses():
		c.endRefused(hooks.Data, d)
		return false
	case d.Verb == hooks.Discard:
		c.discarded = &d
	}
	return true
}

// receive reads the message's text to its end and lets intake judge it. An
// error is the connection's; the message is not ended then.
func (c *conn) receive() (intake.Answer, error) {
	if c.discarded != nil {
		c.mail = dropped{c}
	} else {
		c.mail = c.server.door.begin(c.work, c.chain, c.tx)
	}
	var room [maxCuts]cut
	d := dots{line: true, normalise: c.limits.NormaliseLF}
	start, got := time.Now(), int64(0)
	c.in.grow()
	for {
		k := c.take(&d, &room)
		if k.end {
			break
		}
		if k.more {
			continue
		}
		if err := c.flush(); err != nil {
			return intake.Answer{}, err
		}
		c.alarm.set(start.Add(c.dataTime(got)))
		before := len(c.in.buffered())
		if err := c.in.read(); err != nil {
			return intake.Answer{}, err
		}
		if got += int64(len(c.in.buffered()) - before); c.overflows(got) {
			return intake.Answer{}, nil
		}
	}
	answer := c.mail.End(c.work)
	c.mail = nil
	if answer.Reply.Positive() {
		c.s.Totals.Messages++
		c.s.Totals.Bytes += c.tx.Size
	}
	return answer, nil
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
		c.mail.Refuse(d.fault())
	default:
		k.write(b, c.mail)
	}
	c.in.used(k.n)
	return k
}

// fault is the reply to what may not be in a message.
func (d *dots) fault() message.Reply {
	switch {
	case d.nul:
		return errNUL
	case d.bareCR:
		return errBareCR
	}
	return errBareLF
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
	limit := c.server.door.Limits()
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
func (dropped) Abort()               {}

// End tells the client what it would hear of a message that is kept.
func (d dropped) End(context.Context) intake.Answer {
	c := d.c
	r := message.NewReply(250, "2.0.0", "Ok: queued as "+c.tx.ID)
	c.server.record.Verdict(c.tx, record.Discarded, r, c.discarded.By+": "+c.discarded.Reason)
	return intake.Answer{Reply: r}
}
