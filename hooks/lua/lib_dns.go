package lua

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/dns"
)

// fail is how every look-up fails: nil and {kind, text}.
func fail(L *lua.LState, kind, text string) int {
	t := L.CreateTable(0, 2)
	t.RawSetString("kind", lua.LString(kind))
	t.RawSetString("text", lua.LString(text))
	L.Push(lua.LNil)
	L.Push(t)
	return 2
}

// failDNS is fail for an error of the resolver.
func failDNS(L *lua.LState, err error) int {
	kind := "temporary"
	if e, ok := errors.AsType[*dns.Error](err); ok {
		kind = e.Kind.String()
	}
	return fail(L, kind, err.Error())
}

// maxZones bounds the block lists of one look-up.
const maxZones = 64

func (st *state) openDNS(g *lua.LTable) {
	g.RawSetString("dns", st.lookupLibrary(map[string]lookupFunc{
		"a": st.dnsA, "aaaa": st.dnsAAAA, "mx": st.dnsMX, "txt": st.dnsTXT, "ptr": st.dnsPTR, "fcrdns": st.dnsFCrDNS, "dnsbl": st.dnsBL, "listed": st.dnsListed,
	}))
}

// toDNS is a question to the resolver, if there is one.
func (st *state) toDNS(question func(ctx context.Context, r dns.Resolver) error, answer lua.LGFunction) lookup {
	r := st.script.options.Library.DNS
	err := error(&dns.Error{Kind: dns.Failure, Text: "there is no resolver here"})
	q := lookup{answer: func(L *lua.LState) int {
		if err != nil {
			return failDNS(L, err)
		}
		return answer(L)
	}}
	if r != nil {
		q.ask = func(ctx context.Context) { err = question(ctx, witness{r}) }
	}
	return q
}

// nameArgument is a domain name; an address or a recipient will not do.
func nameArgument(L *lua.LState, n int) string {
	if u, ok := L.Get(n).(*lua.LUserData); ok {
		L.ArgError(n, "a name is expected, not "+kindOf(u))
	}
	s := L.CheckString(n)
	return s[:min(len(s), maxName)] // what is longer is no name either
}

// maxName is longer than any domain name.
const maxName = 1 << 10

func (st *state) dnsAddrs(L *lua.LState, look func(dns.Resolver, context.Context, string) ([]netip.Addr, error)) lookup {
	name := nameArgument(L, 1)
	var addrs []netip.Addr
	return st.toDNS(func(ctx context.Context, r dns.Resolver) (err error) {
		addrs, err = look(r, ctx, name)
		return err
	}, func(L *lua.LState) int {
		t := L.CreateTable(len(addrs), 0)
		for _, a := range addrs {
			t.Append(st.newIP(a))
		}
		L.Push(t)
		return 1
	})
}

func (st *state) dnsA(L *lua.LState) lookup { return st.dnsAddrs(L, dns.Resolver.LookupA) }

func (st *state) dnsAAAA(L *lua.LState) lookup { return st.dnsAddrs(L, dns.Resolver.LookupAAAA) }

// dnsMX is a list of {host, preference}; host is "" where the domain takes no mail.
func (st *state) dnsMX(L *lua.LState) lookup {
	name := nameArgument(L, 1)
	var list []dns.MX
	return st.toDNS(func(ctx context.Context, r dns.Resolver) (err error) {
		list, err = r.LookupMX(ctx, name)
		return err
	}, func(L *lua.LState) int {
		t := L.CreateTable(len(list), 0)
		for _, mx := range list {
			one := L.CreateTable(0, 2)
			one.RawSetString("host", lua.LString(mx.Host))
			one.RawSetString("preference", lua.LNumber(mx.Pref))
			t.Append(one)
		}
		L.Push(t)
		return 1
	})
}

// dnsTexts is a question whose answer is a list of texts.
func (st *state) dnsTexts(question func(ctx context.Context, r dns.Resolver) ([]string, error)) lookup {
	var list []string
	return st.toDNS(func(ctx context.Context, r dns.Resolver) (err error) {
		list, err = question(ctx, r)
		return err
	}, func(L *lua.LState) int {
		L.Push(texts(list))
		return 1
	})
}

