package lua

import (
	"context"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/dns"
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
	var one *judged[dkim.Report]
	return lookup{
		ask: func(ctx context.Context) { one = st.dkimReport(ctx) },
		answer: func(L *lua.LState) int {
			if one.err != nil {
				L.RaiseError("dkim.check: %s", one.err.Error())
			}
			L.Push(st.dkimTable(one.report))
			return 1
		},
	}
}

// judged is what a check of a message found, or why it could not.
type judged[T any] struct {
	report *T
	err    error
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
	o := &st.script.options.Library
	r := dns.Resolver(noDNS{})
	if o.DNS != nil {
		r = o.DNS
	}
	return &dkim.Verifier{Resolver: witness{r}, Now: o.Now}
}

// dkimReport verifies the message, once in a transaction.
func (st *state) dkimReport(ctx context.Context) *judged[dkim.Report] {
	v := st.verifier()
	return st.call.event.Findings.Once(ctx, "dkim", func(ctx context.Context) (any, bool) {
		open := st.opened(ctx)
		if open.err != nil {
			return &judged[dkim.Report]{err: open.err}, false
		}
		open.mu.Lock()
		defer open.mu.Unlock()
		report, err := v.Verify(ctx, open.m)
		return &judged[dkim.Report]{report, err}, err == nil && ctx.Err() == nil
	}).(*judged[dkim.Report])
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
	t := st.L.CreateTable(0, 20)
	for name, text := range map[string]string{
		"verdict": string(s.Word), "reason": s.Reason, "domain": s.Domain, "identity": s.Identity, "selector": s.Selector,
		"algorithm": s.Algorithm, "canon": s.Header.String() + "/" + s.Body.String(), "query": s.Query, "record": s.Record, "b": s.B,
	} {
		t.RawSetString(name, lua.LString(text))
	}
	t.RawSetString("pass", lua.LBool(s.Word == dkim.Pass))
	t.RawSetString("testing", lua.LBool(s.Testing))
	t.RawSetString("bits", lua.LNumber(s.KeyBits))
	t.RawSetString("unsigned", lua.LNumber(s.Unsigned))
	t.RawSetString("length", lua.LNumber(s.Length))
	t.RawSetString("signed", seconds(s.Signed))
	t.RawSetString("expires", seconds(s.Expires))
	st.b.spend(st.L, 16*len(s.Fields))
	t.RawSetString("fields", texts(s.Fields))
	t.RawSetString("extra", texts(s.Extra))
	return t
}

// seconds is a time as scripts count it; 0 where there is none.
func seconds(t time.Time) lua.LNumber {
	if t.IsZero() {
		return 0
	}
	return lua.LNumber(t.Unix())
}
