package hooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

// each is what Run decided of single recipients, by address, sorted.
func each(tx *Transaction, d Decision) string {
	var words []string
	for _, i := range slices.Sorted(maps.Keys(d.Each)) {
		words = append(words, fmt.Sprintf("%s:%s:%s", tx.Recipients[i].Address.Local, d.Each[i].Verb, d.Each[i].By))
	}
	return strings.Join(words, " ")
}

func locals(tx *Transaction) string {
	var words []string
	for _, r := range tx.Recipients {
		words = append(words, r.Address.Local)
	}
	return strings.Join(words, " ")
}

func TestRecipientsOneByOne(t *testing.T) {
	refuse, pass := Decision{Verb: Reject}, Decision{}
	for name, c := range map[string]struct {
		list []*script
		verb Verb
		each string
	}{
		"one of two":        {[]*script{says("p", Decision{Each: map[int]Decision{1: refuse}}, Message)}, Pass, "b:reject:p"},
		"pass is no answer": {[]*script{says("p", Decision{Each: map[int]Decision{0: pass, 1: pass}}, Message)}, Pass, ""},
		"a verb for the rest": {
			[]*script{says("p", Decision{Verb: Quarantine, Each: map[int]Decision{0: {Verb: Discard}}}, Message), says("q", refuse, Message)}, Quarantine, "a:discard:p",
		},
		"the next one judges the rest": {
			[]*script{says("p", Decision{Each: map[int]Decision{0: {Verb: Accept}}}, Message), says("q", Decision{Verb: Defer}, Message)}, Defer, "a:accept:p",
		},
		"two who judge one each": {
			[]*script{says("p", Decision{Each: map[int]Decision{0: refuse}}, Message), says("q", Decision{Each: map[int]Decision{0: {Verb: Defer}}}, Message)}, Pass, "a:reject:p b:defer:q",
		},
		"nobody is left to ask about": {
			[]*script{says("p", Decision{Each: map[int]Decision{0: refuse, 1: refuse}}, Message), says("q", Decision{Verb: Quarantine}, Message)}, Pass, "a:reject:p b:reject:p",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tx := newTx(t)
			d := chainOf(Options{}, c.list...).Run(t.Context(), Message, tx)
			if d.Verb != c.verb || each(tx, d) != c.each || locals(tx) != "a b" {
				t.Errorf("%s, %q of %q", d.Verb, each(tx, d), locals(tx))
			}
			for i, one := range d.Each {
				if one.Verb == Reject && one.Reply.String() != "554 5.7.1 Refused by policy" {
					t.Errorf("%d: %s", i, one.Reply)
				}
			}
		})
	}
}

func TestWrongAnswersOnSingleRecipientsAreFailures(t *testing.T) {
	for name, c := range map[string]struct {
		at Stage
		d  Decision
	}{
		"not at this stage": {Rcpt, Decision{Each: map[int]Decision{0: {Verb: Reject}}}},
		"nobody":            {Message, Decision{Each: map[int]Decision{2: {Verb: Reject}}}},
		"negative":          {Message, Decision{Each: map[int]Decision{-1: {Verb: Reject}}}},
		"hold":              {Queue, Decision{Each: map[int]Decision{0: {Verb: Hold}}}},
		"disconnect":        {Message, Decision{Each: map[int]Decision{0: {Verb: Drop}}}},
		"edits inside":      {Message, Decision{Each: map[int]Decision{0: {Edits: []Edit{{Kind: AddTag, Value: "x"}}}}}},
		"a code":            {Message, Decision{Each: map[int]Decision{0: {Verb: Reject, Reply: message.NewReply(450, "", "x")}}}},
	} {
		t.Run(name, func(t *testing.T) {
			tx := newTx(t)
			d := chainOf(Options{}, says("p", c.d, c.at)).Run(t.Context(), c.at, tx)
			if d.Verb != Defer || d.Each != nil || !strings.Contains(d.Reply.Text, "failed") {
				t.Errorf("%+v", d)
			}
		})
	}
}

