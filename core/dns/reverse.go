package dns

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

const (
	maxConfirm  = 10  // names of one address that are looked up, as in RFC 7208 4.6.4
	listsAtOnce = 16  // block lists asked at the same time
	maxReason   = 512 // bytes of a list's text that are kept
)

// FCrDNS returns the confirmed name of ip: the first of its PTR names (of at
// most 10) that has ip among its addresses (RFC 8601 2.7.3, iprev). Where there
// is none, the name is empty and the error tells why:
//
//	nil          names, but none leads back (iprev "fail")
//	IsNone       no PTR record              ("permerror")
//	IsTemporary  it can't be told now       ("temperror")
func FCrDNS(ctx context.Context, r Resolver, ip netip.Addr) (string, error) {
	ip = ip.Unmap().WithZone("")
	names, err := r.LookupPTR(ctx, ip)
	if err != nil {
		return "", err
	}
	names = names[:min(len(names), maxConfirm)]
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		found bool
		err   error
	}
	results := make([]chan result, len(names))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel() // first, so that the first match ends the others
	for i, name := range names {
		results[i] = make(chan result, 1)
		asking.Go(func() {
			found, err := leadsTo(ctx, r, name, ip)
			results[i] <- result{found, err}
		})
	}
	var unsure error
	for i, name := range names {
		res := <-results[i]
		if res.found {
			return name, nil
		}
		if IsTemporary(res.err) && unsure == nil {
			unsure = res.err
		}
	}
	return "", unsure
}

func leadsTo(ctx context.Context, r Resolver, name string, ip netip.Addr) (bool, error) {
	look := r.LookupAAAA
	if ip.Is4() {
		look = r.LookupA
	}
	addrs, err := look(ctx, name)
	return slices.Contains(addrs, ip), err
}

// Listing is one answer of a block list about an address, or the failure to get one.
type Listing struct {
	Zone   string
	Answer netip.Addr // in 127.0.0.0/8; its meaning is the list's
	Text   string     // the list's reason, from TXT, empty if it gives none; one line, at most 512 bytes
	Err    error      // set where the list could not be asked; then there is no Answer
}

// DNSBL asks block lists about ip (RFC 5782), up to 16 at once, and returns,
// in the order of zones, one Listing for each answer and one for each list that
// failed. A list that doesn't list ip is not in the result. Answers outside
// 127.0.0.0/8 come from dead or hijacked zones and are ignored. Answers in
// 127.255.255.0/24 are how lists refuse to serve (a public resolver, too many
// queries): they make an Err, not a listing.
func DNSBL(ctx context.Context, r Resolver, ip netip.Addr, zones []string) []Listing {
	prefix := reversed(ip.Unmap().WithZone("")) + "."
	found := make([][]Listing, len(zones))
	slots := make(chan struct{}, listsAtOnce)
	var asking sync.WaitGroup
	for i, zone := range zones {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			found[i] = askList(ctx, r, prefix, zone)
		})
	}
	asking.Wait()
	return slices.Concat(found...)
}

// NameListing is one answer of a block list about a name, or the failure to get one.
type NameListing struct {
	Name string // as it was asked for
	Listing
}

// Listed asks block lists of domains about names (RFC 5782 section 3.1): each name at
// each list, up to 16 questions at once. What comes back is as in DNSBL, in the order
// of names, and for each in that of zones. A name that is none is in no list.
func Listed(ctx context.Context, r Resolver, names, zones []string) []NameListing {
	found := make([][]NameListing, len(names)*len(zones))
	slots := make(chan struct{}, listsAtOnce)
	var asking sync.WaitGroup
	for i, name := range names {
		asked, err := Canonical(name)
		if err != nil {
			continue
		}
		for j, zone := range zones {
			slots <- struct{}{}
			asking.Go(func() {
				defer func() { <-slots }()
				for _, l := range askList(ctx, r, asked+".", zone) {
					found[i*len(zones)+j] = append(found[i*len(zones)+j], NameListing{name, l})
				}
			})
		}
	}
	asking.Wait()
	return slices.Concat(found...)
}

func askList(ctx context.Context, r Resolver, prefix, zone string) []Listing {
	name := prefix + zone
	addrs, err := r.LookupA(ctx, name)
	if IsNone(err) {
		return nil
	}
	if err != nil {
		return []Listing{{Zone: zone, Err: err}}
	}
	var out []Listing
	for _, addr := range addrs {
		b := addr.As4()
		switch {
		case b[0] != 127:
		case b[1] == 255 && b[2] == 255:
			return []Listing{{Zone: zone, Err: &Error{Kind: Failure, Name: name, Type: "A", Text: "the list refuses to serve us: " + addr.String()}}}
		default:
			out = append(out, Listing{Zone: zone, Answer: addr})
		}
	}
	if len(out) == 0 {
		return nil
	}
	text := reason(ctx, r, name)
	for i := range out {
		out[i].Text = text
	}
	return out
}

// reason returns what a list says about name. A listing stands without it.
func reason(ctx context.Context, r Resolver, name string) string {
	texts, _ := r.LookupTXT(ctx, name)
	text := strings.Join(strings.FieldsFunc(strings.Join(texts, " "), func(c rune) bool { return c <= ' ' || c == 0x7f }), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}
