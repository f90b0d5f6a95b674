package intake

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// Domain is one [[domain]]: a name that is ours, and who exists there.
type Domain struct {
	Name string // example.net, or *.example.net for every name below it
	// Known tells whether a local part exists; nil: every one does. The null
	// answer for a source that failed is an error.
	Known func(ctx context.Context, a message.Address) (bool, error)
	// Callout: the next hop that Settings.Asked leads to tells, instead of Known.
	Callout bool
}

// Verifier asks next hops whether recipients exist. It is called from many
// goroutines at once, remembers answers, and bounds its own time.
type Verifier interface {
	Verify(ctx context.Context, w Way, to message.Address) Verdict
}

// Verdict is what a next hop says of a recipient: that it takes it, that it
// doesn't (5xx), or that nobody can tell now (4xx).
type Verdict struct {
	Reply message.Reply
	Any   bool // it takes every recipient, so that its answer says nothing
}

// Domains is the set of ours. The zero value has none.
type Domains struct {
	list  []Domain
	exact map[string]*Domain
	below map[string]*Domain
}

// NewDomains builds the set; of two entries for one name the first counts.
func NewDomains(list []Domain) *Domains {
	d := &Domains{list: list, exact: map[string]*Domain{}, below: map[string]*Domain{}}
	for i := range list {
		one, table := &list[i], d.exact
		name, wild := strings.CutPrefix(one.Name, "*.")
		if wild {
			table = d.below
		}
		if _, ok := table[name]; !ok {
			table[name] = one
		}
	}
	return d
}

func (d *Domains) first() string {
	if d == nil {
		return ""
	}
	for i := range d.list {
		if !strings.HasPrefix(d.list[i].Name, "*.") {
			return d.list[i].Name
		}
	}
	return ""
}

// Ours tells whether a lower-case domain is in the set.
func (d *Domains) Ours(domain string) bool { return d.find(domain) != nil }

// find is the entry for a lower-case domain, or nil.
func (d *Domains) find(domain string) *Domain {
	if d == nil || domain == "" {
		return nil
	}
	if one := d.exact[domain]; one != nil {
		return one
	}
	for rest := domain; ; {
		_, up, ok := strings.Cut(rest, ".")
		if !ok {
			return nil
		}
		if one := d.below[up]; one != nil {
			return one
		}
		rest = up
	}
}

// RuleName is what stories, metrics and the state call the recipient rule, which
// stands behind the configured policies.
const RuleName = "recipient-rule"

// Replies of the recipient rule.
var (
	errNoRelay   = message.NewReply(550, "5.7.1", "Relaying denied: this server takes no mail for that domain from you")
	errNoRoute   = message.NewReply(550, "5.4.4", "No route is configured for that domain")
	errUnknown   = message.NewReply(550, "5.1.1", "No such recipient here")
	errNoAnswer  = message.NewReply(451, "4.4.3", "The list of recipients can't be read now, please try again later")
	errNotAsked  = message.NewReply(451, "4.3.5", "No next hop is configured that could tell whether the recipient exists")
	ruleStages   = []hooks.Stage{hooks.Rcpt}
	ruleRelaying = hooks.Decision{Verb: hooks.Accept, Reason: "the client may relay"}
)

// rule is the last handler of stage rcpt: what happens where no policy decided.
type rule struct{ in *Intake }

// RecipientRule is the handler that answers RCPT where no policy did: a relaying
// or authenticated client may send to every domain that has a route; at a domain
// of ours the recipient must exist (550 5.1.1; 451 where its source fails);
// everything else is 550 5.7.1. It belongs at the end of every chain.
func (in *Intake) RecipientRule() hooks.Handler { return rule{in} }

func (rule) Name() string          { return RuleName }
func (rule) Stages() []hooks.Stage { return ruleStages }

func (r rule) Handle(ctx context.Context, _ hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	set := r.in.set.Load()
	a := tx.Current.Address
	if d, ok := set.returned(tx, r.in.o.Now()); ok {
		return d, nil
	}
	if d := set.Domains.find(a.Domain); d != nil {
		if d.Callout && !a.IsPostmaster() {
			return r.asked(ctx, set, tx, a), nil
		}
		return known(ctx, d, a), nil
	}
	if a == r.in.Postmaster() {
		return hooks.Decision{Verb: hooks.Accept, Reason: "postmaster"}, nil
	}
	if !tx.Session.Relaying && !tx.Session.Authenticated {
		return hooks.Decision{Verb: hooks.Reject, Reply: errNoRelay}, nil
	}
	if set.Routed != nil && !set.Routed(tx, a) {
		return hooks.Decision{Verb: hooks.Reject, Reply: errNoRoute}, nil
	}
	return ruleRelaying, nil
}

func known(ctx context.Context, d *Domain, a message.Address) hooks.Decision {
	if d.Known == nil || a.IsPostmaster() {
		return hooks.Decision{Verb: hooks.Accept, Reason: "every recipient of " + d.Name + " is taken"}
	}
	switch ok, err := d.Known(ctx, a); {
	case err != nil:
		return hooks.Decision{Verb: hooks.Defer, Reply: errNoAnswer, Reason: err.Error()}
	case ok:
		return hooks.Decision{Verb: hooks.Accept, Reason: "listed for " + d.Name}
	}
	return hooks.Decision{Verb: hooks.Reject, Reply: errUnknown}
}

// asked is what the next hop says of a recipient.
func (r rule) asked(ctx context.Context, set *Settings, tx *hooks.Transaction, a message.Address) hooks.Decision {
	var way Way
	ok := false
	if set.Asked != nil && r.in.o.Verifier != nil {
		way, ok = set.Asked(tx, a)
	}
	if !ok {
		return hooks.Decision{Verb: hooks.Defer, Reply: errNotAsked}
	}
	v := r.in.o.Verifier.Verify(ctx, way, a)
	said := quoted(v.Reply)
	switch {
	case v.Any:
		return hooks.Decision{Verb: hooks.Accept, Reason: way.String() + " takes every recipient"}
	case v.Reply.Positive():
		return hooks.Decision{Verb: hooks.Accept, Reason: way.String() + " takes it: " + said}
	case v.Reply.Permanent():
		no := errUnknown
		no.Text += "; the server behind this one says: " + said
		return hooks.Decision{Verb: hooks.Reject, Reply: no, Reason: way.String()}
	}
	later := plainReply(v.Reply)
	later.Code, later.Enhanced[0] = 451, 4
	later.Text = "It is not known now whether the recipient exists; the server behind this one: " + said
	return hooks.Decision{Verb: hooks.Defer, Reply: later, Reason: way.String()}
}

// maxQuoted bounds what is repeated of a next hop's words.
const maxQuoted = 200

// quoted is a next hop's reply as part of ours: one line of printable text.
func quoted(r message.Reply) string {
	s := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return ' '
		}
		return c
	}, r.String())
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return s
}
