package dmarc

import (
	"strings"

	"github.com/postern-mta/postern/core/dns"
)

// maxIdentifiers bounds the signatures that are compared.
const maxIdentifiers = 20

// found is the policy that applies to a domain.
type found struct {
	record *Record
	at     string // whose record it is
	org    string // the domain's organizational domain
}

// domain judges a message for one domain of From.
func (v *evaluation) domain(domain string, m Message) Result {
	r := Result{From: domain, Disposition: Monitor, Identifiers: []Aligned{}}
	f, err := v.policy(domain)
	if err != nil {
		r.Verdict, r.Problem = TempError, err.Error()
		return r
	}
	r.Organization = f.org
	if f.record == nil {
		r.Verdict = None
		v.note(Step{What: domain, Outcome: "none: no policy applies"})
		return r
	}
	r.Domain, r.Record, r.Published = f.at, f.record.Text, *f.record
	r.Policy, r.Tag = v.applies(domain, f)
	v.unsure = ""
	v.identifiers(&r, f, m)
	switch {
	case r.SPF || r.DKIM:
		r.Verdict = Pass
	case v.unsure != "":
		r.Verdict, r.Problem = TempError, v.unsure
	default:
		r.Verdict = Fail
		r.Disposition, r.Reason = v.disposition(r.Policy, f.record)
	}
	outcome := string(r.Verdict)
	if r.Verdict == Fail {
		outcome += ": " + r.Tag + "=" + string(r.Policy) + " of " + f.at
		if r.Reason != "" {
			outcome += ", softened to " + string(r.Disposition) + ": " + r.Reason
		}
	}
	v.note(Step{What: domain, Outcome: outcome})
	return r
}

// policy finds the record that applies (RFC 9989 4.10.1): the domain's own, else that
// of its organizational domain, else that of the public suffix above.
func (v *evaluation) policy(domain string) (found, error) {
	if v.e.Organization == SuffixList {
		return v.listedPolicy(domain)
	}
	levels, err := v.walk(domain)
	if err != nil {
		return found{}, err
	}
	f := found{org: organization(levels)}
	if r := levels[0].record; r != nil {
		f.record, f.at = r, domain
		return f, nil
	}
	for _, l := range levels {
		if l.record != nil && (l.name == f.org || l.record.PSD == 'y') {
			f.record, f.at = l.record, l.name
			return f, nil
		}
	}
	return f, nil
}

// listedPolicy is policy as RFC 7489 6.6.3 has it: the domain's own record, else that
// of the organizational domain by the public suffix list.
func (v *evaluation) listedPolicy(domain string) (found, error) {
	f := found{org: Organizational(domain)}
	if f.org == "" {
		f.org = domain
	}
	for _, name := range []string{domain, f.org} {
		l := v.at(name)
		if l.err != nil {
			return found{}, l.err
		}
		if l.record != nil {
			f.record, f.at = l.record, name
			break
		}
	}
	return f, nil
}

// applies chooses between p, sp and np.
func (v *evaluation) applies(domain string, f found) (p Policy, tag string) {
	r := f.record
	if domain == f.at {
		return r.Policy, "p"
	}
	if r.HasNP && v.e.Organization != SuffixList && v.missing(domain) {
		return r.Missing, "np"
	}
	if r.HasSP {
		return r.Subdomains, "sp"
	}
	return r.Policy, "p"
}

// missing tells whether a name has neither addresses nor mail exchangers (RFC 9989
// 3.2.13). What can't be told now counts as there.
func (v *evaluation) missing(domain string) bool {
	s := Step{What: domain, Query: "A, AAAA, MX " + domain, Outcome: "the name does not exist: np counts"}
	_, mx := v.e.Resolver.LookupMX(v.ctx, domain)
	_, a := v.e.Resolver.LookupA(v.ctx, domain)
	_, aaaa := v.e.Resolver.LookupAAAA(v.ctx, domain)
	for _, err := range []error{mx, a, aaaa} {
		if err == nil || !dns.IsNone(err) {
			s.Outcome = "the name exists"
			v.note(s)
			return false
		}
	}
	v.note(s)
	return true
}

