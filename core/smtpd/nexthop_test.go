package smtpd

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// lane is a relay that keeps what it is asked.
type lane struct {
	refuse string // the local part that gets 550
	mu     sync.Mutex
	told   []string
}

func (l *lane) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, what)
}

func (l *lane) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

func (l *lane) Offer(_ context.Context, r *hooks.Recipient) (message.Reply, string) {
	l.note("offer " + r.Address.Local)
	switch r.Address.Local {
	case l.refuse:
		return message.NewReply(550, "5.1.1", "the next hop says no"), "next-hop"
	case "usual":
		return message.Reply{}, ""
	}
	return message.NewReply(251, "2.1.5", "the next hop takes it"), ""
}

func (l *lane) Close() { l.note("close") }

// relayed is a rig whose recipients are offered to one lane for each transaction.
func relayed(t *testing.T) (*rig, *lane) {
	r, l := newRig(t, Limits{}), &lane{refuse: "no"}
	r.door.relays = func(_ *hooks.Transaction, each bool) relay {
		if each {
			l.note("each")
		}
		return l
	}
	return r, l
}

// TestRelayAnswers: the next hop's answers at RCPT are ours; it is asked about
// whom we would take, once.
func TestRelayAnswers(t *testing.T) {
	r, l := relayed(t)
	r.policy(hooks.Rcpt, func(tx *hooks.Transaction) hooks.Decision {
		switch tx.Current.Address.Local {
		case "ours":
			return hooks.Decision{Verb: hooks.Reject}
		case "drop":
			return hooks.Decision{Verb: hooks.Discard}
		}
		return hooks.Decision{}
	})
	c := r.start().greeted()
	c.say("MAIL FROM:<s@client.example.org>", "250 2.1.0")
	c.say("RCPT TO:<ours@example.net>", "550 5.7.1 Refused by policy")
	c.say("RCPT TO:<drop@example.net>", "250 2.1.5 Ok")
	c.say("RCPT TO:<no@example.net>", "550 5.1.1 the next hop says no")
	c.say("RCPT TO:<x@elsewhere.example>", "550 5.7.1")
	c.say("RCPT TO:<a@example.net>", "251 2.1.5 the next hop takes it")
	c.say("RCPT TO:<a@example.net>", "250 2.1.5 Ok")
	c.say("RCPT TO:<usual@example.net>", "250 2.1.5 Ok")
	c.say("DATA", "354")
	c.say("hello\r\n.", "250 2.0.0")
	if m := r.door.all()[0]; !slices.Equal(m.rcpts, []string{"a@example.net", "usual@example.net"}) {
		t.Errorf("recipients %q", m.rcpts)
	}
	c.say("QUIT", "221")
	c.closed()
	if got := strings.Join(l.all(), ", "); got != "offer no, offer a, offer usual, close" {
		t.Errorf("the next hop was told %s", got)
	}
	r.stop()
	<-r.done
	if !slices.Contains(r.story.refusals, "rcpt next-hop 550") {
		t.Errorf("the story has %q", r.story.refusals)
	}
}

// TestRelayEnds: whatever ends a transaction ends it at the next hop too, once.
func TestRelayEnds(t *testing.T) {
	for name, end := range map[string]func(c *client){
		"RSET":       func(c *client) { c.say("RSET", "250") },
		"EHLO":       func(c *client) { c.say("EHLO again.example", "250") },
		"QUIT":       func(c *client) { c.say("QUIT", "221") },
		"hangs up":   func(c *client) { _ = c.nc.Close() },
		"in DATA":    func(c *client) { c.say("DATA", "354"); c.send("half"); _ = c.nc.Close() },
		"message":    func(c *client) { c.say("DATA", "354"); c.say("x\r\n.", "250") },
		"last chunk": func(c *client) { c.say("BDAT 3 LAST\r\nx", "250") },
		"bad chunk":  func(c *client) { c.say("BDAT x", "501") },
	} {
		t.Run(name, func(t *testing.T) {
			r, l := relayed(t)
			c := r.start().greeted()
			c.say("MAIL FROM:<s@client.example.org>", "250")
			c.say("RCPT TO:<a@example.net>", "251")
			end(c)
			_ = c.nc.Close()
			r.stop()
			<-r.done
			if got := strings.Join(l.all(), ", "); got != "offer a, close" {
				t.Errorf("the next hop was told %s", got)
			}
		})
	}
}

// TestRelayEach: clients that take an answer for each recipient are known by it,
// and a transaction that a policy throws away is offered to nobody.
func TestRelayEach(t *testing.T) {
	r, l := relayed(t)
	r.door.answer = func(m *shelved) intake.Answer {
		a := intake.Answer{Reply: message.NewReply(250, "2.0.0", "Ok"), Each: map[*hooks.Recipient]message.Reply{}}
		for _, one := range m.tx.Recipients {
			a.Each[one] = message.NewReply(250, "2.0.0", "hop took %s", one.Address.Local)
		}
		return a
	}
	r.policy(hooks.Mail, func(tx *hooks.Transaction) hooks.Decision {
		if tx.Sender.Local == "drop" {
			return hooks.Decision{Verb: hooks.Discard}
		}
		return hooks.Decision{}
	})
	c := r.start().greeted()
	c.say("MAIL FROM:<s@client.example.org> PRDR", "250")
	c.say("RCPT TO:<a@example.net>", "251")
	c.say("DATA", "354")
	c.say("x\r\n.", "353")
	c.want("250 2.0.0 <a@example.net> hop took a")
	c.want("250 2.0.0 Ok")
	c.say("MAIL FROM:<drop@client.example.org>", "250")
	c.say("RCPT TO:<a@example.net>", "250")
	c.say("QUIT", "221")
	c.closed()
	if got := strings.Join(l.all(), ", "); got != "each, offer a, close" {
		t.Errorf("the next hop was told %s", got)
	}
}
