package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
)

func (st *state) openAddr(g *lua.LTable) {
	g.RawSetString("addr", st.library(map[string]lua.LGFunction{"parse": st.addrParse, "subaddress": st.addrSubaddress, "ours": st.addrOurs}))
}

// addrParse is addr.parse(text): an address with user, domain and null.
func (st *state) addrParse(L *lua.LState) int {
	a, wrong := st.addrArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	L.Push(st.newAddress(a))
	return 1
}

func (st *state) addrArgument(L *lua.LState, n int) (message.Address, string) {
	if u, ok := L.Get(n).(*lua.LUserData); ok {
		switch v := u.Value.(type) {
		case addressValue:
			return v.Address, ""
		case *rcpt:
			return v.r.Address, ""
		}
	}
	s := L.CheckString(n)
	inner := s
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		inner = s[1 : len(s)-1]
	}
	a, err := message.ParseAddress(inner)
	if err != nil {
		return a, quote(s) + ": " + err.Error()
	}
	return a, ""
}

// addrSubaddress is addr.subaddress(address, separator): the address without
// what stands behind the separator ("+" by default) in its local part, and that
// part, or nil where there is none.
func (st *state) addrSubaddress(L *lua.LState) int {
	a, wrong := st.addrArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	sep := L.OptString(2, "+")
	if sep == "" {
		L.ArgError(2, "the separator is empty")
	}
	user, detail, ok := strings.Cut(a.Local, sep)
	if !ok || user == "" {
		L.Push(st.newAddress(a))
		L.Push(lua.LNil)
		return 2
	}
	a.Local = user
	L.Push(st.newAddress(a))
	L.Push(lua.LString(detail))
	return 2
}

// addrOurs is addr.ours(domain): whether the domain, or that of an address, is
// one of ours.
func (st *state) addrOurs(L *lua.LState) int {
	domain := ""
	if _, ok := L.Get(1).(*lua.LUserData); ok {
		a, _ := st.addrArgument(L, 1)
		domain = a.Domain
	} else {
		domain = mapASCII(L.CheckString(1), 'A', 'Z')
		domain = domain[strings.LastIndexByte(domain, '@')+1:]
	}
	L.Push(lua.LBool(st.script.options.Library.Ours(domain)))
	return 1
}
