package lua

import (
	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/hooks"
)

// notes is tx.notes, conn.notes or rcpt.notes.
type notes struct {
	conn bool
	rcpt *rcpt
}

func (n *notes) luaKind() string {
	switch {
	case n.conn:
		return "conn.notes"
	case n.rcpt != nil:
		return "rcpt.notes"
	}
	return "tx.notes"
}

// layers are the notes as they came and the handler's own edits.
func (n *notes) layers(c *call) (base map[string]any, own *map[string]any) {
	switch {
	case n.rcpt != nil:
		key := n.rcpt.origin
		if key == nil {
			key = n.rcpt.r
		}
		own := c.rcptNotes[key]
		return n.rcpt.r.Notes, &own
	case n.conn:
		return c.event.Session.Notes, &c.connNotes
	}
	return c.event.Notes, &c.notes
}

func (st *state) noteField(L *lua.LState) int {
	n, ok := L.CheckUserData(1).Value.(*notes)
	if !ok || st.call.event == nil {
		L.RaiseError("notes belong to a handler's call")
	}
	base, own := n.layers(&st.call)
	key := L.CheckString(2)
	v, found := any(nil), false
	if own != nil {
		v, found = (*own)[key]
	}
	if !found {
		v = base[key]
	}
	L.Push(st.fromPlain(L, v, st.readonly))
	return 1
}

// table is a copy of all notes, for pairs.
func (n *notes) table(st *state) *lua.LTable {
	base, own := n.layers(&st.call)
	all := make(map[string]any, len(base))
	for k, v := range base {
		all[k] = v
	}
	if own != nil {
		for k, v := range *own {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
	}
	t := st.fromPlain(st.L, all, st.readonly)
	return t.(*lua.LTable)
}

func (n *notes) assign(st *state, L *lua.LState, k, v lua.LValue) {
	key, ok := k.(lua.LString)
	if !ok {
		L.RaiseError("the name of a note is a text, not %s", kindOf(k))
	}
	value, err := st.plain(L, v)
	if err != nil {
		L.RaiseError("%s.%s: %s", n.luaKind(), key, err.Error())
	}
	e := hooks.Edit{Kind: hooks.SetNote, Name: string(key), Any: value}
	switch {
	case n.conn:
		e.Kind = hooks.SetConnNote
	case n.rcpt != nil:
		e.Kind, e.Rcpt = hooks.SetRcptNote, n.rcpt.r.Address.String()
	}
	st.edit(L, e)
	if n.rcpt != nil {
		st.call.setRcptNote(n.rcpt, string(key), value)
		return
	}
	_, own := n.layers(&st.call)
	if *own == nil {
		*own = map[string]any{}
	}
	(*own)[string(key)] = value
}

// setRcptNote keeps a note of a recipient for what the handler reads next.
func (c *call) setRcptNote(r *rcpt, name string, value any) {
	key := r.origin
	if key == nil {
		key = r.r
	}
	if c.rcptNotes == nil {
		c.rcptNotes = map[*hooks.Recipient]map[string]any{}
	}
	if c.rcptNotes[key] == nil {
		c.rcptNotes[key] = map[string]any{}
	}
	c.rcptNotes[key][name] = value
}
