package lua

import (
	"context"
	"errors"

	lua "github.com/yuin/gopher-lua"

	named "github.com/postern-mta/postern/core/lookup"
	"github.com/postern-mta/postern/hooks"
)

// usersMap is the map that lookup.user asks.
const usersMap = "users"

func (st *state) openLookup(g *lua.LTable) {
	g.RawSetString("lookup", st.lookupLibrary(map[string]lookupFunc{
		"get": st.lookupGet, "domain": st.lookupDomain, "address": st.lookupAddress, "ip": st.lookupIP, "user": st.lookupUser,
	}))
}

// toMap is a question to a map: its answer is the value, and, where keyed is set,
// the key that has it.
func (st *state) toMap(name, what string, keyed bool, question func(ctx context.Context, m named.Getter) (any, string, error)) lookup {
	m := st.script.options.Library.Maps
	if keyed {
		st.b.spend(st.L, 2048) // it may try many keys
	}
	if m == nil {
		return failed("bad", "there is no map "+quote(name)+": name it in [[lookup]]")
	}
	var value any
	var key string
	var err error
	q := lookup{ask: func(ctx context.Context) {
		value, key, err = question(ctx, m)
		told := hooks.Lookup{Kind: "lookup." + name, Question: what, Answer: shortText(value)}
		if err != nil {
			told.Error = "temporary: " + err.Error()
		}
		hooks.Looked(ctx, told)
	}}
	q.answer = func(L *lua.LState) int {
		switch {
		case errors.Is(err, named.ErrNoMap):
			return fail(L, "bad", "there is no map "+quote(name)+": name it in [[lookup]]")
		case err != nil:
			return fail(L, "temporary", err.Error())
		case key == "":
			return fail(L, "none", quote(what)+" is not in map "+quote(name))
		}
		L.Push(st.fromPlain(L, value, st.readonly))
		if !keyed {
			return 1
		}
		L.Push(lua.LString(key))
		return 2
	}
	return q
}

// shortText is what a story shows of a value.
func shortText(v any) string {
	const most = 200
	s, ok := v.(string)
	if !ok && v != nil {
		b, err := encodeJSON(v)
		if err != nil {
			return ""
		}
		s = string(b)
	}
	return s[:min(len(s), most)]
}

// lookupGet is lookup.get(map, key).
func (st *state) lookupGet(L *lua.LState) lookup {
	name, key := L.CheckString(1), st.headerValue(L, 2)
	return st.toMap(name, key, false, func(ctx context.Context, m named.Getter) (any, string, error) {
		v, ok, err := m.Get(ctx, name, key)
		if !ok {
			return nil, "", err
		}
		return v, "found", err
	})
}

// lookupDomain is lookup.domain(map, domain): of the name, or of what is above it.
func (st *state) lookupDomain(L *lua.LState) lookup {
	name, domain := L.CheckString(1), nameArgument(L, 2)
	return st.toMap(name, domain, true, func(ctx context.Context, m named.Getter) (any, string, error) {
		return named.Domain(ctx, m, name, domain)
	})
}

// lookupAddress is lookup.address(map, address).
func (st *state) lookupAddress(L *lua.LState) lookup {
	name := L.CheckString(1)
	a, wrong := st.addrArgument(L, 2)
	if wrong != "" {
		return failed("bad", wrong)
	}
	return st.toMap(name, a.String(), true, func(ctx context.Context, m named.Getter) (any, string, error) { return named.Address(ctx, m, name, a) })
}

// lookupIP is lookup.ip(map, ip).
func (st *state) lookupIP(L *lua.LState) lookup {
	name := L.CheckString(1)
	ip, wrong := st.ipArgument(L, 2)
	if wrong != "" {
		return failed("bad", wrong)
	}
	return st.toMap(name, ip.String(), true, func(ctx context.Context, m named.Getter) (any, string, error) { return named.Network(ctx, m, name, ip) })
}

// lookupUser is lookup.user(rcpt, setting): what the recipient, or its domain, has
// said in the map "users".
func (st *state) lookupUser(L *lua.LState) lookup {
	a, wrong := st.addrArgument(L, 1)
	setting := L.CheckString(2)
	if wrong != "" {
		return failed("bad", wrong)
	}
	return st.toMap(usersMap, a.String()+" "+setting, false, func(ctx context.Context, m named.Getter) (any, string, error) {
		v, ok, err := named.User(ctx, m, usersMap, a, setting)
		if !ok {
			return nil, "", err
		}
		return v, "found", err
	})
}
