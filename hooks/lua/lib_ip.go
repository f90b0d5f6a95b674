package lua

import (
	"net/netip"
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// ipValue is an IP address.
type ipValue struct{ netip.Addr }

func (ipValue) luaKind() string { return "an ip" }

func (st *state) newIP(a netip.Addr) lua.LValue { return st.object(ipValue{a}, st.ipClass) }

func (st *state) openIP(g *lua.LTable) {
	g.RawSetString("ip", st.library(map[string]lua.LGFunction{
		"parse": st.ipParse, "prefix": st.ipPrefix, "set": st.ipSet, "match": st.ipMatch,
	}))
}

// ipArgument is an address, or the text of one.
func (st *state) ipArgument(L *lua.LState, n int) (netip.Addr, string) {
	switch v := L.Get(n).(type) {
	case *lua.LUserData:
		if a, ok := v.Value.(ipValue); ok {
			return a.Addr, ""
		}
	case lua.LString:
		a, err := netip.ParseAddr(string(v))
		if err != nil || a.Zone() != "" {
			return netip.Addr{}, quote(string(v)) + " is no IP address"
		}
		return a.Unmap(), ""
	}
	L.ArgError(n, "an ip is expected, not "+kindOf(L.Get(n)))
	return netip.Addr{}, ""
}

func (st *state) ipParse(L *lua.LState) int {
	a, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	L.Push(st.newIP(a))
	return 1
}

// ipField is a member of an address.
func (st *state) ipField(L *lua.LState) int {
	a, ok := L.CheckUserData(1).Value.(ipValue)
	if !ok {
		L.ArgError(1, "an ip is expected")
	}
	switch key := L.Get(2).String(); key {
	case "prefix":
		L.Push(st.ipLib(L, "prefix"))
	case "version":
		if a.Is4() {
			L.Push(lua.LNumber(4))
		} else {
			L.Push(lua.LNumber(6))
		}
	case "loopback":
		L.Push(lua.LBool(a.IsLoopback()))
	case "private":
		L.Push(lua.LBool(a.IsPrivate() || a.IsLinkLocalUnicast()))
	default:
		return unknown(L, "an ip", key, members("ip")...)
	}
	return 1
}

// ipLib is a function of the library ip.
func (st *state) ipLib(L *lua.LState, name string) lua.LValue {
	t, _ := L.G.Global.RawGetString("ip").(*lua.LTable)
	return t.RawGetString(name)
}

// ipPrefix is ip:prefix(n), or ip:prefix(n4, n6): the network as a text.
func (st *state) ipPrefix(L *lua.LState) int {
	a, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	n := L.CheckInt(2)
	if !a.Is4() && L.Get(3) != lua.LNil {
		n = L.CheckInt(3)
	}
	p, err := a.Prefix(n)
	if err != nil {
		L.RaiseError("a prefix of %s has 0 to %d bits, not %d", a, a.BitLen(), n)
	}
	L.Push(lua.LString(p.String()))
	return 1
}

// nets is a set of networks that an address is looked for in.
type nets []netip.Prefix

func (n nets) has(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(a) })
}

// newNets is a list of networks with a method match.
func (st *state) newNets(list []netip.Prefix) *lua.LTable {
	t := &lua.LTable{Metatable: lua.LNil}
	for _, p := range list {
		t.Append(lua.LString(p.String()))
	}
	return st.newMatcher(t, func(L *lua.LState) bool {
		a, wrong := st.ipArgument(L, 2)
		st.b.spend(L, len(list)>>2)
		return wrong == "" && nets(list).has(a)
	})
}

// netsOf reads a list of networks.
func netsOf(t *lua.LTable) (nets, string) {
	var list nets
	for i := range t.Len() {
		s := t.RawGetInt(i + 1).String()
		p, err := parsePrefix(s)
		if err != nil {
			return nil, quote(s) + " is " + err.Error()
		}
		list = append(list, p)
	}
	return list, ""
}

// ipSet is ip.set{ "192.0.2.0/24", … }: a list with a method match.
func (st *state) ipSet(L *lua.LState) int {
	list, wrong := netsOf(L.CheckTable(1))
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	st.b.spend(L, len(list))
	L.Push(st.newNets(list))
	return 1
}

// ipMatch is ip.match(ip, set): whether the address is in one of the networks.
func (st *state) ipMatch(L *lua.LState) int {
	a, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	list, wrong := netsOf(L.CheckTable(2))
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	st.b.spend(L, len(list))
	L.Push(lua.LBool(list.has(a)))
	return 1
}
