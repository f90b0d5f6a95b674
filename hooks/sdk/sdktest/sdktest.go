// Package sdktest tests policies of package sdk in the process of the test: no
// server, no plugin process.
//
//	p := sdktest.New(t, sdk.Policy{Name: "words", Handler: &words{}, Access: sdk.Headers()}, map[string]any{"words": []any{"casino"}})
//	a := p.Ask(hooks.Headers, sdktest.Mail("Subject: a casino\n\nhello\n"))
//	a.Rejects("5.7.1", "casino")
//
// A policy is asked through the server's own chain: what a stage does not allow,
// or an edit that can't be made, fails the test, and edits are made on the
// transaction, where the test finds their outcome.
package sdktest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/store"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
	"github.com/postern-mta/postern/hooks/proto"
	"github.com/postern-mta/postern/hooks/sdk"
)

// Policy is a policy with a server around it that exists in memory: its store is
// empty at first, and its metrics can be read. Its clock is the time of package
// time, which synctest.Test turns into a virtual one.
type Policy struct {
	t       testing.TB
	handler hooks.Handler
	host    *sdk.Host
	counted counted

	// Store is the memory that the policy sees by sdk.HostOf; store.Key and
	// store.Encode make what stands in it.
	Store store.Store
}

// New makes a policy, with settings as postern.toml gives them; problems with them
// fail the test. A Policy's Handler takes one set of settings.
func New(t testing.TB, p sdk.Policy, settings map[string]any) *Policy {
	t.Helper()
	out := &Policy{t: t, Store: store.Memory(time.Now)}
	t.Cleanup(func() { out.Store.Close() })
	ctx := sdk.WithHost(context.Background(), direct{plugin.NewHost(p.Name, out.Store, &out.counted)})
	out.host = sdk.HostOf(ctx)
	var err error
	if out.handler, err = p.LocalUnder(ctx, settings); err != nil {
		t.Fatal(err)
	}
	return out
}

// Conn is a transaction of a connection alone, for the stages before MAIL, from
// 192.0.2.1.
func Conn() *hooks.Transaction {
	return hooks.NewTransaction(&hooks.Session{
		ID: "SESSION0001", Listener: "mx", Protocol: "smtp", Helo: "client.example", Extended: true, Started: time.Now(),
		Client: netip.MustParseAddrPort("192.0.2.1:4711"), Local: netip.MustParseAddrPort("192.0.2.25:25"),
	}, "")
}

// Mail is a transaction with a message: from a@client.example to the recipients,
// or to b@example.net, whose domain is ours. Lines of the text may end in LF.
func Mail(text string, to ...string) *hooks.Transaction {
	tx := hooks.NewTransaction(Conn().Session, "MESSAGE0001")
	tx.Sender = message.Address{Local: "a", Domain: "client.example"}
	if len(to) == 0 {
		to = []string{"b@example.net"}
	}
	for _, one := range to {
		a, err := message.ParseAddress(one)
		if err != nil {
			panic(fmt.Sprintf("sdktest: %q: %v", one, err))
		}
		tx.Recipients = append(tx.Recipients, &hooks.Recipient{Address: a, Given: a, Ours: true})
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	n, _ := message.HeaderLen([]byte(text))
	tx.Header, tx.Body, tx.Size = message.ParseHeader([]byte(text[:n])), message.Bytes(text), int64(len(text))
	return tx
}

// Rcpt is a transaction at stage rcpt, of Mail without its message: the last
// recipient is in question, those before it were accepted.
func Rcpt(to ...string) *hooks.Transaction {
	tx := Mail("", to...)
	tx.Header, tx.Body, tx.Size = nil, nil, 0
	n := len(tx.Recipients) - 1
	tx.Current, tx.Recipients = tx.Recipients[n], tx.Recipients[:n]
	return tx
}

// Answer is what a policy said of a transaction. Tx has its edits.
type Answer struct {
	t testing.TB
	hooks.Decision
	Tx *hooks.Transaction
}

// Ask asks the policy at a stage. A failure of it fails the test; Fails expects
// one.
func (p *Policy) Ask(at hooks.Stage, tx *hooks.Transaction) *Answer {
	p.t.Helper()
	a, err := p.ask(at, tx)
	if err != nil {
		p.t.Fatalf("stage %s: %v", at, err)
	}
	return a
}

// Fails asks the policy at a stage where it is to fail, with that text in its
// error.
func (p *Policy) Fails(at hooks.Stage, tx *hooks.Transaction, text string) {
	p.t.Helper()
	if a, err := p.ask(at, tx); err == nil {
		p.t.Fatalf("stage %s: it said %s; a failure was expected", at, a)
	} else if !strings.Contains(err.Error(), text) {
		p.t.Fatalf("stage %s: it failed with %q, which does not hold %q", at, err, text)
	}
}

// Page expects a page of documentation to have a row for each setting, with its
// default as TOML writes it, and to say the policy's own timeout and on_failure.
func Page(t testing.TB, p sdk.Policy, path string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.Settings()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		row := "| `" + s.Name + "` | must be given |"
		if s.Default != nil {
			plain, err := s.Default.Plain()
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(plain)
			if err != nil {
				t.Fatal(err)
			}
			row = "| `" + s.Name + "` | `" + string(text) + "` |"
		}
		if !strings.Contains(string(page), row) {
			t.Errorf("%s has no row %s", path, row)
		}
	}
	said := fmt.Sprintf("`timeout` is %gs unless written otherwise", p.Timeout.Seconds())
	if !strings.Contains(string(page), said) {
		t.Errorf("%s does not say: %s", path, said)
	}
	if !strings.Contains(string(page), "`on_failure` is `\""+p.OnFailure+"\"` unless written otherwise") {
		t.Errorf("%s does not say that on_failure is %q", path, p.OnFailure)
	}
}

