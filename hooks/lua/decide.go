package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// maxText bounds a reply text and a reason.
const maxText = 2000

// decision is what a handler returns.
type decision struct{ hooks.Decision }

func (*decision) luaKind() string { return "a decision" }

// String is for debugging in scripts.
func (d *decision) String() string {
	switch {
	case d.Verb.Refuses():
		return strings.TrimSpace(d.Verb.String() + " " + strings.TrimPrefix(d.Reply.String(), "0 "))
	case d.Reason != "":
		return d.Verb.String() + " " + d.Reason
	}
	return d.Verb.String()
}

func (st *state) openDecisions(g *lua.LTable) {
	for _, v := range []hooks.Verb{hooks.Pass, hooks.Accept} {
		g.RawSetString(v.String(), st.L.NewFunction(func(L *lua.LState) int { return st.decidePlain(L, v) }))
	}
	for _, v := range []hooks.Verb{hooks.Discard, hooks.Quarantine, hooks.Hold} {
		g.RawSetString(v.String(), st.L.NewFunction(func(L *lua.LState) int { return st.decideReason(L, v) }))
	}
	for _, v := range []hooks.Verb{hooks.Reject, hooks.Defer, hooks.Drop} {
		g.RawSetString(v.String(), st.L.NewFunction(func(L *lua.LState) int { return st.decideReply(L, v) }))
	}
}

func (st *state) push(L *lua.LState, d hooks.Decision) int {
	L.Push(st.object(&decision{d}, st.decisionClass))
	return 1
}

func (st *state) decidePlain(L *lua.LState, v hooks.Verb) int {
	d := hooks.Decision{Verb: v}
	switch t, ok := L.Get(1).(*lua.LTable); {
	case L.GetTop() == 0:
	case v == hooks.Accept && ok && L.GetTop() == 1:
		st.acceptTable(L, &d, t)
	case v == hooks.Accept:
		L.RaiseError("accept() takes nothing, or a table: accept{ user = … } at auth, accept{ text = … } at command")
	default:
		L.RaiseError("%s() takes nothing", v)
	}
	return st.push(L, d)
}

// acceptTable is accept{ user = … } and accept{ text = …, code = … }.
func (st *state) acceptTable(L *lua.LState, d *hooks.Decision, t *lua.LTable) {
	only := func(key string, at hooks.Stage) {
		if row := st.call.row; row == nil || st.call.at != at {
			L.RaiseError("accept{ %s = … } belongs to stage %s", key, at)
		}
	}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		key := k.String()
		switch key {
		case "user":
			only(key, hooks.Auth)
			if d.User, _ = joinable(v); d.User == "" || d.User != oneLine(d.User) {
				L.RaiseError("accept: user must be a name of one line, not %s", quote(v.String()))
			}
		case "text":
			only(key, hooks.Command)
			s, ok := joinable(v)
			if !ok {
				L.RaiseError("accept: text must be a text, not %s", kindOf(v))
			}
			d.Reply.Text = oneLine(s)
		case "code":
			only(key, hooks.Command)
			code, ok := v.(lua.LNumber)
			if n := int(code); !ok || lua.LNumber(n) != code || n < 200 || n > 299 {
				L.RaiseError("accept: code must be a number from 200 to 299, not %s", v.String())
			}
			d.Reply.Code = int(code)
		default:
			L.RaiseError("accept{ } has no key %q%s", key, didYouMean(key, []string{"user", "text", "code"}))
		}
	}
}

func (st *state) decideReason(L *lua.LState, v hooks.Verb) int {
	reason := ""
	if L.GetTop() > 0 {
		reason = st.line(L, 1)
	}
	return st.push(L, hooks.Decision{Verb: v, Reason: reason})
}

// line is a text of one line: literal where it stands alone, a format text
// where arguments follow.
func (st *state) line(L *lua.LState, n int) string {
	s := L.CheckString(n)
	if L.GetTop() > n {
		s = st.format(L, n)
	}
	return oneLine(s)
}

func oneLine(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// decideReply is reject, defer and disconnect in all their forms.
func (st *state) decideReply(L *lua.LState, v hooks.Verb) int {
	d := hooks.Decision{Verb: v}
	if t, ok := L.Get(1).(*lua.LTable); ok {
		if L.GetTop() > 1 {
			L.RaiseError("%s{ … } takes nothing behind its table", v)
		}
		st.decideTable(L, &d, t)
		return st.push(L, d)
	}
	n := 1
	if code, ok := L.Get(n).(lua.LNumber); ok {
		st.setCode(L, &d, code)
		n++
	}
	if s, ok := L.Get(n).(lua.LString); ok {
		if e, ok := message.ParseEnhanced(string(s)); ok {
			st.setEnhanced(L, &d, e, string(s))
			n++
		}
	}
	if L.GetTop() >= n {
		d.Reply.Text = st.line(L, n)
	}
	return st.push(L, d)
}

// class is the first digit of the codes that a verb may have.
func class(v hooks.Verb) int {
	if v == hooks.Reject {
		return 5
	}
	return 4
}

func (st *state) setCode(L *lua.LState, d *hooks.Decision, code lua.LNumber) {
	if d.Verb == hooks.Drop && code != 421 {
		L.RaiseError("disconnect answers 421: leave the code out, or use reject{ …, disconnect = true }")
	}
	if n := int(code); lua.LNumber(n) != code || n/100 != class(d.Verb) {
		L.RaiseError("%s with the code %v: it takes %d00 to %d99", d.Verb, code, class(d.Verb), class(d.Verb))
	}
	d.Reply.Code = int(code)
}

func (st *state) setEnhanced(L *lua.LState, d *hooks.Decision, e [3]int, text string) {
	if e[0] != class(d.Verb) {
		L.RaiseError("%s with the status %s: it must begin with %d", d.Verb, text, class(d.Verb))
	}
	d.Reply.Enhanced = e
}

func (st *state) decideTable(L *lua.LState, d *hooks.Decision, t *lua.LTable) {
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		switch key := k.String(); key {
		case "text":
			s, ok := joinable(v)
			if !ok {
				L.RaiseError("%s: text must be a text, not %s", d.Verb, kindOf(v))
			}
			d.Reply.Text = oneLine(s)
		case "code":
			code, ok := v.(lua.LNumber)
			if !ok {
				L.RaiseError("%s: code must be a number, not %s", d.Verb, kindOf(v))
			}
			st.setCode(L, d, code)
		case "enhanced":
			e, ok := message.ParseEnhanced(v.String())
			if !ok {
				L.RaiseError("%s: enhanced must be a status such as %q, not %q", d.Verb, "5.7.1", v.String())
			}
			st.setEnhanced(L, d, e, v.String())
		case "after":
			seconds, err := spanOf(v)
			if err != nil || d.Verb != hooks.Defer {
				L.RaiseError("%s: after is the time to the next attempt, such as \"15m\", and belongs to defer", d.Verb)
			}
			d.After = toDuration(seconds)
		case "disconnect":
			b, ok := v.(lua.LBool)
			if !ok {
				L.RaiseError("%s: disconnect must be true or false", d.Verb)
			}
			d.Disconnect = bool(b)
		default:
			L.RaiseError("%s{ } has no key %q%s", d.Verb, key, didYouMean(key, []string{"text", "code", "enhanced", "after", "disconnect"}))
		}
	}
}
