package intake

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// road is a way of the tests.
type road struct {
	name string
	each bool
}

func (r road) String() string { return r.name }
func (r road) Each() bool     { return r.each }

// hop is a next hop that keeps what it is told.
type hop struct {
	refuse map[string]message.Reply // by recipient, at RCPT
	end    func(rcpt string) message.Reply
	told   []string // open WAY, offer RCPT, send WHOLE RCPT..., close
	body   string
	sent   *queue.Message
}

type lane struct {
	h *hop
	w Way
}

func (h *hop) Open(w Way) Passage {
	h.told = append(h.told, "open "+w.String())
	return &lane{h, w}
}

func (l *lane) Offer(_ context.Context, m *queue.Message) message.Reply {
	to := m.Recipients[len(m.Recipients)-1].Address.String()
	l.h.told = append(l.h.told, "offer "+to)
	if r, ok := l.h.refuse[to]; ok {
		return r
	}
	return message.NewReply(250, "2.1.5", "hop takes %s", to)
}

func (l *lane) Send(_ context.Context, m *queue.Message, body message.Body, whole bool) (sent []Sent) {
	told := fmt.Sprintf("send %v", whole)
	b := make([]byte, body.Size())
	_, _ = body.ReadAt(b, 0)
	l.h.body, l.h.sent = string(b), m
	for i := range m.Recipients {
		to := m.Recipients[i].Address.String()
		told += " " + to
		r := message.NewReply(250, "2.0.0", "taken")
		if l.h.end != nil {
			r = l.h.end(to)
		}
		sent = append(sent, Sent{Reply: r, Peer: "hop", Took: time.Millisecond})
	}
	l.h.told = append(l.h.told, told)
	return sent
}

func (l *lane) Close() { l.h.told = append(l.h.told, "close") }

// openRelay is a door whose mail for proxy.example, two.example and lmtp.example
// goes to h; all else is queued.
func openRelay(t *testing.T, h *hop) *world {
	w := open(t, func(s *Settings) {
		s.Proxied = func(tx *hooks.Transaction, r *hooks.Recipient) (Way, bool) {
			switch {
			case r.Route != "":
				return road{r.Route, false}, true
			case tx.Route != "":
				return road{tx.Route, false}, true
			case r.Address.Domain == "proxy.example", r.Address.Domain == "two.example":
				return road{r.Address.Domain, false}, true
			case r.Address.Domain == "lmtp.example":
				return road{"lmtp", true}, true
			}
			return road{"queued", false}, false
		}
	})
	w.in.o.NextHop = h
	return w
}

// pass offers recipients, and sends the message to those that were taken.
func (w *world) pass(t *testing.T, c *hooks.Chain, each bool, rcpts ...string) (replies []message.Reply, answer Answer, tx *hooks.Transaction) {
	t.Helper()
	tx = transaction(rcpts...)
	all := tx.Recipients
	tx.Recipients = nil
	r := w.in.Relay(tx, each)
	for _, one := range all {
		reply, _ := r.Offer(t.Context(), one)
		if replies = append(replies, reply); !reply.Negative() {
			tx.Recipients = append(tx.Recipients, one)
		}
	}
	if len(tx.Recipients) == 0 {
		return replies, answer, tx
	}
	m := w.in.Begin(t.Context(), c, tx)
	m.Through(r)
	m.Write([]byte("Subject: x\r\n\r\nbody\r\n"))
	answer = m.End(t.Context())
	r.Close()
	return replies, answer, tx
}

func codes(list []message.Reply) string {
	var s []string
	for _, r := range list {
		s = append(s, fmt.Sprint(r.Code))
	}
	return strings.Join(s, " ")
}

