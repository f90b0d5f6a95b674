package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/hooks"
)

// waits is a policy whose look-up lasts until the test lets it go.
const waits = "local p = policy {}\nfunction p.connect(conn) conn:early('1h') return reject(conn.id) end\nreturn p"

// held is a session whose look-ups wait for the channel.
func held(id string, let chan struct{}) *hooks.Transaction {
	tx := testTransaction()
	tx.ID = ""
	tx.Session.ID = id
	tx.Session.Early = func(ctx context.Context, _ time.Duration) bool {
		select {
		case <-let:
		case <-ctx.Done():
		}
		return false
	}
	return tx
}

func TestPoolBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		o.Pool = NewPool(16)
		slow, other := load(t, o, waits, nil), load(t, o, waits, nil)
		let := make(chan struct{})
		var done atomic.Int32
		var calls sync.WaitGroup
		for i := range 10 {
			calls.Go(func() {
				d, err := slow.Handle(t.Context(), hooks.Connect, held(fmt.Sprint(i), let))
				if err != nil || d.Reply.Text != fmt.Sprint(i) {
					t.Errorf("call %d: %+v, %v", i, d, err)
				}
				done.Add(1)
			})
		}
		synctest.Wait()
		if slow.live != 4 || o.Pool.States() != 5 || done.Load() != 0 {
			t.Errorf("%d states of the policy, %d of all, %d done", slow.live, o.Pool.States(), done.Load())
		}
		// Waiting for a state counts against the timeout of the call.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := slow.Handle(ctx, hooks.Connect, held("late", let)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for a Lua state") {
			t.Errorf("got %v", err)
		}
		// Another policy is not held up.
		free := make(chan struct{})
		close(free)
		if d, err := other.Handle(t.Context(), hooks.Connect, held("other", free)); err != nil || d.Reply.Text != "other" {
			t.Errorf("got %+v, %v", d, err)
		}
		close(let)
		calls.Wait()
	})
}

