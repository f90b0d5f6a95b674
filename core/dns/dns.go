// Package dns is the one resolver of the mail path: next hops, client names,
// block lists and sender policies all ask through it.
//
// The map, in the order of a look-up:
//
//	name.go      a name from outside becomes the form that is asked for, or is bad
//	lookup.go    LookupA, LookupAAAA, LookupMX, LookupTXT, LookupPTR and Addrs
//	client.go    Client: the cache, one flight for equal questions, servers in turn
//	exchange.go  one question to one server: UDP with EDNS, TCP after truncation
//	answer.go    a message becomes records: aliases followed, all counts bounded
//	cache.go     answers and refusals by their time to live, bounded by bytes
//	reverse.go   FCrDNS (RFC 8601 iprev) and DNSBL (RFC 5782)
//	zone.go      Zone: a resolver made of data, for tests and policy tests
//	zonefile.go  ParseZone: a Zone from the text of a zone file
//	server.go    a Zone behind a UDP and TCP port
//
// A look-up ends within Options.Timeout whatever the servers do. Its result is
// records or an *Error, whose Kind says what a policy has to know: there is
// nothing (NoName, NoData), it can't be told now (Failure, Timeout), or the
// question made no sense (BadName). Nothing here retries later: that is for the caller.
//
// Answers are matched with the question by id, port, name, type and class;
// they are not validated (DNSSEC is left to the servers asked).
package dns

import (
	"context"
	"errors"
	"net/netip"
)

// A Resolver answers the questions of a mail server. Client asks servers and
// Zone answers from data. All methods are safe for concurrent use, return
// within the resolver's own timeout or when ctx ends, and fail with an *Error.
// A look-up without an error has at least one record. The slices belong to the
// caller. Names are returned in lower case without the trailing dot.
type Resolver interface {
	// LookupA returns the IPv4 addresses of host, at most 50.
	LookupA(ctx context.Context, host string) ([]netip.Addr, error)
	// LookupAAAA returns the IPv6 addresses of host, at most 50.
	LookupAAAA(ctx context.Context, host string) ([]netip.Addr, error)
	// LookupMX returns the mail exchangers of domain by rising preference, at
	// most 100, equal preferences in the order of their names: the caller
	// shuffles them (RFC 5321 5.1). A null MX (RFC 7505) is the only element
	// and has an empty Host.
	LookupMX(ctx context.Context, domain string) ([]MX, error)
	// LookupTXT returns each TXT record of name, its strings joined without a
	// separator and as raw bytes; of more than 32 KiB the records that fit.
	LookupTXT(ctx context.Context, name string) ([]string, error)
	// LookupPTR returns the names of addr, unconfirmed, at most 50.
	LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error)
}

// MX is one mail exchanger. An empty Host is the null MX: the domain takes no mail.
type MX struct {
	Pref uint16
	Host string
}

// Kind is the reason why a look-up returned no records.
type Kind uint8

// The kinds of errors. The zero Kind is Failure, so what nobody classified is temporary.
const (
	Failure Kind = iota // temporary: SERVFAIL, REFUSED, a garbled answer, an endless alias, no server reachable
	Timeout             // temporary: no server answered in time, or the caller's context ended
	NoName              // none: the name doesn't exist (NXDOMAIN)
	NoData              // none: the name exists and has no record of this type
	BadName             // bad: the question can't be asked: no domain name, or an address where a name belongs
)

// Temporary tells whether asking again later may help.
func (k Kind) Temporary() bool { return k == Failure || k == Timeout }

// None tells whether the answer is a certain "there is nothing".
func (k Kind) None() bool { return k == NoName || k == NoData }

// String returns the word that policies see: "temporary", "none" or "bad".
func (k Kind) String() string {
	switch {
	case k.None():
		return "none"
	case k == BadName:
		return "bad"
	}
	return "temporary"
}

// Error is why a look-up has no records.
type Error struct {
	Kind  Kind
	Name  string // what was asked for
	Type  string // "A", "AAAA", "MX", "TXT", "PTR"
	Text  string // what happened, one line, no final stop
	Cause error  // what lies beneath, or nil
}

// Error returns for example "dns: MX example.com: no such name".
func (e *Error) Error() string { return "dns: " + e.Type + " " + e.Name + ": " + e.Text }

// Unwrap returns the cause: context.Canceled, say, where the caller gave up.
func (e *Error) Unwrap() error { return e.Cause }

// IsNone tells whether err says for certain that there is no such record.
func IsNone(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind.None()
}

// IsTemporary tells whether err may go away by itself. An error from elsewhere may.
func IsTemporary(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind.Temporary()
	}
	return err != nil
}
