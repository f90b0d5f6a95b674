package lua

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/hooks"
)

// connObject is conn; what it is about stands in the state's call.
type connObject struct{}

func (connObject) luaKind() string { return "conn" }

func (connObject) assign(_ *state, L *lua.LState, k, _ lua.LValue) {
	L.RaiseError("conn.%s can't be set: use conn.notes for your own values", k.String())
}

// optional is a text, or nil for "".
func optional(s string) lua.LValue {
	if s == "" {
		return lua.LNil
	}
	return lua.LString(s)
}

// connField is conn.NAME, where NAME is no method.
func (st *state) connField(L *lua.LState) int {
	c, key := &st.call, L.Get(2).String()
	if c.event == nil {
		L.RaiseError("conn belongs to a handler's call")
	}
	s := c.event.Session
	var v lua.LValue
	switch key {
	case "id":
		v = lua.LString(s.ID)
	case "ip":
		if c.ip == nil {
			c.ip = st.newIP(clientAddr(s.Client))
		}
		v = c.ip
	case "port":
		v = lua.LNumber(s.Client.Port())
	case "local_ip":
		if c.localIP == nil {
			c.localIP = st.newIP(clientAddr(s.Local))
		}
		v = c.localIP
	case "local_port":
		v = lua.LNumber(s.Local.Port())
	case "host":
		v = st.connHost(L, s)
	case "helo":
		v = optional(s.Helo)
	case "extended":
		v = lua.LBool(s.Extended)
	case "tls":
		v = st.connTLS(s.TLS)
	case "user":
		v = optional(s.User)
	case "authenticated":
		v = lua.LBool(s.Authenticated)
	case "relaying":
		v = lua.LBool(s.Relaying)
	case "listener":
		v = lua.LString(s.Listener)
	case "protocol":
		v = lua.LString(s.Protocol)
	case "notes":
		v = st.connNotes
	case "env":
		t := st.L.CreateTable(0, len(s.Env))
		for _, name := range sortedNames(s.Env) {
			t.RawSetString(name, lua.LString(s.Env[name]))
		}
		t.Metatable = st.readonly
		v = t
	case "totals":
		v = fromPlain(map[string]any{
			"messages": float64(s.Totals.Messages), "refused": float64(s.Totals.Refused), "bytes": float64(s.Totals.Bytes),
			"transactions": float64(s.Totals.Transacts), "duration": s.Totals.Duration.Seconds(),
		}, st.readonly)
	case "capabilities":
		v = st.capabilities
	default:
		if st.call.at == hooks.Deny && slices.Contains(members("tx"), key) {
			L.RaiseError("conn has no member %q: deny is given the connection where no message is under way, see refusal.stage", key)
		}
		return unknown(L, "conn", key, members("conn")...)
	}
	L.Push(v)
	return 1
}

// clientAddr is the address of a client; mail handed over on this host comes from
// the loopback address.
func clientAddr(a netip.AddrPort) netip.Addr {
	if !a.IsValid() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return a.Addr().Unmap().WithZone("")
}

func (st *state) connHost(L *lua.LState, s *hooks.Session) lua.LValue {
	if st.call.host == nil {
		name := ""
		st.wait(L, func(ctx context.Context) { name = s.Host(ctx) })
		st.call.host = optional(name)
	}
	return st.call.host
}

func (st *state) connTLS(f *hooks.TLSFact) lua.LValue {
	if f == nil {
		return lua.LNil
	}
	fields := map[string]any{"version": f.Version, "cipher": f.Cipher}
	if f.Client != "" {
		fields["client"] = f.Client
	}
	return fromPlain(fields, st.readonly)
}

// maxEarly is the longest wait for a client that talks early.
const maxEarly = time.Minute

// early is conn:early(wait): whether the client talks before it is its turn.
func (st *state) early(L *lua.LState) int {
	seconds, err := spanOf(L.Get(2))
	if err != nil {
		L.ArgError(2, err.Error())
	}
	ask := st.call.event.Session.Early
	if ask == nil {
		return fail(L, "none", "early talk can't be told at this stage or of this client")
	}
	talked := false
	st.wait(L, func(ctx context.Context) { talked = ask(ctx, min(toDuration(seconds), maxEarly)) })
	L.Push(lua.LBool(talked))
	return 1
}

// capabilitiesObject is conn.capabilities: what EHLO will say.
type capabilitiesObject struct{}

func (capabilitiesObject) luaKind() string { return "conn.capabilities" }

// offered is the list with the handler's own changes.
func (st *state) offered(L *lua.LState) []string {
	if st.call.row == nil || st.call.at != hooks.Helo {
		L.RaiseError("conn.capabilities is there at stage helo")
	}
	if st.call.offers != nil {
		return st.call.offers
	}
	return st.call.event.Capabilities
}

func keywordOf(capability string) string {
	keyword, _, _ := strings.Cut(capability, " ")
	return keyword
}

func without(list []string, keyword string) []string {
	rest := make([]string, 0, len(list)+1)
	for _, one := range list {
		if !strings.EqualFold(keywordOf(one), keyword) {
			rest = append(rest, one)
		}
	}
	return rest
}

func (st *state) capabilityAdd(L *lua.LState) int {
	list, one := st.offered(L), strings.TrimSpace(L.CheckString(2))
	st.edit(L, hooks.Edit{Kind: hooks.AddCapability, Value: one})
	st.call.offers = append(without(list, keywordOf(one)), one)
	return 0
}

func (st *state) capabilityRemove(L *lua.LState) int {
	list, keyword := st.offered(L), L.CheckString(2)
	st.edit(L, hooks.Edit{Kind: hooks.RemoveCapability, Value: keyword})
	st.call.offers = without(list, keyword)
	return 0
}

// capabilityGet gives the parameters of a keyword, "" where it has none, nil
// where it is not offered.
func (st *state) capabilityGet(L *lua.LState) int {
	keyword := L.CheckString(2)
	for _, one := range st.offered(L) {
		if name, rest, _ := strings.Cut(one, " "); strings.EqualFold(name, keyword) {
			L.Push(lua.LString(rest))
			return 1
		}
	}
	L.Push(lua.LNil)
	return 1
}

func (st *state) capabilityList(L *lua.LState) int {
	list := st.offered(L)
	plain := make([]any, 0, len(list))
	for _, one := range list {
		plain = append(plain, one)
	}
	L.Push(fromPlain(plain, st.readonly))
	return 1
}
