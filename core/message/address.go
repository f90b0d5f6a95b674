package message

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Bounds of a path. RFC 5321 section 4.5.3.1 asks for at least 64 octets of
// local part and 255 of domain; VERP and SRS addresses of today need more than
// 64, so the local part may have 256.
const (
	MaxLocal  = 256
	MaxDomain = 255
)

// Address is a mailbox of the envelope (RFC 5321 section 4.1.2). The zero value
// is the null reverse-path <>. Local is unquoted and keeps its case; Domain is
// lower-case, or an address literal with its brackets, such as [192.0.2.1].
type Address struct{ Local, Domain string }

// What is wrong with an address; the texts are fit to be sent to a client.
var (
	ErrSyntax    = errors.New("syntax error in the address")
	ErrNoDomain  = errors.New("the address needs a domain")
	ErrTooLong   = errors.New("the address is too long")
	ErrBadDomain = errors.New("the domain is not a valid host name or address literal")
	ErrNoBracket = errors.New("the address must stand in angle brackets")
)

// IsNull tells whether a is the null reverse-path.
func (a Address) IsNull() bool { return a.Local == "" && a.Domain == "" }

// String is the address as it stands in SMTP between the brackets, the local
// part quoted where it must be; "" for the null path.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	if a.IsVERP() {
		return a.Owner().String() + verpSuffix
	}
	local := a.Local
	if !isDotString(local) {
		local = quoteLocal(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// Path is String in angle brackets: "<>" for the null path.
func (a Address) Path() string { return "<" + a.String() + ">" }

// IsASCII tells whether the address can be sent without SMTPUTF8 (RFC 6531).
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// IsPostmaster tells whether the local part is postmaster, which has no case
// (RFC 5321 section 4.5.1).
func (a Address) IsPostmaster() bool { return strings.EqualFold(a.Local, "postmaster") }

// Literal returns the IP address of an address literal domain.
func (a Address) Literal() (netip.Addr, bool) { return ParseLiteral(a.Domain) }

// ParseAddress reads user@domain, the local part quoted or not. An empty text is
// the null path. The domain may be missing only behind postmaster.
func ParseAddress(s string) (Address, error) {
	if s == "" {
		return Address{}, nil
	}
	if len(s) > 2*(MaxLocal+MaxDomain) { // with every octet of the local part quoted
		return Address{}, ErrTooLong
	}
	a, rest, err := parseMailbox(s)
	if err == nil && rest != "" {
		err = ErrSyntax
	}
	if err != nil {
		return Address{}, err
	}
	return a, nil
}

// ParsePath reads a path in angle brackets at the start of s, as it follows
// MAIL FROM: and RCPT TO:, and returns the rest of s behind it. A source route
// (RFC 5321 section 4.1.1.3) is checked and dropped. Non-ASCII text must be
// valid UTF-8; whether it is allowed is the caller's to say (IsASCII). The null
// path gives the zero Address.
func ParsePath(s string) (a Address, rest string, err error) {
	if s == "" || s[0] != '<' {
		return a, s, ErrNoBracket
	}
	if !utf8.ValidString(s) {
		return a, s, ErrSyntax
	}
	s = s[1:]
	if strings.HasPrefix(s, ">") {
		return a, s[1:], nil
	}
	if strings.HasPrefix(s, "@") {
		if s, err = dropRoute(s); err != nil {
			return a, s, err
		}
	}
	a, s, err = parseMailbox(s)
	if err != nil {
		return Address{}, s, err
	}
	if !strings.HasPrefix(s, ">") {
		return Address{}, s, ErrSyntax
	}
	return a, s[1:], nil
}

// dropRoute skips "@one,@two:" in front of a mailbox.
func dropRoute(s string) (string, error) {
	for {
		end := strings.IndexAny(s, ",:")
		if end < 2 || s[0] != '@' {
			return s, ErrSyntax
		}
		if _, err := ParseDomain(s[1:end]); err != nil {
			return s, err
		}
		last := s[end] == ':'
		s = s[end+1:]
		if last {
			return s, nil
		}
	}
}

// parseMailbox reads a mailbox and leaves what follows its domain.
func parseMailbox(s string) (a Address, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		a.Local, rest, err = parseQuoted(s)
	} else {
		a.Local, rest, err = parseDotString(s)
	}
	if err != nil {
		return a, s, err
	}
	if len(a.Local) > MaxLocal {
		return a, s, ErrTooLong
	}
	if !strings.HasPrefix(rest, "@") {
		if a.IsPostmaster() {
			return a, rest, nil
		}
		return a, rest, ErrNoDomain
	}
	rest = rest[1:]
	end := 0
	if strings.HasPrefix(rest, "[") {
		end = strings.IndexByte(rest, ']') + 1
	} else {
		for end < len(rest) && isDomainByte(rest[end]) {
			end++
		}
	}
	a.Domain, err = ParseDomain(rest[:end])
	return a, rest[end:], err
}

func parseDotString(s string) (local, rest string, err error) {
	end := 0
	for end < len(s) && (isAtomByte(s[end]) || s[end] == '.') {
		end++
	}
	if !isDotString(s[:end]) {
		return "", s, ErrSyntax
	}
	return s[:end], s[end:], nil
}

func parseQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 {
				return "", s, ErrSyntax
			}
			return b.String(), s[i+1:], nil
		case c < ' ' || c == 0x7f:
			return "", s, ErrSyntax
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", s, ErrSyntax
			}
			c = s[i]
		}
		b.WriteByte(c)
	}
	return "", s, ErrSyntax
}

