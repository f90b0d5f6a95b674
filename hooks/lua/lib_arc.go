package lua

import (
	"context"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/arc"
	"github.com/postern-mta/postern/core/auth/results"
)

func (st *state) openARC(g *lua.LTable) {
	g.RawSetString("arc", st.lookupLibrary(map[string]lookupFunc{"check": st.arcCheck}))
}

// arcCheck is arc.check(tx).
func (st *state) arcCheck(L *lua.LState) lookup {
	if !st.messageThere(L) {
		return failed("bad", ofMessage)
	}
	return judging("arc.check", st.arcReport, st.arcTable)
}

// arcReport judges the chain of the message as it was received, once in a transaction.
func (st *state) arcReport(ctx context.Context) *judged[arc.Report] {
	return verified(ctx, st, "arc", arc.Verify)
}

// arcTable is a report as scripts see it; it is their own.
func (st *state) arcTable(r *arc.Report) *lua.LTable {
	st.b.spend(st.L, 256+512*len(r.Sets))
	t := st.L.CreateTable(0, 6)
	t.RawSetString("verdict", lua.LString(r.Word))
	t.RawSetString("reason", lua.LString(r.Reason))
	t.RawSetString("temporary", lua.LBool(r.Temporary))
	t.RawSetString("oldest_pass", lua.LNumber(r.OldestPass))
	t.RawSetString("sealers", texts(r.Sealers()))
	list := st.L.CreateTable(len(r.Sets), 0)
	for i := range r.Sets {
		s := &r.Sets[i]
		one := st.L.CreateTable(0, 5)
		one.RawSetString("instance", lua.LNumber(s.Instance))
		one.RawSetString("domain", lua.LString(s.Domain))
		one.RawSetString("selector", lua.LString(s.Selector))
		one.RawSetString("state", lua.LString(s.State))
		one.RawSetString("results", lua.LString(s.Results))
		one.RawSetString("findings", st.findings(s.Results))
		list.Append(one)
	}
	t.RawSetString("sets", list)
	return t
}

// findings are the results that a value of Authentication-Results tells; none where it
// is not written as RFC 8601 section 2.2 has it.
func (st *state) findings(value string) *lua.LTable {
	field, err := results.Parse(value)
	if err != nil {
		return st.L.CreateTable(0, 0)
	}
	list := st.L.CreateTable(len(field.Methods), 0)
	for _, m := range field.Methods {
		st.b.spend(st.L, 256+64*len(m.Props))
		properties := st.L.CreateTable(0, len(m.Props))
		for _, p := range m.Props {
			properties.RawSetString(p.Type+"."+p.Name, lua.LString(p.Value))
		}
		one := st.L.CreateTable(0, 4)
		one.RawSetString("method", lua.LString(m.Name))
		one.RawSetString("verdict", lua.LString(m.Word))
		one.RawSetString("reason", lua.LString(m.Reason))
		one.RawSetString("properties", properties)
		list.Append(one)
	}
	return list
}
