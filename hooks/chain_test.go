package hooks

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/postern-mta/postern/core/message"
)

// script is a handler whose answers a test gives.
type script struct {
	name   string
	at     []Stage
	answer func(ctx context.Context, at Stage, tx *Transaction) (Decision, error)
	closed int
}

func (s *script) Name() string    { return s.name }
func (s *script) Stages() []Stage { return s.at }
func (s *script) Close() error    { s.closed++; return nil }
func (s *script) Handle(ctx context.Context, at Stage, tx *Transaction) (Decision, error) {
	return s.answer(ctx, at, tx)
}

func says(name string, d Decision, at ...Stage) *script {
	return &script{name: name, at: at, answer: func(context.Context, Stage, *Transaction) (Decision, error) { return d, nil }}
}

func fails(name string, err error, at ...Stage) *script {
	return &script{name: name, at: at, answer: func(context.Context, Stage, *Transaction) (Decision, error) { return Decision{}, err }}
}

type journal struct {
	mu   sync.Mutex
	runs []StageRun
}

func (j *journal) Stage(_ *Transaction, r StageRun) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.runs = append(j.runs, r)
}

func newTx(t *testing.T) *Transaction {
	t.Helper()
	s := &Session{ID: "session0", Client: netip.MustParseAddrPort("192.0.2.7:1234"), Listener: "mx", Protocol: "smtp"}
	tx := NewTransaction(s, "message0")
	tx.Sender = message.Address{Local: "s", Domain: "client.example"}
	for _, local := range []string{"a", "b"} {
		a := message.Address{Local: local, Domain: "example.net"}
		tx.Recipients = append(tx.Recipients, &Recipient{Address: a, Given: a})
	}
	tx.Header = message.ParseHeader([]byte("Subject: x\r\nReceived: y\r\n"))
	tx.Body = message.Bytes("Subject: x\r\nReceived: y\r\n\r\nhello\r\n")
	return tx
}

func chainOf(o Options, list ...*script) *Chain {
	entries := make([]Entry, 0, len(list))
	for _, s := range list {
		entries = append(entries, Entry{Handler: s})
	}
	return NewChain(entries, o)
}

func TestFirstDecisionEndsTheStage(t *testing.T) {
	j := &journal{}
	c := chainOf(Options{Observer: j}, says("one", Decision{}, Mail), says("two", Decision{Verb: Reject}, Mail), says("three", Decision{Verb: Accept}, Mail))
	d := c.Run(t.Context(), Mail, newTx(t))
	if d.Verb != Reject || d.By != "two" || d.Reply.String() != "550 5.7.1 Refused by policy" {
		t.Errorf("decision %+v", d)
	}
	if len(j.runs) != 1 || len(j.runs[0].Handlers) != 2 || j.runs[0].Handlers[1].Reply.Code != 550 {
		t.Errorf("trace %+v", j.runs)
	}
	if n := c.Counts(); n[0].Calls != 1 || n[1].Verbs[Reject] != 1 || n[2].Calls != 0 {
		t.Errorf("counts %+v", n)
	}
	if d := c.Run(t.Context(), Rcpt, newTx(t)); d.Verb != Pass {
		t.Errorf("a stage without handlers answers %+v", d)
	}
}

func TestDefaultReplies(t *testing.T) {
	for _, c := range []struct {
		at   Stage
		verb Verb
		want string
	}{
		{Connect, Reject, "554"},
		{Connect, Defer, "451"},
		{Mail, Reject, "550"},
		{Mail, Defer, "450"},
		{Rcpt, Reject, "550"},
		{Message, Reject, "554"},
		{Message, Defer, "451"},
		{Queue, Reject, "554"},
		{Rcpt, Drop, "421"},
		{Data, Reject, "554"},
	} {
		d := chainOf(Options{}, says("p", Decision{Verb: c.verb}, c.at)).Run(t.Context(), c.at, newTx(t))
		if !strings.HasPrefix(d.Reply.String(), c.want+" "+c.want[:1]+".") || (c.verb == Drop) != d.Disconnect {
			t.Errorf("%s at %s: %s", c.verb, c.at, d.Reply)
		}
	}
	d := Decision{Verb: Reject, Reply: message.Reply{Text: "No %s"}}
	if got := chainOf(Options{}, says("p", d, Mail)).Run(t.Context(), Mail, newTx(t)).Reply.String(); got != "550 5.7.1 No %s" {
		t.Errorf("reply %q", got)
	}
}

