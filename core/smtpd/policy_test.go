package smtpd

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// waitForEnd is a policy that answers never.
func waitForEnd(ctx context.Context, _ hooks.Stage, _ *hooks.Transaction) (hooks.Decision, error) {
	<-ctx.Done()
	return hooks.Decision{}, ctx.Err()
}

// early refuses who speaks within the time.
func early(wait time.Duration) func(context.Context, hooks.Stage, *hooks.Transaction) (hooks.Decision, error) {
	return func(ctx context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
		if tx.Session.Early(ctx, wait) {
			return tooEarly(), nil
		}
		return hooks.Decision{}, nil
	}
}

// TestDecisions: every refusal at every stage: its reply, what the session may
// do afterwards, and the verdicts the recorder gets, each once.
func TestDecisions(t *testing.T) {
	const all = "EHLO x\n< 250\n" + from + to + "DATA\n< 354\n.\n< 250\nQUIT\n< 221\n<"
	for name, one := range map[string]struct {
		at       hooks.Stage
		d        hooks.Decision
		dialogue string
		verdicts string
	}{
		"connect reject":     {hooks.Connect, hooks.Decision{Verb: hooks.Reject}, "< 554 5.7.1\nEHLO x\n< 503 5.5.1\nMAIL FROM:<>\n< 503\nFROB\n< 503\nQUIT\n< 221\n<", "connection rejected 554 p0"},
		"connect defer":      {hooks.Connect, hooks.Decision{Verb: hooks.Defer}, "< 451 4.7.1\nEHLO x\n< 451 4.7.1\nQUIT\n< 221\n<", "connection deferred 451 p0"},
		"connect disconnect": {hooks.Connect, hooks.Decision{Verb: hooks.Drop}, "< 421 4.7.0\n<", "connection deferred 421 p0"},
		"connect and close":  {hooks.Connect, hooks.Decision{Verb: hooks.Reject, Disconnect: true}, "< 554 5.7.1\n<", "connection rejected 554 p0"},
		"connect accept":     {hooks.Connect, hooks.Decision{Verb: hooks.Accept}, "< 220\n" + all, ""},
		"helo reject":        {hooks.Helo, hooks.Decision{Verb: hooks.Reject}, "< 220\nEHLO x\n< 550 5.7.1\nMAIL FROM:<>\n< 503 5.5.1 Say EHLO\nHELO y\n< 550\nQUIT\n< 221\n<", "connection rejected 550 p0"},
		"helo disconnect":    {hooks.Helo, hooks.Decision{Verb: hooks.Drop, Reply: message.Reply{Text: "Go away"}}, "< 220\nEHLO x\n< 421 4.7.0 Go away\n<", "connection deferred 421 p0"},
		"mail reject":        {hooks.Mail, hooks.Decision{Verb: hooks.Reject}, "< 220\nEHLO x\n< 250\nMAIL FROM:<>\n< 550 5.7.1\nRCPT TO:<b@example.net>\n< 503\nQUIT\n< 221\n<", "message rejected 550 p0"},
		"mail defer":         {hooks.Mail, hooks.Decision{Verb: hooks.Defer}, "< 220\nEHLO x\n< 250\nMAIL FROM:<>\n< 450 4.7.1\nQUIT\n< 221\n<", "message deferred 450 p0"},
		"mail disconnect":    {hooks.Mail, hooks.Decision{Verb: hooks.Drop}, "< 220\nEHLO x\n< 250\nMAIL FROM:<>\n< 421\n<", "message deferred 421 p0"},
		"mail discard":       {hooks.Mail, hooks.Decision{Verb: hooks.Discard, Reason: "spam"}, "< 220\n" + all, "message discarded 250 p0: spam"},
		"rcpt reject":        {hooks.Rcpt, hooks.Decision{Verb: hooks.Reject}, "< 220\nEHLO x\n< 250\n" + from + "RCPT TO:<b@example.net>\n< 550 5.7.1\nDATA\n< 554\nRSET\n< 250\nQUIT\n< 221\n<", "message rejected 550 p0"},
		"rcpt defer, gone":   {hooks.Rcpt, hooks.Decision{Verb: hooks.Defer}, "< 220\nEHLO x\n< 250\n" + from + "RCPT TO:<b@example.net>\n< 450 4.7.1\nQUIT\n< 221\n<", "message deferred 450 p0"},
		"rcpt accept":        {hooks.Rcpt, hooks.Decision{Verb: hooks.Accept}, "< 220\nEHLO x\n< 250\n" + from + "RCPT TO:<x@elsewhere.example>\n< 250\nQUIT\n< 221\n<", ""},
		"rcpt discard":       {hooks.Rcpt, hooks.Decision{Verb: hooks.Discard}, "< 220\n" + all, ""},
		"rcpt own text":      {hooks.Rcpt, hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(553, "5.1.10", "two\nlines\x01")}, "< 220\nEHLO x\n< 250\n" + from + "RCPT TO:<b@example.net>\n< 553-5.1.10 two\nQUIT\n< 221\n<", "message rejected 553 p0"},
		"data reject":        {hooks.Data, hooks.Decision{Verb: hooks.Reject}, "< 220\nEHLO x\n< 250\n" + from + to + "DATA\n< 554 5.7.1\nRCPT TO:<b@example.net>\n< 503\nQUIT\n< 221\n<", "message rejected 554 p0"},
		"data discard":       {hooks.Data, hooks.Decision{Verb: hooks.Discard}, "< 220\n" + all, "message discarded 250 p0: "},
		"data and close":     {hooks.Data, hooks.Decision{Verb: hooks.Defer, Disconnect: true}, "< 220\nEHLO x\n< 250\n" + from + to + "DATA\n< 451 4.7.1\n<", "message deferred 451 p0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{}).on(one.at, one.d).start()
			play(t, r.dial(), one.dialogue)
			r.stop()
			<-r.done
			if got := strings.Join(r.story.told(), "; "); got != one.verdicts {
				t.Errorf("verdicts %q, want %q", got, one.verdicts)
			}
			if r.story.open != 0 {
				t.Errorf("%d connections open for the recorder", r.story.open)
			}
		})
	}
}

