package lua

import (
	lua "github.com/yuin/gopher-lua"
)

func (st *state) openJSON(g *lua.LTable) {
	g.RawSetString("json", st.library(map[string]lua.LGFunction{"encode": st.jsonEncode, "decode": st.jsonDecode}))
}

// jsonEncode is json.encode(value): a text; an empty table is a list.
func (st *state) jsonEncode(L *lua.LState) int {
	L.CheckAny(1)
	v, err := st.plain(L, L.Get(1))
	if err != nil {
		return fail(L, "bad", err.Error())
	}
	b, err := encodeJSON(v)
	if err != nil {
		return fail(L, "bad", err.Error())
	}
	st.b.make(L, len(b))
	L.Push(lua.LString(b))
	return 1
}

// jsonDecode is json.decode(text): a value; null is nil.
func (st *state) jsonDecode(L *lua.LState) int {
	s := L.CheckString(1)
	if len(s) > maxPlainBytes {
		return fail(L, "bad", "the text is longer than 1 MiB")
	}
	st.b.make(L, 16*len(s)) // a table costs more than its text
	v, err := decodeJSON([]byte(s))
	if err != nil {
		return fail(L, "bad", err.Error())
	}
	L.Push(fromPlain(v, lua.LNil))
	return 1
}
