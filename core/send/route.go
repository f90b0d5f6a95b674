package send

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// Schemes of next hops.
const (
	SchemeSMTP    = "smtp"    // a given server
	SchemeSMTPS   = "smtps"   // a given server, TLS from the first byte (RFC 8314 section 3.3)
	SchemeLMTP    = "lmtp"    // a given server or unix socket that speaks LMTP (RFC 2033)
	SchemeQMQP    = "qmqp"    // given servers that speak QMQP: the first that takes the connection
	SchemeMX      = "mx"      // the mail exchangers of the recipient's domain
	SchemeLocal   = "local"   // a mailbox on this host
	SchemePipe    = "pipe"    // a program of this host
	SchemeDiscard = "discard" // nowhere, and that is success
)

// Route sends the mail that matches to a next hop. It matches where every kind
// of pattern that is given does; a list does where one of its members does. A
// Route without patterns matches everything.
type Route struct {
	ToDomain    []string // lower-case: example.net, *.example.net (any name below it), *
	ToAddress   []string // lower-case
	FromDomain  []string // as ToDomain; "" is the null path
	FromAddress []string // lower-case; "" is the null path
	Client      []netip.Prefix
	Tag         []string
	NextHop     NextHop
	TLS         string     // none, may, encrypt or verify
	Auth        Login      // of a given server
	Source      netip.Addr // address to connect from; the zero value: any
	// Proxy: the next hop, a given server, answers while the client waits. Mail in
	// the queue goes to it like any other.
	Proxy bool
	// SRS: senders of other domains are rewritten.
	SRS bool
}

// Routes are asked in their order; the first that matches is taken.
type Routes []Route

// Find is the first route for one recipient of a message. facts is called where
// a route asks for the client or a tag.
func (rs Routes) Find(sender, rcpt message.Address, facts routeAsk) (*Route, bool) {
	for i := range rs {
		if rs[i].matches(sender, rcpt, facts) {
			return &rs[i], true
		}
	}
	return nil, false
}

func (r *Route) matches(sender, rcpt message.Address, facts routeAsk) bool {
	switch {
	case len(r.ToDomain) > 0 && !hooks.MatchDomain(r.ToDomain, rcpt.Domain),
		len(r.ToAddress) > 0 && !containsAddress(r.ToAddress, rcpt),
		len(r.FromDomain) > 0 && !hooks.MatchDomain(r.FromDomain, sender.Domain),
		len(r.FromAddress) > 0 && !containsAddress(r.FromAddress, sender):
		return false
	}
	if len(r.Client) == 0 && len(r.Tag) == 0 {
		return true
	}
	client, tags := facts()
	if len(r.Client) > 0 && !slices.ContainsFunc(r.Client, func(p netip.Prefix) bool { return p.Contains(client.Unmap()) }) {
		return false
	}
	return len(r.Tag) == 0 || slices.ContainsFunc(r.Tag, func(t string) bool { return slices.Contains(tags, t) })
}

func containsAddress(list []string, a message.Address) bool {
	return slices.Contains(list, strings.ToLower(a.String()))
}

// Way is where one recipient goes, and how the next hop there is talked to. Ways
// can be compared with ==.
type Way struct {
	NextHop
	TLS    string // as Route.TLS
	Auth   Login
	Source netip.Addr
	Retry  string // a policy's plan, as ParseRetry reads it; "": the configuration's
	SRS    bool   // senders of other domains are rewritten
	Tagged bool   // the sender gets a tag, see Config.Tagged
}

// source is where connections leave from as a configuration writes it, "" anywhere.
func (w Way) source() string {
	if !w.Source.IsValid() {
		return ""
	}
	return w.Source.String()
}

// planned is w with what policies of stage route made of the plan, which is checked as
// the configuration is.
func (w Way) planned(was, t *hooks.Try) (Way, error) {
	if t.TLS != was.TLS {
		if !slices.Contains([]string{"none", "may", "encrypt", "verify"}, t.TLS) {
			return w, fmt.Errorf("a policy set tls to %q: write none, may, encrypt or verify", t.TLS)
		}
		w.TLS = t.TLS
	}
	if t.Source != was.Source {
		a, err := netip.ParseAddr(t.Source)
		if t.Source != "" && (err != nil || a.Zone() != "") {
			return w, fmt.Errorf("a policy set source to %q: write an address of this host, or nothing", t.Source)
		}
		w.Source = a
	}
	if t.Retry != was.Retry {
		if _, err := ParseRetry(t.Retry, w.Scheme); err != nil {
			return w, fmt.Errorf("a policy set retry to %q: %w", t.Retry, err)
		}
		w.Retry = t.Retry
	}
	return w, nil
}

// Each tells whether the next hop answers a message for each of its recipients.
func (w Way) Each() bool { return w.Scheme == SchemeLMTP }

var errNextHop = errors.New("a next hop is smtp://host:port, smtps://host:port, lmtp://host:port, lmtp:///path, qmqp://host:port,…, mx, local, pipe:/path or discard")

