package smtpd

import (
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// state is where a conversation stands; a set of them says where a verb is legal.
type state uint8

const (
	fresh    state = 1 << iota // neither HELO nor EHLO was accepted
	ready                      // no transaction
	mailing                    // MAIL was accepted
	chunking                   // and a BDAT
	anytime  = fresh | ready | mailing | chunking
)

// stands is the stage that a conversation has come to, for those who count them.
var stands = [...]hooks.Stage{fresh: hooks.Helo, ready: hooks.Mail, mailing: hooks.Rcpt, chunking: hooks.Data}

func (c *conn) state() state {
	switch {
	case c.tx != nil && c.mail != nil:
		return chunking
	case c.tx != nil:
		return mailing
	case c.said:
		return ready
	}
	return fresh
}

// argument says what may follow a verb.
type argument uint8

const (
	optional argument = iota
	none
	required
)

// verb is a row of the table of commands.
type verb struct {
	name   string
	states state       // where it is legal
	stage  hooks.Stage // that its refusals belong to; 0: the nearest
	arg    argument
	syntax string // for HELP and for those who get it wrong; "": no command of SMTP
	// sync: its reply is sent at once (RFC 2920 section 3.2, items 3 and 4).
	sync    bool
	refused bool // runs on a refused connection too
	asks    bool // policies of stage command may answer it
	run     func(c *conn, arg string)
}

// verbs is the table of commands (RFC 5321 section 4.1.1).
func verbs() []verb {
	return []verb{
		{"EHLO", anytime, hooks.Helo, required, "EHLO your.host.name", true, false, false, ehlo},
		{"HELO", anytime, hooks.Helo, required, "HELO your.host.name", true, false, false, helo},
		{"LHLO", anytime, hooks.Helo, required, "LHLO your.host.name", true, false, false, ehlo},
		{"MAIL", ready, hooks.Mail, required, "MAIL FROM:<sender@example.org> [SIZE=octets] [BODY=7BIT|8BITMIME|BINARYMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=id]", false, false, false, mailFrom},
		{"RCPT", mailing, hooks.Rcpt, required, "RCPT TO:<recipient@example.org> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;address]", false, false, false, rcptTo},
		{"DATA", mailing, hooks.Data, none, "DATA", true, false, false, data},
		{"BDAT", anytime, hooks.Data, optional, "BDAT octets [LAST]", false, true, false, bdat},
		{"RSET", anytime, 0, none, "RSET", false, false, true, rset},
		{"NOOP", anytime, 0, optional, "NOOP", true, false, true, noop},
		{"VRFY", anytime, 0, required, "VRFY address", true, false, true, vrfy},
		{"EXPN", anytime, 0, optional, "EXPN list", true, false, true, expn},
		{"HELP", anytime, 0, optional, "HELP [command]", true, false, true, help},
		{"QUIT", anytime, 0, none, "QUIT", true, true, true, quit},
		{"STARTTLS", ready | mailing, hooks.TLS, none, "STARTTLS", true, false, false, startTLS},
		{"AUTH", ready, 0, required, "AUTH mechanism [initial-response]", true, false, false, authenticate},
		{"XFORWARD", fresh | ready, 0, required, "XFORWARD NAME=value ...", false, false, false, xforward},
		{"XCLIENT", fresh | ready, hooks.Connect, required, "XCLIENT NAME=value ...", true, false, false, xclient},
		// A browser, or a page in one that was told to speak to us.
		{name: "GET", states: anytime, refused: true, run: http},
		{name: "POST", states: anytime, refused: true, run: http},
		{name: "PUT", states: anytime, refused: true, run: http},
		{name: "HEAD", states: anytime, refused: true, run: http},
		{name: "OPTIONS", states: anytime, refused: true, run: http},
		{name: "CONNECT", states: anytime, refused: true, run: http},
	}
}

// Replies about commands as such.
var (
	errUnknown    = message.NewReply(500, "5.5.2", "Command not recognised")
	errEmpty      = message.NewReply(500, "5.5.2", "An empty line is no command")
	errSayHello   = message.NewReply(503, "5.5.1", "Say EHLO first")
	errSayLHLO    = message.NewReply(503, "5.5.1", "Say LHLO first")
	errSayMail    = message.NewReply(503, "5.5.1", "Send MAIL FROM first")
	errUnderWay   = message.NewReply(503, "5.5.1", "A message is under way: end it with DATA, or give it up with RSET")
	errNoArgument = message.NewReply(501, "5.5.4", "This command takes no argument")
)

// command runs one line.
func (c *conn) command(line string) {
	word, arg, _ := strings.Cut(line, " ")
	arg = strings.TrimRight(arg, " ")
	v := c.find(word)
	switch {
	case v == nil && startsBDAT([]byte(line)):
		c.refuse(c.stage(), errChunkSyntax)
		c.over, c.lingering = true, true
	case c.banned != nil && (v == nil || !v.refused):
		c.turnAway()
	case v == nil && word == "" && arg == "":
		c.refuse(c.stage(), errEmpty)
	case v == nil:
		c.unrecognised(word, arg)
	default:
		c.runVerb(v, arg)
	}
	if v == nil || v.sync {
		_ = c.flush() // a failure ends the conversation
	}
}

// turnAway answers a command on a refused connection.
func (c *conn) turnAway() {
	c.server.record.Refused(&c.whole, hooks.Connect, ourName, c.banned.reply)
	c.negative(c.banned.reply, true, c.banned.hang)
}

// runVerb checks a verb's row and runs it.
func (c *conn) runVerb(v *verb, arg string) {
	if v.name != "BDAT" {
		c.spoiled = false
	}
	at := v.stage
	if at == 0 {
		at = c.stage()
	}
	switch {
	case v.arg == none && arg != "":
		c.refuse(at, errNoArgument)
	case c.mustStartTLS(v):
		c.refuse(at, errMustTLS)
	case c.state()&v.states == 0:
		c.refuse(at, c.outOfOrder())
	case v.arg == required && arg == "":
		c.refuse(at, wrongUse(v))
	case v.asks:
		c.askCommand(v, arg)
	default:
		v.run(c, arg)
	}
}

func wrongUse(v *verb) message.Reply {
	return message.NewReply(501, "5.5.4", "Syntax: %s", v.syntax)
}

// outOfOrder says what should have come before.
func (c *conn) outOfOrder() message.Reply {
	switch c.state() {
	case fresh:
		if c.lmtp() {
			return errSayLHLO
		}
		return errSayHello
	case ready:
		return errSayMail
	case chunking:
		return errChunksOnly
	}
	return errUnderWay
}

// find looks a verb up, in any case. LMTP says LHLO where SMTP says EHLO and
// HELO (RFC 2033 section 4.1).
func (c *conn) find(word string) *verb {
	var upper [16]byte
	if len(word) > len(upper) {
		return nil
	}
	for i := range len(word) {
		b := word[i]
		if b >= 'a' && b <= 'z' {
			b -= 'a' - 'A'
		}
		upper[i] = b
	}
	v := c.server.byName[string(upper[:len(word)])]
	if v != nil && !c.speaks(v) {
		return nil
	}
	return v
}

// speaks tells whether a verb belongs to the listener's protocol.
func (c *conn) speaks(v *verb) bool {
	switch v.name {
	case "LHLO":
		return c.lmtp()
	case "EHLO", "HELO":
		return !c.lmtp()
	}
	return true
}
