package lua

import (
	"net/netip"

	lua "github.com/yuin/gopher-lua"
)

// Places finds what is known of addresses. It must be safe for concurrent use.
type Places interface {
	// Lookup is the record of an address: plain values, nil where there is none.
	Lookup(addr netip.Addr) (map[string]any, error)
}

func (st *state) openGeoIP(g *lua.LTable) {
	g.RawSetString("geoip", st.library(map[string]lua.LGFunction{"lookup": st.geoLookup, "country": st.geoCountry, "asn": st.geoASN}))
}

// place is the record of the address at position 1.
func (st *state) place(L *lua.LState) (record map[string]any, kind, text string) {
	addr, wrong := st.ipArgument(L, 1)
	if wrong != "" {
		return nil, "bad", wrong
	}
	places := st.script.options.Library.Places
	if places == nil {
		return nil, "temporary", "there is no database: name one in [geoip] databases"
	}
	st.b.spend(L, 256)
	record, err := places.Lookup(addr)
	switch {
	case err != nil:
		return nil, "temporary", err.Error()
	case record == nil:
		return nil, "none", "nothing is known of " + addr.String()
	}
	return record, "", ""
}

// geoLookup is geoip.lookup(ip): all that the databases say.
func (st *state) geoLookup(L *lua.LState) int {
	record, kind, text := st.place(L)
	if kind != "" {
		return fail(L, kind, text)
	}
	L.Push(fromPlain(record, lua.LNil))
	return 1
}

// field walks into a record.
func field(record map[string]any, path ...string) any {
	var v any = record
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// geoCountry is geoip.country(ip): the ISO code of the country that the address
// is used in, else of the one that it is registered in.
func (st *state) geoCountry(L *lua.LState) int {
	record, kind, text := st.place(L)
	if kind != "" {
		return fail(L, kind, text)
	}
	for _, part := range [...]string{"country", "registered_country"} {
		if code, ok := field(record, part, "iso_code").(string); ok {
			L.Push(lua.LString(code))
			return 1
		}
	}
	return fail(L, "none", "no country is known of this address")
}

// geoASN is geoip.asn(ip): number and name of the network's operator.
func (st *state) geoASN(L *lua.LState) int {
	record, kind, text := st.place(L)
	if kind != "" {
		return fail(L, kind, text)
	}
	number, ok := toFloat(record["autonomous_system_number"])
	if !ok {
		return fail(L, "none", "no operator is known of this address")
	}
	name, _ := record["autonomous_system_organization"].(string)
	L.Push(lua.LNumber(number))
	L.Push(lua.LString(name))
	return 2
}