func (st *state) dnsTXT(L *lua.LState) lookup {
	name := nameArgument(L, 1)
	return st.dnsTexts(func(ctx context.Context, r dns.Resolver) ([]string, error) { return r.LookupTXT(ctx, name) })
}

func (st *state) dnsPTR(L *lua.LState) lookup {
	addr, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return failed("bad", wrong)
	}
	return st.dnsTexts(func(ctx context.Context, r dns.Resolver) ([]string, error) { return r.LookupPTR(ctx, addr) })
}

// dnsFCrDNS is the confirmed name of an address.
func (st *state) dnsFCrDNS(L *lua.LState) lookup {
	addr, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return failed("bad", wrong)
	}
	name := ""
	return st.toDNS(func(ctx context.Context, r dns.Resolver) (err error) {
		name, err = dns.FCrDNS(ctx, r, addr)
		return err
	}, func(L *lua.LState) int {
		if name == "" {
			return fail(L, "none", "no name of "+addr.String()+" leads back to it")
		}
		L.Push(lua.LString(name))
		return 1
	})
}

// dnsBL is dns.dnsbl(ip, zones): the listings, an empty table where there are
// none; where nothing is listed and a list could not be asked, that error.
func (st *state) dnsBL(L *lua.LState) lookup {
	addr, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return failed("bad", wrong)
	}
	zones := namesArgument(L, 2, "zone", maxZones)
	st.b.spend(L, 256*len(zones))
	var found []dns.Listing
	return st.toDNS(func(ctx context.Context, r dns.Resolver) error {
		found = dns.DNSBL(ctx, r, addr, zones)
		return nil
	}, func(L *lua.LState) int { return pushListings(L, found) })
}

// namesArgument is a name or a list of names, such as those of block lists.
func namesArgument(L *lua.LState, n int, what string, most int) []string {
	t, ok := L.Get(n).(*lua.LTable)
	if !ok {
		return []string{L.CheckString(n)}
	}
	if t.Len() > most {
		L.ArgError(n, fmt.Sprintf("at most %d %ss can be asked in one look-up", most, what))
	}
	list := make([]string, t.Len())
	for i := range list {
		name, ok := t.RawGetInt(i + 1).(lua.LString)
		if !ok {
			L.ArgError(n, fmt.Sprintf("%s %d is %s; names are expected", what, i+1, kindOf(t.RawGetInt(i+1))))
		}
		list[i] = string(name)
	}
	return list
}

// maxListed bounds the names that dns.listed asks about.
const maxListed = 64

// dnsListed is dns.listed(names, zones): which names are in block lists of domains.
func (st *state) dnsListed(L *lua.LState) lookup {
	names, zones := namesArgument(L, 1, "name", maxListed), namesArgument(L, 2, "zone", maxZones)
	st.b.spend(L, 256*len(zones)*len(names))
	var found []dns.NameListing
	return st.toDNS(func(ctx context.Context, r dns.Resolver) error {
		found = dns.Listed(ctx, r, names, zones)
		return nil
	}, func(L *lua.LState) int {
		plain := make([]dns.Listing, len(found))
		for i, l := range found {
			plain[i] = l.Listing
		}
		n := pushListings(L, plain)
		t, ok := L.Get(-1).(*lua.LTable)
		if n != 1 || !ok {
			return n
		}
		i := 0
		for _, l := range found {
			if one, ok := t.RawGetInt(i + 1).(*lua.LTable); ok && l.Err == nil {
				one.RawSetString("name", lua.LString(l.Name))
				i++
			}
		}
		return n
	})
}

func pushListings(L *lua.LState, found []dns.Listing) int {
	var err error
	t := L.CreateTable(len(found), 0)
	for _, l := range found {
		if l.Err != nil {
			err = l.Err
			continue
		}
		one := L.CreateTable(0, 3)
		one.RawSetString("zone", lua.LString(l.Zone))
		one.RawSetString("answer", lua.LString(l.Answer.String()))
		one.RawSetString("text", lua.LString(l.Text))
		t.Append(one)
	}
	if err != nil && t.Len() == 0 {
		return failDNS(L, err)
	}
	L.Push(t)
	return 1
}
