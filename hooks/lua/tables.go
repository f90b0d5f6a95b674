package lua

import (
	"math"
	"math/bits"
	"sort"

	lua "github.com/yuin/gopher-lua"
)

func (st *state) openTables(g *lua.LTable) {
	g.RawSetString("table", st.library(map[string]lua.LGFunction{
		"concat": st.tableConcat, "getn": st.tableLen, "insert": st.tableInsert, "maxn": st.tableMaxn, "remove": st.tableRemove, "sort": st.tableSort,
	}))
}

func (st *state) tableConcat(L *lua.LState) int {
	t := L.CheckTable(1)
	sep := L.OptString(2, "")
	from, to := L.OptInt(3, 1), 0
	if L.Get(4) == lua.LNil {
		to = t.Len()
	} else {
		to = L.CheckInt(4)
	}
	var out []byte
	made := 0
	for i := from; i <= to; i++ {
		st.b.spend(L, 1)
		s, ok := joinable(t.RawGetInt(i))
		if !ok {
			L.RaiseError("invalid value (%s) at index %d in table for 'concat'", kindOf(t.RawGetInt(i)), i)
		}
		if len(out)+len(s)+len(sep) > maxResult {
			st.b.make(L, maxResult+1)
		}
		out = append(out, s...)
		if i < to {
			out = append(out, sep...)
		}
		if len(out)-made > 64<<10 {
			st.b.make(L, len(out)-made)
			made = len(out)
		}
	}
	st.b.make(L, len(out)-made)
	L.Push(lua.LString(out))
	return 1
}

func (st *state) tableLen(L *lua.LState) int {
	L.Push(lua.LNumber(L.CheckTable(1).Len()))
	return 1
}

func (st *state) tableMaxn(L *lua.LState) int {
	L.Push(lua.LNumber(L.CheckTable(1).MaxN()))
	return 1
}

func (st *state) tableInsert(L *lua.LState) int {
	t := L.CheckTable(1)
	st.writable(L, t)
	switch L.GetTop() {
	case 2:
		if v := L.Get(2); v != lua.LNil {
			t.Append(v)
		}
	case 3:
		at := L.CheckInt(2)
		n := t.Len()
		st.b.spend(L, n>>5)
		if at > n {
			st.growth(L, t, lua.LNumber(at))
			t.RawSetInt(at, L.Get(3))
			break
		}
		t.Insert(at, L.Get(3))
	default:
		L.RaiseError("wrong number of arguments to 'insert'")
	}
	return 0
}

func (st *state) tableRemove(L *lua.LState) int {
	t := L.CheckTable(1)
	st.writable(L, t)
	n := t.Len()
	st.b.spend(L, n>>5)
	if n == 0 {
		L.Push(lua.LNil)
		return 1
	}
	at := n
	if L.Get(2) != lua.LNil {
		at = L.CheckInt(2)
	}
	if at < 1 || at > n {
		L.Push(lua.LNil)
		return 1
	}
	v := t.RawGetInt(at)
	t.Remove(at)
	L.Push(v)
	return 1
}

// sorter sorts the first n items of a table.
type sorter struct {
	st   *state
	t    *lua.LTable
	n    int
	less *lua.LFunction
}

func (s sorter) Len() int { return s.n }

func (s sorter) Swap(i, j int) {
	a, b := s.t.RawGetInt(i+1), s.t.RawGetInt(j+1)
	s.t.RawSetInt(i+1, b)
	s.t.RawSetInt(j+1, a)
}

func (s sorter) Less(i, j int) bool {
	L := s.st.L
	a, b := s.t.RawGetInt(i+1), s.t.RawGetInt(j+1)
	if s.less == nil {
		s.st.b.spend(L, 2)
		return L.LessThan(a, b)
	}
	L.Push(s.less)
	L.Push(a)
	L.Push(b)
	L.Call(2, 1)
	yes := lua.LVAsBool(L.Get(-1))
	L.Pop(1)
	return yes
}

func (st *state) tableSort(L *lua.LState) int {
	t := L.CheckTable(1)
	st.writable(L, t)
	s := sorter{st: st, t: t, n: t.Len()}
	if L.Get(2) != lua.LNil {
		s.less = L.CheckFunction(2)
	}
	st.b.spend(L, min(s.n*bits.Len(uint(s.n)), math.MaxInt32)>>3)
	sort.Sort(s)
	return 0
}
