package gate

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
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
//	joe@192.0.2.9:allow
//	:allow
//
// The first of these that exists decides: INFO@ADDRESS and INFO@=NAME (of what the
// client's ident server says, see Ident), the address, =NAME of the client's
// confirmed name, the longest CIDR or dotted prefix that holds the address,
// =.SUFFIX of the name (longest first), "=" for any client with a name, and the
// empty address for everyone. Where none does, the connection is allowed. Of two
// rules for the same address the first counts. Beyond tcprules there are CIDR and
// IPv6, and a line that means nothing is an error instead of a silent hole.
type Rules struct {
	list   []Rule // in the order of the file, ranges expanded
	infos  map[string]*Rule
	exact  map[netip.Addr]*Rule
	nets   map[netip.Prefix]*Rule
	bits4  []int // lengths of the prefixes that there are, longest first
	bits6  []int
	names  map[string]*Rule
	ends   map[string]*Rule // .example.net
	named  *Rule
	anyone *Rule
}

// Rule is what one line says.
type Rule struct {
	Deny bool
	Env  map[string]string
	Vars []string // NAME=value in the order of the line, also those given twice
	Line int      // where it stands, 0 for the default and in compiled rules
	Text string   // the address that it is for; of a range, one of those that it stands for

	net netip.Prefix // where it is for a network, or an address
}

// Client is who rules are asked about.
type Client struct {
	IP   netip.Addr
	Name string // confirmed, or ""
	Info string // what its ident server says, or ""
}

// Names tells whether a rule depends on the client's name, so that the name must
// be known before Find.
func (r *Rules) Names() bool {
	return len(r.names) > 0 || len(r.ends) > 0 || r.named != nil
}

// Find is the rule for a client: its address, and its confirmed name or "".
func (r *Rules) Find(ip netip.Addr, name string) Rule {
	rule, _ := r.FindClient(Client{IP: ip, Name: name})
	return rule
}

// FindClient is the rule for a client; false where none is for it, so that it is
// allowed.
func (r *Rules) FindClient(c Client) (Rule, bool) {
	if rule := r.find(c); rule != nil {
		return *rule, true
	}
	return Rule{}, false
}

func (r *Rules) find(c Client) *Rule {
	ip, name := c.IP.Unmap().WithZone(""), strings.ToLower(strings.TrimSuffix(c.Name, "."))
	if c.Info != "" && len(r.infos) > 0 {
		info := c.Info + "@"
		if rule := r.infos[info+ip.String()]; rule != nil {
			return rule
		}
		if rule := r.infos[info+"="+name]; rule != nil && name != "" {
			return rule
		}
	}
	if rule := r.exact[ip]; rule != nil {
		return rule
	}
	if rule := r.names[name]; rule != nil && name != "" {
		return rule
	}
	bits := r.bits4
	if ip.Is6() {
		bits = r.bits6
	}
	for _, n := range bits {
		if net, err := ip.Prefix(n); err == nil {
			if rule := r.nets[net]; rule != nil {
				return rule
			}
		}
	}
	if rule := r.suffix(name); rule != nil {
		return rule
	}
	if name != "" && r.named != nil {
		return r.named
	}
	return r.anyone
}

// suffix is the rule for the longest end of a name.
func (r *Rules) suffix(name string) *Rule {
	for rest := name; rest != ""; {
		i := strings.IndexByte(rest[1:], '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		if rule := r.ends[rest]; rule != nil {
			return rule
		}
	}
	return nil
}

// Len is the number of rules, for `postern check`: ranges expanded, and of several
// for one address one.
func (r *Rules) Len() int {
	n := len(r.infos) + len(r.exact) + len(r.nets) + len(r.names) + len(r.ends)
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
	for i := range r.list {
		for k := range r.list[i].Env {
			set[k] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// All are the rules in the order of their lines, ranges expanded.
func (r *Rules) All() iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		for i := range r.list {
			if !yield(&r.list[i]) {
				return
			}
		}
	}
}

// Told is a rule in the words of tcprulescheck(1); found is what FindClient said.
func (r *Rule) Told(found bool) string {
	if !found {
		return "default:\nallow connection\n"
	}
	var b strings.Builder
	b.WriteString("rule " + r.Text + ":\n")
	if r.Deny {
		return b.String() + "deny connection\n"
	}
	for _, v := range r.Vars {
		b.WriteString("set environment variable " + v + "\n")
	}
	b.WriteString("allow connection\n")
	return b.String()
}
