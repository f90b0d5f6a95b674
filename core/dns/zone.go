package dns

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// Zone is a Resolver that answers from data, so that a test case is one
// literal. It follows aliases and judges names just as Client does. Names may
// have any case and a trailing dot; "*.example.org" stands for every name below
// example.org that isn't there itself. What is not in it does not exist.
//
//	&dns.Zone{
//		A:    map[string][]string{"mx.example.org": {"192.0.2.1"}},
//		MX:   map[string][]string{"example.org": {"10 mx.example.org"}, "silent.example": {"0 ."}},
//		PTR:  map[string][]string{"192.0.2.1": {"mx.example.org"}},
//		Fail: map[string]dns.Kind{"lame.example.org": dns.Failure, "MX slow.example": dns.Timeout},
//	}
//
// Don't change a Zone once it is in use. A Zone with an entry that makes no
// sense fails every look-up with a text that names the entry.
type Zone struct {
	A     map[string][]string // addresses of either family
	MX    map[string][]string // "PREFERENCE HOST"; the host "." is the null MX
	TXT   map[string][]string // one string a record, of any length
	PTR   map[string][]string // names by address, "192.0.2.1"
	CNAME map[string]string   // the name that this one stands for
	Fail  map[string]Kind     // look-ups of "NAME", or of "TYPE NAME", that end so
	Delay time.Duration       // of each answer of a Server

	once    sync.Once
	records map[question][]wire.RR // by lower-case name; built once
	fail    map[question]Kind      // type 0: all types
	names   map[string]bool        // names that exist, those with only names below them included
	wrong   error
}

// zoneTTL is the TTL of all that a Zone says, in seconds.
const zoneTTL = 60

// find answers q; it never waits, a Timeout included.
func (z *Zone) find(ctx context.Context, q question) *answer {
	if err := ctx.Err(); err != nil {
		e := failed(q, Timeout, "the caller stopped waiting")
		e.Cause = err
		return &answer{err: e}
	}
	return resolve(ctx, z.ask, q)
}

func (z *Zone) ask(_ context.Context, q question) (*wire.Msg, *Error) {
	if err := z.build(); err != nil {
		return nil, failed(q, Failure, err.Error())
	}
	m, kind := z.reply(q)
	switch kind {
	case Failure:
		return nil, failed(q, kind, "SERVFAIL from the zone")
	case Timeout:
		return nil, failed(q, kind, "no answer in time")
	case BadName:
		return nil, failed(q, kind, "bad by the zone")
	}
	return m, nil
}

// reply returns the message that answers q, aliases within the zone followed
// as a recursive server does, and the kind of failure instead of it; NoName and
// NoData mean that there is a message.
func (z *Zone) reply(q question) (*wire.Msg, Kind) {
	m := new(wire.Msg)
	m.Response, m.RecursionAvailable = true, true
	name := q.name
	for range maxAliases + 2 { // far enough for the asker to see that it has no end
		kind, failing := z.fail[question{name, q.qtype}]
		if !failing {
			kind, failing = z.fail[question{name, 0}]
		}
		if failing && !kind.None() {
			return nil, kind
		}
		source, exists := z.source(name)
		if failing {
			exists = kind == NoData
		}
		if !exists {
			m.Rcode = wire.RcodeNameError
			break
		}
		if records := z.records[question{source, q.qtype}]; len(records) > 0 && !failing {
			m.Answer = append(m.Answer, rename(records, name)...)
			return m, NoData
		}
		aliases := z.records[question{source, wire.TypeCNAME}]
		if len(aliases) == 0 || failing {
			break
		}
		m.Answer = append(m.Answer, rename(aliases, name)...)
		name = owner(aliases[0].(*wire.CNAME).Target)
	}
	m.Ns = []wire.RR{&wire.SOA{Hdr: header(".", wire.TypeSOA), Ns: "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: zoneTTL}}
	return m, NoData
}

// source returns the name whose records answer for name: itself, or a wildcard above it (RFC 4592).
func (z *Zone) source(name string) (string, bool) {
	if z.names[name] {
		return name, true
	}
	for rest := name; rest != ""; {
		_, rest, _ = strings.Cut(rest, ".")
		if z.names["*."+rest] {
			return "*." + rest, true
		}
		if z.names[rest] {
			break
		}
	}
	return "", false
}

// rename returns copies of records that belong to name.
func rename(records []wire.RR, name string) []wire.RR {
	out := make([]wire.RR, len(records))
	for i, rr := range records {
		out[i] = wire.Copy(rr)
		out[i].Header().Name = name + "."
	}
	return out
}

func header(name string, qtype uint16) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: qtype, Class: wire.ClassINET, Ttl: zoneTTL}
}

