package intake

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// oneByOne is a policy that decides each recipient by its local part: refuse, later,
// drop, keep, and what is not one of these passes. The part behind a dot says at which
// stage: refuse.queue.
func oneByOne(stage hooks.Stage) at {
	return at{stage, func(tx *hooks.Transaction) hooks.Decision {
		each := map[int]hooks.Decision{}
		for i, r := range tx.Recipients {
			what, when, _ := strings.Cut(r.Address.Local, ".")
			if when == "" && stage != hooks.Message || when != "" && when != stage.String() {
				continue
			}
			if d, ok := map[string]hooks.Decision{
				"refuse": {Verb: hooks.Reject, Reply: message.NewReply(550, "5.7.1", "not %s", r.Address.Local)},
				"later":  {Verb: hooks.Defer, Reply: message.NewReply(450, "4.2.1", "later %s", r.Address.Local)},
				"drop":   {Verb: hooks.Discard, Reason: "dropped"},
				"keep":   {Verb: hooks.Quarantine, Reason: "kept"},
				"accept": {Verb: hooks.Accept},
			}[what]; ok {
				each[i] = d
			}
		}
		d := hooks.Decision{Each: each}
		if slices.ContainsFunc(tx.Recipients, func(r *hooks.Recipient) bool { return r.Address.Local == "hold" }) && stage == hooks.Queue {
			d.Verb = hooks.Hold
		}
		if slices.ContainsFunc(tx.Recipients, func(r *hooks.Recipient) bool { return r.Address.Local == "rest" }) && stage == hooks.Message {
			d.Verb = hooks.Reject
		}
		return d
	}}
}

// inQueue is what the queue holds: place and recipients, held ones with a mark.
func (w *world) inQueue(t *testing.T) []string {
	t.Helper()
	var list []string
	for m, err := range w.queue.All() {
		if err != nil {
			t.Fatal(err)
		}
		one := m.Place.String() + ":"
		for _, r := range m.Recipients {
			one += " " + r.Address.Local
			if r.Held {
				one += "(held)"
			}
		}
		list = append(list, one)
	}
	slices.Sort(list)
	return list
}

// TestRecipientsOneByOne: what the client hears and what is kept where recipients are
// judged differently, for a client that takes a reply for each and for one that takes
// one, in each of the ways to settle it.
func TestRecipientsOneByOne(t *testing.T) {
	const queued = "250 2.0.0 Ok: queued as"
	all := []Mixed{Strictest, Split, QuarantineRest}
	for name, c := range map[string]struct {
		to      string
		mixed   []Mixed
		each    bool
		reply   string
		replies string // of each, in order: the first digit
		queue   []string
	}{
		"nobody is decided":               {"a b", all, false, queued, "22", []string{"active: a b"}},
		"accepted":                        {"accept b", all, false, queued, "22", []string{"active: accept b"}},
		"each refused":                    {"a refuse", all, true, queued, "25", []string{"active: a"}},
		"each, at queue":                  {"a refuse.queue refuse", all, true, queued, "255", []string{"active: a"}},
		"each of everything":              {"a refuse later drop keep", all, true, queued, "25422", []string{"active: a", "quarantined: keep"}},
		"each, all refused":               {"refuse later", all, true, "450 4.2.1 later later", "54", nil},
		"each, the rest refused":          {"accept rest refuse", all, true, queued, "255", []string{"active: accept"}},
		"each, dropped and refused":       {"drop refuse", all, true, queued, "25", nil},
		"each kept":                       {"keep keep.queue", all, true, queued, "22", []string{"quarantined: keep keep.queue"}},
		"kept, later refused":             {"keep rest", all, true, queued, "25", []string{"quarantined: keep"}},
		"one reply, one refused":          {"a refuse", []Mixed{Strictest}, false, "550 5.7.1 not refuse", "55", nil},
		"one reply, refused and later":    {"a later refuse", []Mixed{Strictest}, false, "550 5.7.1 not refuse", "555", nil},
		"one reply, later":                {"a later", all, false, "450 4.2.1 later later", "44", nil},
		"one reply, all refused":          {"refuse refuse.queue", all, false, "550 5.7.1 not refuse", "55", nil},
		"one reply, dropped":              {"a drop", all, false, queued, "22", []string{"active: a"}},
		"one reply, all dropped":          {"drop drop.queue", all, false, queued, "22", nil},
		"one reply, kept":                 {"a keep", all, false, queued, "22", []string{"active: a", "quarantined: keep"}},
		"one reply, all kept":             {"keep keep.queue", all, false, queued, "22", []string{"quarantined: keep keep.queue"}},
		"one reply, one held":             {"accept.queue hold", all, false, queued, "22", []string{"active: accept.queue hold(held)"}},
		"split":                           {"a refuse", []Mixed{Split}, false, queued, "22", []string{"active: a"}},
		"split, with a deferral":          {"a refuse later", []Mixed{Split, QuarantineRest}, false, "450 4.2.1 later later", "444", nil},
		"split, all refused or later":     {"refuse later", []Mixed{Split, QuarantineRest}, false, "450 4.2.1 later later", "44", nil},
		"split, kept and refused":         {"keep refuse", []Mixed{Split}, false, queued, "22", []string{"quarantined: keep"}},
		"split, dropped and refused":      {"drop refuse", []Mixed{Split}, false, queued, "22", nil},
		"quarantine":                      {"a refuse", []Mixed{QuarantineRest}, false, queued, "22", []string{"active: a", "quarantined: refuse"}},
		"quarantine, dropped and refused": {"drop refuse refuse.queue", []Mixed{QuarantineRest}, false, queued, "222", []string{"quarantined: refuse refuse.queue"}},
	} {
		for _, mixed := range c.mixed {
			t.Run(fmt.Sprintf("%s/%d", name, mixed), func(t *testing.T) {
				w := open(t, func(s *Settings) { s.Mixed = mixed })
				var to []string
				for local := range strings.FieldsSeq(c.to) {
					to = append(to, local+"@example.net")
				}
				tx := transaction(to...)
				given := slices.Clone(tx.Recipients)
				m := w.in.Begin(t.Context(), chain(oneByOne(hooks.Message), oneByOne(hooks.Queue)), tx)
				if c.each {
					m.AnswerEach()
				}
				m.Write([]byte("Subject: x\r\n\r\nbody\r\n"))
				a := m.End(t.Context())
				got := ""
				for _, r := range given {
					reply := a.For(r)
					got += reply.String()[:1]
				}
				if !strings.HasPrefix(a.Reply.String(), c.reply) || got != c.replies {
					t.Errorf("reply %s, each %s", a.Reply, got)
				}
				if got := w.inQueue(t); !slices.Equal(got, c.queue) {
					t.Errorf("queue %q", got)
				}
			})
		}
	}
}

