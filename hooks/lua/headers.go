package lua

import (
	"bytes"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// headersObject is tx.headers.
type headersObject struct{}

func (headersObject) luaKind() string { return "tx.headers" }

// header is the header section, own edits made.
func (st *state) header(L *lua.LState) *message.Header {
	c := &st.call
	st.editBody(L)
	if c.header != nil {
		return c.header
	}
	if c.event == nil || c.event.Header == nil {
		name := "this"
		if c.row != nil {
			name = "stage " + c.row.Name
		}
		L.RaiseError("tx.headers is not there at %s: a message's header section is known from stage headers to queue", name)
	}
	return c.event.Header
}

func (st *state) headerGet(L *lua.LState) int {
	h, name := st.header(L), L.CheckString(2)
	text, ok := h.Get(name)
	if !ok {
		L.Push(lua.LNil)
		return 1
	}
	st.b.make(L, len(text))
	L.Push(lua.LString(text))
	return 1
}

func (st *state) headerAll(L *lua.LState) int {
	h, name := st.header(L), L.CheckString(2)
	t := L.CreateTable(4, 0)
	for f := range h.Named(name) {
		text := f.Decoded()
		st.b.make(L, len(text)+16)
		t.Append(lua.LString(text))
	}
	L.Push(t)
	return 1
}

// headerRaw is the first field of that name from behind its colon, as it came:
// folded and encoded, without the last line end.
func (st *state) headerRaw(L *lua.LState) int {
	h, name := st.header(L), L.CheckString(2)
	for f := range h.Named(name) {
		_, raw, _ := bytes.Cut(f.Raw, []byte{':'})
		raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
		st.b.make(L, len(raw))
		L.Push(lua.LString(raw))
		return 1
	}
	L.Push(lua.LNil)
	return 1
}

// headerEach walks the fields as they are when it is called.
func (st *state) headerEach(L *lua.LState) int {
	var fields []message.Field
	for f := range st.header(L).Fields() {
		if f.Name != "" {
			fields = append(fields, f)
		}
	}
	st.b.make(L, 16*len(fields))
	L.Push(L.NewFunction(func(L *lua.LState) int {
		if len(fields) == 0 {
			L.Push(lua.LNil)
			return 1
		}
		f := fields[0]
		fields = fields[1:]
		text := f.Decoded()
		st.b.make(L, len(text))
		L.Push(lua.LString(f.Name))
		L.Push(lua.LString(text))
		return 2
	}))
	return 1
}

// editHeader makes an edit on the handler's own copy, and notes it.
func (st *state) editHeader(L *lua.LState, e hooks.Edit, change func(h *message.Header) error) int {
	h := st.header(L)
	st.b.make(L, len(e.Value))
	st.allow(L, e.Kind)
	if st.call.header == nil {
		h = h.Clone()
	}
	if err := change(h); err != nil {
		L.RaiseError("%s %s: %s", e.Kind, quote(e.Name), err.Error())
	}
	st.edit(L, e)
	st.call.header = h
	return 0
}

func (st *state) headerValue(L *lua.LState, n int) string {
	s, ok := joinable(L.Get(n))
	if !ok {
		L.ArgError(n, "a text is expected, not "+kindOf(L.Get(n)))
	}
	return s
}

func (st *state) headerPrepend(L *lua.LState) int {
	e := hooks.Edit{Kind: hooks.AddHeader, Name: L.CheckString(2), Value: st.headerValue(L, 3)}
	return st.editHeader(L, e, func(h *message.Header) error { return h.Prepend(e.Name, e.Value) })
}

func (st *state) headerAppend(L *lua.LState) int {
	e := hooks.Edit{Kind: hooks.AppendHeader, Name: L.CheckString(2), Value: st.headerValue(L, 3)}
	return st.editHeader(L, e, func(h *message.Header) error { return h.Append(e.Name, e.Value) })
}

func (st *state) headerReplace(L *lua.LState) int {
	e := hooks.Edit{Kind: hooks.ReplaceHeader, Name: L.CheckString(2), Value: st.headerValue(L, 3)}
	return st.editHeader(L, e, func(h *message.Header) error { return h.Replace(e.Name, e.Value) })
}

func (st *state) headerRemove(L *lua.LState) int {
	e := hooks.Edit{Kind: hooks.RemoveHeader, Name: L.CheckString(2), N: L.OptInt(3, 0)}
	if e.N < 0 {
		L.ArgError(3, "fields count from 1 at the top; 0 or nothing means all")
	}
	return st.editHeader(L, e, func(h *message.Header) error {
		h.Remove(e.Name, e.N)
		return nil
	})
}
