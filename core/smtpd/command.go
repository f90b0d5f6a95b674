package smtpd

import (
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// askCommand lets the policies of stage command answer a command, whose duty is
// done whatever they say: RSET ends the transaction and QUIT the conversation.
func (c *conn) askCommand(v *verb, arg string) {
	d := hooks.Decision{}
	if c.banned == nil {
		d = c.runCommand(v.name, arg)
	}
	plain := d.Verb == hooks.Accept && d.Reply.Text == "" && d.Reply.Code == 0 && v.name != "EXPN" // whose own answer refuses
	if d.Verb == hooks.Pass || plain {
		v.run(c, arg)
		return
	}
	usual := okNoop
	switch v.name {
	case "RSET":
		c.reset()
	case "QUIT":
		c.over = true
		usual = okQuit
	case "HELP":
		usual = okHelp
	case "VRFY":
		usual = okVrfy
	}
	c.answerCommand(d, usual)
}

// unrecognised answers a command that is none of ours. One that a policy takes is no
// error of the client's.
func (c *conn) unrecognised(word, arg string) {
	d := c.runCommand(word, arg)
	if d.Verb == hooks.Pass {
		c.refuse(c.stage(), errUnknown)
		return
	}
	c.answerCommand(d, okNoop)
}

// runCommand asks stage command.
func (c *conn) runCommand(verb, arg string) hooks.Decision {
	if !c.chain.Has(hooks.Command) {
		return hooks.Decision{}
	}
	c.whole.Command = &hooks.Line{Verb: strings.ToUpper(strings.ToValidUTF8(verb, "?")), Argument: strings.ToValidUTF8(arg, "?")}
	defer func() { c.whole.Command = nil }()
	return c.chain.Run(c.work, hooks.Command, &c.whole)
}

// answerCommand sends a policy's answer; what it leaves open of a good one is as
// usual.
func (c *conn) answerCommand(d hooks.Decision, usual message.Reply) {
	if d.Verb.Refuses() {
		c.server.record.Refused(&c.whole, hooks.Command, d.By, d.Reply)
		c.negative(d.Reply, d.Reply.Permanent(), d.Disconnect)
		return
	}
	r := usual
	if d.Reply.Code != 0 {
		r.Code = d.Reply.Code
	}
	if d.Reply.Enhanced[0] == 2 {
		r.Enhanced = d.Reply.Enhanced
	}
	if d.Reply.Text != "" {
		r.Text = d.Reply.Text
	}
	c.send(r)
}
