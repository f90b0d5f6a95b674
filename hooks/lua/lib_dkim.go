package lua

import (
	"context"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/dkim"
)

func (st *state) openDKIM(g *lua.LTable) {
	g.RawSetString("dkim", st.lookupLibrary(map[string]lookupFunc{"check": st.dkimCheck}))
}

// ofMessage is the text of the error of a check that needs the whole message.
const ofMessage = "the message is not there yet: ask from stage message on"

// messageThere tells whether the message of tx, which must be the first argument, is
// there.
func (st *state) messageThere(L *lua.LState) bool {
	if u, ok := L.Get(1).(*lua.LUserData); !ok || u.Value != (txObject{}) {
		L.ArgError(1, "tx is expected, not "+kindOf(L.Get(1)))
	}
	return st.call.event != nil && st.call.event.Original != nil
}

// dkimCheck is dkim.check(tx).
func (st *state) dkimCheck(L *lua.LState) lookup {
	if !st.messageThere(L) {
		return failed("bad", ofMessage)
	}
	return judging("dkim.check", st.dkimReport, st.dkimTable)
}

// judged is what a check of a message found, or why it could not.
type judged[T any] struct {
	report *T
	err    error
}

// judging asks for a judgement of the message, and answers with its table. A message that
// can't be read is an error of the function called so.
func judging[T any](function string, judge func(context.Context) *judged[T], table func(*T) *lua.LTable) lookup {
	var one *judged[T]
	return lookup{
		ask: func(ctx context.Context) { one = judge(ctx) },
		answer: func(L *lua.LState) int {
			if one.err != nil {
				L.RaiseError("%s: %s", function, one.err.Error())
			}
			L.Push(table(one.report))
			return 1
		},
	}
}

// verified judges the message as it was received, once in a transaction. What the call's
// own end cut short is not remembered.
func verified[T any](ctx context.Context, st *state, key string, verify func(context.Context, *dkim.Verifier, *dkim.Message) (*T, error)) *judged[T] {
	v := st.verifier()
	return st.call.event.Findings.Once(ctx, key, func(ctx context.Context) (any, bool) {
		open := st.opened(ctx)
		if open.err != nil {
			return &judged[T]{err: open.err}, false
		}
		open.mu.Lock()
		defer open.mu.Unlock()
		report, err := verify(ctx, v, open.m)
		return &judged[T]{report, err}, err == nil && ctx.Err() == nil
	}).(*judged[T])
}

// openMessage is the message as it was received, whatever policies made of it, opened
// once for all checks of its signatures, which then share the hashes of its content.
type openMessage struct {
	mu  sync.Mutex // m belongs to one goroutine at a time
	m   *dkim.Message
	err error
}

func (st *state) opened(ctx context.Context) *openMessage {
	tx := st.call.event
	return tx.Findings.Once(ctx, "message", func(context.Context) (any, bool) {
		m, err := dkim.Open(tx.Original)
		return &openMessage{m: m, err: err}, err == nil
	}).(*openMessage)
}

// verifier judges by our resolver and clock.
func (st *state) verifier() *dkim.Verifier {
	return &dkim.Verifier{Resolver: st.resolver(), Now: st.script.options.Library.Now}
}

// dkimReport verifies the message, once in a transaction.
func (st *state) dkimReport(ctx context.Context) *judged[dkim.Report] {
	return verified(ctx, st, "dkim", func(ctx context.Context, v *dkim.Verifier, m *dkim.Message) (*dkim.Report, error) {
		return v.Verify(ctx, m)
	})
}

// dkimTable is a report as scripts see it; it is their own.
func (st *state) dkimTable(r *dkim.Report) *lua.LTable {
	st.b.spend(st.L, 256+1024*len(r.Results))
	t := st.L.CreateTable(0, 4)
	t.RawSetString("verdict", lua.LString(r.Word()))
	t.RawSetString("domains", texts(r.Passed()))
	t.RawSetString("left", lua.LNumber(r.Left))
	list := st.L.CreateTable(len(r.Results), 0)
	for i := range r.Results {
		list.Append(st.dkimSignature(&r.Results[i]))
	}
	t.RawSetString("signatures", list)
	return t
}

func (st *state) dkimSignature(s *dkim.Result) *lua.LTable {
	t := st.L.CreateTable(0, 10)
	put(t, textField("verdict", string(s.Word)), slot{"pass", lua.LBool(s.Word == dkim.Pass)}, textField("reason", s.Reason), textField("domain", s.Domain),
		textField("selector", s.Selector), textField("identity", s.Identity), textField("algorithm", s.Algorithm), slot{"bits", lua.LNumber(s.KeyBits)},
		slot{"testing", lua.LBool(s.Testing)}, textField("b", s.B))
	st.b.spend(st.L, 16*len(s.Fields))
	st.lateFields(t, func() []slot {
		return []slot{
			textField("canon", s.Header.String()+"/"+s.Body.String()), textField("query", s.Query), textField("record", s.Record),
			{"unsigned", lua.LNumber(s.Unsigned)},
			{"length", lua.LNumber(s.Length)},
			{"signed", seconds(s.Signed)},
			{"expires", seconds(s.Expires)},
			{"fields", texts(s.Fields)},
			{"extra", texts(s.Extra)},
		}
	})
	return t
}

// seconds is a time as scripts count it; 0 where there is none.
func seconds(t time.Time) lua.LNumber {
	if t.IsZero() {
		return 0
	}
	return lua.LNumber(t.Unix())
}