// TestRelay: who is asked about which recipients, and what the client hears. A 0
// is the usual reply.
func TestRelay(t *testing.T) {
	no := map[string]message.Reply{
		"no@proxy.example": message.NewReply(550, "5.1.1", "no"), "bye@proxy.example": message.NewReply(421, "4.3.2", "bye"),
	}
	for _, tc := range []struct {
		name  string
		rcpts string
		each  bool
		codes string
		end   string
		told  string
	}{
		{"queued", "a@example.net b@example.net", false, "0 0", "250 2.0.0 Ok: queued as ", ""},
		{"proxied", "a@proxy.example b@proxy.example", false, "250 250", "250 2.0.0 taken (ID)", "open proxy.example, offer a@proxy.example, offer b@proxy.example, send true a@proxy.example b@proxy.example"},
		{"one is refused", "no@proxy.example a@proxy.example", false, "550 250", "250 2.0.0 taken (ID)", "open proxy.example, offer no@proxy.example, offer a@proxy.example, send true a@proxy.example"},
		{"421 is no farewell of ours", "bye@proxy.example", false, "451", "", "open proxy.example, offer bye@proxy.example"},
		{"proxied, then queued", "a@proxy.example b@example.net", false, "250 452", "250 2.0.0 taken (ID)", "open proxy.example, offer a@proxy.example, send true a@proxy.example"},
		{"queued, then proxied", "a@example.net b@proxy.example", false, "0 452", "250 2.0.0 Ok: queued as ", ""},
		{"two next hops", "a@proxy.example b@two.example", false, "250 452", "250 2.0.0 taken (ID)", "open proxy.example, offer a@proxy.example, send true a@proxy.example"},
		{"refused by one, taken by the other", "no@proxy.example b@two.example", false, "550 250", "250 2.0.0 taken (ID)", "open proxy.example, offer no@proxy.example, close, open two.example, offer b@two.example, send true b@two.example"},
		{"refused by one, queued", "no@proxy.example b@example.net", false, "550 0", "250 2.0.0 Ok: queued as ", "open proxy.example, offer no@proxy.example, close"},
		{"LMTP, one at a time", "a@lmtp.example b@lmtp.example", false, "250 452", "250 2.0.0 taken (ID)", "open lmtp, offer a@lmtp.example, send false a@lmtp.example"},
		{"LMTP, each", "a@lmtp.example b@lmtp.example", true, "250 250", "250 2.0.0 The next hop has answered for each recipient (ID)", "open lmtp, offer a@lmtp.example, offer b@lmtp.example, send false a@lmtp.example b@lmtp.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &hop{refuse: no}
			w := openRelay(t, h)
			replies, answer, tx := w.pass(t, chain(), tc.each, strings.Fields(tc.rcpts)...)
			if got := codes(replies); got != tc.codes {
				t.Errorf("RCPT: %v", replies)
			}
			want := strings.ReplaceAll(tc.end, "ID", tx.ID)
			if got := answer.Reply.String(); tc.end != "" && !strings.HasPrefix(got, want) {
				t.Errorf("the message got %q, want %q", got, want)
			}
			if got := strings.Join(h.told, ", "); got != tc.told {
				t.Errorf("the next hop was told\n%s\nwant\n%s", got, tc.told)
			}
			relayed := strings.Contains(tc.told, "send")
			if queued := len(w.taken) > 0; tc.end != "" && queued == relayed {
				t.Errorf("queued %v, relayed %v", queued, relayed)
			}
			if relayed && (!strings.HasPrefix(h.body, "Received: from client.example") || !strings.HasSuffix(h.body, "\r\nSubject: x\r\n\r\nbody\r\n") || h.sent.Size != int64(len(h.body))) {
				t.Errorf("the next hop got %q", h.body)
			}
			if n := w.queue.Totals().Messages; relayed && n != 0 {
				t.Errorf("%d messages in the queue", n)
			}
		})
	}
}

