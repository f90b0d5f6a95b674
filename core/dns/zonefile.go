package dns

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"
)

// ParseZone returns the Zone that text describes in the form of zone files (RFC
// 1035 5), names being absolute with or without a trailing dot unless $ORIGIN
// says otherwise. Records of types that a Zone doesn't hold are errors, but SOA and
// NS are passed over. A line of Postern's own makes look-ups fail:
//
//	$FAIL timeout slow.example
//	$FAIL servfail MX lame.example
//
// $INCLUDE is not followed. Errors name the line.
func ParseZone(text string) (*Zone, error) {
	z := &Zone{
		A: map[string][]string{}, MX: map[string][]string{}, TXT: map[string][]string{},
		PTR: map[string][]string{}, CNAME: map[string]string{}, Fail: map[string]Kind{},
	}
	var rest strings.Builder
	number := 0
	for line := range strings.Lines(text) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.EqualFold(fields[0], "$FAIL") {
			rest.WriteString(line)
			continue
		}
		rest.WriteByte('\n') // so that the parser counts lines as we do
		if err := z.parseFail(fields[1:]); err != nil {
			return nil, fmt.Errorf("dns: zone: line %d: %w", number, err)
		}
	}
	parser := wire.NewZoneParser(strings.NewReader(rest.String()), ".", "")
	parser.SetDefaultTTL(zoneTTL)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if err := z.add(rr); err != nil {
			return nil, fmt.Errorf("dns: zone: %w", err)
		}
	}
	if err := parser.Err(); err != nil {
		return nil, fmt.Errorf("dns: zone: %w", err)
	}
	return z, z.build()
}

func (z *Zone) parseFail(fields []string) error {
	if len(fields) < 2 || len(fields) > 3 {
		return fmt.Errorf("write $FAIL timeout|servfail|nxdomain|nodata [TYPE] NAME")
	}
	kinds := map[string]Kind{"timeout": Timeout, "servfail": Failure, "nxdomain": NoName, "nodata": NoData}
	kind, ok := kinds[strings.ToLower(fields[0])]
	if !ok {
		return fmt.Errorf("$FAIL %s: write timeout, servfail, nxdomain or nodata", fields[0])
	}
	z.Fail[strings.Join(fields[1:], " ")] = kind
	return nil
}

func (z *Zone) add(rr wire.RR) error {
	name := owner(rr.Header().Name)
	switch rr := rr.(type) {
	case *wire.A:
		z.A[name] = append(z.A[name], rr.A.String())
	case *wire.AAAA:
		z.A[name] = append(z.A[name], rr.AAAA.String())
	case *wire.MX:
		z.MX[name] = append(z.MX[name], strconv.Itoa(int(rr.Preference))+" "+rr.Mx)
	case *wire.TXT:
		z.TXT[name] = append(z.TXT[name], unescape(strings.Join(rr.Txt, "")))
	case *wire.PTR:
		addr, ok := reverseAddr(name)
		if !ok {
			return fmt.Errorf("%s: a PTR record needs the reverse name of an address", name)
		}
		z.PTR[addr.String()] = append(z.PTR[addr.String()], owner(rr.Ptr))
	case *wire.CNAME:
		z.CNAME[name] = owner(rr.Target)
	case *wire.SOA, *wire.NS:
	default:
		return fmt.Errorf("%s: records of type %s are not served here", name, wire.TypeToString[rr.Header().Rrtype])
	}
	return nil
}

// reverseAddr returns the address that a name below in-addr.arpa or ip6.arpa stands for.
func reverseAddr(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		addr, err := netip.ParseAddr(labels)
		if err != nil || !addr.Is4() {
			return netip.Addr{}, false
		}
		b := addr.As4()
		return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(labels, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, nibble := range nibbles {
		n, err := strconv.ParseUint(nibble, 16, 4)
		if err != nil {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b), true
}
