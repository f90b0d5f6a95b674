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

// Rules are connection rules in the language of tcprules (ucspi-tcp), one a line:
//
//	192.0.2.7:deny
//	192.0.2.:allow,RELAYCLIENT=""
//	10.2-3.:allow,NET="inside"
//	2001:db8::/32:deny
//	[2001:db8::7]:allow
//	=.example.net:allow,TRUST="yes"
//	:allow
//
// The first of these that exists decides: the address, =NAME of the client's
// confirmed name, the longest CIDR or dotted prefix that holds the address,
// =.SUFFIX of the name (longest first), "=" for any client with a name, and the
// empty address for everyone. Where none does, the connection is allowed. Of two
// rules for the same address the first counts. Beyond tcprules there are CIDR and
// IPv6, and a line that means nothing is an error instead of a silent hole. A
// TCPREMOTEINFO (info@address) is refused, since no ident look-up is made.
type Rules struct {
	exact  map[netip.Addr]Rule
	nets   []netRule // longest prefix first
	names  map[string]Rule
	ends   map[string]Rule // .example.net
	named  *Rule
	anyone *Rule
}

// Rule is what one line says.
type Rule struct {
	Deny bool
	Env  map[string]string
	Line int    // where it stands, 0 for the default
	Text string // the address part as written
}

type netRule struct {
	net  netip.Prefix
	rule Rule
}

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

// ParseRules reads rules. All errors come at once; Rules is nil where there is one.
func ParseRules(r io.Reader) (*Rules, []RuleError) {
	p := &ruleParser{rules: &Rules{exact: map[netip.Addr]Rule{}, names: map[string]Rule{}, ends: map[string]Rule{}}, seen: map[netip.Prefix]bool{}}
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
	slices.SortStableFunc(p.rules.nets, func(a, b netRule) int { return b.net.Bits() - a.net.Bits() })
	return p.rules, nil
}

type ruleParser struct {
	rules *Rules
	seen  map[netip.Prefix]bool
	line  int
	count int
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
	rule := Rule{Line: p.line, Text: address}
	word, rest, more := strings.Cut(rest, ",")
	switch word {
	case "allow":
	case "deny":
		rule.Deny = true
	default:
		return fmt.Errorf("%q: write allow or deny behind the colon", word)
	}
	if more {
		if rule.Env, err = parseEnv(rest); err != nil {
			return err
		}
	}
	if p.count++; p.count > maxRules {
		return fmt.Errorf("more than %d rules", maxRules)
	}
	return p.add(address, rule)
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
	return "", "", fmt.Errorf("%q has no colon: write ADDRESS:allow or ADDRESS:deny", s)
}

// parseEnv reads VAR="value",VAR=/value/: any character quotes, up to its next.
func parseEnv(s string) (map[string]string, error) {
	env := map[string]string{}
	for {
		name, rest, ok := strings.Cut(s, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t\"',") {
			return nil, fmt.Errorf("%q: write VARIABLE=\"value\" behind the comma", s)
		}
		if rest == "" {
			return nil, fmt.Errorf("%s= has no value: write %s=\"value\"", name, name)
		}
		value, after, ok := strings.Cut(rest[1:], rest[:1])
		if !ok {
			return nil, fmt.Errorf("the value of %s has no closing %q", name, rest[:1])
		}
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("the value of %s holds a NUL", name)
		}
		env[name] = value
		if after == "" {
			return env, nil
		}
		if after[0] != ',' || after == "," {
			return nil, fmt.Errorf("%q behind the value of %s: write a comma and the next variable, or nothing", after, name)
		}
		s = after[1:]
	}
}

func (p *ruleParser) add(address string, rule Rule) error {
	r := p.rules
	switch {
	case address == "":
		if r.anyone == nil {
			r.anyone = &rule
		}
	case address == "=":
		if r.named == nil {
			r.named = &rule
		}
	case strings.HasPrefix(address, "=."):
		putFirst(r.ends, strings.ToLower(address[1:]), rule)
	case address[0] == '=':
		putFirst(r.names, strings.ToLower(address[1:]), rule)
	case strings.Contains(address, "@"):
		return fmt.Errorf("%q: no ident look-up is made, so info@address never matches; write the address alone", address)
	default:
		return p.addAddress(address, rule)
	}
	return nil
}

func putFirst[K comparable](m map[K]Rule, k K, r Rule) {
	if _, ok := m[k]; !ok {
		m[k] = r
	}
}

