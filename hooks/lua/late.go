package lua

import (
	lua "github.com/yuin/gopher-lua"
)

// slot is a member of a table that is made of what Go found.
type slot struct {
	name  string
	value lua.LValue
}

// put sets members in their order, which is that of pairs.
func put(t *lua.LTable, fields ...slot) {
	for i := range fields {
		t.RawSetString(fields[i].name, fields[i].value)
	}
}

func textField(name, text string) slot { return slot{name, lua.LString(text)} }

// lateFields has f make members of t that most scripts never read. It is called when a
// script reads a member that is not there yet, walks the table, or hands it on, and is
// forgotten at the end of the handler's call.
func (st *state) lateFields(t *lua.LTable, f func() []slot) {
	if st.late == nil {
		st.late = map[*lua.LTable]func() []slot{}
	}
	st.late[t] = f
	t.Metatable = st.lateClass
}

// complete adds the late members of t, if there are any; t is like any other table then.
func (st *state) complete(t *lua.LTable) {
	if t.Metatable != lua.LValue(st.lateClass) {
		return
	}
	t.Metatable = lua.LNil
	f := st.late[t]
	if f == nil {
		return
	}
	delete(st.late, t)
	for _, one := range f() {
		if t.RawGetString(one.name) == lua.LNil { // a script may have set it
			t.RawSetString(one.name, one.value)
		}
	}
}

// lateIndex is the reading of a member that t has not got.
func (st *state) lateIndex(L *lua.LState) int {
	t := L.CheckTable(1)
	st.complete(t)
	L.Push(t.RawGet(L.Get(2)))
	return 1
}

// next is Lua's next, which tables with late members are complete for.
func (st *state) next(L *lua.LState) int {
	t := L.CheckTable(1)
	st.complete(t)
	k, v := t.Next(L.Get(2))
	L.Push(k)
	if k == lua.LNil {
		return 1
	}
	L.Push(v)
	return 2
}