// Every cell of the table of stages: what the row allows is done, what it does
// not allow is a failure and never a verdict.
func TestEveryVerbAtEveryStage(t *testing.T) {
	for _, row := range Stages() {
		for v := Pass; v < verbEnd; v++ {
			c := chainOf(Options{}, says("p", Decision{Verb: v, User: "anna"}, row.Stage))
			d := c.Run(t.Context(), row.Stage, newTx(t))
			failed := c.Counts()[0].Failures == 1
			if want := !row.Observe && !row.Allows(v); failed != want {
				t.Errorf("%s at %s: failed %v, want %v", v, row.Name, failed, want)
			}
			if !failed && d.Verb != v {
				t.Errorf("%s at %s became %s", v, row.Name, d.Verb)
			}
			if failed && row.Allows(Defer) && (d.Verb != Defer || d.Reply.Code != 451 || d.Reply.Status() != "4.3.0") {
				t.Errorf("a failure at %s answers %+v", row.Name, d)
			}
		}
	}
}

func TestEveryEditAtEveryStage(t *testing.T) {
	for _, row := range Stages() {
		for k := AddHeader; k < editEnd; k++ {
			e := Edit{Kind: k, Name: "X-Name", Value: "c@example.net", Any: map[string]any{"a": "b"}}
			switch k {
			case RemoveRecipient:
				e.Value = "a@example.net"
			case ReplaceRecipient:
				e.Name = "a@example.net"
			case SetRoute:
				e.Name = ""
			case SetRcptNote, AddRcptHeader, AppendRcptHeader, RemoveRcptHeader:
				e.Rcpt = "a@example.net"
			case SetReturn:
				e.Value = "hdrs"
			case SetNotify:
				e.Value, e.Rcpt = "success,failure", "a@example.net"
			case AddCapability, RemoveCapability:
				e.Value = "XNAME"
			case SetPlan:
				e.Name = "tls"
			case ReplaceBody:
				e.Name = "text/plain"
			case AddFooter:
				e.Any = map[string]any{"text": "bye"}
			}
			c := chainOf(Options{}, says("p", Decision{Edits: []Edit{e}}, row.Stage))
			tx := newTx(t)
			tx.Try, tx.Notice = &Try{}, &Notice{}
			c.Run(t.Context(), row.Stage, tx)
			if failed := c.Counts()[0].Failures == 1; failed == row.AllowsEdit(k) {
				t.Errorf("%s at %s: failed %v", k, row.Name, failed)
			}
		}
	}
}

func TestFailureModes(t *testing.T) {
	boom := &script{name: "boom", at: []Stage{Rcpt}, answer: func(context.Context, Stage, *Transaction) (Decision, error) { panic("boom") }}
	slow := &script{name: "slow", at: []Stage{Rcpt}, answer: func(ctx context.Context, _ Stage, _ *Transaction) (Decision, error) {
		<-ctx.Done()
		return Decision{}, ctx.Err()
	}}
	wrong := says("wrong", Decision{Verb: Defer, Reply: message.NewReply(550, "5.0.0", "x")}, Rcpt)
	for _, h := range []*script{boom, slow, wrong, fails("err", errors.New("no"), Rcpt)} {
		synctest.Test(t, func(t *testing.T) {
			c := NewChain([]Entry{{Handler: h}}, Options{})
			if d := c.Run(t.Context(), Rcpt, newTx(t)); d.Verb != Defer || d.Reply.Code != 451 || d.By != h.name {
				t.Errorf("%s: %+v", h.name, d)
			}
			c = NewChain([]Entry{{Handler: h, FailOpen: true}, {Handler: says("next", Decision{Verb: Accept}, Rcpt)}}, Options{})
			if d := c.Run(t.Context(), Rcpt, newTx(t)); d.Verb != Accept || d.By != "next" || c.Counts()[0].Failures != 1 {
				t.Errorf("%s with on_failure = pass: %+v", h.name, d)
			}
		})
	}
}

func TestEditsAllOrNothing(t *testing.T) {
	tx := newTx(t)
	bad := []Edit{
		{Kind: AddHeader, Name: "X-A", Value: "1"},
		{Kind: SetNote, Name: "n", Any: "v"},
		{Kind: AddRecipient, Value: "c@example.net"},
		{Kind: AddHeader, Name: "X-B", Value: "evil\r\nBcc: x"},
	}
	c := chainOf(Options{}, says("p", Decision{Verb: Accept, Edits: bad}, Message))
	if d := c.Run(t.Context(), Message, tx); d.Verb != Defer {
		t.Errorf("decision %+v", d)
	}
	if tx.Header.Count("X-A") != 0 || tx.Notes["n"] != nil || len(tx.Recipients) != 2 {
		t.Errorf("half of the edits stayed: %q %v %d", tx.Header.Bytes(), tx.Notes, len(tx.Recipients))
	}
	c = chainOf(Options{}, says("p", Decision{Edits: append(bad[:3:3],
		Edit{Kind: ReplaceRecipient, Name: "a@example.net", Value: "z@example.org"}, Edit{Kind: RemoveRecipient, Value: "b@example.net"},
		Edit{Kind: AddScore, Name: "s", Number: 2.5}, Edit{Kind: SetRoute, Name: "z@example.org", Value: "local"},
		Edit{Kind: SkipPolicy, Value: "other"}, Edit{Kind: SetConnNote, Name: "c", Any: 1.0})}, Message), says("other", Decision{Verb: Reject}, Message))
	if d := c.Run(t.Context(), Message, tx); d.Verb != Pass {
		t.Errorf("decision %+v", d)
	}
	var got []string
	for _, r := range tx.Recipients {
		got = append(got, r.Address.String()+r.Route)
	}
	if !slices.Equal(got, []string{"z@example.orglocal", "c@example.net"}) || tx.Total() != 2.5 || tx.Session.Notes["c"] != 1.0 || tx.Header.Count("X-A") != 1 {
		t.Errorf("recipients %q, total %v, notes %v", got, tx.Total(), tx.Session.Notes)
	}
}

