package spf

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/dns"
)

// match tells whether a directive matches the client (RFC 7208 5). domain is the
// one whose record holds it. What was asked and answered is told in s.
func (e *evaluation) match(d *directive, domain string, s *Step) (bool, error) {
	switch d.kind {
	case all:
		return true, nil
	case ip4, ip6:
		return d.net.Contains(e.ip), nil
	}
	if err := e.count(); err != nil {
		return false, err
	}
	target := domain
	if d.domain != nil {
		name, err := e.name(d.domain, domain)
		if err != nil {
			s.Outcome = "no match: " + err.Error()
			return false, nil
		}
		target = name
	}
	switch d.kind {
	case include:
		return e.include(target, s)
	case address:
		return e.address(target, d, s)
	case exchangers:
		return e.exchangers(target, d, s)
	case pointer:
		return e.pointer(target, s)
	}
	return e.exists(target, s)
}

// include asks the record of another domain whether the client passes (RFC 7208 5.2).
func (e *evaluation) include(target string, s *Step) (bool, error) {
	name, wrong := checkable(target)
	if wrong != "" {
		return false, permanent("include of %s: %s", printable(target), wrong)
	}
	// The step of the term itself comes before those of the other record.
	before := *s
	before.Outcome = "asks " + name
	e.note(before)
	outer, source := e.result.Mechanism, e.result.Source
	v, _ := e.host(name, s.Depth+1)
	e.result.Mechanism, e.result.Source = outer, source
	s.Outcome = name + " says " + string(v) + ": no match"
	switch v {
	case Pass:
		return true, nil
	case TempError:
		return false, trouble{TempError, e.result.Problem}
	case PermError:
		return false, trouble{PermError, e.result.Problem}
	case None:
		return false, permanent("include of %s, which has no SPF record", name)
	}
	return false, nil
}

// address compares the client with the addresses of a host (RFC 7208 5.3).
func (e *evaluation) address(target string, d *directive, s *Step) (bool, error) {
	addrs, err := e.addresses(target, s)
	return e.among(addrs, d), err
}

// exchangers compares the client with the addresses of a domain's MX hosts (RFC 7208 5.4).
func (e *evaluation) exchangers(target string, d *directive, s *Step) (bool, error) {
	s.Query = "MX " + printable(target)
	list, err := e.checker.Resolver.LookupMX(e.ctx, target)
	if err != nil {
		return false, e.failed(err, s)
	}
	for _, mx := range list {
		s.answer("MX " + strconv.Itoa(int(mx.Pref)) + " " + mx.Host)
	}
	if len(list) > maxNames {
		return false, permanent("%s has more than %d MX hosts", target, maxNames)
	}
	for _, mx := range list {
		if mx.Host == "" {
			continue // RFC 7505: it has none
		}
		addrs, err := e.addresses(mx.Host, s)
		if err != nil {
			return false, err
		}
		if e.among(addrs, d) {
			return true, nil
		}
	}
	return false, nil
}

// exists asks whether a name has an IPv4 address, whatever the client's family (RFC 7208 5.7).
func (e *evaluation) exists(target string, s *Step) (bool, error) {
	s.Query = "A " + printable(target)
	addrs, err := e.checker.Resolver.LookupA(e.ctx, target)
	if err != nil {
		return false, e.failed(err, s)
	}
	for _, a := range addrs {
		s.answer("A " + a.String())
	}
	return true, nil
}

// pointer compares the confirmed names of the client with a domain (RFC 7208 5.5).
func (e *evaluation) pointer(target string, s *Step) (bool, error) {
	target, err := dns.Canonical(target)
	if err != nil {
		s.Outcome = "no match: " + err.Error()
		return false, nil
	}
	s.Query = "PTR " + e.ip.String()
	names, err := e.confirmed(s)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(names, func(name string) bool { return below(name, target) }), nil
}

// below tells whether name is domain, or a name below it.
func below(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}

// addresses are those of a host, in the client's family.
func (e *evaluation) addresses(host string, s *Step) ([]netip.Addr, error) {
	kind, look := "AAAA ", e.checker.Resolver.LookupAAAA
	if e.ip.Is4() {
		kind, look = "A ", e.checker.Resolver.LookupA
	}
	if s.Query == "" {
		s.Query = kind + printable(host)
	}
	addrs, err := look(e.ctx, host)
	if err != nil {
		return nil, e.failed(err, s)
	}
	for _, a := range addrs {
		s.answer(host + " " + kind + a.String())
	}
	return addrs, nil
}

// among tells whether the client is one of addrs, or in their networks.
func (e *evaluation) among(addrs []netip.Addr, d *directive) bool {
	bits := d.bits6
	if e.ip.Is4() {
		bits = d.bits4
	}
	for _, a := range addrs {
		if netip.PrefixFrom(a, bits).Contains(e.ip) {
			return true
		}
	}
	return false
}

// failed judges the error of a look-up: nothing there counts as void and matches
// nothing, a name that can't be asked for matches nothing, the rest is temporary.
func (e *evaluation) failed(err error, s *Step) error {
	s.answer(err.Error())
	if dns.IsNone(err) {
		return e.void()
	}
	if de, ok := errors.AsType[*dns.Error](err); ok && de.Kind == dns.BadName {
		return nil
	}
	return temporary(err)
}

// confirmed are the names of the client that lead back to it (RFC 7208 5.5), of at
// most 10; a server that fails counts as having none. They are found once. The
// error is that of too many void look-ups.
func (e *evaluation) confirmed(s *Step) ([]string, error) {
	if e.asked {
		s.answer("as asked before")
		return e.names, nil
	}
	e.asked = true
	list, err := e.checker.Resolver.LookupPTR(e.ctx, e.ip)
	if err != nil {
		s.answer(err.Error())
		if dns.IsNone(err) {
			return nil, e.void()
		}
		return nil, nil
	}
	kind, look := "AAAA ", e.checker.Resolver.LookupAAAA
	if e.ip.Is4() {
		kind, look = "A ", e.checker.Resolver.LookupA
	}
	for _, name := range list[:min(len(list), maxNames)] {
		addrs, err := look(e.ctx, name)
		if err != nil {
			s.answer(err.Error())
			continue
		}
		for _, a := range addrs {
			s.answer(name + " " + kind + a.String())
		}
		if slices.Contains(addrs, e.ip) {
			e.names = append(e.names, name)
		}
	}
	return e.names, nil
}

// validated is the value of the macro p: a confirmed name of the client, best that
// of the domain itself, then one below it (RFC 7208 7.3).
func (e *evaluation) validated(domain string) string {
	var s Step
	names, _ := e.confirmed(&s)
	best := "unknown"
	for _, name := range names {
		switch {
		case name == domain:
			return name
		case best == "unknown", below(name, domain) && !below(best, domain):
			best = name
		}
	}
	return best
}
