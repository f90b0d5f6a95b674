package dns

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	wire "github.com/miekg/dns"
)

// A finder answers a canonical question. Client and Zone differ only in this.
type finder func(ctx context.Context, q question) *answer

func (f finder) addrs(ctx context.Context, host string, qtype uint16) ([]netip.Addr, error) {
	name, wrong := canonicalHost(host)
	if wrong != "" {
		return nil, badName(host, qtype, wrong)
	}
	if local(name) {
		if qtype == wire.TypeA {
			return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
		}
		return []netip.Addr{netip.IPv6Loopback()}, nil
	}
	a := f(ctx, question{name, qtype})
	if a.err != nil {
		return nil, a.err
	}
	return slices.Clone(a.addrs), nil
}

func (f finder) mx(ctx context.Context, domain string) ([]MX, error) {
	name, wrong := canonicalHost(domain)
	if wrong != "" {
		return nil, badName(domain, wire.TypeMX, wrong)
	}
	if local(name) {
		return nil, failed(question{name, wire.TypeMX}, NoData, "localhost has only addresses")
	}
	a := f(ctx, question{name, wire.TypeMX})
	if a.err != nil {
		return nil, a.err
	}
	return slices.Clone(a.mx), nil
}

func (f finder) txt(ctx context.Context, name string) ([]string, error) {
	ascii, wrong := canonical(name)
	if wrong != "" {
		return nil, badName(name, wire.TypeTXT, wrong)
	}
	a := f(ctx, question{ascii, wire.TypeTXT})
	if a.err != nil {
		return nil, a.err
	}
	return slices.Clone(a.text), nil
}

func (f finder) ptr(ctx context.Context, addr netip.Addr) ([]string, error) {
	if !addr.IsValid() {
		return nil, badName("", wire.TypePTR, "no address")
	}
	a := f(ctx, question{reverseName(addr.Unmap().WithZone("")), wire.TypePTR})
	if a.err != nil {
		return nil, a.err
	}
	return slices.Clone(a.text), nil
}

func badName(name string, qtype uint16, wrong string) *Error {
	// The name came from outside and goes to logs; its length is not known to be sane.
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return failed(question{name, qtype}, BadName, wrong)
}

// LookupA implements Resolver.
func (c *Client) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	return finder(c.find).addrs(ctx, host, wire.TypeA)
}

// LookupAAAA implements Resolver.
func (c *Client) LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error) {
	return finder(c.find).addrs(ctx, host, wire.TypeAAAA)
}

// LookupMX implements Resolver.
func (c *Client) LookupMX(ctx context.Context, domain string) ([]MX, error) {
	return finder(c.find).mx(ctx, domain)
}

// LookupTXT implements Resolver.
func (c *Client) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return finder(c.find).txt(ctx, name)
}

// LookupPTR implements Resolver.
func (c *Client) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	return finder(c.find).ptr(ctx, addr)
}

// LookupA implements Resolver.
func (z *Zone) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	return finder(z.find).addrs(ctx, host, wire.TypeA)
}

// LookupAAAA implements Resolver.
func (z *Zone) LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error) {
	return finder(z.find).addrs(ctx, host, wire.TypeAAAA)
}

// LookupMX implements Resolver.
func (z *Zone) LookupMX(ctx context.Context, domain string) ([]MX, error) {
	return finder(z.find).mx(ctx, domain)
}

// LookupTXT implements Resolver.
func (z *Zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return finder(z.find).txt(ctx, name)
}

// LookupPTR implements Resolver.
func (z *Zone) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	return finder(z.find).ptr(ctx, addr)
}

// Addrs returns all addresses of host, IPv6 first, asking for both families at
// once. It fails only where neither gave an address: with the temporary error
// if there is one, since then nothing is certain.
func Addrs(ctx context.Context, r Resolver, host string) ([]netip.Addr, error) {
	var (
		v4     []netip.Addr
		v4Err  error
		family sync.WaitGroup
	)
	family.Go(func() { v4, v4Err = r.LookupA(ctx, host) })
	v6, v6Err := r.LookupAAAA(ctx, host)
	family.Wait()
	switch all := append(v6, v4...); {
	case len(all) > 0:
		return all, nil
	case IsTemporary(v6Err):
		return nil, v6Err
	default:
		return nil, v4Err
	}
}
