package smtpd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// TestCommandStage: what policies of stage command may answer, and that RSET and
// QUIT do their duty whatever they say.
func TestCommandStage(t *testing.T) {
	text := func(code int, status, text string) hooks.Decision {
		return hooks.Decision{Verb: hooks.Accept, Reply: message.NewReply(code, status, "%s", text)}
	}
	accept, reject, later := hooks.Decision{Verb: hooks.Accept}, hooks.Decision{Verb: hooks.Reject}, hooks.Decision{Verb: hooks.Defer}
	words := hooks.Decision{Verb: hooks.Accept, Reply: message.Reply{Text: "Words"}}
	for name, one := range map[string]struct {
		d        hooks.Decision
		dialogue string
	}{
		"no decision":                  {hooks.Decision{}, "FROB a b\n< 500 5.5.2\nNOOP\n< 250 2.0.0 Ok\nVRFY x\n< 252 2.1.5\nEXPN x\n< 502 5.5.1\nHELP\n< 214\nRSET\n< 250"},
		"accept":                       {accept, "FROB a b\n< 250 2.0.0 Ok\nETRN x\n< 250 2.0.0 Ok\nNOOP\n< 250 2.0.0 Ok\nVRFY x\n< 252 2.1.5 Add\nEXPN x\n< 250 2.0.0\nHELP\n< 214-2.0.0 Commands\nRSET\n< 250\nQUIT\n< 221 2.0.0 Bye\n<"},
		"accept with words":            {words, "FROB a b\n< 250 2.0.0 Words\r\nNOOP\n< 250 2.0.0 Words\nVRFY x\n< 252 2.1.5 Words\nHELP\n< 214 2.0.0 Words\nRSET\n< 250 2.0.0 Words\nQUIT\n< 221 2.0.0 Words\n<"},
		"accept with a reply":          {text(250, "2.1.5", "Anna <anna@example.net>"), "VRFY anna\n< 250 2.1.5 Anna <anna@example.net>\nFROB\n< 250 2.1.5 Anna"},
		"accept with lines":            {text(250, "2.1.5", "one\ntwo\x00"), "EXPN list\n< 250-2.1.5 one\r\n250 2.1.5 two?\r\n"},
		"accept with a refusal's code": {text(550, "5.1.1", "No"), "VRFY anna\n< 451 4.3.0"},
		"accept with 354":              {text(354, "", "Go"), "FROB\n< 451 4.3.0"},
		"reject":                       {reject, "FROB\n< 502 5.5.1 Command refused\nNOOP\n< 502\nVRFY x\n< 502 5.5.1\nHELP\n< 502"},
		"defer":                        {later, "FROB\n< 450 4.7.1\nVRFY x\n< 450 4.7.1\nNOOP\n< 450"},
		"disconnect":                   {hooks.Decision{Verb: hooks.Drop}, "NOOP\n< 421 4.7.0\n<"},
		"reject and close":             {hooks.Decision{Verb: hooks.Reject, Disconnect: true}, "NOOP\n< 502\n<"},
		"RSET, refused":                {reject, from + to + "RSET\n< 502\nRCPT TO:<b@example.net>\n< 503 5.5.1\nDATA\n< 503 5.5.1\n" + from},
		"RSET, deferred":               {later, from + to + ">BDAT 3\\r\\nabc\n< 250\nRSET\n< 450\n" + from + to + "DATA\n< 354\n.\n< 250"},
		"QUIT, refused":                {reject, "QUIT\n< 502\n<"},
		"QUIT, deferred":               {later, "QUIT\n< 450\n<"},
		"others go on":                 {reject, from + "NOOP\n< 502\n" + to + "VRFY x\n< 502\nDATA\n< 354\n.\n< 250"},
		"not asked":                    {reject, ">\\r\\n\n< 500 5.5.2 An empty\nRSET x\n< 501 5.5.4\nVRFY\n< 501 5.5.4\nEHLO x\n< 250\nGET / HTTP\n< 421 5.7.0\n<"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).on(hooks.Command, one.d).start()
			play(t, r.greeted(), one.dialogue)
		})
	}
}

// TestCommandIsShown: a policy sees the verb in upper case and the argument, as a
// connection's, and nothing of it stays.
func TestCommandIsShown(t *testing.T) {
	var seen []string
	r := newRig(t, Limits{}).policy(hooks.Command, func(tx *hooks.Transaction) hooks.Decision {
		seen = append(seen, fmt.Sprintf("%s|%s|%s", tx.Command.Verb, tx.Command.Argument, tx.ID))
		return hooks.Decision{}
	}).policy(hooks.Mail, func(tx *hooks.Transaction) hooks.Decision {
		if tx.Command != nil {
			t.Error("the command is seen at mail")
		}
		return hooks.Decision{}
	}).start()
	c := r.greeted()
	play(t, c, "frob  a  b \n< 500\n"+from+"vrfy a@b\n< 252\nFR\\xB f\\x\n< 500\nhelp\n< 214\nETRN example.net\n< 500\nRSET\n< 250"+bye)
	want := []string{"FROB| a  b|", "VRFY|a@b|", "FR?B|f?|", "HELP||", "ETRN|example.net|", "RSET||", "QUIT||"}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// TestCommandErrors: what a policy refuses for good is an error that counts, what it
// takes or defers is none; an unrecognised command that nobody takes is.
func TestCommandErrors(t *testing.T) {
	for verb, counts := range map[hooks.Verb]bool{hooks.Pass: true, hooks.Accept: false, hooks.Defer: false, hooks.Reject: true} {
		r := newRig(t, Limits{Errors: 2}).on(hooks.Command, hooks.Decision{Verb: verb}).start()
		c := r.greeted()
		for range 2 {
			c.send("FROB\r\n")
			c.reply()
		}
		c.send("NOOP\r\n")
		if got := c.reply(); strings.HasPrefix(got, "421 4.7.0 Too many errors") != counts {
			t.Errorf("%s: %q", verb, got)
		}
	}
}

// TestCommandMarksAreBounded: a client can't fill memory with what a policy leaves at
// each command.
func TestCommandMarksAreBounded(t *testing.T) {
	n := 0
	r := newRig(t, Limits{}).policy(hooks.Command, func(tx *hooks.Transaction) hooks.Decision {
		n = len(tx.Session.Scores)
		return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.AddScore, Name: "noop", Number: 1}}}
	}).start()
	c := r.greeted()
	last := ""
	for range 1100 {
		c.send("NOOP\r\n")
		last = c.reply()
	}
	if n > 1000 || !strings.HasPrefix(last, "451 4.3.0") {
		t.Errorf("%d scores, last reply %q", n, last)
	}
}