// TestVerdictOnce: a transaction with a refused recipient that goes on to a
// message has intake's verdict alone.
func TestVerdictOnce(t *testing.T) {
	r := newRig(t, Limits{}).start()
	c := r.greeted()
	play(t, c, from+"RCPT TO:<nobody@example.net>\n< 550 5.1.1\n"+to+"DATA\n< 354\n.\n< 250"+bye)
	r.stop()
	<-r.done
	if got := r.story.told(); len(got) != 0 {
		t.Errorf("verdicts %v", got)
	}
	if !slices.Equal(r.story.refusals, []string{"rcpt rule 550"}) {
		t.Errorf("refusals %v", r.story.refusals)
	}
	if tot := r.story.totals; tot.Messages != 1 || tot.Refused != 1 || tot.Transacts != 1 {
		t.Errorf("totals %+v", tot)
	}
}

// TestAnswers: what intake says after the text is sent as it is, and obeyed.
func TestAnswers(t *testing.T) {
	r := newRig(t, Limits{Errors: 2}).start()
	r.door.answer = func(*shelved) intake.Answer {
		return intake.Answer{Reply: message.NewReply(452, "4.3.1", "Full")}
	}
	c := r.greeted()
	for range 4 {
		c.begin()
		c.say("DATA", "354")
		c.send(".\r\n")
		c.want("452 4.3.1 Full")
	}
	r.door.answer = func(*shelved) intake.Answer {
		return intake.Answer{Reply: message.NewReply(554, "5.7.1", "Spam"), Disconnect: true}
	}
	c.begin()
	c.say("DATA", "354")
	c.send(".\r\n")
	c.want("554 5.7.1 Spam")
	c.closed()
}

// TestReplacedRecipient: a policy's replacement is what is kept.
func TestReplacedRecipient(t *testing.T) {
	r := newRig(t, Limits{}).policy(hooks.Rcpt, func(tx *hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{
			{Kind: hooks.ReplaceRecipient, Name: tx.Current.Address.String(), Value: "other@example.net"},
			{Kind: hooks.AddRecipient, Value: "copy@example.net"},
		}}
	}).start()
	c := r.greeted()
	c.begin()
	c.say("DATA", "354")
	c.send(".\r\n")
	c.want("250")
	m := r.door.all()[0]
	slices.Sort(m.rcpts)
	if got := strings.Join(m.rcpts, " "); got != "copy@example.net other@example.net" {
		t.Errorf("recipients %s", got)
	}
	for _, one := range m.tx.Recipients {
		if one.Address.Local == "other" && (one.Given.Local != "t" || !one.Ours) {
			t.Errorf("recipient %+v", one)
		}
	}
}

// TestDeny: the engine's own refusals pass stage deny, which may change them.
func TestDeny(t *testing.T) {
	r := newRig(t, Limits{}).policy(hooks.Deny, func(tx *hooks.Transaction) hooks.Decision {
		if tx.Refusal.Reply.Code == 555 {
			return hooks.Decision{Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.7", "at %s", tx.Refusal.Stage), Disconnect: true}
		}
		return hooks.Decision{}
	}).start()
	c := r.greeted()
	c.say("FROB", "500 5.5.2")
	c.say("MAIL FROM:<> FROB=1", "550 5.7.7 at mail")
	c.closed()
}

// TestNoRule: where nothing accepts a recipient, nobody is let through.
func TestNoRule(t *testing.T) {
	r := newRig(t, Limits{}).start()
	empty := hooks.NewChain(nil, hooks.Options{})
	c := &conn{server: r.server, s: &hooks.Session{}, chain: empty, limits: r.server.limits.Load(), work: t.Context()}
	c.nc, c.out = placed{nil, r.peer}, c.outSmall[:0]
	c.tx = hooks.NewTransaction(c.s, "x")
	rcptTo(c, "TO:<b@example.net>")
	if got := string(c.out); !strings.HasPrefix(got, "550 5.7.1") {
		t.Errorf("reply %q", got)
	}
}

// TestPanic: a failure inside ends that connection alone, with a reply.
func TestPanic(t *testing.T) {
	r := newRig(t, Limits{}).start()
	other, c := r.greeted(), r.greeted()
	c.begin()
	c.say("DATA", "354")
	r.door.panicking = true
	c.send("x\r\n.\r\n")
	c.want("421 4.3.0")
	c.closed()
	r.door.panicking = false
	if m := r.door.all()[0]; !m.aborted {
		t.Error("the message was not given up")
	}
	other.begin()
	other.say("DATA", "354")
	other.send(".\r\n")
	other.want("250 2.0.0 Ok: queued")
}
