package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/send"
)

// maxExchangers is how many mail exchangers are looked up for one attempt.
const maxExchangers = 10

// host is one address to try and the name it was found by; without an address,
// the name is the path of a unix socket.
type host struct {
	name string
	addr netip.AddrPort
}

// String is the peer as outcomes name it: "mx.example [192.0.2.1]:25", or the
// path of a socket.
func (h host) String() string {
	if !h.addr.IsValid() {
		return h.name
	}
	return fmt.Sprintf("%s [%s]:%d", h.name, h.addr.Addr(), h.addr.Port())
}

// endpoint is what a connection is opened to.
func (h host) endpoint() (network, address string) {
	if !h.addr.IsValid() {
		return "unix", h.name
	}
	return "tcp", h.addr.String()
}

// place is the host without the name it was found by.
func (h host) place() host {
	if h.addr.IsValid() {
		h.name = ""
	}
	return h
}

// tlsName is the name that a certificate must bear: that of the mail exchanger or
// of the next hop, or its address where a route names that.
func (h host) tlsName() string {
	if addr, ok := message.ParseLiteral(h.name); ok {
		return addr.String()
	}
	return h.name
}

// nowhere is why an attempt has no host to go to.
type nowhere struct {
	result    send.Result
	reply     message.Reply
	unreached bool // it is the destination that is in trouble, for now
}

func bounce(code int, enhanced, text string, args ...any) *nowhere {
	return &nowhere{result: send.Bounced, reply: message.NewReply(code, enhanced, text, args...)}
}

func postpone(enhanced, text string, args ...any) *nowhere {
	return &nowhere{reply: message.NewReply(451, enhanced, text, args...), unreached: true}
}

