package lua

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/hooks"
)

// witness is a resolver whose answers are told to the call that asked
// (hooks.Looked). Remembered reads what it writes.
type witness struct{ dns.Resolver }

// separator stands between the records of an answer.
const separator = "\n"

func tellLookup[T any](ctx context.Context, kind, question string, list []T, err error, show func(T) string) ([]T, error) {
	l := hooks.Lookup{Kind: kind, Question: question}
	if err != nil {
		l.Error = lookupError(err)
	}
	texts := make([]string, len(list))
	for i, one := range list {
		texts[i] = show(one)
	}
	l.Answer = strings.Join(texts, separator)
	hooks.Looked(ctx, l)
	return list, err
}

// The words for what an error of the DNS means, in a hooks.Lookup.
var lookupKinds = [...]string{dns.Failure: "temporary", dns.Timeout: "timeout", dns.NoName: "none", dns.NoData: "nodata", dns.BadName: "bad"}

func lookupError(err error) string {
	e, ok := errors.AsType[*dns.Error](err)
	if !ok {
		return lookupKinds[dns.Failure] + ": " + err.Error()
	}
	return lookupKinds[min(int(e.Kind), len(lookupKinds)-1)] + ": " + e.Text
}

func (w witness) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	list, err := w.Resolver.LookupA(ctx, host)
	return tellLookup(ctx, "dns.a", host, list, err, netip.Addr.String)
}

func (w witness) LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error) {
	list, err := w.Resolver.LookupAAAA(ctx, host)
	return tellLookup(ctx, "dns.aaaa", host, list, err, netip.Addr.String)
}

func (w witness) LookupMX(ctx context.Context, domain string) ([]dns.MX, error) {
	list, err := w.Resolver.LookupMX(ctx, domain)
	return tellLookup(ctx, "dns.mx", domain, list, err, func(m dns.MX) string { return fmt.Sprintf("%d %s", m.Pref, m.Host) })
}

func (w witness) LookupTXT(ctx context.Context, name string) ([]string, error) {
	list, err := w.Resolver.LookupTXT(ctx, name)
	return tellLookup(ctx, "dns.txt", name, list, err, strconv.Quote)
}

func (w witness) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	list, err := w.Resolver.LookupPTR(ctx, addr)
	return tellLookup(ctx, "dns.ptr", addr.String(), list, err, strings.Clone)
}

// Remembered is a resolver that answers as it was answered before, out of
// look-ups that a story keeps. What was not asked then it counts, and asks Live,
// or, where that is nil, fails for now. Unknown is read when
// nobody asks any more.
type Remembered struct {
	Answers map[[2]string]hooks.Lookup // by kind and question
	Live    dns.Resolver
	Unknown int

	counting sync.Mutex // look-ups may run beside each other
}

// Remember adds a look-up.
func (r *Remembered) Remember(l hooks.Lookup) {
	if r.Answers == nil {
		r.Answers = map[[2]string]hooks.Lookup{}
	}
	r.Answers[[2]string{l.Kind, strings.ToLower(l.Question)}] = l
}

// recall is an answer's records, or live's answer.
func recall[T any](r *Remembered, kind, question string, read func(string) (T, error), live func(dns.Resolver) ([]T, error)) ([]T, error) {
	l, ok := r.Answers[[2]string{kind, strings.ToLower(question)}]
	if !ok {
		r.counting.Lock()
		r.Unknown++
		r.counting.Unlock()
		if r.Live != nil {
			return live(r.Live)
		}
		return nil, &dns.Error{Kind: dns.Failure, Text: "this was not asked when the mail came"}
	}
	if l.Error != "" {
		word, text, _ := strings.Cut(l.Error, ": ")
		for kind, known := range lookupKinds {
			if known == word {
				return nil, &dns.Error{Kind: dns.Kind(kind), Text: text}
			}
		}
		return nil, &dns.Error{Kind: dns.Failure, Text: l.Error}
	}
	var list []T
	for text := range strings.SplitSeq(l.Answer, separator) {
		one, err := read(text)
		if err != nil {
			return nil, &dns.Error{Kind: dns.Failure, Text: "the remembered answer can't be read: " + err.Error()}
		}
		list = append(list, one)
	}
	return list, nil
}

// LookupA implements dns.Resolver.
func (r *Remembered) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	return recall(r, "dns.a", host, netip.ParseAddr, func(d dns.Resolver) ([]netip.Addr, error) { return d.LookupA(ctx, host) })
}

// LookupAAAA implements dns.Resolver.
func (r *Remembered) LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error) {
	return recall(r, "dns.aaaa", host, netip.ParseAddr, func(d dns.Resolver) ([]netip.Addr, error) { return d.LookupAAAA(ctx, host) })
}

// LookupMX implements dns.Resolver.
func (r *Remembered) LookupMX(ctx context.Context, domain string) ([]dns.MX, error) {
	return recall(r, "dns.mx", domain, func(s string) (m dns.MX, err error) {
		pref, host, _ := strings.Cut(s, " ")
		n, err := strconv.ParseUint(pref, 10, 16)
		return dns.MX{Pref: uint16(n), Host: host}, err
	}, func(d dns.Resolver) ([]dns.MX, error) { return d.LookupMX(ctx, domain) })
}

// LookupTXT implements dns.Resolver.
func (r *Remembered) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return recall(r, "dns.txt", name, strconv.Unquote, func(d dns.Resolver) ([]string, error) { return d.LookupTXT(ctx, name) })
}

// LookupPTR implements dns.Resolver.
func (r *Remembered) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	return recall(r, "dns.ptr", addr.String(), func(s string) (string, error) { return s, nil }, func(d dns.Resolver) ([]string, error) { return d.LookupPTR(ctx, addr) })
}