// What is hidden from later handlers comes back, whatever they changed meanwhile.
func TestEditsBesideDecidedRecipients(t *testing.T) {
	var saw string
	look := &script{name: "q", at: []Stage{Message}, answer: func(_ context.Context, _ Stage, tx *Transaction) (Decision, error) {
		saw = locals(tx)
		return Decision{Edits: []Edit{
			{Kind: AddRecipient, Value: "c@example.net"},
			{Kind: SetRcptNote, Rcpt: "b@example.net", Name: "n", Any: true},
			{Kind: ReplaceRecipient, Name: "b@example.net", Value: "d@example.net"},
		}}, nil
	}}
	tx := newTx(t)
	b := tx.Recipients[1]
	d := chainOf(Options{}, says("p", Decision{Each: map[int]Decision{0: {Verb: Reject}}}, Message), look).Run(t.Context(), Message, tx)
	if saw != "b" || locals(tx) != "a d c" || each(tx, d) != "a:reject:p" {
		t.Errorf("saw %q, then %q: %q", saw, locals(tx), each(tx, d))
	}
	if tx.Recipients[1] != b || b.Notes["n"] != true || b.Given.Local != "b" {
		t.Errorf("whoever held the recipient holds another one: %+v", b)
	}
}

func TestFailedEditsLeaveNoDecisionOnARecipient(t *testing.T) {
	tx := newTx(t)
	bad := Decision{Each: map[int]Decision{0: {Verb: Reject}}, Edits: []Edit{{Kind: RemoveRecipient, Value: "nobody@example.net"}}}
	if d := chainOf(Options{}, says("p", bad, Message)).Run(t.Context(), Message, tx); d.Verb != Defer || d.Each != nil {
		t.Errorf("%+v", d)
	}
}

func TestDenySeesEachRefusal(t *testing.T) {
	var saw []string
	deny := &script{name: "d", at: []Stage{Deny}, answer: func(_ context.Context, _ Stage, tx *Transaction) (Decision, error) {
		saw = append(saw, tx.Current.Address.Local+" "+tx.Refusal.Policy)
		if tx.Current.Address.Local == "a" {
			return Decision{Verb: Accept}, nil
		}
		return Decision{Verb: Defer, Reply: message.NewReply(451, "4.7.1", "softer")}, nil
	}}
	tx := newTx(t)
	refuse := Decision{Verb: Reject}
	d := chainOf(Options{}, says("p", Decision{Each: map[int]Decision{0: refuse, 1: refuse}}, Message), deny).Run(t.Context(), Message, tx)
	if !slices.Equal(saw, []string{"a p", "b p"}) || each(tx, d) != "b:defer:p" || d.Each[1].Reply.Text != "softer" || tx.Current != nil {
		t.Errorf("%v, %+v", saw, d)
	}
}

func TestTraceOfSingleRecipients(t *testing.T) {
	j := &journal{}
	chainOf(Options{Observer: j}, says("p", Decision{Each: map[int]Decision{1: {Verb: Reject}}}, Message)).Run(t.Context(), Message, newTx(t))
	if len(j.runs) != 2 || j.runs[0].Recipient != "b@example.net" || j.runs[0].Handlers[0].Reply.Code != 554 || j.runs[1].Handlers[0].Verb != Pass {
		t.Errorf("%+v", j.runs)
	}
}

// late is a chain whose first policy refuses at stage from and keeps that until
// stage due.
func lateChain(from, due Stage, d Decision, more ...*script) *Chain {
	entries := []Entry{{Handler: says("p", d, from), DenyAt: due}}
	for _, s := range more {
		entries = append(entries, Entry{Handler: s})
	}
	return NewChain(entries, Options{})
}

