package intake

import (
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Returns are the senders that were made here for mail that went out, as its
// bounces come back to them. Its functions are called from many goroutines at once.
type Returns struct {
	// Forwarded reads a sender of mail that was forwarded (SRS): where a bounce to it
	// goes. It is not asked about others; nil: there are none. Rewritten tells which.
	Rewritten func(a message.Address) bool
	Forwarded func(a message.Address, now time.Time) (message.Address, error)
	// BouncesOnly: they take mail from the null sender alone.
	BouncesOnly bool

	// Signed tells of which domains senders have tags (BATV); nil: of none.
	Signed func(domain string) bool
	// Tagged takes an address apart: the one without its tag, whatever that is worth,
	// whether it has one, and what stands against it.
	Tagged func(a message.Address, now time.Time) (plain message.Address, tagged bool, err error)
	// Require: no mail from the null sender is taken at those domains without a tag.
	Require bool
}

// Replies about return paths.
var (
	errReturn   = message.NewReply(550, "5.1.1", "No such recipient here")
	errBounce   = message.NewReply(550, "5.7.1", "That address takes bounces alone")
	errTag      = message.NewReply(550, "5.7.1", "This is no bounce of a message from that address")
	errUntagged = message.NewReply(550, "5.7.1", "This is no bounce of a message from that address: its messages have senders with a tag (BATV)")
)

// percentHacked is the address that user%other.example at one of the domains stands for:
// the last % becomes @, again and again (qmail's percenthack). Where that gives no
// address it stays as it is.
func (s *Settings) percentHacked(a message.Address) message.Address {
	for slices.Contains(s.PercentHack, a.Domain) {
		at := strings.LastIndexByte(a.Local, '%')
		if at < 1 {
			break
		}
		to, err := Canonical(message.Address{Local: a.Local[:at], Domain: strings.ToLower(a.Local[at+1:])})
		if err != nil {
			break
		}
		if _, err := message.ParseDomain(to.Domain); err != nil {
			break
		}
		a = to
	}
	return a
}

// Untag has a recipient that is a sender of ours stand for whom it was made for,
// so that policies judge that one. Given keeps what the client said, by which the
// recipient rule tells whether it was right. What is wrong with its tag or hash
// is for the rule to say.
func (in *Intake) Untag(r *hooks.Recipient) {
	s := in.set.Load()
	if len(s.PercentHack) > 0 {
		r.Address = s.percentHacked(r.Address)
	}
	if s.Returns != nil {
		r.Address = s.Returns.leadsTo(r.Address, in.o.Now())
	}
}

// returnPath is the sender as a next hop hears it; with an error, too.
func (s *Settings) returnPath(w Way, sender message.Address, now time.Time) (message.Address, error) {
	if s.ReturnPath == nil {
		return sender, nil
	}
	return s.ReturnPath(w, sender, now)
}

func (rs *Returns) leadsTo(a message.Address, now time.Time) message.Address {
	if rs.Forwarded != nil && rs.Rewritten(a) {
		if to, err := rs.forwarded(a, now); err == nil {
			return to
		}
		return a
	}
	if rs.Signed != nil && rs.Signed(a.Domain) {
		a, _, _ = rs.Tagged(a, now)
	}
	return a
}

// forwarded is where a bounce of forwarded mail goes. What was signed here was an
// address once; whether it is still one, its own server may see otherwise.
func (rs *Returns) forwarded(a message.Address, now time.Time) (message.Address, error) {
	to, err := rs.Forwarded(a, now)
	if err == nil {
		to, err = message.ParseAddress(to.String())
	}
	if err == nil {
		to, err = Canonical(to)
	}
	return to, err
}

// returned is the recipient rule for what comes back to a sender that was made
// here; ok false: it is for others to judge.
func (s *Settings) returned(tx *hooks.Transaction, now time.Time) (d hooks.Decision, ok bool) {
	rs := s.Returns
	if rs == nil {
		return d, false
	}
	given, err := Canonical(tx.Current.Given)
	if err != nil {
		return d, false
	}
	if rs.Forwarded != nil && rs.Rewritten(given) {
		to, err := rs.forwarded(given, now)
		switch {
		case err != nil && tx.Current.Address == given:
			return refusedReturn(errReturn, err), true
		case err != nil, tx.Current.Address != to, s.Domains.find(to.Domain) != nil:
			return d, false // a policy sends it elsewhere, or it is ours by now
		case rs.BouncesOnly && !tx.Sender.IsNull():
			return hooks.Decision{Verb: hooks.Reject, Reply: errBounce}, true
		case s.Routed != nil && !s.Routed(tx, to):
			return hooks.Decision{Verb: hooks.Reject, Reply: errNoRoute}, true
		}
		return hooks.Decision{Verb: hooks.Accept, Reason: "a bounce of mail that was forwarded for it"}, true
	}
	if rs.Signed == nil || !tx.Sender.IsNull() || tx.Session.Relaying || tx.Session.Authenticated || !rs.Signed(given.Domain) {
		return d, false // who writes to the address may have it from a mail's Return-Path
	}
	switch _, tagged, err := rs.Tagged(given, now); {
	case tagged && err != nil:
		return refusedReturn(errTag, err), true
	case !tagged && rs.Require && !given.IsPostmaster():
		return hooks.Decision{Verb: hooks.Reject, Reply: errUntagged}, true
	}
	return d, false
}

func refusedReturn(r message.Reply, err error) hooks.Decision {
	r.Text += ": " + err.Error()
	return hooks.Decision{Verb: hooks.Reject, Reply: r}
}
