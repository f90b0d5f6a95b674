package gate

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a rules file.
const (
	maxRuleLine = 4096
	maxRules    = 1 << 20
)

// RuleError is one line that can't be used.
type RuleError struct {
	Line int
	Text string
}

func (e RuleError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Ident tells whether a reader of rules asks clients' ident servers (RFC 1413).
type Ident bool

// Who asks no ident server can have no rule for info@address: it would never match.
const (
	WithoutIdent Ident = false
	WithIdent    Ident = true
)

// ParseRules reads rules for those who ask no ident server. All errors come at once;
// Rules is nil where there is one.
func ParseRules(r io.Reader) (*Rules, []RuleError) { return ParseRulesFor(r, WithoutIdent) }

// ParseRulesFor reads rules as ParseRules does.
func ParseRulesFor(r io.Reader, ident Ident) (*Rules, []RuleError) {
	p := &ruleParser{ident: ident}
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, maxRuleLine), maxRuleLine)
	for scan.Scan() {
		p.line++
		if err := p.parse(strings.TrimRight(scan.Text(), " \t\r")); err != nil {
			p.errs = append(p.errs, RuleError{p.line, err.Error()})
		}
	}
	if err := scan.Err(); err != nil {
		p.errs = append(p.errs, RuleError{p.line + 1, fmt.Sprintf("can't be read: %v; a line has at most %d characters", err, maxRuleLine)})
	}
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return newRules(p.list), nil
}

// newRules makes the tables of a list.
func newRules(list []Rule) *Rules {
	r := &Rules{
		list: list, infos: map[string]*Rule{}, exact: map[netip.Addr]*Rule{}, nets: map[netip.Prefix]*Rule{},
		names: map[string]*Rule{}, ends: map[string]*Rule{},
	}
	four, six := map[int]bool{}, map[int]bool{}
	for i := range list {
		rule := &list[i]
		switch s := rule.Text; {
		case rule.net.IsValid() && rule.net.IsSingleIP() && !strings.Contains(s, "/"):
			putFirst(r.exact, rule.net.Addr(), rule)
		case rule.net.IsValid():
			putFirst(r.nets, rule.net, rule)
			if rule.net.Addr().Is4() {
				four[rule.net.Bits()] = true
			} else {
				six[rule.net.Bits()] = true
			}
		case s == "":
			r.anyone = first(r.anyone, rule)
		case s == "=":
			r.named = first(r.named, rule)
		case strings.Contains(s, "@"):
			putFirst(r.infos, s, rule)
		case strings.HasPrefix(s, "=."):
			putFirst(r.ends, s[1:], rule)
		default:
			putFirst(r.names, s[1:], rule)
		}
	}
	longest := func(set map[int]bool) []int {
		bits := slices.Sorted(maps.Keys(set))
		slices.Reverse(bits)
		return bits
	}
	r.bits4, r.bits6 = longest(four), longest(six)
	return r
}

func first(was, now *Rule) *Rule {
	if was != nil {
		return was
	}
	return now
}

func putFirst[K comparable](m map[K]*Rule, k K, r *Rule) {
	if _, ok := m[k]; !ok {
		m[k] = r
	}
}

type ruleParser struct {
	ident Ident
	list  []Rule
	line  int
	errs  []RuleError
}

func (p *ruleParser) parse(s string) error {
	if s == "" || s[0] == '#' {
		return nil
	}
	address, rest, err := splitRule(s)
	if err != nil {
		return err
	}
	rule := Rule{Line: p.line}
	word, rest, more := strings.Cut(rest, ",")
	switch word {
	case "allow":
	case "deny":
		rule.Deny = true
	default:
		return fmt.Errorf("%.80q: write allow or deny behind the colon", word)
	}
	if more {
		if rule.Vars, err = parseEnv(rest); err != nil {
			return err
		}
		rule.Env = environment(rule.Vars)
	}
	return p.add(address, rule)
}

// environment is the map of variables; the last one of a name counts.
func environment(vars []string) map[string]string {
	env := make(map[string]string, len(vars))
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// splitRule parts the address from what follows: at the last colon before allow
// or deny, since an IPv6 address has colons of its own.
func splitRule(s string) (address, rest string, err error) {
	for i := 0; i < len(s); i++ {
		if s[i] != ':' {
			continue
		}
		word, _, _ := strings.Cut(s[i+1:], ",")
		if word == "allow" || word == "deny" {
			return s[:i], s[i+1:], nil
		}
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:], nil
	}
	return "", "", fmt.Errorf("%.80q has no colon: write ADDRESS:allow or ADDRESS:deny", s)
}

// parseEnv reads VAR="value",VAR=/value/: any character quotes, up to its next.
func parseEnv(s string) ([]string, error) {
	var vars []string
	for {
		name, rest, ok := strings.Cut(s, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\"',") {
			return nil, fmt.Errorf("%.80q: write VARIABLE=\"value\" behind the comma", s)
		}
		if rest == "" {
			return nil, fmt.Errorf("%s= has no value: write %s=\"value\"", name, name)
		}
		value, after, ok := strings.Cut(rest[1:], rest[:1])
		if !ok {
			return nil, fmt.Errorf("the value of %.80s has no closing %q", name, rest[:1])
		}
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("the value of %s holds a NUL", name)
		}
		vars = append(vars, name+"="+value)
		if after == "" {
			return vars, nil
		}
		if after[0] != ',' || after == "," {
			return nil, fmt.Errorf("%.80q behind the value of %.80s: write a comma and the next variable, or nothing", after, name)
		}
		s = after[1:]
	}
}