// ParseNextHop reads a next hop as a configuration or a policy writes it.
func ParseNextHop(s string) (NextHop, error) {
	switch s {
	case SchemeMX, SchemeLocal, SchemeDiscard:
		return NextHop{Scheme: s}, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	n := NextHop{Scheme: scheme}
	if ok && scheme == SchemeQMQP {
		return parseServers(s, rest)
	}
	if command, is := strings.CutPrefix(s, SchemePipe+":"); is {
		if !strings.HasPrefix(command, "/") || strings.ContainsFunc(command, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return NextHop{}, fmt.Errorf("%q: %w", s, errNextHop)
		}
		return NextHop{Scheme: SchemePipe, Path: command}, nil
	}
	if !ok || rest == "" || !n.Server() {
		return NextHop{}, fmt.Errorf("%q: %w", s, errNextHop)
	}
	if scheme == SchemeLMTP && rest[0] == '/' {
		if strings.IndexFunc(rest, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 || len(rest) > maxSocketPath {
			return NextHop{}, fmt.Errorf("%q: the path of a unix socket has at most %d bytes and no control characters", s, maxSocketPath)
		}
		n.Path = rest
		return n, nil
	}
	if inside, after, six := strings.Cut(strings.TrimPrefix(rest, "["), "]"); strings.HasPrefix(rest, "[") {
		if !six || after != "" && after[0] != ':' {
			return NextHop{}, fmt.Errorf("%q: %w", s, errNextHop)
		}
		n.Host, n.Port = inside, strings.TrimPrefix(after, ":")
	} else if n.Host, n.Port, ok = strings.Cut(rest, ":"); ok && strings.Contains(n.Port, ":") {
		n.Host, n.Port = rest, "" // an IPv6 address without brackets
	}
	return n, n.check(s)
}

// maxServers is how many servers of QMQP may be tried in turn.
const maxServers = 50

// parseServers reads the servers of a next hop qmqp://.
func parseServers(whole, list string) (NextHop, error) {
	servers := strings.Split(list, ",")
	if len(servers) > maxServers {
		return NextHop{}, fmt.Errorf("%.80q…: more than %d servers", whole, maxServers)
	}
	for _, one := range servers {
		if n, err := ParseNextHop(SchemeSMTP + "://" + one); err != nil || n.Path != "" {
			return NextHop{}, fmt.Errorf("%q: %w", whole, errNextHop)
		}
	}
	return NextHop{Scheme: SchemeQMQP, Path: list}, nil
}

// maxSocketPath is what the system takes for the path of a unix socket.
const maxSocketPath = 107

func (n NextHop) check(s string) error {
	if addr, err := netip.ParseAddr(n.Host); err != nil || addr.Zone() != "" {
		if _, err := message.ParseDomain(n.Host); err != nil || strings.HasPrefix(n.Host, "[") {
			return fmt.Errorf("%q: %w", s, errNextHop)
		}
	}
	if n.Port != "" {
		if p, err := strconv.ParseUint(n.Port, 10, 16); err != nil || p == 0 {
			return fmt.Errorf("%q: the port is a number from 1 to 65535", s)
		}
	}
	return nil
}

// routeAsk gives the client and the tags of a message.
type routeAsk = func() (client netip.Addr, tags []string)

var errNoRoute = errors.New("no route matches")

// errPipe keeps policies from running programs of their choice.
var errPipe = errors.New("a program must be the next hop of a route of the configuration for a policy to choose it")

// Way is where a recipient goes: to set, the next hop that a policy chose, else
// by the first route that matches. A policy's choice keeps the TLS level, the
// source address, the mode and the rewriting of senders of that route, or uses TLS where the other side
// offers it; the route's password goes to the route's own next hop alone. proxy
// tells that the next hop is to answer while the client waits.
func (rs Routes) Way(sender, rcpt message.Address, set string, facts routeAsk) (w Way, proxy bool, err error) {
	r, ok := rs.Find(sender, rcpt, facts)
	w = Way{TLS: "may"}
	if ok {
		w, proxy = Way{NextHop: r.NextHop, TLS: r.TLS, Auth: r.Auth, Source: r.Source, SRS: r.SRS}, r.Proxy
	}
	if set != "" {
		n, err := ParseNextHop(set)
		if n.Scheme == SchemePipe && !slices.ContainsFunc(rs, func(r Route) bool { return r.NextHop == n }) {
			return w, false, errPipe
		}
		if n != w.NextHop {
			w.NextHop, w.Auth = n, Login{}
		}
		return w, proxy && n.Server(), err
	}
	if !ok {
		return w, false, errNoRoute
	}
	return w, proxy, nil
}

// hop is where a recipient of a queued message goes.
func (c *Config) hop(m *queue.Message, rcpt message.Address, set string, facts routeAsk) (Way, error) {
	w, _, err := c.Routes.Way(m.Sender, rcpt, set, facts)
	if c.Tagged != nil && c.Tagged(m.Sender.Owner(), rcpt) {
		f := factsOf(m, func(error) {})
		w.Tagged = f.Relaying || f.Auth
	}
	return w, err
}