func TestReplaceAtRcptChangesTheCurrentOne(t *testing.T) {
	tx := newTx(t)
	a := message.Address{Local: "new", Domain: "example.net"}
	tx.Current = &Recipient{Address: a, Given: a}
	c := chainOf(Options{}, says("p", Decision{Edits: []Edit{{Kind: ReplaceRecipient, Value: "other@example.net"}}}, Rcpt))
	c.Run(t.Context(), Rcpt, tx)
	if tx.Current.Address.String() != "other@example.net" || tx.Current.Given != a || len(tx.Recipients) != 2 {
		t.Errorf("current %v given %v", tx.Current.Address, tx.Current.Given)
	}
}

func TestShadowChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		gate := make(chan struct{})
		slow := &script{name: "shadow", at: []Stage{Message}, answer: func(_ context.Context, _ Stage, tx *Transaction) (Decision, error) {
			<-gate
			var b [4]byte
			if _, err := tx.Body.ReadAt(b[:], 0); err != nil || !bytes.Equal(b[:], []byte("body")) {
				t.Errorf("the body is gone: %q %v", b, err)
			}
			return Decision{Verb: Reject, Edits: []Edit{{Kind: AddHeader, Name: "X-A", Value: "1"}}}, nil
		}}
		c := NewChain([]Entry{{Handler: slow, Mode: Shadow}, {Handler: says("off", Decision{Verb: Reject}, Message), Mode: Off}}, Options{Observer: j})
		tx := newTx(t)
		tx.Body = message.Bytes("body")
		if d := c.Run(t.Context(), Message, tx); d.Verb != Pass {
			t.Errorf("decision %+v", d)
		}
		tx.Body, tx.Recipients, tx.Header = nil, nil, nil // the session goes on
		close(gate)
		c.Wait()
		if len(j.runs) != 1 || !j.runs[0].Handlers[0].Shadow || j.runs[0].Handlers[0].Verb != Reject {
			t.Errorf("trace %+v", j.runs)
		}
		if n := c.Counts(); n[0].Verbs[Reject] != 1 || n[1].Calls != 0 {
			t.Errorf("counts %+v", n)
		}
	})
}

func TestShadowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		slow := &script{name: "shadow", at: []Stage{Mail}, answer: func(context.Context, Stage, *Transaction) (Decision, error) {
			<-gate
			return Decision{}, nil
		}}
		c := NewChain([]Entry{{Handler: slow, Mode: Shadow}}, Options{})
		for range 2 * asideLimit {
			c.Run(t.Context(), Mail, newTx(t))
		}
		close(gate)
		c.Wait()
		if n := c.Counts()[0]; n.Calls != asideLimit || n.Failures != asideLimit {
			t.Errorf("%d calls and %d left out, want %d of each", n.Calls, n.Failures, asideLimit)
		}
	})
}

func TestDenyHandlers(t *testing.T) {
	seen := ""
	deny := func(d Decision) *script {
		return &script{name: "deny", at: []Stage{Deny}, answer: func(_ context.Context, _ Stage, tx *Transaction) (Decision, error) {
			seen = tx.Refusal.Policy + " " + tx.Refusal.Stage.String() + " " + tx.Refusal.Reply.String()
			return d, nil
		}}
	}
	refuse, next := says("refuse", Decision{Verb: Reject}, Rcpt), says("next", Decision{Verb: Defer}, Rcpt)
	if d := chainOf(Options{}, refuse, next, deny(Decision{})).Run(t.Context(), Rcpt, newTx(t)); d.Verb != Reject || seen != "refuse rcpt 550 5.7.1 Refused by policy" {
		t.Errorf("%+v, seen %q", d, seen)
	}
	soft := Decision{Verb: Defer, Reply: message.NewReply(450, "4.7.1", "Later")}
	if d := chainOf(Options{}, refuse, next, deny(soft)).Run(t.Context(), Rcpt, newTx(t)); d.Verb != Defer || d.Reply.Text != "Later" {
		t.Errorf("softened: %+v", d)
	}
	if d := chainOf(Options{}, refuse, says("last", Decision{Verb: Accept}, Rcpt), deny(Decision{Verb: Accept})).Run(t.Context(), Rcpt, newTx(t)); d.Verb != Accept || d.By != "last" {
		t.Errorf("cancelled: %+v", d)
	}
	r, _ := chainOf(Options{}, deny(Decision{Verb: Reject, Reply: message.NewReply(554, "5.5.0", "Hard")})).Refuse(t.Context(), Helo, newTx(t), message.NewReply(501, "5.5.4", "x"))
	if r.Code != 554 {
		t.Errorf("an engine's refusal replaced by %s", r)
	}
}

