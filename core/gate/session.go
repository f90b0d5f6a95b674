package gate

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/hooks"
)

// nameTimeout bounds the look-up of a client's name.
const nameTimeout = 10 * time.Second

// reverse is the client's confirmed name, looked up once beside the conversation.
type reverse struct {
	done chan struct{}
	name string
}

// startReverse begins the look-up. The loopback's name needs none; addresses
// that no DNS of ours should be asked about (private, link-local) are asked for
// only when a rule or a policy wants the name.
func startReverse(ctx context.Context, r dns.Resolver, ip netip.Addr) *reverse {
	v := &reverse{done: make(chan struct{})}
	if ip.IsLoopback() {
		v.name = "localhost"
		close(v.done)
		return v
	}
	if r == nil || !ip.IsValid() {
		close(v.done)
		return v
	}
	go func() { // ends by nameTimeout at the latest
		defer close(v.done)
		ctx, cancel := context.WithTimeout(ctx, nameTimeout)
		defer cancel()
		if name, err := dns.FCrDNS(ctx, r, ip); err == nil {
			v.name = name
		}
	}()
	return v
}

// wait returns the name, or "" where ctx ends first. What is known is returned
// even when ctx is done already.
func (v *reverse) wait(ctx context.Context) string {
	select {
	case <-v.done:
		return v.name
	default:
	}
	select {
	case <-v.done:
		return v.name
	case <-ctx.Done():
		return ""
	}
}

// lazyReverse starts the look-up at the first question.
func lazyReverse(ctx context.Context, r dns.Resolver, ip netip.Addr) func(context.Context) string {
	start := sync.OnceValue(func() *reverse { return startReverse(ctx, r, ip) })
	return func(ctx context.Context) string { return start().wait(ctx) }
}

// meet looks at a client for the first time, or anew after XCLIENT: its name,
// whether it may relay, and the connection rules. A non-nil error is the rules'
// refusal, its text fit for the client.
func (c *Conn) meet(ctx context.Context, client netip.AddrPort) error {
	s, l := c.Session, c.Listener
	ip := client.Addr()
	s.Client = client
	s.Relaying = contains(l.RelayFrom, ip)
	s.Env = nil
	if ip.IsPrivate() || ip.IsLinkLocalUnicast() {
		s.Reverse = lazyReverse(ctx, c.gate.o.DNS, ip)
	} else {
		s.Reverse = startReverse(ctx, c.gate.o.DNS, ip).wait
	}
	if l.Rules == nil {
		return nil
	}
	name := ""
	if l.Rules.Names() {
		name = s.Host(ctx)
	}
	rule := l.Rules.Find(ip, name)
	s.Env = rule.Env
	if rule.Deny {
		return errDenied
	}
	if _, ok := rule.Env["RELAYCLIENT"]; ok {
		s.Relaying = true
	}
	return nil
}

var errDenied = errors.New("connections from your address are not accepted")

// Xclient are the attributes of an XCLIENT command; nil ones were not given, and
// an empty text means that the fact is not available.
type Xclient struct {
	Addr                     netip.Addr // invalid: not given
	Port                     *uint16
	Name, Helo, Login, Proto *string
	DestAddr                 netip.Addr
	DestPort                 *uint16
}

// MayXclient tells whether the peer that connected may use XCLIENT. Behind a
// proxy that is the proxy's client: its rights are not the proxy's.
func (c *Conn) MayXclient() bool {
	return contains(c.Listener.XclientFrom, c.peer.Addr())
}

// Xclient gives the session new facts about its client. It starts anew: its
// notes, marks and login are gone, and the rules and relay_from are looked up
// for the new address. The error is the rules' refusal.
func (c *Conn) Xclient(ctx context.Context, x Xclient) error {
	old := c.Session
	fresh := &hooks.Session{ID: old.ID, Listener: old.Listener, Protocol: old.Protocol, Local: old.Local, Started: old.Started, TLS: old.TLS, Early: old.Early, Totals: old.Totals}
	*old = *fresh
	ip, port := c.client(x)
	if x.DestAddr.IsValid() {
		old.Local = netip.AddrPortFrom(x.DestAddr, old.Local.Port())
	}
	if x.DestPort != nil {
		old.Local = netip.AddrPortFrom(old.Local.Addr(), *x.DestPort)
	}
	deny := c.meet(ctx, netip.AddrPortFrom(ip, port))
	if x.Name != nil {
		name := *x.Name
		old.Reverse = func(context.Context) string { return name }
	}
	if x.Helo != nil {
		old.Helo = *x.Helo
	}
	if x.Login != nil && *x.Login != "" {
		old.User, old.Authenticated = *x.Login, true
	}
	if x.Proto != nil {
		old.Extended = *x.Proto == "ESMTP"
	}
	return deny
}

func (c *Conn) client(x Xclient) (netip.Addr, uint16) {
	ip, port := c.peer.Addr(), c.peer.Port()
	if x.Addr.IsValid() {
		ip, port = x.Addr.Unmap(), 0
	}
	if x.Port != nil {
		port = *x.Port
	}
	return ip, port
}