// Learn teaches the policy what a person said of a message.
func (p *Policy) Learn(l *sdk.Lesson) (string, error) {
	h, ok := p.handler.(interface {
		Learn(context.Context, *sdk.Lesson) (string, error)
	})
	if !ok {
		p.t.Fatalf("%s can't be taught here", p.handler.Name())
	}
	return h.Learn(p.t.Context(), l)
}

func (p *Policy) ask(at hooks.Stage, tx *hooks.Transaction) (*Answer, error) {
	if !slices.Contains(p.handler.Stages(), at) {
		return nil, fmt.Errorf("%s is not asked there: it has %v", p.handler.Name(), p.handler.Stages())
	}
	// Only there: deny is for the test to ask at, not for the chain behind a refusal.
	seen := &watched{Handler: p.handler, at: at}
	chain := hooks.NewChain([]hooks.Entry{{Handler: seen}}, hooks.Options{Observer: seen})
	d := chain.Run(p.t.Context(), at, tx)
	d.Edits = seen.edits // a chain that is passed leaves none in its decision
	return &Answer{p.t, d, tx}, seen.err
}

// watched keeps how a call ended, and asks at one stage alone. It implements
// hooks.Observer.
type watched struct {
	hooks.Handler
	at    hooks.Stage
	edits []hooks.Edit
	err   error
}

// Stages implements hooks.Handler.
func (w *watched) Stages() []hooks.Stage { return []hooks.Stage{w.at} }

// Stage implements hooks.Observer.
func (w *watched) Stage(_ *hooks.Transaction, run hooks.StageRun) {
	for _, one := range run.Handlers {
		w.edits = append(w.edits, one.Edits...)
		if one.Err != nil {
			w.err = one.Err
		}
	}
}

// String is the decision on one line.
func (a *Answer) String() string {
	if a.Reply.IsZero() {
		return a.Verb.String()
	}
	return a.Verb.String() + " " + a.Reply.String()
}

// Passes expects no decision.
func (a *Answer) Passes() *Answer { a.t.Helper(); return a.is(hooks.Pass, "", "") }

// Accepts expects accept.
func (a *Answer) Accepts() *Answer { a.t.Helper(); return a.is(hooks.Accept, "", "") }

// Rejects expects reject with that enhanced status ("": any) and text in its reply.
func (a *Answer) Rejects(enhanced, text string) *Answer {
	a.t.Helper()
	return a.is(hooks.Reject, enhanced, text)
}

// Defers expects defer; see Rejects.
func (a *Answer) Defers(enhanced, text string) *Answer {
	a.t.Helper()
	return a.is(hooks.Defer, enhanced, text)
}