func (p *ruleParser) add(address string, rule Rule) error {
	info, where, isInfo := cutInfo(address)
	switch {
	case isInfo && !bool(p.ident):
		return fmt.Errorf("%q: no ident look-up is made, so info@address never matches; write the address alone", address)
	case isInfo:
		return p.addInfo(address, info, where, rule)
	case address == "", address[0] == '=':
		return p.put(strings.ToLower(address), netip.Prefix{}, rule)
	}
	nets, err := networks(address)
	if err != nil {
		return err
	}
	for _, n := range nets {
		if err := p.put(n.text, n.net, rule); err != nil {
			return err
		}
	}
	return nil
}

// cutInfo parts info@address at its last @.
func cutInfo(address string) (info, where string, ok bool) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return "", address, false
	}
	return address[:i], address[i+1:], true
}

// addInfo takes info@address and info@=name, which are looked up as a whole: no
// network behind the @ would ever match.
func (p *ruleParser) addInfo(address, info, where string, rule Rule) error {
	if len(where) > 1 && where[0] == '=' && where[1] != '.' {
		return p.put(info+"@"+strings.ToLower(where), netip.Prefix{}, rule)
	}
	nets, err := networks(where)
	if err != nil {
		return err
	}
	for _, n := range nets {
		if !n.net.IsSingleIP() || strings.Contains(n.text, "/") {
			return fmt.Errorf("%q never matches: behind info@ write a whole address or =host.name", address)
		}
		if err := p.put(info+"@"+n.text, netip.Prefix{}, rule); err != nil {
			return err
		}
	}
	return nil
}

func (p *ruleParser) put(text string, net netip.Prefix, rule Rule) error {
	if len(p.list) >= maxRules {
		return fmt.Errorf("more than %d rules", maxRules)
	}
	rule.Text, rule.net = text, net
	p.list = append(p.list, rule)
	return nil
}

// network is an address or a network, with the text of its rule: 192.0.2.7, 192.0.2.,
// 192.0.2.0/25.
type network struct {
	text string
	net  netip.Prefix
}

// networks are what the address part of a rule stands for.
func networks(address string) ([]network, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return []network{{ip.String(), netip.PrefixFrom(ip, ip.BitLen())}}, nil
	}
	if strings.Contains(bare, "/") {
		net, err := netip.ParsePrefix(bare)
		if err != nil {
			return nil, fmt.Errorf("%q is no network: write an address, a slash and the prefix length", address)
		}
		if net.Masked().Addr() != net.Addr() {
			return nil, fmt.Errorf("%q has bits behind its prefix: write %s", address, net.Masked())
		}
		if net.Addr().Is4In6() { // clients of mapped addresses are of IPv4
			net = netip.PrefixFrom(net.Addr().Unmap(), max(net.Bits()-96, 0))
		}
		return []network{{net.String(), net}}, nil
	}
	return dotted(address)
}

// dotted expands 192.0.2., 10.2-3. and 192.0.2.37-53: numbers of 0 to 255, one
// of which may be a range; with a final dot it is a prefix.
func dotted(s string) (nets []network, err error) {
	bad := fmt.Errorf("%.80q is no address: write 192.0.2.7, 192.0.2., 10.2-3., 192.0.2.0/24, 2001:db8::/32, =host.name, or nothing for everyone", s)
	trimmed, prefix := strings.CutSuffix(s, ".")
	parts := strings.Split(trimmed, ".")
	if len(parts) > 4 || prefix == (len(parts) == 4) {
		return nil, bad
	}
	var low, high [4]int
	ranges := 0
	for i, part := range parts {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		} else {
			ranges++
		}
		a, errA := strconv.ParseUint(from, 10, 8)
		b, errB := strconv.ParseUint(to, 10, 8)
		if errA != nil || errB != nil || a > b {
			return nil, bad
		}
		low[i], high[i] = int(a), int(b)
	}
	if ranges > 1 {
		return nil, bad
	}
	at := slices.IndexFunc(parts, func(p string) bool { return strings.Contains(p, "-") })
	at = max(at, 0)
	for n := low[at]; n <= high[at]; n++ {
		var octets [4]byte
		for i := range parts {
			octets[i] = byte(low[i])
		}
		octets[at] = byte(n)
		ip := netip.AddrFrom4(octets)
		if !prefix {
			nets = append(nets, network{ip.String(), netip.PrefixFrom(ip, 32)})
			continue
		}
		nets = append(nets, network{prefixText(ip, len(parts)), netip.PrefixFrom(ip, 8*len(parts))})
	}
	return nets, nil
}

// prefixText is the first octets of an address, each with a dot behind it.
func prefixText(ip netip.Addr, octets int) string {
	b := ip.As4()
	text := ""
	for _, n := range b[:octets] {
		text += strconv.Itoa(int(n)) + "."
	}
	return text
}
