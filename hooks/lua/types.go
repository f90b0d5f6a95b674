package lua

import (
	"math"
	"net/netip"
	"regexp"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// kindValue is a setting's value as the script finds it.
func (st *state) kindValue(k *kind, v any) lua.LValue {
	switch v := v.(type) {
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	case string:
		return lua.LString(v)
	case message.Address:
		return st.newAddress(v)
	case []netip.Prefix:
		return st.newNets(v)
	case []string:
		return st.newMatcher(texts(v), func(L *lua.LState) bool {
			return hooks.MatchDomain(v, mapASCII(L.CheckString(2), 'A', 'Z'))
		})
	case *regexp.Regexp:
		if v != nil {
			return st.newRegex(v)
		}
	case *fileValue:
		if v != nil {
			t := st.L.CreateTable(0, 3)
			t.RawSetString("path", lua.LString(v.path))
			t.RawSetString("text", lua.LString(v.text))
			t.RawSetString("lines", texts(v.lines))
			return t
		}
	case []any:
		t := st.L.CreateTable(len(v), 0)
		for _, item := range v {
			t.Append(st.kindValue(k.elem, item))
		}
		return t
	case map[string]any:
		t := st.L.CreateTable(0, len(v))
		for _, name := range sortedKeys(v) {
			t.RawSetString(name, st.kindValue(k.elem, v[name]))
		}
		return t
	}
	return lua.LNil
}

// texts is a list of texts as a table.
func texts[S ~string](list []S) *lua.LTable {
	t := &lua.LTable{Metatable: lua.LNil}
	for _, s := range list {
		t.Append(lua.LString(s))
	}
	return t
}

// newMatcher gives a list a method match.
func (st *state) newMatcher(t *lua.LTable, match func(*lua.LState) bool) *lua.LTable {
	index := st.library(map[string]lua.LGFunction{"match": func(L *lua.LState) int {
		L.Push(lua.LBool(match(L)))
		return 1
	}})
	meta := st.L.CreateTable(0, 2)
	meta.RawSetString("__index", index)
	meta.RawSetString("__metatable", lua.LString("locked"))
	t.Metatable = meta
	return t
}

// openKinds makes the types of settings.
func (st *state) openKinds(g *lua.LTable) {
	L := st.L
	for _, name := range kindNames {
		g.RawSetString(name, st.object(&kind{name: name}, st.kind))
	}
	g.RawSetString("enum", L.NewFunction(st.enum))
	g.RawSetString("list", L.NewFunction(func(L *lua.LState) int { return st.many(L, "list") }))
	g.RawSetString("map", L.NewFunction(func(L *lua.LState) int { return st.many(L, "map") }))
	meta := L.CreateTable(0, 2)
	meta.RawSetString("__call", L.NewFunction(st.kindCall))
	meta.RawSetString("__metatable", lua.LString("locked"))
	st.textLib.Metatable = meta
	st.textLib.RawSetString("about", L.NewFunction(st.settingAbout))
}

// openSettingClasses makes what types and settings are.
func (st *state) openSettingClasses() {
	methods := map[string]lua.LGFunction{"about": st.settingAbout, "range": st.settingRange}
	st.kind = st.newClass(st.library(methods))
	st.kind.RawSetString("__call", st.L.NewFunction(st.kindCall))
	st.settingClass = st.newClass(st.library(methods))
}

// kindArgument is a type given as an argument.
func (st *state) kindArgument(L *lua.LState, n int) *kind {
	if d := declOf(st, L.Get(n)); d != nil && !d.given && !d.bounded && d.about == "" {
		return d.kind
	}
	L.ArgError(n, "a type is expected, such as string or integer, not "+kindOf(L.Get(n)))
	return nil
}

func (st *state) enum(L *lua.LState) int {
	k := &kind{name: "enum"}
	t := L.CheckTable(1)
	for i := 1; i <= t.Len(); i++ {
		s, ok := t.RawGetInt(i).(lua.LString)
		if !ok {
			L.ArgError(1, "enum takes a list of texts")
		}
		k.choices = append(k.choices, string(s))
	}
	if len(k.choices) == 0 {
		L.ArgError(1, "enum takes a list of texts")
	}
	L.Push(st.object(k, st.kind))
	return 1
}

func (st *state) many(L *lua.LState, name string) int {
	L.Push(st.object(&kind{name: name, elem: st.kindArgument(L, 1)}, st.kind))
	return 1
}

// kindCall is duration "5m": a type with its default.
func (st *state) kindCall(L *lua.LState) int {
	d := &settingDecl{kind: st.kindArgument(L, 1), given: true}
	value, err := toPlain(L.Get(2))
	if err != nil || value == nil {
		L.RaiseError("%s takes its default: %s", d.kind, d.kind.expects())
	}
	d.value = value
	L.Push(st.object(d, st.settingClass))
	return 1
}

// settingAbout is : about "…".
func (st *state) settingAbout(L *lua.LState) int {
	d := declOf(st, L.Get(1))
	if d == nil {
		L.ArgError(1, "about belongs to a setting")
	}
	one := *d
	one.about = L.CheckString(2)
	L.Push(st.object(&one, st.settingClass))
	return 1
}

// settingRange is : range(0, 32): the bounds of a number or a time, both included.
func (st *state) settingRange(L *lua.LState) int {
	d := declOf(st, L.Get(1))
	if d == nil || d.kind.name != "integer" && d.kind.name != "number" && d.kind.name != "duration" {
		L.ArgError(1, "range belongs to a setting that is an integer, a number or a duration")
	}
	one := *d
	one.bounded, one.high = true, math.Inf(1)
	bound := func(n int) float64 {
		if number, ok := L.Get(n).(lua.LNumber); ok {
			return float64(number)
		}
		f, err := spanOf(L.Get(n))
		if err != nil {
			L.ArgError(n, err.Error())
		}
		return f
	}
	one.low = bound(2)
	if L.GetTop() > 2 {
		one.high = bound(3)
	}
	L.Push(st.object(&one, st.settingClass))
	return 1
}