// Decides expects a verb.
func (a *Answer) Decides(v hooks.Verb) *Answer { a.t.Helper(); return a.is(v, "", "") }

func (a *Answer) is(v hooks.Verb, enhanced, text string) *Answer {
	a.t.Helper()
	if a.Verb != v || enhanced != "" && a.Reply.Status() != enhanced || !strings.Contains(a.Reply.Text, text) {
		a.t.Errorf("it said %s, not %s", a, strings.TrimSpace(strings.Join([]string{v.String(), enhanced, text}, " ")))
	}
	return a
}

// Field expects a header field with that value, as a reader sees it.
func (a *Answer) Field(name, value string) *Answer {
	a.t.Helper()
	if a.Tx.Header == nil {
		a.t.Errorf("there is no header section at this stage")
	} else if got, ok := a.Tx.Header.Get(name); !ok || got != value {
		a.t.Errorf("%s is %q, not %q", name, got, value)
	}
	return a
}

// Edited expects an edit of that kind, whose other fields are those of want that
// are not zero.
func (a *Answer) Edited(want hooks.Edit) *Answer {
	a.t.Helper()
	for _, got := range a.Edits {
		if got.Kind == want.Kind && fits(got.Name, want.Name) && fits(got.Value, want.Value) && fits(got.N, want.N) &&
			fits(got.Number, want.Number) && fits(got.Rcpt, want.Rcpt) && (want.Any == nil || reflect.DeepEqual(got.Any, want.Any)) {
			return a
		}
	}
	a.t.Errorf("no edit is %+v; there are %+v", want, a.Edits)
	return a
}

func fits[T comparable](got, want T) bool {
	var zero T
	return want == zero || got == want
}

// Counted is the sum of a counter, or of a histogram's values, with these labels.
func (p *Policy) Counted(name string, labels map[string]string) float64 {
	p.t.Helper()
	if err := p.host.Flush(p.t.Context()); err != nil {
		p.t.Errorf("metrics: %v", err)
	}
	return p.counted.get(name, labels)
}

// counted is the metrics of a policy.
type counted struct {
	mu   sync.Mutex
	sums map[string]float64
}

func (c *counted) get(name string, labels map[string]string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sums[fmt.Sprintln(name, labels)] // which sorts them
}

// Count implements plugin.Metrics.
func (c *counted) Count(_, name string, labels map[string]string, n float64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sums == nil {
		c.sums = map[string]float64{}
	}
	c.sums[fmt.Sprintln(name, labels)] += n
	return nil
}

// Observe implements plugin.Metrics.
func (c *counted) Observe(policy, name string, labels map[string]string, value float64) error {
	return c.Count(policy, name, labels, value)
}

// direct is the client of a server that stands in this process.
type direct struct{ server proto.HostServer }

// Get implements proto.HostClient.
func (d direct) Get(ctx context.Context, x *proto.StoreKey, _ ...grpc.CallOption) (*proto.StoreValue, error) {
	return d.server.Get(ctx, x)
}

// Put implements proto.HostClient.
func (d direct) Put(ctx context.Context, x *proto.PutRequest, _ ...grpc.CallOption) (*proto.Done, error) {
	return d.server.Put(ctx, x)
}

// Delete implements proto.HostClient.
func (d direct) Delete(ctx context.Context, x *proto.StoreKey, _ ...grpc.CallOption) (*proto.Done, error) {
	return d.server.Delete(ctx, x)
}

// Incr implements proto.HostClient.
func (d direct) Incr(ctx context.Context, x *proto.IncrRequest, _ ...grpc.CallOption) (*proto.IncrReply, error) {
	return d.server.Incr(ctx, x)
}

// Take implements proto.HostClient.
func (d direct) Take(ctx context.Context, x *proto.TakeRequest, _ ...grpc.CallOption) (*proto.TakeReply, error) {
	return d.server.Take(ctx, x)
}

// Swap implements proto.HostClient.
func (d direct) Swap(ctx context.Context, x *proto.SwapRequest, _ ...grpc.CallOption) (*proto.SwapReply, error) {
	return d.server.Swap(ctx, x)
}

// Measure implements proto.HostClient.
func (d direct) Measure(ctx context.Context, x *proto.Measures, _ ...grpc.CallOption) (*proto.Done, error) {
	return d.server.Measure(ctx, x)
}
