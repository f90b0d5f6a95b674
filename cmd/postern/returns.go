package main

import (
	"time"

	"github.com/postern-mta/postern/core/auth/batv"
	"github.com/postern-mta/postern/core/auth/srs"
	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
	"github.com/postern-mta/postern/hooks"
)

// rewriter is what [srs] says; nil: nothing is rewritten. The configuration was
// checked to make one.
func rewriter(c *config.Config) *srs.Rewriter {
	r, err := srs.New(srs.Options{Domain: c.SRS.Domain, Secrets: c.SRS.Secrets, MaxAge: c.SRS.MaxAge, Base64: c.SRS.Alphabet == "base64"})
	if err != nil {
		return nil
	}
	return r
}

// tagger is what [batv] says; nil: nothing is tagged.
func tagger(c *config.Config) *batv.Tagger {
	keys := make([]batv.Key, len(c.BATV.Keys))
	for i, k := range c.BATV.Keys {
		keys[i] = batv.Key(k)
	}
	t, err := batv.New(keys, c.BATV.MaxAge)
	if err != nil {
		return nil
	}
	return t
}

// paths are the senders that are made here, on their way out and back.
type paths struct {
	returns *intake.Returns
	tagged  func(sender, rcpt message.Address) bool
	path    func(w send.Way, sender message.Address, now time.Time) (message.Address, error)
}

func returnPaths(c *config.Config, ours *intake.Domains) (p paths) {
	rewrite, tag := rewriter(c), tagger(c)
	if rewrite == nil && tag == nil {
		return p
	}
	p.returns = &intake.Returns{BouncesOnly: c.SRS.BouncesOnly, Require: c.BATV.Require}
	if rewrite != nil {
		p.returns.Rewritten = func(a message.Address) bool { return a.Domain == rewrite.Domain() && srs.Is(a.Local) }
		p.returns.Forwarded = rewrite.Reverse
	}
	if tag != nil {
		p.returns.Signed = func(domain string) bool { return hooks.MatchDomain(c.BATV.Domain, domain) }
		p.returns.Tagged = func(a message.Address, now time.Time) (message.Address, bool, error) {
			plain, err := tag.Check(a, now)
			return plain, batv.Is(a.Local), err
		}
		p.tagged = func(sender, rcpt message.Address) bool {
			return !sender.IsNull() && p.returns.Signed(sender.Domain) && !ours.Ours(rcpt.Domain)
		}
	}
	p.path = func(w send.Way, sender message.Address, now time.Time) (message.Address, error) {
		made, err := sender, error(nil)
		switch {
		case w.Tagged && tag != nil:
			made, err = tag.Sign(sender, now)
		case w.SRS && rewrite != nil && !ours.Ours(sender.Domain):
			made, err = rewrite.Forward(sender, now)
		}
		if err != nil {
			return sender, err // it is too long to be rewritten; the next hop gets what there is
		}
		return made, nil
	}
	return p
}
