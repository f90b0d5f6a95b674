package dns

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // RFC 1035 2.3.4: 255 octets on the wire
	maxLabel = 63
)

// canonical returns name as it is asked for: A-labels, lower case, no trailing
// dot. Any printable ASCII may stand in a label, as SPF macros put local parts and
// spaces there, and RFC 2317 zones '/'; a backslash may not, because it would be
// read as an escape. The text returned says what is wrong, empty if nothing is.
func canonical(name string) (ascii, wrong string) {
	name = strings.TrimSuffix(name, ".")
	if !isASCII(name) {
		// Nothing longer can come out as a legal name; converting costs more than linear time.
		if len(name) > 4*maxName {
			return "", "name is too long"
		}
		// Labels keep underscores, which the strict profiles refuse.
		p := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))
		converted, err := p.ToASCII(name)
		if err != nil {
			return "", "not an internationalised domain name"
		}
		name = strings.TrimSuffix(converted, ".")
	}
	switch {
	case name == "":
		return "", "name is empty"
	case len(name) > maxName:
		return "", "name is too long"
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return "", "name has an empty label"
		case len(label) > maxLabel:
			return "", "name has a label of more than 63 characters"
		}
		for i := range len(label) {
			if c := label[i]; c < ' ' || c >= 0x7f || c == '\\' {
				return "", "name has a character that no domain name has"
			}
		}
	}
	return strings.ToLower(name), ""
}

// canonicalHost is canonical for names that should have addresses or mail
// exchangers: an address is not such a name, and no server need be asked.
func canonicalHost(name string) (ascii, wrong string) {
	ascii, wrong = canonical(name)
	if wrong != "" {
		return "", wrong
	}
	if isAddress(ascii) {
		return "", "an address, not a name"
	}
	return ascii, ""
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// owner returns a name from a message in the form in which names are compared and
// asked for: characters that the form of zone files escapes stand for themselves, but
// for dots inside labels and backslashes.
func owner(wireName string) string {
	name := strings.ToLower(strings.TrimSuffix(wireName, "."))
	if !strings.Contains(name, `\`) {
		return name
	}
	out := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+1 < len(name) {
			if c := name[i+1]; c != '.' && c != '\\' && !digit(c) {
				continue
			}
			out = append(out, name[i])
			i++
		}
		out = append(out, name[i])
	}
	return string(out)
}

// hostname returns a host name from a record, or false where it is none: such
// names reach logs, header fields and replies, so only letters, digits,
// hyphens and underscores pass, and what more says.
func hostname(wireName, more string) (string, bool) {
	name := owner(wireName)
	if name == "" || len(name) > maxName {
		return "", false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', strings.IndexByte(more, c) >= 0:
		default:
			return "", false
		}
	}
	return name, true
}

// local tells whether name is localhost or below it: answered here (RFC 6761 6.3).
func local(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// reversed returns the labels of addr as reverse zones and block lists name
// them: octets or nibbles, last first, without a suffix.
func reversed(addr netip.Addr) string {
	const hex = "0123456789abcdef"
	if addr.Is4() {
		b := addr.As4()
		return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}).String()
	}
	b := addr.As16()
	out := make([]byte, 0, 63)
	for i := len(b) - 1; i >= 0; i-- {
		out = append(out, hex[b[i]&0xf], '.', hex[b[i]>>4], '.')
	}
	return string(out[:len(out)-1])
}

// reverseName returns the name whose PTR records name addr.
func reverseName(addr netip.Addr) string {
	if addr.Is4() {
		return reversed(addr) + ".in-addr.arpa"
	}
	return reversed(addr) + ".ip6.arpa"
}

// unescape returns the bytes of s, which is in the form of zone files: \DDD is
// an octet in decimal, \X is X (RFC 1035 5.1).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		if i+3 < len(s) && digit(s[i+1]) && digit(s[i+2]) && digit(s[i+3]) {
			out = append(out, (s[i+1]-'0')*100+(s[i+2]-'0')*10+s[i+3]-'0')
			i += 3
			continue
		}
		i++
		out = append(out, s[i])
	}
	return string(out)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// Canonical returns name as it is asked for and compared: A-labels, lower case, no
// trailing dot. The error is an *Error of kind BadName; it tells why the name is no
// domain name.
func Canonical(name string) (string, error) {
	ascii, wrong := canonical(name)
	if wrong != "" {
		return "", &Error{Kind: BadName, Name: name[:min(len(name), maxName)], Type: "name", Text: wrong}
	}
	return ascii, nil
}