func TestWhenAndImmune(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name string
		when When
		want bool
	}{
		{"nothing", When{}, true},
		{"listener", When{Listener: []string{"mx"}}, true},
		{"other listener", When{Listener: []string{"sub"}}, false},
		{"client", When{Client: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, true},
		{"other client", When{Client: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, false},
		{"client_not", When{ClientNot: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, false},
		{"sender", When{SenderDomain: []string{"*.example"}}, true},
		{"sender not", When{SenderDomain: []string{"client2.example", "*.client.example"}}, false},
		{"rcpt", When{RcptDomain: []string{"example.net"}}, true},
		{"rcpt not", When{RcptDomain: []string{"example.org"}}, false},
		{"authenticated", When{Authenticated: &yes}, false},
	} {
		ch := NewChain([]Entry{{Handler: says("p", Decision{Verb: Reject}, Data), When: c.when}}, Options{})
		if got := ch.Run(t.Context(), Data, newTx(t)).Verb == Reject; got != c.want {
			t.Errorf("%s: ran %v, want %v", c.name, got, c.want)
		}
	}
	tx := newTx(t)
	tx.Session.Relaying = true
	if d := NewChain([]Entry{{Handler: says("p", Decision{Verb: Reject}, Data), Immune: []string{"relaying"}}}, Options{}).Run(t.Context(), Data, tx); d.Verb != Pass {
		t.Errorf("an immune client was judged: %+v", d)
	}
}

func TestGenerationClosesAfterItsLastUser(t *testing.T) {
	h := says("p", Decision{}, Mail)
	c := chainOf(Options{}, h)
	if !c.Acquire() {
		t.Fatal("not acquired")
	}
	c.Retire()
	if h.closed != 0 || !c.Acquire() {
		t.Error("closed under a user")
	}
	c.Release()
	c.Release()
	if h.closed != 1 || c.Acquire() {
		t.Errorf("closed %d times", h.closed)
	}
}

func TestTellRunsBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan string, 1)
		h := &script{name: "o", at: []Stage{Queued}, answer: func(_ context.Context, at Stage, tx *Transaction) (Decision, error) {
			done <- tx.ID
			return Decision{Verb: Reject}, nil
		}}
		c := chainOf(Options{}, h)
		c.Tell(Queued, newTx(t))
		if id := <-done; id != "message0" {
			t.Errorf("told of %q", id)
		}
		c.Wait()
	})
}

func TestFactsSurvive(t *testing.T) {
	tx := newTx(t)
	tx.Notes = map[string]any{"a": "b"}
	tx.Tags = []string{"spam"}
	tx.Session.Helo, tx.Session.Relaying = "h.example", true
	got := tx.Facts().Restore("id")
	if got.Session.Client != tx.Session.Client || !got.Session.Relaying || got.Notes["a"] != "b" || !got.Tagged("spam") || got.Session.Helo != "h.example" {
		t.Errorf("restored %+v %+v", got, got.Session)
	}
}

func TestNames(t *testing.T) {
	for _, r := range Stages() {
		if at, ok := ParseStage(r.Name); !ok || at != r.Stage {
			t.Errorf("stage %q", r.Name)
		}
	}
	for v := Pass; v < verbEnd; v++ {
		if got, ok := ParseVerb(v.String()); !ok || got != v {
			t.Errorf("verb %q", v)
		}
	}
	var b strings.Builder
	if err := WriteTable(&b); err != nil || strings.Count(b.String(), "\n") < 2*len(Stages()) {
		t.Errorf("table of %d lines, %v", strings.Count(b.String(), "\n"), err)
	}
}

func BenchmarkChainPass(b *testing.B) {
	s := &Session{Client: netip.MustParseAddrPort("192.0.2.7:1")}
	tx := NewTransaction(s, "x")
	c := chainOf(Options{}, says("a", Decision{}, Mail))
	b.ReportAllocs()
	for b.Loop() {
		c.Run(b.Context(), Mail, tx)
	}
}
