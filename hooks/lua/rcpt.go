package lua

import (
	"slices"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// rcpt is a recipient as the script sees it, its own replacements made.
type rcpt struct {
	r       *hooks.Recipient
	origin  *hooks.Recipient // of the transaction; nil for one that this call added
	current bool
}

func (*rcpt) luaKind() string { return "rcpt" }

// String is the address.
func (r *rcpt) String() string { return r.r.Address.String() }

func (r *rcpt) assign(_ *state, L *lua.LState, k, _ lua.LValue) {
	L.RaiseError("rcpt.%s can't be set: use rcpt:replace(address) or rcpt:route(url)", k.String())
}

func checkRcpt(L *lua.LState) *rcpt {
	r, ok := L.CheckUserData(1).Value.(*rcpt)
	if !ok || r == nil {
		L.ArgError(1, "a recipient is expected: write rcpt:name(…) with a colon")
	}
	return r
}

// rcptField is rcpt.NAME.
func (st *state) rcptField(L *lua.LState) int {
	r := checkRcpt(L)
	var v lua.LValue
	switch key := L.Get(2).String(); key {
	case "address":
		v = lua.LString(r.r.Address.String())
	case "user":
		v = lua.LString(r.r.Address.Local)
	case "domain":
		v = lua.LString(r.r.Address.Domain)
	case "ours":
		v = lua.LBool(r.r.Ours)
	case "params":
		v = st.paramTable(r.r.Params)
	case "notes":
		v = st.object(&notes{rcpt: r}, st.notesClass)
	case "headers":
		v = st.object(&copyHeaders{r}, st.copyClass)
	case "pardon":
		v = L.NewFunction(st.rcptPardon)
	case "notify":
		v = L.NewFunction(st.rcptNotify)
	case "replace":
		v = L.NewFunction(st.rcptReplace)
	case "route":
		v = L.NewFunction(st.rcptRoute)
	default:
		return unknown(L, "rcpt", key, members("rcpt")...)
	}
	L.Push(v)
	return 1
}

// addressArgument reads a recipient's address; it need not be a string, but may
// be an address or a rcpt.
func (st *state) addressArgument(L *lua.LState, n int) message.Address {
	s, ok := joinable(L.Get(n))
	if !ok {
		L.ArgError(n, "an address is expected, not "+kindOf(L.Get(n)))
	}
	a, err := message.ParseAddress(s)
	if err != nil {
		L.ArgError(n, brief(s)+": "+err.Error())
	}
	if a.IsNull() {
		L.ArgError(n, "a recipient can't be empty")
	}
	return a
}

func (st *state) rcptReplace(L *lua.LState) int {
	st.replaceOne(L, checkRcpt(L), st.addressArgument(L, 2))
	return 0
}

func (st *state) replaceOne(L *lua.LState, r *rcpt, to message.Address) {
	st.edit(L, hooks.Edit{Kind: hooks.ReplaceRecipient, Name: r.r.Address.String(), Value: to.String()})
	one := *r.r
	one.Address, one.Ours = to, st.script.options.Library.Ours(to.Domain)
	r.r = &one
}

func (st *state) rcptRoute(L *lua.LState) int {
	r := checkRcpt(L)
	st.edit(L, hooks.Edit{Kind: hooks.SetRoute, Name: r.r.Address.String(), Value: L.CheckString(2)})
	return 0
}

// list makes the recipients on first use.
func (c *call) list() []*rcpt {
	if c.rcpts == nil {
		c.rcpts = make([]*rcpt, 0, len(c.event.Recipients))
		for _, r := range c.event.Recipients {
			if r == c.event.Current {
				c.rcpts = append(c.rcpts, c.current)
			} else {
				c.rcpts = append(c.rcpts, &rcpt{r: r, origin: r})
			}
		}
	}
	return c.rcpts
}

// recipients is tx.recipients: a table, made anew after a change.
func (st *state) recipients() lua.LValue {
	c := &st.call
	if c.rcptTable == nil {
		list := c.list()
		t := st.L.CreateTable(len(list), 0)
		for _, r := range list {
			if r.current {
				t.Append(st.current)
			} else {
				t.Append(st.object(r, st.rcptClass))
			}
		}
		t.Metatable = st.rcptList
		c.rcptTable = t
	}
	return c.rcptTable
}

func (c *call) find(a message.Address) int {
	for i, r := range c.list() {
		if r.r.Address == a {
			return i
		}
	}
	return -1
}

func (st *state) rcptsAdd(L *lua.LState) int {
	a := st.addressArgument(L, 2)
	st.addRcpt(L, a)
	return 0
}

func (st *state) addRcpt(L *lua.LState, a message.Address) {
	c := &st.call
	st.edit(L, hooks.Edit{Kind: hooks.AddRecipient, Value: a.String()})
	if c.find(a) < 0 {
		c.rcpts = append(c.rcpts, &rcpt{r: &hooks.Recipient{Address: a, Given: a, Ours: st.script.options.Library.Ours(a.Domain)}})
	}
	c.rcptTable = nil
}

func (st *state) rcptsRemove(L *lua.LState) int {
	c, a := &st.call, st.addressArgument(L, 2)
	i := c.find(a)
	if i < 0 {
		L.RaiseError("%s is no recipient", a)
	}
	st.edit(L, hooks.Edit{Kind: hooks.RemoveRecipient, Value: a.String()})
	c.rcpts = append(c.rcpts[:i:i], c.rcpts[i+1:]...)
	c.rcptTable = nil
	return 0
}

// rcptsReplace is tx.recipients:replace(address, to…).
func (st *state) rcptsReplace(L *lua.LState) int {
	c, a, to := &st.call, st.addressArgument(L, 2), st.addressArgument(L, 3)
	i := c.find(a)
	if i < 0 {
		L.RaiseError("%s is no recipient", a)
	}
	st.replaceOne(L, c.rcpts[i], to)
	for n := 4; n <= L.GetTop(); n++ {
		st.addRcpt(L, st.addressArgument(L, n))
	}
	c.rcptTable = nil
	return 0
}

// rcptPardon is rcpt:pardon(policy).
func (st *state) rcptPardon(L *lua.LState) int {
	r := checkRcpt(L)
	st.edit(L, hooks.Edit{Kind: hooks.Pardon, Value: L.OptString(2, ""), Rcpt: r.r.Address.String()})
	return 0
}

// rcptNotify is rcpt:notify(words), the DSN parameter NOTIFY (RFC 3461 section 4.1).
func (st *state) rcptNotify(L *lua.LState) int {
	r := checkRcpt(L)
	st.edit(L, hooks.Edit{Kind: hooks.SetNotify, Value: L.CheckString(2), Rcpt: r.r.Address.String()})
	return 0
}

// copyHeaders is rcpt.headers: the header section of that recipient's copy.
type copyHeaders struct{ rcpt *rcpt }

func (*copyHeaders) luaKind() string { return "rcpt.headers" }

func (st *state) editCopy(L *lua.LState, e hooks.Edit) int {
	h, ok := L.CheckUserData(1).Value.(*copyHeaders)
	if !ok {
		L.ArgError(1, "rcpt.headers is expected: write rcpt.headers:name(…) with a colon")
	}
	st.allow(L, e.Kind)
	st.b.make(L, len(e.Value))
	if e.Kind != hooks.RemoveRcptHeader {
		if err := message.CheckField(e.Name, e.Value); err != nil {
			L.RaiseError("%s %s: %s", e.Kind, quote(e.Name), err.Error())
		}
	}
	e.Rcpt = h.rcpt.r.Address.String()
	st.edit(L, e)
	return 0
}

func (st *state) copyPrepend(L *lua.LState) int {
	return st.editCopy(L, hooks.Edit{Kind: hooks.AddRcptHeader, Name: L.CheckString(2), Value: st.headerValue(L, 3)})
}

func (st *state) copyAppend(L *lua.LState) int {
	return st.editCopy(L, hooks.Edit{Kind: hooks.AppendRcptHeader, Name: L.CheckString(2), Value: st.headerValue(L, 3)})
}

func (st *state) copyRemove(L *lua.LState) int {
	n := L.OptInt(3, 0)
	if n < 0 {
		L.ArgError(3, "the first field is 1")
	}
	return st.editCopy(L, hooks.Edit{Kind: hooks.RemoveRcptHeader, Name: L.CheckString(2), N: n})
}

// eachRcpt is tx:each_rcpt(judge): a decision made of one for each recipient.
func (st *state) eachRcpt(L *lua.LState) int {
	judge, c := L.CheckFunction(2), &st.call
	if c.row == nil || !c.row.Each {
		L.RaiseError("tx:each_rcpt is possible where recipients are judged one by one: at message and queue")
	}
	each := map[int]hooks.Decision{}
	for i, r := range c.event.Recipients {
		at := slices.IndexFunc(c.list(), func(one *rcpt) bool { return one.origin == r })
		if at < 0 {
			continue // this call removed it
		}
		L.Push(judge)
		L.Push(st.object(c.rcpts[at], st.rcptClass))
		L.Call(1, 1)
		v := L.Get(-1)
		L.Pop(1)
		if v == lua.LNil {
			continue
		}
		var d *decision
		if u, ok := v.(*lua.LUserData); ok {
			d, _ = u.Value.(*decision)
		}
		switch {
		case d == nil:
			L.RaiseError("the function of each_rcpt returned %s for %s, which is no decision", kindOf(v), r.Address)
		case len(d.Each) > 0 || d.Verb == hooks.Hold || d.Verb == hooks.Drop:
			L.RaiseError("%s is no decision on a single recipient (%s)", d.Verb, r.Address)
		}
		each[i] = d.Decision
	}
	return st.push(L, hooks.Decision{Each: each})
}