func (p *ruleParser) addAddress(address string, rule Rule) error {
	bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil && ip.Zone() == "" {
		putFirst(p.rules.exact, ip.Unmap(), rule)
		return nil
	}
	if strings.Contains(bare, "/") {
		net, err := netip.ParsePrefix(bare)
		if err != nil {
			return fmt.Errorf("%q is no network: write an address, a slash and the prefix length", address)
		}
		if net.Masked().Addr() != net.Addr() {
			return fmt.Errorf("%q has bits behind its prefix: write %s", address, net.Masked())
		}
		p.addNet(net, rule)
		return nil
	}
	nets, addrs, err := dotted(address)
	if err != nil {
		return err
	}
	for _, n := range nets {
		p.addNet(n, rule)
	}
	for _, a := range addrs {
		putFirst(p.rules.exact, a, rule)
	}
	return nil
}

func (p *ruleParser) addNet(n netip.Prefix, rule Rule) {
	if !p.seen[n] {
		p.seen[n] = true
		p.rules.nets = append(p.rules.nets, netRule{n, rule})
	}
}

// dotted expands 192.0.2., 10.2-3. and 192.0.2.37-53: numbers of 0 to 255, one
// of which may be a range; with a final dot it is a prefix.
func dotted(s string) (nets []netip.Prefix, addrs []netip.Addr, err error) {
	bad := fmt.Errorf("%q is no address: write 192.0.2.7, 192.0.2., 10.2-3., 192.0.2.0/24, 2001:db8::/32, =host.name, or nothing for everyone", s)
	trimmed, prefix := strings.CutSuffix(s, ".")
	parts := strings.Split(trimmed, ".")
	if len(parts) > 4 || prefix == (len(parts) == 4) {
		return nil, nil, bad
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
			return nil, nil, bad
		}
		low[i], high[i] = int(a), int(b)
	}
	if ranges > 1 {
		return nil, nil, bad
	}
	at := slices.IndexFunc(parts, func(p string) bool { return strings.Contains(p, "-") })
	at = max(at, 0)
	for n := low[at]; n <= high[at]; n++ {
		var octets [4]byte
		for i := range parts {
			octets[i] = byte(low[i])
		}
		octets[at] = byte(n)
		if prefix {
			nets = append(nets, netip.PrefixFrom(netip.AddrFrom4(octets), 8*len(parts)))
		} else {
			addrs = append(addrs, netip.AddrFrom4(octets))
		}
	}
	return nets, addrs, nil
}

// Names tells whether a rule depends on the client's name, so that the name must
// be known before Find.
func (r *Rules) Names() bool { return len(r.names) > 0 || len(r.ends) > 0 || r.named != nil }

// Find is the rule for a client: its address, and its confirmed name or "".
func (r *Rules) Find(ip netip.Addr, name string) Rule {
	ip = ip.Unmap()
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if rule, ok := r.exact[ip]; ok {
		return rule
	}
	if rule, ok := r.names[name]; ok && name != "" {
		return rule
	}
	for i := range r.nets {
		if r.nets[i].net.Contains(ip) {
			return r.nets[i].rule
		}
	}
	for rest := name; rest != ""; {
		i := strings.IndexByte(rest[1:], '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		if rule, ok := r.ends[rest]; ok {
			return rule
		}
	}
	if name != "" && r.named != nil {
		return *r.named
	}
	if r.anyone != nil {
		return *r.anyone
	}
	return Rule{}
}

// Len is the number of rules, for `postern check`.
func (r *Rules) Len() int {
	n := len(r.exact) + len(r.nets) + len(r.names) + len(r.ends)
	for _, one := range []*Rule{r.named, r.anyone} {
		if one != nil {
			n++
		}
	}
	return n
}

// Variables lists the names that the rules set, in order.
func (r *Rules) Variables() []string {
	set := map[string]bool{}
	add := func(rule Rule) {
		for k := range rule.Env {
			set[k] = true
		}
	}
	for _, rule := range r.exact {
		add(rule)
	}
	for _, n := range r.nets {
		add(n.rule)
	}
	for _, m := range []map[string]Rule{r.names, r.ends} {
		for _, rule := range m {
			add(rule)
		}
	}
	for _, one := range []*Rule{r.named, r.anyone} {
		if one != nil {
			add(*one)
		}
	}
	return slices.Sorted(maps.Keys(set))
}