// disposition is what the owner asks for a message that failed: testing (RFC 9989
// 4.7, t=y) and, as RFC 7489 6.6.4 had it, sampling ask for one step less.
func (v *evaluation) disposition(p Policy, r *Record) (Policy, string) {
	softer := map[Policy]Policy{Reject: Quarantine, Quarantine: Monitor, Monitor: Monitor}[p]
	switch {
	case p == Monitor:
		return p, ""
	case v.e.Organization != SuffixList:
		if r.Testing {
			return softer, "the domain is testing (t=y)"
		}
	case r.Percent < 100 && v.e.Sample != nil && v.e.Sample() >= r.Percent:
		return softer, "sampled out (pct)"
	}
	return p, ""
}

// identifiers compares what SPF and DKIM found with the domain of From (RFC 9989
// 4.4). A check that could have passed and failed for now leaves the verdict open.
func (v *evaluation) identifiers(r *Result, f found, m Message) {
	if m.SPF.Domain != "" {
		one := Aligned{Method: "spf", Domain: m.SPF.Domain, Verdict: m.SPF.Verdict}
		relevant := one.Verdict == "pass" || one.Verdict == "temperror"
		one.Aligned = relevant && v.aligned(&one, r.From, f, f.record.SPF)
		r.SPF = one.Aligned && one.Verdict == "pass"
		if one.Aligned && one.Verdict == "temperror" {
			v.unsure = "SPF of " + one.Domain + " can't be told now"
		}
		r.Identifiers = append(r.Identifiers, one)
	}
	for i, s := range m.Signatures {
		if i == maxIdentifiers {
			break
		}
		one := Aligned{Method: "dkim", Domain: s.Domain, Selector: s.Selector, Verdict: s.Verdict}
		relevant := one.Verdict == "pass" || one.Verdict == "temperror"
		one.Aligned = relevant && v.aligned(&one, r.From, f, f.record.DKIM)
		r.DKIM = r.DKIM || one.Aligned && one.Verdict == "pass"
		if one.Aligned && one.Verdict == "temperror" {
			v.unsure = "the signature of " + one.Domain + " can't be told now"
		}
		r.Identifiers = append(r.Identifiers, one)
	}
}

// aligned tells whether an identifier is that of the domain: the same name, or, where
// mode is 'r', of the same organization. The identifier's name becomes canonical.
func (v *evaluation) aligned(one *Aligned, from string, f found, mode byte) bool {
	name, err := dns.Canonical(one.Domain)
	if err != nil {
		return false
	}
	one.Domain = name
	s := Step{What: one.Method + " " + one.Verdict + " for " + name}
	switch {
	case name == from:
		s.Outcome = "aligned: the domain of From"
	case mode == 's':
		s.Outcome = "not aligned: " + from + " wants the very domain"
	case lastLabel(name) != lastLabel(from):
		s.Outcome = "not aligned: no organization in common"
	default:
		org, err := v.organization(name)
		switch {
		case err != nil:
			s.Outcome = "can't be told now: " + err.Error()
			v.unsure = "the organization of " + name + ": " + err.Error()
		case org == f.org:
			s.Outcome = "aligned: the organization " + org
		default:
			s.Outcome = "not aligned: " + org + " is not " + f.org
		}
	}
	v.note(s)
	return strings.HasPrefix(s.Outcome, "aligned")
}

// organization is the organizational domain of an identifier.
func (v *evaluation) organization(name string) (string, error) {
	if v.e.Organization == SuffixList {
		if org := Organizational(name); org != "" {
			return org, nil
		}
		return name, nil
	}
	levels, err := v.walk(name)
	if err != nil {
		return "", err
	}
	return organization(levels), nil
}

func lastLabel(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