// TestPoolLeavesAQuarter: where calls that wait hold three quarters, a policy
// that waits gets no more; one that does not still gets a state.
func TestPoolLeavesAQuarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		o.Pool = NewPool(8) // a share of two
		let := make(chan struct{})
		var calls sync.WaitGroup
		var policies []*Policy
		for range 4 {
			policies = append(policies, load(t, o, waits, nil))
		}
		for i := range 8 {
			calls.Go(func() { _, _ = policies[i%4].Handle(t.Context(), hooks.Connect, held("x", let)) })
			synctest.Wait()
		}
		if o.Pool.asleep != 6 {
			t.Errorf("%d calls wait in look-ups", o.Pool.asleep)
		}
		last := load(t, o, waits, nil)
		free := make(chan struct{})
		close(free)
		if _, err := last.Handle(t.Context(), hooks.Connect, held("y", free)); err != nil {
			t.Error(err)
		}
		close(let)
		calls.Wait()
		if o.Pool.asleep != 0 {
			t.Errorf("%d calls wait in the end", o.Pool.asleep)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := testOptions(t)
		o.Pool = NewPool(4)
		p := load(t, o, waits, nil)
		let := make(chan struct{})
		var calls sync.WaitGroup
		var failed, right atomic.Int32
		for range 3 {
			calls.Go(func() {
				if _, err := p.Handle(t.Context(), hooks.Connect, held("x", let)); errors.Is(err, errClosed) {
					failed.Add(1)
				} else if err == nil {
					right.Add(1)
				}
			})
		}
		synctest.Wait()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		close(let)
		calls.Wait()
		if right.Load() != 1 || failed.Load() != 2 || o.Pool.States() != 0 {
			t.Errorf("%d answered, %d refused, %d states left", right.Load(), failed.Load(), o.Pool.States())
		}
		if _, err := p.Handle(t.Context(), hooks.Connect, held("x", let)); !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestConcurrency: calls of several policies at once, some of which fail, keep
// to themselves.
func TestConcurrency(t *testing.T) {
	o, _ := testOptions(t)
	o.Pool = NewPool(8)
	policies := []*Policy{
		load(t, o, greylist, nil),
		load(t, o, "local p = policy {}\nfunction p.rcpt(tx, rcpt) tx.notes.who = rcpt.address return reject('5.7.1', '%s', tx.notes.who) end\nreturn p", nil),
		load(t, o, "local p = policy {}\nfunction p.rcpt(tx, rcpt) error('mine') end\nreturn p", nil),
	}
	var calls sync.WaitGroup
	for i := range 16 {
		calls.Go(func() {
			for j := range 50 {
				tx := at1(testTransaction())
				user := fmt.Sprintf("u%d-%d", i, j)
				tx.Current.Address.Local = user
				d, err := policies[(i+j)%3].Handle(t.Context(), hooks.Rcpt, tx)
				switch (i + j) % 3 {
				case 0:
					if err != nil || d.Verb != hooks.Defer {
						t.Errorf("greylist: %+v, %v", d, err)
					}
				case 1:
					if err != nil || d.Reply.Text != user+"@example.net" {
						t.Errorf("echo: %+v, %v", d, err)
					}
				case 2:
					if err == nil {
						t.Error("no error")
					}
				}
			}
		})
	}
	calls.Wait()
	if n := o.Pool.States(); n > 8 {
		t.Errorf("%d states", n)
	}
}

func BenchmarkHandler(b *testing.B) {
	o, _ := testOptions(b)
	p := load(b, o, `local p = policy { settings = { domains = domains { "example.com", "example.org" } } }
function p.rcpt(tx, rcpt)
  if tx.conn.relaying or not rcpt.ours then return end
  if tx.sender.domain == "bad.example" or rcpt.user:find("^test%-") then return reject("5.7.1", "No") end
end
return p`, nil)
	tx := at1(testTransaction())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Handle(context.Background(), hooks.Rcpt, tx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGreylist(b *testing.B) {
	o, _ := testOptions(b)
	p := load(b, o, greylist, nil)
	tx := at1(testTransaction())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Handle(context.Background(), hooks.Rcpt, tx); err != nil {
			b.Fatal(err)
		}
	}
}

// Benchmark10Policies is a message's whole life over ten simple policies.
func Benchmark10Policies(b *testing.B) {
	o, _ := testOptions(b)
	var entries []hooks.Entry
	for i, source := range []string{
		"function p.connect(conn) if conn.ip:prefix(24) == '198.51.100.0/24' then return reject() end end",
		"function p.helo(conn) if conn.helo == 'localhost' then return reject('5.7.1', 'No') end end",
		"function p.mail(tx) if tx.sender.domain == 'bad.example' then return reject('5.7.1', 'No') end end",
		"function p.rcpt(tx, rcpt) if rcpt.user == 'nobody' then return reject('5.1.1', 'No') end end",
		"function p.rcpt(tx, rcpt) tx.notes.last = rcpt.address end",
		"function p.data(tx) if #tx.recipients > 100 then return defer('4.5.3', 'Too many') end end",
		"function p.headers(tx) if not tx.headers:get('From') then return reject('5.7.1', 'No From') end end",
		"function p.message(tx) if tx.size > 1e8 then return reject('5.3.4', 'Too big') end end",
		"function p.message(tx) tx:score('x', 1, 'y') end",
		"function p.queue(tx) tx:tag('seen') end",
	} {
		entries = append(entries, hooks.Entry{Name: fmt.Sprint(i), Handler: load(b, o, "local p = policy {}\n"+source+"\nreturn p", nil)})
	}
	chain := hooks.NewChain(entries, hooks.Options{})
	b.ReportAllocs()
	for b.Loop() {
		tx := testTransaction()
		for _, at := range []hooks.Stage{hooks.Connect, hooks.Helo, hooks.Mail, hooks.Rcpt, hooks.Data, hooks.Headers, hooks.Message, hooks.Queue} {
			tx.Current = nil
			if at == hooks.Rcpt {
				tx.Current = tx.Recipients[0]
			}
			if d := chain.Run(context.Background(), at, tx); d.Verb != hooks.Pass {
				b.Fatal(d)
			}
		}
	}
}

func BenchmarkState(b *testing.B) {
	o, _ := testOptions(b)
	s, _ := Compile("x.lua", []byte(greylist), o)
	p, _ := s.Instance(nil)
	b.ReportAllocs()
	for b.Loop() {
		st, err := newState(context.Background(), s, p, p.values)
		if err != nil {
			b.Fatal(err)
		}
		st.L.Close()
	}
}
