package lua

import (
	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
)

func (st *state) openMIME(g *lua.LTable) {
	g.RawSetString("mime", st.library(map[string]lua.LGFunction{"parse": st.mimeParse, "decode": st.mimeDecode, "encode": st.mimeEncode}))
}

// mimeParse is mime.parse(text): the parts of a text that is a message.
func (st *state) mimeParse(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, len(s))
	mc, err := st.parse(L, message.Bytes(s))
	if err != nil {
		return fail(L, "temporary", err.Error())
	}
	L.Push(st.object(mimeObject{mc}, st.mime.Metatable.(*lua.LTable)))
	return 1
}

// mimeDecode is mime.decode(text): the text of a field with its encoded words
// decoded (RFC 2047).
func (st *state) mimeDecode(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, len(s))
	out := message.DecodeWords(s)
	st.b.make(L, len(out))
	L.Push(lua.LString(out))
	return 1
}

// mimeEncode is mime.encode(text): the text in encoded words where it is not ASCII.
func (st *state) mimeEncode(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, 4*len(s))
	L.Push(lua.LString(message.EncodeWords(s)))
	return 1
}
