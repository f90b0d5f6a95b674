package lua

import (
	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// txObject is tx; what it is about stands in the state's call.
type txObject struct{}

func (txObject) luaKind() string { return "tx" }

func (txObject) assign(st *state, L *lua.LState, k, v lua.LValue) {
	if k == lua.LString("sender") {
		st.setSender(L, v)
		return
	}
	if k != lua.LString("received") {
		L.RaiseError("tx.%s can't be set: use the methods for changes, and tx.notes for your own values", k.String())
	}
	s, ok := v.(lua.LString)
	if !ok {
		L.RaiseError("tx.received must be a text, not %s", kindOf(v))
	}
	text := oneLine(string(s))
	st.edit(L, hooks.Edit{Kind: hooks.SetReceived, Value: text})
	st.call.received = &text
}

// txField is tx.NAME, where NAME is no method.
func (st *state) txField(L *lua.LState) int {
	c, key := &st.call, L.Get(2).String()
	tx := c.event
	if tx == nil {
		L.RaiseError("tx belongs to a handler's call")
	}
	var v lua.LValue
	switch key {
	case "id":
		v = lua.LString(tx.ID)
	case "sender":
		if c.sender == nil {
			c.sender = st.newAddress(tx.Sender)
		}
		v = c.sender
	case "recipients":
		v = st.recipients()
	case "params":
		v = st.paramTable(tx.Params)
	case "size":
		v = lua.LNumber(tx.Size)
	case "headers":
		v = st.headers
	case "body":
		v = st.body
	case "conn":
		v = st.conn
	case "notes":
		v = st.txNotes
	case "total":
		v = lua.LNumber(tx.Total() + c.score)
	case "received":
		v = lua.LString(tx.Received)
		if c.received != nil {
			v = lua.LString(*c.received)
		}
	case "mime":
		v = st.mime
	default:
		return unknown(L, "tx", key, members("tx")...)
	}
	L.Push(v)
	return 1
}

// setSender is tx.sender = address; "" is the null path.
func (st *state) setSender(L *lua.LState, v lua.LValue) {
	s, ok := joinable(v)
	if !ok {
		L.RaiseError("tx.sender must be an address, not %s", kindOf(v))
	}
	a, err := message.ParseSender(s)
	if err != nil {
		L.RaiseError("tx.sender: %s: %s", quote(s), err.Error())
	}
	st.edit(L, hooks.Edit{Kind: hooks.SetSender, Value: a.String()})
	st.call.sender = st.newAddress(a)
}

// setReturn is tx:ret("full"), the DSN parameter RET (RFC 3461 section 4.3).
func (st *state) setReturn(L *lua.LState) int {
	value := L.CheckString(2)
	if value != "full" && value != "hdrs" {
		L.ArgError(2, `write "full" or "hdrs"`)
	}
	st.edit(L, hooks.Edit{Kind: hooks.SetReturn, Value: value})
	return 0
}

// addressValue is an address of the envelope.
type addressValue struct{ message.Address }

func (addressValue) luaKind() string { return "an address" }

func (st *state) newAddress(a message.Address) lua.LValue {
	return st.object(addressValue{a}, st.addressClass)
}

func (st *state) addressField(L *lua.LState) int {
	a, ok := L.CheckUserData(1).Value.(addressValue)
	if !ok {
		L.ArgError(1, "an address is expected")
	}
	switch key := L.Get(2).String(); key {
	case "user":
		L.Push(lua.LString(a.Local))
	case "domain":
		L.Push(lua.LString(a.Domain))
	case "null":
		L.Push(lua.LBool(a.IsNull()))
	default:
		return unknown(L, "an address", key, members("address")...)
	}
	return 1
}

// plan is the third argument of the delivery stages.
type plan struct{ nextHop, tls, source, retry *string }

func (*plan) luaKind() string { return "plan" }

func (p *plan) assign(st *state, L *lua.LState, k, v lua.LValue) {
	switch key := k.String(); key {
	case "next_hop":
		s, ok := v.(lua.LString)
		if !ok {
			L.RaiseError("next_hop must be a text such as \"smtp://mx.example.net\", not %s", kindOf(v))
		}
		e := hooks.Edit{Kind: hooks.SetRoute, Value: string(s)}
		if st.call.current != nil {
			e.Name = st.call.current.r.Address.String()
		}
		st.edit(L, e)
		text := string(s)
		p.nextHop = &text
	case "tls", "source", "retry":
		s, ok := joinable(v)
		if !ok {
			L.RaiseError("%s must be a text as in a [[route]], not %s", key, kindOf(v))
		}
		st.edit(L, hooks.Edit{Kind: hooks.SetPlan, Name: key, Value: s})
		switch key {
		case "tls":
			p.tls = &s
		case "source":
			p.source = &s
		case "retry":
			p.retry = &s
		}
	default:
		L.RaiseError("%q can't be set%s", key, didYouMean(key, []string{"next_hop", "tls", "source", "retry"}))
	}
}

// planField reads what is known of the attempt.
func (st *state) planField(L *lua.LState) int {
	p, ok := L.CheckUserData(1).Value.(*plan)
	if !ok {
		p = &plan{}
	}
	try := st.call.event.Try
	if try == nil {
		try = &hooks.Try{}
	}
	var v lua.LValue
	switch key := L.Get(2).String(); key {
	case "next_hop":
		v = own(p.nextHop, try.NextHop)
	case "attempt":
		v = lua.LNumber(try.Attempt)
	case "tls":
		v = own(p.tls, try.TLS)
	case "source":
		v = own(p.source, try.Source)
	case "retry":
		v = own(p.retry, try.Retry)
	case "peer":
		v = lua.LString(try.Peer)
	case "age":
		v = lua.LNumber(try.Age.Seconds())
	case "reply":
		v = fromPlain(map[string]any{"code": float64(try.Reply.Code), "enhanced": try.Reply.Status(), "text": try.Reply.Text}, st.readonly)
	default:
		return unknown(L, "the attempt", key, members("plan")...)
	}
	L.Push(v)
	return 1
}

// own is what the handler set, or what was there.
func own(set *string, was string) lua.LValue {
	if set != nil {
		return lua.LString(*set)
	}
	return lua.LString(was)
}

// notice is the second argument of stage dsn.
type notice struct{ to *message.Address }

func (*notice) luaKind() string { return "notice" }

func (n *notice) assign(st *state, L *lua.LState, k, v lua.LValue) {
	if k != lua.LString("to") {
		L.RaiseError("notice.%s can't be set; notice.to can", k.String())
	}
	s, ok := joinable(v)
	if !ok {
		L.RaiseError("notice.to must be an address, not %s", kindOf(v))
	}
	a, err := message.ParseAddress(s)
	if err == nil && a.IsNull() {
		err = message.ErrSyntax
	}
	if err != nil {
		L.RaiseError("notice.to: %s: %s", quote(s), err.Error())
	}
	st.edit(L, hooks.Edit{Kind: hooks.SetNotice, Value: a.String()})
	n.to = &a
}

func (st *state) noticeField(L *lua.LState) int {
	n, ok := L.CheckUserData(1).Value.(*notice)
	what := st.call.event.Notice
	if !ok || what == nil {
		L.RaiseError("a notice belongs to stage dsn")
	}
	switch key := L.Get(2).String(); key {
	case "kind":
		L.Push(lua.LString(what.Kind))
	case "to":
		to := what.To
		if n.to != nil {
			to = *n.to
		}
		L.Push(st.newAddress(to))
	case "recipients":
		list := make([]any, 0, len(what.Recipients))
		for _, r := range what.Recipients {
			list = append(list, r)
		}
		L.Push(fromPlain(list, st.readonly))
	default:
		return unknown(L, "the notice", key, members("notice")...)
	}
	return 1
}