// hosts are the addresses for the job, those first that are to be tried first.
func (c *Client) hosts(ctx context.Context, j *send.Job) ([]host, *nowhere) {
	var list []host
	var fail *nowhere
	if j.NextHop.Scheme == send.SchemeMX {
		list, fail = c.exchangers(ctx, j.Domain)
	} else {
		list, fail = c.given(ctx, j.NextHop)
	}
	if fail != nil {
		return nil, fail
	}
	if j.Source.IsValid() {
		all := len(list)
		list = slices.DeleteFunc(list, func(h host) bool { return h.addr.IsValid() && h.addr.Addr().Unmap().Is4() != j.Source.Is4() })
		if len(list) == 0 && all > 0 {
			return nil, postpone("4.4.4", "The next hop has no address of the family of %s, from which mail is to go there", j.Source)
		}
	}
	slices.SortStableFunc(list, func(a, b host) int { // those that did not answer lately come last
		return boolInt(c.down.has(a.place())) - boolInt(c.down.has(b.place()))
	})
	return list, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// given is the server that a route names.
func (c *Client) given(ctx context.Context, n send.NextHop) ([]host, *nowhere) {
	if n.Path != "" {
		return []host{{name: n.Path}}, nil
	}
	port, err := c.port(n)
	if err != nil {
		return nil, postpone("4.3.5", "The next hop's port makes no sense: %s", n.Port)
	}
	if addr, err := netip.ParseAddr(n.Host); err == nil {
		return []host{{n.Host, netip.AddrPortFrom(addr, port)}}, nil
	}
	name := asciiDomain(n.Host)
	addrs, err := dns.Addrs(ctx, c.o.Resolver, name)
	switch {
	case err == nil:
		return hostsOf(name, addrs, port), nil
	case dns.IsTemporary(err):
		return nil, postpone("4.4.3", "The DNS gives no answer about the next hop %s", n.Host)
	default: // what a configuration names is not the sender's fault
		return nil, postpone("4.4.4", "The next hop %s has no address", n.Host)
	}
}

// port is that of a next hop: as written, else what its scheme has.
func (c *Client) port(n send.NextHop) (uint16, error) {
	s := n.Port
	switch {
	case s != "":
	case n.Scheme == send.SchemeSMTPS:
		s = "465" // RFC 8314 section 7.3
	case n.Scheme == send.SchemeLMTP:
		s = "24" // any private mail; RFC 2033 section 5 forbids 25
	default:
		s = c.o.Port
	}
	return parsePort(s)
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// hostsOf pairs a name with its addresses, the families taking turns, so that a
// family without a way out does not use up the attempt.
func hostsOf(name string, addrs []netip.Addr, port uint16) []host {
	var families [2][]host
	for _, a := range addrs {
		families[boolInt(a.Is4())] = append(families[boolInt(a.Is4())], host{name, netip.AddrPortFrom(a, port)})
	}
	list := make([]host, 0, len(addrs))
	for i := range max(len(families[0]), len(families[1])) {
		for _, f := range families {
			if i < len(f) {
				list = append(list, f[i])
			}
		}
	}
	return list
}

// exchangers are the hosts that take mail for a domain (RFC 5321 section 5.1).
func (c *Client) exchangers(ctx context.Context, domain string) ([]host, *nowhere) {
	port, err := parsePort(c.o.Port)
	if err != nil {
		return nil, postpone("4.3.5", "The port of mail exchangers makes no sense: %s", c.o.Port)
	}
	if addr, ok := message.ParseLiteral(domain); ok {
		h := host{domain, netip.AddrPortFrom(addr, port)}
		if c.o.Own(h.addr) {
			return nil, bounce(554, "5.4.6", "Mail for %s would come back to this host, which does not take it", domain)
		}
		return []host{h}, nil
	}
	domain = asciiDomain(domain)
	mx, err := c.o.Resolver.LookupMX(ctx, domain)
	switch {
	case err == nil && len(mx) == 1 && mx[0].Host == "":
		return nil, bounce(556, "5.1.10", "The domain %s takes no mail (null MX)", domain) // RFC 7505 section 4.2
	case err == nil:
	case dns.IsTemporary(err):
		return nil, postpone("4.4.3", "The DNS gives no answer about %s", domain)
	case kindOf(err) == dns.NoData: // its own address is its mail exchanger
		mx = []dns.MX{{Host: domain}}
	default:
		return nil, bounce(550, "5.1.2", "There is no domain %s", domain)
	}
	list, temporary := c.lookUp(ctx, shuffled(mx), port)
	switch {
	case len(list) > 0:
	case temporary:
		return nil, postpone("4.4.3", "The DNS gives no answer about the mail exchangers of %s", domain)
	case kindOf(err) == dns.NoData:
		return nil, bounce(550, "5.4.4", "The domain %s has neither a mail exchanger nor an address", domain)
	default:
		return nil, postpone("4.4.4", "The mail exchangers of %s have no address", domain)
	}
	if list = c.beforeOurselves(list); len(list) == 0 {
		return nil, bounce(554, "5.4.6", "The best mail exchanger of %s is this host, which does not take its mail", domain)
	}
	out := make([]host, len(list))
	for i := range list {
		out[i] = list[i].host
	}
	return out, nil
}

func kindOf(err error) dns.Kind {
	if e, ok := err.(*dns.Error); ok {
		return e.Kind
	}
	return dns.Failure
}

// shuffled puts mail exchangers of the same preference into random order, which
// spreads the load (RFC 5321 section 5.1).
func shuffled(mx []dns.MX) []dns.MX {
	mx = slices.Clone(mx)
	rand.Shuffle(len(mx), func(i, k int) { mx[i], mx[k] = mx[k], mx[i] })
	slices.SortStableFunc(mx, func(a, b dns.MX) int { return int(a.Pref) - int(b.Pref) })
	return mx[:min(len(mx), maxExchangers)]
}

// ranked is a host and the preference of its mail exchanger.
type ranked struct {
	host
	pref uint16
	own  bool
}

// lookUp finds the addresses of mail exchangers, in their order. temporary tells
// that the DNS gave no answer about one of them.
func (c *Client) lookUp(ctx context.Context, mx []dns.MX, port uint16) (list []ranked, temporary bool) {
	own := c.set.Load().Hostname
	for _, m := range mx {
		if strings.EqualFold(m.Host, own) {
			list = append(list, ranked{host{m.Host, netip.AddrPort{}}, m.Pref, true})
			continue
		}
		addrs, err := dns.Addrs(ctx, c.o.Resolver, m.Host)
		temporary = temporary || dns.IsTemporary(err)
		for _, h := range hostsOf(m.Host, addrs, port) {
			list = append(list, ranked{h, m.Pref, c.o.Own(h.addr)})
		}
	}
	return list, temporary
}

// beforeOurselves leaves out this host and all mail exchangers that are not
// better than it, as the RFC demands: they would send the mail back here.
func (c *Client) beforeOurselves(list []ranked) []ranked {
	limit := -1
	for _, r := range list {
		if r.own && (limit < 0 || int(r.pref) < limit) {
			limit = int(r.pref)
		}
	}
	if limit < 0 {
		return list
	}
	return slices.DeleteFunc(list, func(r ranked) bool { return int(r.pref) >= limit })
}

// asciiDomain is a domain as the DNS knows it: U-labels become A-labels (RFC
// 5891). One that can't be written so stays as it is, and nobody knows it.
func asciiDomain(domain string) string {
	if a, err := idna.Lookup.ToASCII(domain); err == nil && !isASCII(domain) {
		return a
	}
	return domain
}
