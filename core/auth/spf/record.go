package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// kind is what a mechanism does.
type kind uint8

const (
	all kind = iota
	include
	address
	exchangers
	pointer
	ip4
	ip6
	exists
)

// mechanism is how a mechanism is written: its name, whether a domain may or must
// follow, and whether prefix lengths may.
type mechanism struct {
	name     string
	kind     kind
	domain   bool // ":" and a domain-spec may stand
	required bool // and must
	lengths  bool
}

// mechanisms are those of RFC 7208 5.
var mechanisms = [...]mechanism{
	{name: "all", kind: all},
	{name: "include", kind: include, domain: true, required: true},
	{name: "a", kind: address, domain: true, lengths: true},
	{name: "mx", kind: exchangers, domain: true, lengths: true},
	{name: "ptr", kind: pointer, domain: true},
	{name: "ip4", kind: ip4},
	{name: "ip6", kind: ip6},
	{name: "exists", kind: exists, domain: true, required: true},
}

// directive is a mechanism with its qualifier (RFC 7208 4.6.1).
type directive struct {
	text    string // as published
	verdict Verdict
	kind    kind
	domain  macros // nil: the domain whose record it is
	net     netip.Prefix
	bits4   int // prefix lengths of a and mx
	bits6   int
}

// Record is a parsed SPF record. It is not changed once it is there.
type Record struct {
	directives []directive
	redirect   macros // nil: none
	explain    macros // nil: none
	redirectAs string // the modifier as published
}

// ParseRecord reads a record, which begins with "v=spf1" (RFC 7208 4.6.1). An error
// is a mistake in it, anywhere: the whole record is then void.
func ParseRecord(s string) (*Record, error) {
	rest, ok := cutVersion(s)
	if !ok {
		return nil, errors.New("it does not begin with v=spf1")
	}
	r := &Record{}
	for term := range strings.SplitSeq(rest, " ") {
		if term == "" {
			continue
		}
		if err := r.term(term); err != nil {
			return nil, fmt.Errorf("%s: %w", printable(term), err)
		}
	}
	return r, nil
}

// cutVersion returns what follows "v=spf1", which a space or the end must (RFC 7208 4.5).
func cutVersion(s string) (rest string, ok bool) {
	const version = "v=spf1"
	if len(s) < len(version) || !strings.EqualFold(s[:len(version)], version) {
		return "", false
	}
	rest = s[len(version):]
	return rest, rest == "" || rest[0] == ' '
}

// term reads one term. A name before "=" is a modifier's, before ":" or "/" a mechanism's.
func (r *Record) term(s string) error {
	n := 0
	for n < len(s) && (alpha(s[n]) || n > 0 && (digit(s[n]) || strings.IndexByte("-_.", s[n]) >= 0)) {
		n++
	}
	if n > 0 && n < len(s) && s[n] == '=' {
		return r.modifier(s, strings.ToLower(s[:n]), s[n+1:])
	}
	d, err := parseDirective(s)
	if err != nil {
		return err
	}
	r.directives = append(r.directives, d)
	return nil
}

func (r *Record) modifier(text, name, value string) error {
	switch name {
	case "redirect", "exp":
		m, err := domainSpec(value)
		if err != nil {
			return err
		}
		into := &r.redirect
		if name == "exp" {
			into = &r.explain
		} else {
			r.redirectAs = text
		}
		if *into != nil {
			return errors.New("it stands twice") // RFC 7208 6
		}
		*into = m
		return nil
	}
	_, err := parseMacros(value, textLetters, false)
	return err
}

func parseDirective(s string) (directive, error) {
	d := directive{text: s, verdict: Pass, bits4: 32, bits6: 128}
	rest := s
	switch s[0] {
	case '+', '-', '?', '~':
		d.verdict = map[byte]Verdict{'+': Pass, '-': Fail, '?': Neutral, '~': SoftFail}[s[0]]
		rest = s[1:]
	}
	n := 0
	for n < len(rest) && rest[n] != ':' && rest[n] != '/' {
		n++
	}
	name, rest := rest[:n], rest[n:]
	for _, m := range mechanisms {
		if strings.EqualFold(m.name, name) {
			d.kind = m.kind
			return d, d.arguments(m, rest)
		}
	}
	if name == "" {
		return d, errors.New("no mechanism")
	}
	return d, fmt.Errorf("there is no mechanism %s", printable(name))
}

// arguments reads what follows the name of a mechanism.
func (d *directive) arguments(m mechanism, s string) (err error) {
	if m.kind == ip4 || m.kind == ip6 {
		d.net, err = network(m.kind, s)
		return err
	}
	if m.lengths {
		if s, err = d.lengths(s); err != nil {
			return err
		}
	}
	spec, has := strings.CutPrefix(s, ":")
	switch {
	case !has && s != "":
		return fmt.Errorf("%s after %s", printable(s), m.name)
	case has && !m.domain:
		return fmt.Errorf("%s takes nothing", m.name)
	case !has && m.required:
		return fmt.Errorf("%s needs a domain", m.name)
	case has:
		d.domain, err = domainSpec(spec)
	}
	return err
}

// lengths takes the prefix lengths off the end of s: "/24", "//64" or "/24//64".
func (d *directive) lengths(s string) (rest string, err error) {
	// The slash may also be a character of the domain, which the end of it then shows.
	if at := strings.LastIndex(s, "//"); at >= 0 && digits(s[at+2:]) {
		if d.bits6, err = length(s[at+2:], 128); err != nil {
			return "", err
		}
		s = s[:at]
	}
	if at := strings.LastIndexByte(s, '/'); at >= 0 && digits(s[at+1:]) {
		if d.bits4, err = length(s[at+1:], 32); err != nil {
			return "", err
		}
		s = s[:at]
	}
	return s, nil
}

// length reads a prefix length: no leading zero, not above limit.
func length(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n > limit || len(s) > 1 && s[0] == '0' || !digits(s) {
		return 0, fmt.Errorf("the prefix length %s", printable(s))
	}
	return n, nil
}

// network reads what follows ip4 and ip6.
func network(k kind, s string) (netip.Prefix, error) {
	text, ok := strings.CutPrefix(s, ":")
	if !ok {
		return netip.Prefix{}, errors.New("an address must follow")
	}
	text, bits, has := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(text)
	limit := 32
	if k == ip6 {
		limit = 128
	}
	if err != nil || addr.Is4() != (k == ip4) || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%s is no such address", printable(text))
	}
	n := limit
	if has {
		if n, err = length(bits, limit); err != nil {
			return netip.Prefix{}, err
		}
	}
	return netip.PrefixFrom(addr, n).Masked(), nil
}

// domainSpec reads a domain-spec (RFC 7208 7.1).
func domainSpec(s string) (macros, error) {
	m, err := parseMacros(s, nameLetters, false)
	if err != nil {
		return nil, err
	}
	if !m.validEnd() {
		return nil, fmt.Errorf("%s is no domain", printable(s))
	}
	return m, nil
}

func alpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

func digits(s string) bool {
	for i := range len(s) {
		if !digit(s[i]) {
			return false
		}
	}
	return s != ""
}

// printable is a piece of a record for a text: short, and in quotes where it holds
// what a terminal or a log should not see.
func printable(s string) string {
	const most = 100
	cut := s
	if len(cut) > most {
		cut = cut[:most] + "..."
	}
	for i := range len(cut) {
		if c := cut[i]; c <= ' ' || c > '~' {
			return strconv.Quote(cut)
		}
	}
	if cut == "" {
		return `""`
	}
	return cut
}