// TestAsideIsTheSameMessage: who is kept in quarantine alone has the same bytes, and a
// reply with the id of that message where the client takes one for each.
func TestAsideIsTheSameMessage(t *testing.T) {
	w := open(t, nil)
	tx := transaction("a@example.net", "keep@example.net")
	keep := tx.Recipients[1]
	edit := at{hooks.Queue, func(*hooks.Transaction) hooks.Decision {
		return hooks.Decision{Edits: []hooks.Edit{{Kind: hooks.AddHeader, Name: "X-Seen", Value: "yes"}}}
	}}
	m := w.in.Begin(t.Context(), chain(oneByOne(hooks.Message), edit), tx)
	m.AnswerEach()
	m.Write([]byte("Subject: x\r\n\r\nbody\r\n"))
	a := m.End(t.Context())
	reply := a.For(keep)
	id := strings.TrimPrefix(reply.Text, "Ok: queued as ")
	kept, err := w.queue.Load(id)
	if err != nil || id == tx.ID || kept.Place != queue.Quarantined || kept.Reason != "test0: kept" || len(kept.Facts) == 0 {
		t.Fatalf("%q: %+v, %v", id, kept, err)
	}
	body, closer, err := w.queue.Body(id)
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, body.Size())
	_, _ = body.ReadAt(text, 0)
	if closer != nil {
		_ = closer.Close()
	}
	if string(text) != w.text || !strings.Contains(w.text, "X-Seen: yes") {
		t.Errorf("kept %q, queued %q", text, w.text)
	}
}

// TestOneByOneInProxyMode: those whose copy goes on are sent to the next hop, and the
// others hear what policies said.
func TestOneByOneInProxyMode(t *testing.T) {
	for name, c := range map[string]struct {
		mixed   Mixed
		each    bool
		reply   string
		replies string
		sent    string
		queue   []string
	}{
		"each":      {Strictest, true, "250 2.0.0 taken (", "2522", "send true a b", []string{"quarantined: keep"}},
		"strictest": {Strictest, false, "550 5.7.1 not refuse", "5555", "", nil},
		"split":     {Split, false, "250 2.0.0 taken (", "2222", "send true a b", []string{"quarantined: keep"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hop{}
			w := openRelay(t, h)
			set := *w.in.set.Load()
			set.Mixed = c.mixed
			w.in.Reconfigure(set)
			tx := transaction("a@proxy.example", "refuse@proxy.example", "b@proxy.example", "keep@proxy.example")
			given := slices.Clone(tx.Recipients)
			tx.Recipients = nil
			relay := w.in.Relay(tx, c.each)
			for _, r := range given {
				if reply, _ := relay.Offer(t.Context(), r); reply.Negative() {
					t.Fatal(reply)
				}
				tx.Recipients = append(tx.Recipients, r)
			}
			m := w.in.Begin(t.Context(), chain(oneByOne(hooks.Message)), tx)
			m.Through(relay)
			if c.each {
				m.AnswerEach()
			}
			m.Write([]byte("Subject: x\r\n\r\nbody\r\n"))
			a := m.End(t.Context())
			got := ""
			for _, r := range given {
				reply := a.For(r)
				got += reply.String()[:1]
			}
			sent := ""
			for _, told := range h.told {
				if strings.HasPrefix(told, "send") {
					sent = strings.ReplaceAll(told, "@proxy.example", "")
				}
			}
			if !strings.HasPrefix(a.Reply.String(), c.reply) || got != c.replies || sent != c.sent {
				t.Errorf("reply %s, each %s, %q", a.Reply, got, h.told)
			}
			if got := w.inQueue(t); !slices.Equal(got, c.queue) {
				t.Errorf("queue %q", got)
			}
		})
	}
}