// TestRelayDecisions: what policies decide behind the envelope.
func TestRelayDecisions(t *testing.T) {
	edit := func(e ...hooks.Edit) hooks.Decision { return hooks.Decision{Edits: e} }
	for _, tc := range []struct {
		name    string
		at      hooks.Stage
		d       hooks.Decision
		reply   string
		told    string // behind the offer
		place   queue.Place
		queued  int
		refused bool
	}{
		{"refused", hooks.Message, hooks.Decision{Verb: hooks.Reject}, "554 5.7.1", "close", 0, 0, true},
		{"discarded", hooks.Message, hooks.Decision{Verb: hooks.Discard}, "250 2.0.0 Ok: queued as", "close", 0, 0, false},
		{"quarantined", hooks.Message, hooks.Decision{Verb: hooks.Quarantine}, "250 2.0.0 Ok: queued as", "close", queue.Quarantined, 1, false},
		{"held", hooks.Queue, hooks.Decision{Verb: hooks.Hold}, "451 4.3.5", "close", 0, 0, true},
		{"header", hooks.Message, edit(hooks.Edit{Kind: hooks.AddHeader, Name: "X-A", Value: "b"}), "250 2.0.0 taken", "send true a@proxy.example", 0, 0, false},
		{"recipient added", hooks.Message, edit(hooks.Edit{Kind: hooks.AddRecipient, Value: "b@proxy.example"}), "250 2.0.0 taken", "send true a@proxy.example b@proxy.example", 0, 0, false},
		{"recipient replaced", hooks.Message, edit(hooks.Edit{Kind: hooks.ReplaceRecipient, Name: "a@proxy.example", Value: "b@proxy.example"}), "250 2.0.0 taken", "send true b@proxy.example", 0, 0, false},
		{"another next hop", hooks.Message, edit(hooks.Edit{Kind: hooks.SetRoute, Value: "elsewhere"}), "250 2.0.0 taken", "close, open elsewhere, send true a@proxy.example", 0, 0, false},
		{"into the queue", hooks.Message, edit(hooks.Edit{Kind: hooks.ReplaceRecipient, Name: "a@proxy.example", Value: "b@example.net"}), "250 2.0.0 Ok: queued as", "close", queue.Active, 1, false},
		{"several ways", hooks.Message, edit(hooks.Edit{Kind: hooks.AddRecipient, Value: "b@example.net"}), "451 4.3.5", "close", 0, 0, true},
		{"nobody left", hooks.Message, edit(hooks.Edit{Kind: hooks.RemoveRecipient, Value: "a@proxy.example"}), "250 2.0.0 Ok: queued as", "close", 0, 0, false},
		{"two by LMTP", hooks.Message, edit(hooks.Edit{Kind: hooks.ReplaceRecipient, Name: "a@proxy.example", Value: "a@lmtp.example"}, hooks.Edit{Kind: hooks.AddRecipient, Value: "b@lmtp.example"}), "451 4.3.5", "close", 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &hop{}
			w := openRelay(t, h)
			_, answer, tx := w.pass(t, chain(at{tc.at, func(*hooks.Transaction) hooks.Decision { return tc.d }}), false, "a@proxy.example")
			if !strings.HasPrefix(answer.Reply.String(), tc.reply) || answer.Reply.Negative() != tc.refused {
				t.Errorf("the client got %v", answer.Reply)
			}
			if got := strings.TrimPrefix(strings.Join(h.told, ", "), "open proxy.example, offer a@proxy.example, "); got != tc.told {
				t.Errorf("the next hop was told %s, want %s", got, tc.told)
			}
			if n := w.queue.Totals().Messages; n != tc.queued {
				t.Fatalf("%d messages in the queue", n)
			}
			if tc.queued > 0 {
				if m, err := w.queue.Load(tx.ID); err != nil || m.Place != tc.place {
					t.Errorf("%+v, %v", m, err)
				}
			}
		})
	}
}

