package smtpd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// conn is one connection's conversation. It belongs to one goroutine, but for
// the alarm and for early.
type conn struct {
	server *Server
	peer   *gate.Conn
	nc     net.Conn // what is read and written: TLS over the peer's after STARTTLS
	s      *hooks.Session
	chain  *hooks.Chain
	limits *Limits
	work   context.Context   // of all that is done for the client; outlives the server's stop by the grace
	whole  hooks.Transaction // stands for the connection at its stages
	alarm  alarm

	in    input
	wait  func() error // awaitLine
	armed bool         // the deadline of the line that is read is set

	out      []byte // replies not sent yet
	outSmall [smallSize]byte

	met     beginning
	greeted [2]hooks.Marks // before and after stage helo ran last
	without []string       // what stage helo took away: keywords, and "AUTH mechanism"

	said      bool // HELO or EHLO was accepted
	errors    int  // negative replies that count
	banned    *ban // the connection was refused
	storied   bool // its refusal has its story
	afterData bool // a refused DATA had input right behind it
	spoiled   bool // a chunk was refused, and those behind it are still to come
	over      bool // no further command is read
	lingering bool // we end it, while the client may be sending still
	transaction

	peek    chan struct{} // holds one while the following, and input while peeking, are used
	peeking bool          // stage connect runs
	spoke   bool          // the client spoke before its turn
}

// beginning is what policies left before the client said anything. Edits never
// change it: they replace what the session holds.
type beginning struct {
	marks hooks.Marks
	notes map[string]any
}

// ban is what every command but QUIT gets once the connection is refused.
type ban struct {
	reply message.Reply
	hang  bool // and close
}

// transaction is what MAIL begins. Its zero value is no transaction.
type transaction struct {
	tx        *hooks.Transaction
	relay     relay           // to next hops that answer while the client waits; nil: none
	mail      mail            // from the start of its text until it is judged
	text      text            // how far that came
	utf8      bool            // SMTPUTF8 was said
	prdr      bool            // PRDR was said
	tried     bool            // an RCPT was seen
	taken     []taken         // the RCPTs that were answered 250
	discarded *hooks.Decision // a policy wants it taken and dropped
	refused   *outcome        // the last refusal: what the story ends with if no message comes
}

// outcome is a refusal and whose it was.
type outcome struct {
	reply message.Reply
	by    string
}

// converse reads commands and runs them, to the end.
func (c *conn) converse() {
	for !c.over {
		if c.tx == nil && c.alarm.stopping() {
			c.farewell(errStopping)
			return
		}
		c.armed = false
		c.peer.Stands(stands[c.state()])
		line, fault, err := c.in.line(c.wait)
		if err != nil {
			c.lost(err)
			return
		}
		switch {
		case c.afterData:
			c.lingering = true
			c.farewell(errUnwaited)
		case c.limits.Errors > 0 && c.errors >= c.limits.Errors:
			c.lingering = true
			c.farewell(errTooManyErrors)
		case fault == lineChunk:
			c.lingering, c.over = true, true
			c.refuse(c.stage(), errChunkSyntax)
		case fault != lineFine:
			c.refuse(c.stage(), faultReplies[fault])
			_ = c.flush() // a failure ends the conversation
		default:
			c.command(string(line))
		}
	}
}

// awaitLine is called before a read for a command line: what the client waits
// for is sent, and the time for the whole line begins.
func (c *conn) awaitLine() error {
	if err := c.flush(); err != nil {
		return err
	}
	if !c.armed {
		c.armed = true
		until := time.Now().Add(c.limits.CommandTimeout)
		if c.mail != nil { // between two chunks, which belong to one text
			if end := c.textDeadline(&c.text.pace); end.Before(until) {
				until = end
			}
		}
		c.alarm.set(until)
	}
	return nil
}

// lost ends the connection after a read that failed.
func (c *conn) lost(err error) {
	switch {
	case errors.Is(err, errFlood):
		c.lingering = true
		c.farewell(errEndless)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		c.over = true // gone
		if c.mail != nil {
			c.refused = &outcome{errCutOff, ourName}
		}
	case c.alarm.stopping():
		c.farewell(errStopping)
	case bytes.IndexByte(c.in.buffered(), '\n') >= 0:
		c.farewell(errNoCRLF)
	default:
		c.farewell(errTimeout)
	}
}

// flush sends the replies that have gathered.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.alarm.write(c.limits.CommandTimeout)
	_, err := c.nc.Write(c.out)
	c.out = c.outSmall[:0]
	if err != nil {
		c.over = true
	}
	return err
}

// early implements hooks.Session.Early. While stage connect runs it waits for
// bytes, which stay in the buffer; afterwards it tells what was found then.
// Policies in shadow call it beside the conversation.
func (c *conn) early(ctx context.Context, wait time.Duration) bool {
	until := time.Now().Add(wait)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case c.peek <- struct{}{}:
	case <-timer.C:
		return false // another one waits for bytes: there are none yet
	}
	defer func() { <-c.peek }()
	if !c.peeking {
		return c.spoke
	}
	if len(c.in.buffered()) == 0 {
		c.alarm.set(until)
		_ = c.in.read() // what it says is said again by the next read
	}
	c.spoke = len(c.in.buffered()) > 0
	return c.spoke
}

// runConnect asks stage connect, with early at work.
func (c *conn) runConnect() hooks.Decision {
	c.setPeeking(true)
	d := c.chain.Run(c.work, hooks.Connect, &c.whole)
	c.alarm.hush(true)
	c.setPeeking(false)
	c.alarm.hush(false)
	return d
}

func (c *conn) setPeeking(on bool) {
	c.peek <- struct{}{}
	c.peeking = on
	if on {
		c.spoke = false
	}
	<-c.peek
}

// Bounds of lingering: how long, and how much is read.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// finish ends the connection: nothing of a transaction stays, what was said is
// sent, and those who observe are told.
func (c *conn) finish() {
	if p := recover(); p != nil {
		c.server.log.Error("connection failed", "session", c.s.ID, "client", c.s.Client.String(), "panic", p, "stack", string(debug.Stack()))
		c.lingering = true
		c.farewell(errInternal)
	}
	c.reset()
	_ = c.flush()
	if c.lingering {
		c.linger()
	}
	if c.nc != c.peer.Conn {
		_ = c.nc.Close() // says so in TLS; the gate closes what is below
	}
	c.in.drop()
	c.s.Totals.Duration = c.server.now().Sub(c.s.Started)
	c.chain.Tell(hooks.Disconnect, &c.whole)
	c.server.record.Disconnected(c.s)
}

// linger reads a little of what the client sends still: input that nobody read
// would turn our close into a reset, which can overtake the last reply.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.alarm.set(time.Now().Add(lingerTime))
	for got := 0; got < lingerBytes; {
		c.in.drop()
		if c.in.read() != nil {
			return
		}
		got += len(c.in.buffered())
	}
}