// build turns the maps into records, once, in the order of names.
func (z *Zone) build() error {
	z.once.Do(func() {
		z.records, z.fail, z.names = map[question][]wire.RR{}, map[question]Kind{}, map[string]bool{}
		for _, part := range []struct {
			name string
			data map[string][]string
			make func(value string) (wire.RR, error)
		}{{"A", z.A, addrRecord}, {"MX", z.MX, mxRecord}, {"TXT", z.TXT, txtRecord}, {"PTR", z.PTR, ptrRecord}} {
			for _, key := range slices.Sorted(maps.Keys(part.data)) {
				for _, value := range part.data[key] {
					z.note(part.name, key, value, part.make)
				}
			}
		}
		for _, key := range slices.Sorted(maps.Keys(z.CNAME)) {
			z.note("CNAME", key, z.CNAME[key], cnameRecord)
		}
		for _, key := range slices.Sorted(maps.Keys(z.Fail)) {
			z.noteFail(key, z.Fail[key])
		}
	})
	return z.wrong
}

func (z *Zone) note(part, key, value string, make func(string) (wire.RR, error)) {
	rr, err := make(value)
	name, wrong := canonical(key)
	if part == "PTR" && err == nil {
		var addr netip.Addr
		if addr, err = netip.ParseAddr(key); err == nil {
			name = reverseName(addr.Unmap())
		}
	}
	if wrong != "" && err == nil {
		err = fmt.Errorf("%s", wrong)
	}
	if err != nil {
		z.complain(part, key, fmt.Errorf("%q: %w", value, err))
		return
	}
	rr.Header().Class, rr.Header().Ttl = wire.ClassINET, zoneTTL
	q := question{name, rr.Header().Rrtype}
	z.records[q] = append(z.records[q], rr)
	for name != "" {
		z.names[name] = true
		_, name, _ = strings.Cut(name, ".")
	}
}

func (z *Zone) noteFail(key string, kind Kind) {
	var qtype uint16
	name := key
	if word, rest, ok := strings.Cut(key, " "); ok {
		name = strings.TrimSpace(rest)
		if qtype = wire.StringToType[strings.ToUpper(word)]; qtype == 0 {
			z.complain("Fail", key, fmt.Errorf("%q is no type", word))
			return
		}
	}
	ascii, wrong := canonical(name)
	if addr, err := netip.ParseAddr(name); err == nil {
		ascii, wrong = reverseName(addr.Unmap()), ""
	}
	if wrong != "" {
		z.complain("Fail", key, fmt.Errorf("%s", wrong))
		return
	}
	z.fail[question{ascii, qtype}] = kind
}

func (z *Zone) complain(part, key string, err error) {
	if z.wrong == nil {
		z.wrong = fmt.Errorf("dns: zone: %s %q: %w", part, key, err)
	}
}

func addrRecord(value string) (wire.RR, error) {
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return nil, err
	}
	if addr.Is4() {
		return &wire.A{Hdr: header("", wire.TypeA), A: addr.AsSlice()}, nil
	}
	return &wire.AAAA{Hdr: header("", wire.TypeAAAA), AAAA: addr.AsSlice()}, nil
}

func mxRecord(value string) (wire.RR, error) {
	pref, host, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(pref, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("write PREFERENCE HOST: %w", err)
	}
	if host = strings.TrimSpace(host); host == "." {
		return &wire.MX{Hdr: header("", wire.TypeMX), Preference: uint16(n), Mx: "."}, nil
	}
	target, err := target(host)
	return &wire.MX{Hdr: header("", wire.TypeMX), Preference: uint16(n), Mx: target}, err
}

func txtRecord(value string) (wire.RR, error) {
	rr := &wire.TXT{Hdr: header("", wire.TypeTXT)}
	for part := range slices.Chunk([]byte(value), 255) {
		rr.Txt = append(rr.Txt, strings.ReplaceAll(string(part), `\`, `\\`))
	}
	if value == "" {
		rr.Txt = []string{""}
	}
	return rr, nil
}

func ptrRecord(value string) (wire.RR, error) {
	target, err := target(value)
	return &wire.PTR{Hdr: header("", wire.TypePTR), Ptr: target}, err
}

func cnameRecord(value string) (wire.RR, error) {
	target, err := target(value)
	return &wire.CNAME{Hdr: header("", wire.TypeCNAME), Target: target}, err
}

func target(name string) (string, error) {
	ascii, wrong := canonical(name)
	if wrong != "" {
		return "", fmt.Errorf("%s", wrong)
	}
	return ascii + ".", nil
}