// TestRelayReplies: a next hop's answers to the message as the client gets them.
func TestRelayReplies(t *testing.T) {
	temporary, permanent := message.NewReply(452, "4.2.2", "full"), message.NewReply(550, "5.7.1", "no")
	good := message.NewReply(250, "2.0.0", "yes")
	for _, tc := range []struct {
		name       string
		a, b       message.Reply
		whole      string
		each       string
		disconnect bool
	}{
		{"both taken", good, good, "250", "250 250", false},
		{"one refused", permanent, good, "250", "550 250", false},
		{"one put off", good, temporary, "250", "250 452", false},
		{"both refused", permanent, permanent, "550", "550 550", false},
		{"refused and put off", permanent, temporary, "452", "550 452", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &hop{end: func(to string) message.Reply {
				if strings.HasPrefix(to, "a@") {
					return tc.a
				}
				return tc.b
			}}
			w := openRelay(t, h)
			_, answer, tx := w.pass(t, chain(), true, "a@lmtp.example", "b@lmtp.example")
			each := []message.Reply{answer.For(tx.Recipients[0]), answer.For(tx.Recipients[1])}
			if codes([]message.Reply{answer.Reply}) != tc.whole || codes(each) != tc.each {
				t.Errorf("%v, each %v", answer.Reply, each)
			}
			for _, r := range each {
				if !strings.HasSuffix(r.Text, " ("+tx.ID+")") {
					t.Errorf("no id in %v", r)
				}
			}
		})
	}
}

func TestPlainReply(t *testing.T) {
	for _, tc := range []struct{ in, want message.Reply }{
		{message.Reply{Code: 250, Text: "ok"}, message.NewReply(250, "2.0.0", "ok")},
		{message.NewReply(251, "2.1.5", "will forward"), message.NewReply(251, "2.1.5", "will forward")},
		{message.NewReply(221, "2.0.0", "bye"), message.NewReply(250, "2.0.0", "bye")},
		{message.NewReply(299, "", "odd"), message.NewReply(250, "2.0.0", "odd")},
		{message.NewReply(421, "4.3.2", "bye"), message.NewReply(451, "4.3.2", "bye")},
		{message.NewReply(354, "", "go on"), message.NewReply(451, "4.0.0", "go on")},
		{message.Reply{}, message.NewReply(451, "4.0.0", "")},
		{message.NewReply(550, "2.0.0", "contradicts"), message.NewReply(550, "5.0.0", "contradicts")},
		{message.NewReply(250, "2.0.0", strings.Repeat("x\n", 100)), message.NewReply(250, "2.0.0", strings.TrimSuffix(strings.Repeat("x\n", maxReplyLines), "\n"))},
		{message.NewReply(250, "2.0.0", strings.Repeat("x", maxReplyText-1)+"ü"), message.NewReply(250, "2.0.0", strings.Repeat("x", maxReplyText-1))},
	} {
		if got := plainReply(tc.in); got != tc.want {
			t.Errorf("%v became %v", tc.in, got)
		}
	}
}

// verifier answers as it is told.
type verifier struct {
	Verdict
	asked []string
}

func (v *verifier) Verify(_ context.Context, w Way, to message.Address) Verdict {
	v.asked = append(v.asked, w.String()+" "+to.String())
	return v.Verdict
}

