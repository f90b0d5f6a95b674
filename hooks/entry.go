package hooks

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Mode says what becomes of a policy's answers.
type Mode uint8

// The modes.
const (
	Enforce Mode = iota
	Shadow       // asked, traced and counted; nothing happens, nobody waits
	Off
)

// String is the mode's name in the configuration.
func (m Mode) String() string { return [...]string{"enforce", "shadow", "off"}[m] }

// DefaultTimeout bounds a handler's call where its entry names no time.
const DefaultTimeout = 30 * time.Second

// When limits a policy to some of the mail without any code. An empty list
// limits nothing. A limit on something that a stage can't know yet, such as the
// recipient's domain at connect, keeps the policy from running there.
type When struct {
	Listener      []string
	Client        []netip.Prefix
	ClientNot     []netip.Prefix
	RcptDomain    []string // example.net, *.example.net, *
	SenderDomain  []string // likewise; "" is the null path
	Authenticated *bool
}

// Matches tells whether the policy is to run for tx.
func (w *When) Matches(tx *Transaction) bool {
	s := tx.Session
	ip := s.Client.Addr().Unmap()
	switch {
	case len(w.Listener) > 0 && !slices.Contains(w.Listener, s.Listener),
		len(w.Client) > 0 && !containsAddr(w.Client, ip),
		len(w.ClientNot) > 0 && containsAddr(w.ClientNot, ip),
		w.Authenticated != nil && *w.Authenticated != s.Authenticated:
		return false
	}
	if len(w.SenderDomain) > 0 && (tx.ID == "" || !MatchDomain(w.SenderDomain, tx.Sender.Domain)) {
		return false
	}
	if len(w.RcptDomain) == 0 {
		return true
	}
	if tx.Current != nil {
		return MatchDomain(w.RcptDomain, tx.Current.Address.Domain)
	}
	return slices.ContainsFunc(tx.Recipients, func(r *Recipient) bool { return MatchDomain(w.RcptDomain, r.Address.Domain) })
}

func containsAddr(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// MatchDomain tells whether a lower-case domain is in a list of patterns:
// example.net, *.example.net (any name below it), * (every name).
func MatchDomain(patterns []string, domain string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if p == "*" || p == domain {
			return true
		}
		rest, wild := strings.CutPrefix(p, "*.")
		return wild && len(domain) > len(rest)+1 && strings.HasSuffix(domain, rest) && domain[len(domain)-len(rest)-1] == '.'
	})
}

// Entry is one [[policy]] of the configuration: a handler and how it is run.
type Entry struct {
	Name     string // unique in the chain
	Handler  Handler
	Mode     Mode
	When     When
	Timeout  time.Duration // of one call; 0: DefaultTimeout
	FailOpen bool          // on_failure = "pass": a failure is as if the policy had passed
	Immune   []string      // "relaying", "authenticated": such clients are not judged
	DenyAt   Stage         // keeps its refusals until that stage, one of DenyStages; 0: they are said at once
	Sample   float64       // part of the clients that are judged, over 0 and up to 1, by a hash of their address; 0: all
	Every    time.Duration // between two calls of stage tick; 0: none
}

// sampled tells whether the client is one of the part that the policy judges. A
// client that has no address is.
func (e *Entry) sampled(s *Session) bool {
	if e.Sample <= 0 || e.Sample >= 1 || !s.Client.Addr().IsValid() {
		return true
	}
	h := uint64(14695981039346656037) // FNV-1a
	add := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for i := range len(e.Name) { // policies take different clients
		add(e.Name[i])
	}
	for _, b := range s.Client.Addr().As16() {
		add(b)
	}
	h ^= h >> 33 // its high bits hardly know the last bytes
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return float64(h>>11)/(1<<53) < e.Sample
}

// immune tells whether the policy spares the client.
func (e *Entry) immune(s *Session) bool {
	for _, who := range e.Immune {
		if who == "relaying" && s.Relaying || who == "authenticated" && s.Authenticated {
			return true
		}
	}
	return false
}

// Count is how often a policy was asked and what came of it.
type Count struct {
	Name     string
	Mode     Mode
	Calls    uint64
	Failures uint64
	Verbs    [verbEnd]uint64 // by Verb
}

type counters struct {
	calls, failures atomic.Uint64
	verbs           [verbEnd]atomic.Uint64
}
