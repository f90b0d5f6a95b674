package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/message"
)

func (st *state) openAddr(g *lua.LTable) {
	g.RawSetString("addr", st.library(map[string]lua.LGFunction{
		"parse": st.addrParse, "subaddress": st.addrSubaddress, "ours": st.addrOurs, "list": st.addrList, "organization": st.addrOrganization, "verp": st.addrVERP, "unverp": st.addrUnVERP,
		"srs_forward": st.addrSRSForward, "srs_reverse": st.addrSRSReverse, "batv_sign": st.addrBATVSign, "batv_check": st.addrBATVCheck,
	}))
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
	st.b.spend(L, 16+min(len(s), 1<<10)>>2)
	inner := s
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		inner = s[1 : len(s)-1]
	}
	a, err := message.ParseAddress(inner)
	if err != nil {
		return a, brief(s) + ": " + err.Error()
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

// addrVERP is addr.verp(sender, recipient, separator): the sender of a copy that
// tells for whom it was, list-user=example.org@example.net.
func (st *state) addrVERP(L *lua.LState) int {
	sender, wrong := st.addrArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	to, wrong := st.addrArgument(L, 2)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	if sender.IsNull() || to.IsNull() {
		return fail(L, "bad", "an empty address can't be part of another one")
	}
	sender.Local += L.OptString(3, "-") + to.Local + "=" + to.Domain
	if _, err := message.ParseAddress(sender.String()); err != nil {
		return fail(L, "bad", quote(sender.String())+": "+err.Error())
	}
	L.Push(st.newAddress(sender))
	return 1
}

// addrUnVERP is addr.unverp(address, sender, separator): for whom the copy was
// whose bounce came to the address.
func (st *state) addrUnVERP(L *lua.LState) int {
	a, wrong := st.addrArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	sender, wrong := st.addrArgument(L, 2)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	rest, ok := strings.CutPrefix(a.Local, sender.Local+L.OptString(3, "-"))
	i := strings.LastIndexByte(rest, '=')
	if !ok || i < 1 || !strings.EqualFold(a.Domain, sender.Domain) {
		return fail(L, "none", quote(a.String())+" is no such address of "+sender.String())
	}
	to, err := message.ParseAddress(rest[:i] + "@" + rest[i+1:])
	if err != nil {
		return fail(L, "bad", quote(rest)+": "+err.Error())
	}
	L.Push(st.newAddress(to))
	return 1
}

// addrOurs is addr.ours(domain): whether the domain, or that of an address, is
// one of ours.
func (st *state) addrOurs(L *lua.LState) int {
	L.Push(lua.LBool(st.script.options.Library.Ours(st.domainArgument(L, 1))))
	return 1
}

// addrList is addr.list(field): who a field such as From names.
func (st *state) addrList(L *lua.LState) int {
	field := L.CheckString(1)
	st.b.make(L, 2*len(field))
	list, err := message.ParseMailboxes(field)
	if err != nil {
		return fail(L, "bad", err.Error())
	}
	t := L.CreateTable(len(list), 0)
	for _, m := range list {
		one := L.CreateTable(0, 2)
		one.RawSetString("name", lua.LString(m.Name))
		one.RawSetString("address", st.newAddress(m.Address))
		t.Append(one)
	}
	L.Push(t)
	return 1
}

// domainArgument is a domain, or that of an address, in lower case.
func (st *state) domainArgument(L *lua.LState, n int) string {
	if _, ok := L.Get(n).(*lua.LUserData); ok {
		a, _ := st.addrArgument(L, n)
		return a.Domain
	}
	domain := mapASCII(L.CheckString(n), 'A', 'Z')
	return domain[strings.LastIndexByte(domain, '@')+1:]
}

// addrOrganization is addr.organization(domain): what its owner registered.
func (st *state) addrOrganization(L *lua.LState) int {
	domain := st.domainArgument(L, 1)
	st.b.spend(L, 64+len(domain))
	org := dmarc.Organizational(domain[:min(len(domain), maxName)])
	if org == "" {
		return fail(L, "none", quote(domain)+" is nothing that somebody registers")
	}
	L.Push(lua.LString(org))
	return 1
}
