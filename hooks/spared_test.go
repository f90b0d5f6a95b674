package hooks

import (
	"context"
	"encoding/json"
	"testing"
)

// TestSparedAtEveryStage: who is immune, and whom a policy said to skip, is spared at
// every stage that is about mail, and what does not concern it is not: the table says
// which stages there are.
func TestSparedAtEveryStage(t *testing.T) {
	for _, c := range []struct {
		name   string
		entry  Entry
		change func(*Transaction)
		asked  bool
	}{
		{"nothing", Entry{}, func(*Transaction) {}, true},
		{"skipped in the transaction", Entry{}, func(tx *Transaction) { tx.Skipped = map[string]bool{"p": true} }, false},
		{"skipped on the connection", Entry{}, func(tx *Transaction) { tx.Session.Skipped = map[string]bool{"p": true} }, false},
		{"another is skipped", Entry{}, func(tx *Transaction) { tx.Skipped = map[string]bool{"q": true} }, true},
		{"relaying", Entry{Immune: []string{"relaying"}}, func(tx *Transaction) { tx.Session.Relaying = true }, false},
		{"relaying, for others", Entry{Immune: []string{"authenticated"}}, func(tx *Transaction) { tx.Session.Relaying = true }, true},
		{"authenticated", Entry{Immune: []string{"relaying", "authenticated"}}, func(tx *Transaction) { tx.Session.Authenticated = true }, false},
		{"a stranger", Entry{Immune: []string{"relaying", "authenticated"}}, func(*Transaction) {}, true},
	} {
		for _, row := range Stages() {
			if row.Scope == OfPolicy {
				continue // nobody's mail
			}
			asked := 0
			c.entry.Handler = &script{name: "p", at: []Stage{row.Stage}, answer: func(context.Context, Stage, *Transaction) (Decision, error) {
				asked++
				return Decision{}, nil
			}}
			tx := newTx(t)
			tx.Current = tx.Recipients[0]
			c.change(tx)
			chain := NewChain([]Entry{c.entry}, Options{})
			if row.Observe {
				chain.Tell(row.Stage, tx)
				chain.Wait()
			} else {
				chain.Run(t.Context(), row.Stage, tx)
			}
			if asked > 1 || (asked == 1) != c.asked {
				t.Errorf("%s: asked %d times at %s", c.name, asked, row.Name)
			}
		}
	}
}

// TestSkippedAtDelivery: skip, of the message or the connection, is queued with the
// message.
func TestSkippedAtDelivery(t *testing.T) {
	tx := newTx(t)
	tx.Skipped = map[string]bool{"mine": true}
	tx.Session.Skipped = map[string]bool{"of the connection": true}
	raw, err := json.Marshal(tx.Facts())
	if err != nil {
		t.Fatal(err)
	}
	var facts Facts
	if err := json.Unmarshal(raw, &facts); err != nil {
		t.Fatal(err)
	}
	back := facts.Restore("message0")
	if len(back.Skipped) != 2 || !back.Skipped["mine"] || !back.Skipped["of the connection"] {
		t.Errorf("%s: %v", raw, back.Skipped)
	}
	c := chainOf(Options{}, says("mine", Decision{Verb: Hold}, Deferred))
	if d := c.Run(t.Context(), Deferred, back); d.Verb != Pass {
		t.Errorf("decision %+v", d)
	}
}
