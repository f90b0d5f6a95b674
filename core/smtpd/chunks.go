package smtpd

import (
	"bytes"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Replies of BDAT.
var (
	okChunk        = message.NewReply(250, "2.0.0", "Ok")
	errChunkSyntax = message.NewReply(501, "5.5.4", "Syntax: BDAT octets [LAST]; what follows can't be told from commands, closing the connection")
	errChunksOnly  = message.NewReply(503, "5.5.1", "A message comes in chunks: go on with BDAT, or give it up with RSET")
	errBinaryData  = message.NewReply(503, "5.5.1", "A message with BODY=BINARYMIME comes by BDAT, not by DATA")
)

// text is how far the message's text came, in DATA or in chunks.
type text struct {
	pace
	ends   message.LineEnds
	cr     bool // the last chunk's last octet is a CR
	binary bool // BODY=BINARYMIME: every octet may come
}

// pace is what a text's deadline is counted from.
type pace struct {
	since time.Time
	got   int64 // octets
}

// bdat: RFC 3030 section 2. Whatever becomes of a chunk, its octets are read as
// data and never as commands. A refused one ends the transaction; those behind
// it are refused too, for want of MAIL.
func bdat(c *conn, arg string) {
	size, last, ok := parseChunk(arg)
	if !ok {
		c.refuse(hooks.Data, errChunkSyntax)
		c.over, c.lingering = true, true
		return
	}
	if no := c.refusesChunk(); no != nil {
		if c.skip(size) {
			no()
			c.spoiled = !last
		}
		return
	}
	if c.mail == nil {
		c.beginText()
	}
	if c.overflows(c.text.got+size) || !c.readChunk(size, last) {
		c.reset()
		return
	}
	switch {
	case last:
		c.endText(true)
	case c.mail.Refused():
		c.endText(false)
		c.spoiled = true
	default:
		c.send(okChunk)
	}
}

// parseChunk: RFC 3030 section 2, chunk-size and end-marker. More than 18 digits
// are no size that anybody has.
func parseChunk(arg string) (size int64, last, ok bool) {
	number, marker, more := strings.Cut(arg, " ")
	last = strings.EqualFold(marker, "LAST")
	if !digits(number) || len(number) > 18 || more != last {
		return 0, false, false
	}
	for i := range len(number) {
		size = size*10 + int64(number[i]-'0')
	}
	return size, last, true
}

// refusesChunk says why a chunk is not taken, by sending its reply later: its
// octets come first. nil: it is taken. Only the first refused chunk of a message
// is an error that counts, since the others were on their way.
func (c *conn) refusesChunk() func() {
	counts := !c.spoiled
	switch {
	case c.banned != nil:
		return c.turnAway
	case c.lacks("CHUNKING"):
		return func() { c.refuseCounted(c.stage(), errNoChunking, counts) }
	case c.state() == chunking:
		return nil
	case c.tx == nil:
		return func() { c.refuseCounted(c.stage(), c.outOfOrder(), counts) }
	}
	return c.opens()
}

// skip reads the octets of a chunk that nobody wants; false: the connection is
// at its end.
func (c *conn) skip(size int64) bool {
	if c.overflows(size) {
		return false
	}
	p := pace{since: time.Now()}
	if err := c.octets(size, &p, func([]byte) {}); err != nil {
		c.lost(err)
		return false
	}
	return true
}

// readChunk hands a chunk to the message; false: the connection was lost.
func (c *conn) readChunk(size int64, last bool) bool {
	if limit := c.server.door.Limits(c.s); limit > 0 && c.text.got+size > limit {
		c.mail.Refuse(errTooLarge)
	}
	if err := c.octets(size, &c.text.pace, c.takeOctets); err != nil {
		c.refused = &outcome{errCutOff, ourName}
		c.lost(err)
		return false
	}
	if last && !c.text.binary && !c.faulty() {
		if c.text.ends.End(); c.faulty() {
			c.mail.Refuse(textFault(&c.text.ends))
		}
	}
	return true
}

// octets reads size octets in the time that a text of this pace has.
func (c *conn) octets(size int64, p *pace, take func(b []byte)) error {
	if size > smallSize {
		c.in.grow()
	}
	for size > 0 {
		b := c.in.buffered()
		if len(b) == 0 {
			if err := c.moreText(p); err != nil {
				return err
			}
			continue
		}
		b = b[:min(int64(len(b)), size)]
		take(b)
		c.in.used(len(b))
		size -= int64(len(b))
		p.got += int64(len(b))
	}
	return nil
}

// moreText waits for more of a text.
func (c *conn) moreText(p *pace) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.alarm.set(c.textDeadline(p))
	return c.in.read()
}

func (c *conn) textDeadline(p *pace) time.Time { return p.since.Add(c.dataTime(p.got)) }

// faulty tells whether the chunks so far hold what their message must not.
func (c *conn) faulty() bool {
	e := &c.text.ends
	return e.BareCR || e.NUL || e.BareLF && !c.limits.NormaliseLF
}

// takeOctets hands a part of a chunk on. A part with a fault in it, and what
// follows, is not seen by anyone.
func (c *conn) takeOctets(b []byte) {
	t := &c.text
	switch {
	case t.binary:
		c.mail.Write(b)
		return
	case c.faulty():
		return
	}
	t.ends.Scan(b)
	switch {
	case c.faulty():
		c.mail.Refuse(textFault(&t.ends))
	case t.ends.BareLF:
		t.ends.BareLF = false // of the next part
		normalise(b, t.cr, c.mail)
	default:
		c.mail.Write(b)
	}
	t.cr = b[len(b)-1] == '\r'
}

// normalise writes b with CRLF for each LF that has no CR before it; cr tells
// whether one stands before b.
func normalise(b []byte, cr bool, to interface{ Write(p []byte) }) {
	from := 0
	for p := 0; ; {
		i := bytes.IndexByte(b[p:], '\n')
		if i < 0 {
			break
		}
		i += p
		p = i + 1
		if i > 0 && b[i-1] == '\r' || i == 0 && cr {
			continue
		}
		if i > from {
			to.Write(b[from:i])
		}
		to.Write([]byte("\r\n"))
		from = p
	}
	if from < len(b) {
		to.Write(b[from:])
	}
}

// textFault is the reply to what may not be in a message.
func textFault(e *message.LineEnds) message.Reply {
	switch {
	case e.NUL:
		return errNUL
	case e.BareCR:
		return errBareCR
	}
	return errBareLF
}

// startsBDAT tells whether a line that is not run may have been meant as BDAT:
// then a chunk may follow, which must not be taken for commands.
func startsBDAT(line []byte) bool {
	line = bytes.TrimLeft(line, " \t\x00\r\n")
	return len(line) >= 4 && bytes.EqualFold(line[:4], []byte("BDAT"))
}