// TestRecipientAsked: what a next hop says of a recipient is what the rule answers.
func TestRecipientAsked(t *testing.T) {
	for _, tc := range []struct {
		to    string
		says  Verdict
		want  string
		asked string
	}{
		{"a@ask.example", Verdict{Reply: message.NewReply(250, "2.1.5", "ok")}, "accept", "hop a@ask.example"},
		{"a@ask.example", Verdict{Reply: message.NewReply(250, "2.1.5", "ok"), Any: true}, "accept", "hop a@ask.example"},
		{"a@ask.example", Verdict{Reply: message.NewReply(554, "5.7.1", "not\n\x01you")}, "550 5.1.1 No such recipient here; the server behind this one says: 554 5.7.1 not  you", "hop a@ask.example"},
		{"a@ask.example", Verdict{Reply: message.NewReply(550, "5.1.1", strings.Repeat("long ", 300))}, "550 5.1.1 No such recipient here; the server behind this one says: 550 5.1.1 " + strings.Repeat("long ", 300)[:maxQuoted-len("550 5.1.1 ")] + "…", "hop a@ask.example"},
		{"a@ask.example", Verdict{Reply: message.NewReply(421, "4.3.2", "bye")}, "451 4.3.2 It is not known now whether the recipient exists; the server behind this one: 421 4.3.2 bye", "hop a@ask.example"},
		{"a@ask.example", Verdict{}, "451 4.0.0 It is not known now whether the recipient exists; the server behind this one: 0", "hop a@ask.example"},
		{"postmaster@ask.example", Verdict{Reply: message.NewReply(550, "5.1.1", "no")}, "accept", ""},
		{"a@lost.ask.example", Verdict{}, "451 4.3.5 No next hop is configured that could tell whether the recipient exists", ""},
		{"a@foreign.example", Verdict{Reply: message.NewReply(250, "2.1.5", "ok")}, "550 5.7.1 Relaying denied: this server takes no mail for that domain from you", ""},
	} {
		v := &verifier{Verdict: tc.says}
		w := open(t, func(s *Settings) {
			s.Domains = NewDomains([]Domain{{Name: "ask.example", Callout: true}, {Name: "*.ask.example", Callout: true}})
			s.Asked = func(_ *hooks.Transaction, rcpt message.Address) (Way, bool) {
				return road{"hop", false}, rcpt.Domain != "lost.ask.example"
			}
		})
		w.in.o.Verifier = v
		tx := transaction(tc.to)
		tx.Current = tx.Recipients[0]
		d, err := w.in.RecipientRule().Handle(t.Context(), hooks.Rcpt, tx)
		got := d.Verb.String()
		if d.Verb.Refuses() {
			got = d.Reply.String()
		}
		if err != nil || got != tc.want || strings.Join(v.asked, " ") != tc.asked {
			t.Errorf("%s: %q, asked %q, %v", tc.to, got, v.asked, err)
		}
		if d.Verb == hooks.Reject && !d.Reply.Permanent() || d.Verb == hooks.Defer && !d.Reply.Temporary() {
			t.Errorf("%s: %v with %v", tc.to, d.Verb, d.Reply)
		}
	}
}

// FuzzNextHopReply: whatever a next hop says, what we make of it is a bounded
// reply of ours, which neither ends nor adds to the conversation.
func FuzzNextHopReply(f *testing.F) {
	for _, text := range []string{"ok", "two\nlines", "a\r\n250 b", "\x00\x1b[31m", strings.Repeat("x\n", 5000), strings.Repeat("ü", 5000), ""} {
		f.Add(250, 2, text)
		f.Add(421, 4, text)
		f.Add(550, 5, text)
		f.Add(0, 0, text)
	}
	f.Fuzz(func(t *testing.T, code, class int, text string) {
		in := message.Reply{Code: code, Enhanced: [3]int{class, 1, 1}, Text: text}
		r := withID(plainReply(in), "0000000000000AB")
		if r.Code == 421 || r.Code < 250 || r.Code > 599 || r.Code/100 == 3 || r.Enhanced[0] != r.Code/100 {
			t.Fatalf("%+v became %+v", in, r)
		}
		wire := string(r.AppendUTF8(nil))
		lines := strings.Split(strings.TrimSuffix(wire, "\r\n"), "\r\n")
		if len(lines) > 3*maxReplyLines || len(wire) > 2*maxReplyText || !strings.HasSuffix(wire, "(0000000000000AB)\r\n") {
			t.Fatalf("%d lines, %d bytes: %q", len(lines), len(wire), wire)
		}
		for i, line := range lines {
			if !strings.HasPrefix(line, fmt.Sprint(r.Code)) || (line[3] == '-') != (i < len(lines)-1) || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("line %d of %q", i, wire)
			}
		}
		if q := quoted(in); len(q) > maxQuoted+len("…") || strings.ContainsAny(q, "\r\n\x00") {
			t.Fatalf("quoted: %q", q)
		}
	})
}
