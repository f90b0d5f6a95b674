package hooks

import (
	"context"
	"slices"
	"strings"
)

// This file is late refusal: deny_at of a policy keeps its refusals (Marks.Kept)
// until that stage. There every policy is asked first, so that one can still
// pardon, and then what is kept is said: several in one reply.
//
//   - A refusal is dropped where the client authenticates after it.
//   - What was kept before a transaction is about every message of the connection.
//   - A refusal of one recipient that falls due where there is one reply for all
//     waits for stage message, unless it concerns all that there are.

// DenyStages are those at which kept refusals can be due.
func DenyStages() []Stage { return []Stage{Helo, Mail, Rcpt, Data, Headers, Message, Queue} }

// keep puts a refusal off. It reports false where the policy does not keep it here.
func (l *link) keep(at Stage, tx *Transaction, d *Decision) bool {
	if l.DenyAt == 0 || at >= l.DenyAt || at == Deny || at == Command || !d.Verb.Refuses() {
		return false
	}
	k := Kept{At: l.DenyAt, From: at, Decision: *d, Authenticated: tx.Session.Authenticated}
	k.Decision.Edits, k.Decision.Each = nil, nil
	if at.Row().Scope == OfRecipient && tx.Current != nil {
		k.Recipient = tx.Current.Address.String()
	}
	list := keptOf(tx)
	*list = append(slices.Clip(*list), k)
	return true
}

// keptOf is where refusals of the transaction are kept, or at connection stages
// of the connection.
func keptOf(tx *Transaction) *[]Kept {
	if tx.ID == "" {
		return &tx.Session.Kept
	}
	return &tx.Kept
}

// owes tells whether a kept refusal may be due.
func (c *Chain) owes(at Stage, tx *Transaction) bool {
	return c.keeps && slices.ContainsFunc(*keptOf(tx), func(k Kept) bool { return k.At == at })
}

// late says the kept refusals that are due, after the handlers of the stage gave
// d. parts has the recipients that were decided by themselves.
func (c *Chain) late(ctx context.Context, at Stage, tx *Transaction, d Decision, parts *apart, run *StageRun) Decision {
	if !c.owes(at, tx) || d.Verb == Reject || d.Verb == Drop || d.Verb == Discard || parts.decided != nil && len(tx.Recipients) == 0 {
		return d
	}
	var all []Kept
	single := map[*Recipient][]Kept{}
	list := keptOf(tx)
	for i, k := range *list {
		if k.At != at || tx.Session.Authenticated && !k.Authenticated {
			continue
		}
		about := k.about(tx)
		switch {
		case len(about) == 0 && tx.Current == nil && len(tx.Recipients) > 0, tx.Current != nil && len(about) == 0:
		case tx.Current != nil || len(about) == len(tx.Recipients):
			all = append(all, k)
		case at.Row().Each:
			for _, r := range about {
				single[r] = append(single[r], k)
			}
		default: // there is but one reply
			*list = slices.Clone(*list)
			(*list)[i].At = Message
		}
	}
	if len(all) > 0 {
		one := joined(all)
		if d.Verb != Defer || one.Verb != Defer {
			for _, k := range all {
				run.Handlers = append(run.Handlers, HandlerRun{Policy: k.Decision.By, Verb: k.Decision.Verb, Reply: k.Decision.Reply, Reason: "kept since stage " + k.From.String()})
			}
			if !c.deny(ctx, at, tx, &one) {
				return one
			}
		}
		return d
	}
	if len(single) > 0 {
		each := Decision{Each: map[int]Decision{}}
		judged := slices.Clone(tx.Recipients)
		for i, r := range judged {
			if kept := single[r]; len(kept) > 0 {
				each.Each[i] = joined(kept)
			}
		}
		c.tellEach(at, tx, judged, HandlerRun{Policy: each.Each[firstOf(each.Each)].By}, &each)
		parts.take(ctx, c, at, tx, judged, each)
	}
	return d
}

func firstOf(each map[int]Decision) int {
	first := -1
	for i := range each {
		if first < 0 || i < first {
			first = i
		}
	}
	return first
}

// about is the recipients that a kept refusal is about: at stage rcpt the current
// one or none.
func (k *Kept) about(tx *Transaction) []*Recipient {
	concerns := func(r *Recipient) bool {
		address := r.Address.String()
		return (k.Recipient == "" || k.Recipient == address || k.Recipient == r.Given.String()) && !k.Spared[address]
	}
	if tx.Current != nil {
		if concerns(tx.Current) {
			return []*Recipient{tx.Current}
		}
		return nil
	}
	var list []*Recipient
	for _, r := range tx.Recipients {
		if concerns(r) {
			list = append(list, r)
		}
	}
	return list
}

// joined is one decision made of several: a refusal for good wins over one for
// now, and every text is said.
func joined(list []Kept) Decision {
	d := list[0].Decision
	if i := slices.IndexFunc(list, func(k Kept) bool { return k.Decision.Verb == Reject }); i >= 0 {
		d = list[i].Decision
	}
	var texts []string
	for _, k := range list {
		d.Disconnect = d.Disconnect || k.Decision.Disconnect
		if text := k.Decision.Reply.Text; !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	d.Reply.Text = strings.Join(texts, "\n")
	return d
}
