package policytest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/postern-mta/postern/core/dns"
)

// dns is t:dns{…}: what the DNS says from now on. It takes the text of a zone
// file, tables a, mx, txt, ptr, cname and fail by name, or tables of those by name.
func (h *harness) dns(args []any) (any, error) {
	var zone *dns.Zone
	var err error
	if len(args) == 1 {
		if s, ok := args[0].(string); ok {
			zone, err = dns.ParseZone(s)
		}
	}
	if zone == nil && err == nil {
		var t map[string]any
		if t, err = table(args, 0); err == nil {
			zone, err = zoneOf(t)
		}
	}
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.zone = zone
	return nil, nil
}

func zoneOf(t map[string]any) (*dns.Zone, error) {
	z := &dns.Zone{
		A: map[string][]string{}, MX: map[string][]string{}, TXT: map[string][]string{}, PTR: map[string][]string{},
		CNAME: map[string]string{}, Fail: map[string]dns.Kind{},
	}
	for part, value := range t {
		byName, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("dns: %s: a table is expected", part)
		}
		for key, value := range byName {
			kind, name := strings.ToLower(part), key
			if isName(part) {
				kind, name = strings.ToLower(key), part
			}
			if err := enter(z, kind, name, value); err != nil {
				return nil, err
			}
		}
	}
	return z, nil
}

// isName tells a name or an address from a kind of record.
func isName(s string) bool { return strings.ContainsAny(s, ".:") }

// failures are the words for look-ups that fail.
func failure(word string) (dns.Kind, bool) {
	kind, ok := map[string]dns.Kind{"timeout": dns.Timeout, "servfail": dns.Failure, "nxdomain": dns.NoName, "nodata": dns.NoData}[strings.ToLower(word)]
	return kind, ok
}

// enter puts the records of a kind into a zone; the word for a failure in the place
// of records makes the look-up of that kind fail.
func enter(z *dns.Zone, kind, name string, value any) error {
	values, err := textList(value)
	if err != nil {
		return fmt.Errorf("dns: %s: %s: %w", kind, name, err)
	}
	lists := map[string]map[string][]string{"a": z.A, "aaaa": z.A, "mx": z.MX, "txt": z.TXT, "ptr": z.PTR}
	fails, isFailure := failure(values[0])
	switch list := lists[kind]; {
	case kind == "fail" && isFailure:
		z.Fail[name] = fails
	case kind == "fail":
		return fmt.Errorf("dns: fail: %s: write timeout, servfail, nxdomain or nodata", name)
	case list != nil && isFailure && kind != "ptr":
		z.Fail[strings.ToUpper(kind)+" "+name] = fails
	case list != nil && isFailure:
		reversed, err := reverseName(name)
		if err != nil {
			return fmt.Errorf("dns: ptr: %w", err)
		}
		z.Fail[reversed] = fails
	case list != nil:
		list[name] = append(list[name], values...)
	case kind == "cname":
		z.CNAME[name] = values[0]
	default:
		return fmt.Errorf("dns: %q is none of a, aaaa, mx, txt, ptr, cname, fail", kind)
	}
	return nil
}

// reverseName is the name of an address in the DNS.
func reverseName(s string) (string, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	raw := ip.AsSlice()
	for i := len(raw) - 1; i >= 0; i-- {
		if ip.Is4() {
			fmt.Fprintf(&b, "%d.", raw[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", raw[i]&15, raw[i]>>4)
		}
	}
	if ip.Is4() {
		return b.String() + "in-addr.arpa", nil
	}
	return b.String() + "ip6.arpa", nil
}

// textList reads a text, or a list of texts.
func textList(v any) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	items, _ := v.([]any)
	var list []string
	for _, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, errors.New("a list of texts is expected")
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, errors.New("a text or a list of texts is expected")
	}
	return list, nil
}

// resolver answers from the zone that the harness has at the time.
type resolver harness

func (r *resolver) current() *dns.Zone {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.zone
}

// LookupA implements dns.Resolver.
func (r *resolver) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.current().LookupA(ctx, host)
}

// LookupAAAA implements dns.Resolver.
func (r *resolver) LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.current().LookupAAAA(ctx, host)
}

// LookupMX implements dns.Resolver.
func (r *resolver) LookupMX(ctx context.Context, domain string) ([]dns.MX, error) {
	return r.current().LookupMX(ctx, domain)
}

// LookupTXT implements dns.Resolver.
func (r *resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return r.current().LookupTXT(ctx, name)
}

// LookupPTR implements dns.Resolver.
func (r *resolver) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	return r.current().LookupPTR(ctx, addr)
}