func TestKeptRefusals(t *testing.T) {
	refuse := Decision{Verb: Reject, Reply: message.NewReply(550, "5.7.1", "no")}
	s := &Session{ID: "session0"}
	conn := &Transaction{Session: s}
	c := lateChain(Helo, Rcpt, refuse)
	if d := c.Run(t.Context(), Helo, conn); d.Verb != Pass {
		t.Fatalf("helo: %+v", d)
	}
	tx := NewTransaction(s, "message0")
	for range 2 { // every recipient hears it
		tx.Current = &Recipient{Address: message.Address{Local: "a", Domain: "example.net"}}
		if d := c.Run(t.Context(), Rcpt, tx); d.Verb != Reject || d.Reply.Text != "no" || d.By != "p" {
			t.Errorf("rcpt: %+v", d)
		}
	}
	for _, at := range []Stage{Mail, Data, Message} {
		if d := c.Run(t.Context(), at, NewTransaction(s, "message1")); d.Verb != Pass {
			t.Errorf("%s: %+v", at, d)
		}
	}
	s.Authenticated = true
	if d := c.Run(t.Context(), Rcpt, tx); d.Verb != Pass {
		t.Errorf("after AUTH: %+v", d)
	}
}

func TestKeptRefusalOfWhoHadAuthenticatedStays(t *testing.T) {
	tx := newTx(t)
	tx.Session.Authenticated = true
	c := lateChain(Mail, Data, Decision{Verb: Reject})
	c.Run(t.Context(), Mail, tx)
	if d := c.Run(t.Context(), Data, tx); d.Verb != Reject {
		t.Errorf("%+v", d)
	}
}

func TestKeptRefusalsAreJoined(t *testing.T) {
	c := NewChain([]Entry{
		{Handler: says("one", Decision{Verb: Defer, Reply: message.NewReply(450, "4.7.1", "listed")}, Mail), DenyAt: Rcpt},
		{Handler: says("two", Decision{Verb: Reject, Reply: message.NewReply(550, "5.7.9", "forged"), Disconnect: true}, Mail), DenyAt: Rcpt},
		{Handler: says("three", Decision{Verb: Reject, Reply: message.NewReply(550, "5.7.9", "forged")}, Mail), DenyAt: Rcpt},
	}, Options{})
	tx := newTx(t)
	if d := c.Run(t.Context(), Mail, tx); d.Verb != Pass {
		t.Fatalf("%+v", d)
	}
	tx.Current = tx.Recipients[0]
	if d := c.Run(t.Context(), Rcpt, tx); d.Verb != Reject || d.Reply.Text != "listed\nforged" || d.Reply.Code != 550 || !d.Disconnect || d.By != "two" {
		t.Errorf("%+v", d)
	}
}

// A later policy pardons: at the stage itself for one recipient, or for all.
func TestPardonSpares(t *testing.T) {
	pardon := &script{name: "w", at: []Stage{Rcpt}, answer: func(_ context.Context, _ Stage, tx *Transaction) (Decision, error) {
		if tx.Current.Address.Local == "a" {
			return Decision{Edits: []Edit{{Kind: Pardon, Value: "p", Rcpt: tx.Current.Address.String()}}}, nil
		}
		return Decision{}, nil
	}}
	c := lateChain(Mail, Rcpt, Decision{Verb: Reject}, pardon)
	tx := newTx(t)
	c.Run(t.Context(), Mail, tx)
	for i, want := range []Verb{Pass, Reject} {
		tx.Current = tx.Recipients[i]
		if d := c.Run(t.Context(), Rcpt, tx); d.Verb != want {
			t.Errorf("%s: %+v", tx.Current.Address, d)
		}
	}
	c = lateChain(Mail, Data, Decision{Verb: Reject}, says("w", Decision{Edits: []Edit{{Kind: Pardon}}}, Rcpt))
	tx = newTx(t)
	c.Run(t.Context(), Mail, tx)
	tx.Current = tx.Recipients[0]
	c.Run(t.Context(), Rcpt, tx)
	tx.Current = nil
	if d := c.Run(t.Context(), Data, tx); d.Verb != Pass {
		t.Errorf("%+v", d)
	}
}

