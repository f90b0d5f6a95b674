package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxExpanded bounds what a macro-string becomes. A name keeps its last 253 bytes
// anyhow (RFC 7208 7.3), so cutting the front of what is longer changes nothing.
const maxExpanded = 4 << 10

// piece is a part of a macro-string: literal text, or a macro.
type piece struct {
	text   string
	escape bool // the text stood as %%, %_ or %-
	letter byte // 0: text
	upper  bool // the letter was upper-case: URL-escaped
	keep   int  // labels kept from the right, 0 all
	invert bool
	delims string
}

// macros is a parsed macro-string (RFC 7208 7.1).
type macros []piece

const (
	nameLetters = "slodipvh"
	textLetters = nameLetters + "crt"
	delimiters  = ".-+,/_="
)

// parseMacros reads a macro-string; letters are the macros that it may use, and
// spaces tells whether it may hold spaces, as explanations do.
func parseMacros(s, letters string, spaces bool) (macros, error) {
	var list macros
	escaped := func(text string) { list = append(list, piece{text: text, escape: true}) }
	for s != "" {
		at := strings.IndexByte(s, '%')
		if at != 0 {
			if at < 0 {
				at = len(s)
			}
			for i := range at {
				if c := s[i]; c < ' ' || c > '~' || c == ' ' && !spaces {
					return nil, fmt.Errorf("the character %q", s[i])
				}
			}
			list = append(list, piece{text: s[:at]})
			s = s[at:]
			continue
		}
		if len(s) < 2 {
			return nil, errors.New("a % at the end")
		}
		switch s[1] {
		case '%':
			escaped("%")
		case '_':
			escaped(" ")
		case '-':
			escaped("%20")
		case '{':
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return nil, errors.New("a macro without }")
			}
			p, err := parseMacro(s[2:end], letters)
			if err != nil {
				return nil, fmt.Errorf("the macro %s: %w", printable(s[:end+1]), err)
			}
			list = append(list, p)
			s = s[end+1:]
			continue
		default:
			return nil, fmt.Errorf("%q after %%", s[1])
		}
		s = s[2:]
	}
	return list, nil
}

// parseMacro reads what stands between the braces: letter, transformers, delimiters.
func parseMacro(s, letters string) (piece, error) {
	if s == "" {
		return piece{}, errors.New("no letter")
	}
	p := piece{letter: s[0] | 0x20, upper: s[0] < 'a'}
	if strings.IndexByte(letters, p.letter) < 0 {
		return piece{}, fmt.Errorf("there is no letter %q here", s[0])
	}
	s = s[1:]
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	if n > 0 {
		keep, err := strconv.Atoi(s[:n])
		if err != nil {
			keep = maxInput // more than there can be
		}
		if keep == 0 {
			return piece{}, errors.New("the number is zero")
		}
		p.keep, s = keep, s[n:]
	}
	if s != "" && s[0]|0x20 == 'r' {
		p.invert, s = true, s[1:]
	}
	for i := range len(s) {
		if strings.IndexByte(delimiters, s[i]) < 0 {
			return piece{}, fmt.Errorf("%q is no delimiter", s[i])
		}
	}
	p.delims = s
	return p, nil
}

// validEnd tells whether a domain-spec ends as one must (RFC 7208 7.1): with a
// macro, or with a top label that has something else than digits.
func (m macros) validEnd() bool {
	if len(m) == 0 {
		return false
	}
	last := m[len(m)-1]
	if last.letter != 0 || last.escape {
		return true
	}
	text := strings.TrimSuffix(last.text, ".")
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return false
	}
	return topLabel(text[dot+1:])
}

// topLabel tells whether s is a toplabel: letters, digits and inner hyphens, not all digits.
func topLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	other := false
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
		case 'a' <= c|0x20 && c|0x20 <= 'z', c == '-':
			other = true
		default:
			return false
		}
	}
	return other
}

// errLocal says that a local part outside ASCII stands where a name is needed: a
// term with it matches nothing (RFC 8616 4).
var errLocal = errors.New("the local part is not ASCII, so that the term matches nothing")

// expand returns the text of a macro-string, domain being the one whose record
// holds it. The front of what would be longer than maxExpanded is lost.
func (e *evaluation) expand(m macros, domain string) string {
	if len(m) == 1 && m[0].letter == 0 {
		return m[0].text
	}
	var b []byte
	for _, p := range m {
		if p.letter == 0 {
			b = append(b, p.text...)
		} else {
			b = append(b, p.transform(e.value(p.letter, domain))...)
		}
		if len(b) > 2*maxExpanded {
			b = append(b[:0], b[len(b)-maxExpanded:]...)
		}
	}
	return string(b)
}

// name is expand for the DNS: without a dot at the end, and cut to the 253 bytes
// that a name may have by removing labels on its left (RFC 7208 7.3).
func (e *evaluation) name(m macros, domain string) (string, error) {
	for _, p := range m {
		if (p.letter == 's' || p.letter == 'l') && !ascii(e.local) {
			return "", errLocal
		}
	}
	s := strings.TrimSuffix(e.expand(m, domain), ".")
	for len(s) > 253 {
		cut := s[len(s)-254:]
		dot := strings.IndexByte(cut, '.')
		if dot < 0 {
			return cut, nil // one label of more than 253 bytes: no name, which the resolver says
		}
		s = cut[dot+1:]
	}
	return s, nil
}

// value is what a letter stands for (RFC 7208 7.2).
func (e *evaluation) value(letter byte, domain string) string {
	switch letter {
	case 's':
		return e.local + "@" + e.domain
	case 'l':
		return e.local
	case 'o':
		return e.domain
	case 'd':
		return domain
	case 'i':
		return dotted(e.ip)
	case 'p':
		return e.validated(domain)
	case 'v':
		if e.ip.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return e.helo
	case 'c':
		return e.ip.String()
	case 'r':
		if e.checker.Hostname == "" {
			return "unknown"
		}
		return e.checker.Hostname
	}
	return strconv.FormatInt(e.now().Unix(), 10) // t
}

// dotted is the address with a dot between its octets or nibbles.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	const hex = "0123456789ABCDEF"
	b := ip.As16()
	out := make([]byte, 0, 63)
	for _, c := range b {
		out = append(out, hex[c>>4], '.', hex[c&0xf], '.')
	}
	return string(out[:len(out)-1])
}

// transform splits a value, turns it, keeps some of it and escapes it, as the macro says.
func (p piece) transform(s string) string {
	if p.keep > 0 || p.invert || p.delims != "" {
		delims := p.delims
		if delims == "" {
			delims = "."
		}
		parts := split(s, delims)
		if p.invert {
			slices.Reverse(parts)
		}
		if p.keep > 0 && len(parts) > p.keep {
			parts = parts[len(parts)-p.keep:]
		}
		s = strings.Join(parts, ".")
	}
	if p.upper {
		s = escape(s)
	}
	return s
}

// split cuts s at each of the delimiters.
func split(s, delims string) (parts []string) {
	for {
		at := strings.IndexAny(s, delims)
		if at < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:at]), s[at+1:]
	}
}

// escape is the percent-encoding of all but the unreserved characters (RFC 3986 2.3).
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			out = append(out, c)
		default:
			out = append(out, '%', hex[c>>4], hex[c&0xf])
		}
	}
	return string(out)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
