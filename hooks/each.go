package hooks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// This file is recipients that are judged one by one: Decision.Each.
//
// A recipient that a handler decided by itself is decided: handlers after it do
// not see it in Transaction.Recipients, and their verdicts are about the rest. The
// decision that Run returns has them all, by their place in the recipients as they
// are then, and its Verb is about those that are not in Each.

// eachVerbs are what may be decided of a single recipient.
var eachVerbs = [...]Verb{Pass, Accept, Reject, Defer, Discard, Quarantine}

// checkEach tells what is wrong with the decisions on single recipients.
func checkEach(row *Row, tx *Transaction, d *Decision) error {
	if len(d.Each) > 0 && !row.Each {
		return fmt.Errorf("stage %s does not judge recipients one by one", row.Name)
	}
	for i, one := range d.Each {
		switch {
		case i < 0 || i >= len(tx.Recipients):
			return fmt.Errorf("a decision on recipient %d of %d", i+1, len(tx.Recipients))
		case !slices.Contains(eachVerbs[:], one.Verb):
			return fmt.Errorf("%q is no decision on a single recipient", one.Verb)
		case len(one.Edits) > 0 || len(one.Each) > 0:
			return fmt.Errorf("a decision on a single recipient with edits: they belong to the whole decision")
		}
		if err := checkReply(&one); err != nil {
			return err
		}
	}
	return nil
}

// completeEach fills in what the decisions on single recipients left open.
func completeEach(at Stage, d *Decision) {
	if len(d.Each) == 0 {
		return
	}
	d.Each = maps.Clone(d.Each) // the handler's own
	for i, one := range d.Each {
		one.By = d.By
		complete(at, &one)
		d.Each[i] = one
	}
}

// apart is the recipients of one run that were decided by themselves.
type apart struct {
	all     []*Recipient // as they were before the first of them
	decided map[*Recipient]Decision
}

// take sets those aside that d decided, after stage deny has seen each refusal.
func (a *apart) take(ctx context.Context, c *Chain, at Stage, tx *Transaction, judged []*Recipient, d Decision) {
	if a.decided == nil {
		a.all, a.decided = judged, map[*Recipient]Decision{}
	}
	for _, i := range slices.Sorted(maps.Keys(d.Each)) {
		one := d.Each[i]
		if one.Verb == Pass {
			continue
		}
		if one.Verb.Refuses() && c.Has(Deny) {
			current := tx.Current
			tx.Current = judged[i]
			cancelled := c.deny(ctx, at, tx, &one)
			tx.Current = current
			if cancelled {
				continue
			}
			one.By = d.By
		}
		a.decided[judged[i]] = one
	}
	tx.Recipients = slices.DeleteFunc(slices.Clone(tx.Recipients), a.has)
}

func (a *apart) has(r *Recipient) bool {
	_, ok := a.decided[r]
	return ok
}

// join puts everybody back into the transaction and their decisions into d.
func (a *apart) join(tx *Transaction, d *Decision) {
	if a.decided == nil {
		return
	}
	rest := tx.Recipients
	tx.Recipients = make([]*Recipient, 0, len(rest)+len(a.decided))
	for _, r := range a.all {
		if a.has(r) || slices.Contains(rest, r) {
			tx.Recipients = append(tx.Recipients, r)
		}
	}
	for _, r := range rest {
		if !slices.Contains(a.all, r) { // added meanwhile
			tx.Recipients = append(tx.Recipients, r)
		}
	}
	d.Each = make(map[int]Decision, len(a.decided))
	for i, r := range tx.Recipients {
		if one, ok := a.decided[r]; ok {
			d.Each[i] = one
		}
	}
	if len(d.Each) == 0 {
		d.Each = nil
	}
}

// tell has the observer see what a handler decided of single recipients.
func (c *Chain) tellEach(at Stage, tx *Transaction, judged []*Recipient, h HandlerRun, d *Decision) {
	if c.observer == nil {
		return
	}
	for _, i := range slices.Sorted(maps.Keys(d.Each)) {
		one := d.Each[i]
		h := HandlerRun{Policy: h.Policy, Verb: one.Verb, Reason: one.Reason, Duration: h.Duration, Shadow: h.Shadow}
		if one.Verb.Refuses() {
			h.Reply = one.Reply
		}
		c.observer.Stage(tx, StageRun{Stage: at, Time: time.Now(), Recipient: judged[i].Address.String(), Handlers: []HandlerRun{h}})
	}
}