// A refusal of one recipient alone waits for a stage that has a reply for it,
// unless there is nobody else.
func TestKeptRefusalOfOneRecipient(t *testing.T) {
	only := &script{name: "p", at: []Stage{Rcpt}, answer: func(_ context.Context, _ Stage, tx *Transaction) (Decision, error) {
		if tx.Current.Address.Local == "a" {
			return Decision{Verb: Reject, Reply: message.NewReply(550, "5.7.1", "not you")}, nil
		}
		return Decision{}, nil
	}}
	run := func(accepted int) (*Transaction, Decision, Decision) {
		c := NewChain([]Entry{{Handler: only, DenyAt: Data}}, Options{})
		tx := newTx(t)
		all := tx.Recipients
		for _, r := range all {
			tx.Current = r
			if d := c.Run(t.Context(), Rcpt, tx); d.Verb != Pass {
				t.Errorf("rcpt: %+v", d)
			}
		}
		tx.Current, tx.Recipients = nil, all[:accepted]
		data := c.Run(t.Context(), Data, tx)
		return tx, data, c.Run(t.Context(), Message, tx)
	}
	if _, data, _ := run(1); data.Verb != Reject {
		t.Errorf("alone: %+v", data)
	}
	if tx, data, end := run(2); data.Verb != Pass || end.Verb != Pass || each(tx, end) != "a:reject:p" || end.Each[0].Reply.Text != "not you" {
		t.Errorf("one of two: %+v, then %+v", data, end)
	}
}

// What a handler decides of its own accord goes before what was kept, but for
// softer words.
func TestKeptRefusalBesideADecision(t *testing.T) {
	for _, c := range []struct{ kept, now, want Verb }{
		{Reject, Accept, Reject}, {Reject, Defer, Reject}, {Defer, Defer, Defer}, {Defer, Reject, Reject}, {Reject, Drop, Drop}, {Reject, Discard, Discard},
	} {
		chain := lateChain(Mail, Data, Decision{Verb: c.kept}, says("q", Decision{Verb: c.now}, Data))
		tx := newTx(t)
		chain.Run(t.Context(), Mail, tx)
		if d := chain.Run(t.Context(), Data, tx); d.Verb != c.want {
			t.Errorf("kept %s, then %s: %s", c.kept, c.now, d.Verb)
		}
	}
}

func TestAFailureIsNotKept(t *testing.T) {
	c := NewChain([]Entry{{Handler: fails("p", errors.New("broken"), Mail), DenyAt: Data}}, Options{})
	if d := c.Run(t.Context(), Mail, newTx(t)); d.Verb != Defer {
		t.Errorf("%+v", d)
	}
}

func TestSampleTakesAPartOfTheClients(t *testing.T) {
	e := Entry{Name: "p", Handler: says("p", Decision{Verb: Reject}, Connect), Sample: 0.25}
	c := NewChain([]Entry{e}, Options{})
	hits := 0
	for i := range 4000 {
		addr := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		verb := Pass
		for port := range 3 {
			d := c.Run(t.Context(), Connect, &Transaction{Session: &Session{Client: netip.AddrPortFrom(addr, uint16(port+1))}})
			if port > 0 && d.Verb != verb {
				t.Fatalf("%s is judged differently", addr)
			}
			verb = d.Verb
		}
		if verb == Reject {
			hits++
		}
	}
	if hits < 900 || hits > 1100 {
		t.Errorf("%d of 4000", hits)
	}
}

func BenchmarkChainWithoutHandlers(b *testing.B) {
	c := NewChain([]Entry{{Handler: says("p", Decision{}, Connect)}}, Options{})
	tx := &Transaction{Session: &Session{}, ID: "m"}
	b.ReportAllocs()
	for b.Loop() {
		c.Run(context.Background(), Message, tx)
	}
}