// ParseDomain checks a domain name or an address literal and returns it in
// lower case. A trailing dot, an empty label, a label of over 63 octets and
// characters that no host name has are refused; an underscore is let pass,
// since real senders use it. A label with other than ASCII letters is bounded by
// the whole name alone: whether its A-label fits is for those to say who make
// one (RFC 5890 section 2.3.2.1).
func ParseDomain(s string) (string, error) {
	if s == "" {
		return "", ErrNoDomain
	}
	if len(s) > MaxDomain {
		return "", ErrTooLong
	}
	if s[0] == '[' {
		addr, ok := ParseLiteral(s)
		if !ok {
			return "", ErrBadDomain
		}
		return Literal(addr), nil
	}
	label := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if !isDomainByte(s[i]) {
				return "", ErrBadDomain
			}
			continue
		}
		if n := i - label; n == 0 || n > 63 && isASCII(s[label:i]) || s[label] == '-' || s[i-1] == '-' {
			return "", ErrBadDomain
		}
		label = i + 1
	}
	return lowerASCII(s), nil
}

// ParseLiteral reads an address literal with its brackets (RFC 5321 section
// 4.1.3): [192.0.2.1] or [IPv6:2001:db8::1]. Zones and IPv4-mapped forms of a
// zone are refused.
func ParseLiteral(s string) (netip.Addr, bool) {
	if len(s) < 3 || s[0] != '[' || s[len(s)-1] != ']' {
		return netip.Addr{}, false
	}
	s = s[1 : len(s)-1]
	six := len(s) > 5 && strings.EqualFold(s[:5], "ipv6:")
	if six {
		s = s[5:]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || addr.Is4() == six {
		return netip.Addr{}, false
	}
	return addr, true
}

// Literal is the address literal of addr, with its brackets.
func Literal(addr netip.Addr) string {
	if addr.Is4() {
		return "[" + addr.String() + "]"
	}
	return "[IPv6:" + addr.WithZone("").String() + "]"
}

// isDotString tells whether s may stand unquoted as a local part (RFC 5321
// section 4.1.2, with the UTF-8 of RFC 6531).
func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if !isAtomByte(s[i]) && s[i] != '.' {
			return false
		}
	}
	return true
}

func quoteLocal(s string) string {
	b := make([]byte, 0, len(s)+8)
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(append(b, '"'))
}

// isAtomByte: atext of RFC 5322 section 3.2.3, and the bytes of UTF-8.
func isAtomByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isDomainByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' || c == '_' || c >= 0x80
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// lowerASCII is strings.ToLower for ASCII alone, without a copy where there is
// nothing to do.
func lowerASCII(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
