package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/dns"
)

// evaluation is one check under way. It belongs to one goroutine.
type evaluation struct {
	checker *Checker
	ctx     context.Context
	ip      netip.Addr
	helo    string
	local   string // of the sender
	domain  string // of the sender
	result  Result

	lookups int // terms that asked the DNS
	voids   int
	names   []string // of the client, that lead back to it
	asked   bool     // whether names are known
}

// trouble ends a check: temperror or permerror, and why.
type trouble struct {
	verdict Verdict
	text    string
}

func (t trouble) Error() string { return t.text }

func permanent(format string, args ...any) error {
	return trouble{PermError, fmt.Sprintf(format, args...)}
}

func temporary(err error) error { return trouble{TempError, err.Error()} }

func (e *evaluation) now() time.Time {
	if e.checker.Now != nil {
		return e.checker.Now()
	}
	return time.Now()
}

// note tells a step.
func (e *evaluation) note(s Step) {
	switch n := len(e.result.Steps); {
	case n < maxSteps:
		e.result.Steps = append(e.result.Steps, s)
	case n == maxSteps:
		e.result.Steps = append(e.result.Steps, Step{Depth: s.Depth, Domain: s.Domain, Outcome: "further steps are not told"})
	}
}

// end is the verdict of what went wrong; the reason is kept, and the step told.
func (e *evaluation) end(err error, s Step) Verdict {
	t, ok := errors.AsType[trouble](err)
	if !ok {
		t = trouble{TempError, err.Error()}
	}
	if e.result.Problem == "" {
		e.result.Problem = t.text
	}
	s.Outcome = string(t.verdict) + ": " + t.text
	e.note(s)
	return t.verdict
}

// explanation is where the reason of a fail stands: the exp modifier of a domain.
type explanation struct {
	domain string
	target macros
}

// host is check_host() of RFC 7208 4 for a domain that can be asked. Only a fail
// has an explanation.
func (e *evaluation) host(domain string, depth int) (Verdict, *explanation) {
	s := Step{Depth: depth, Domain: domain, Query: "TXT " + domain}
	text, err := e.record(domain, &s)
	if err != nil {
		return e.end(err, s), nil
	}
	if text == "" {
		s.Outcome = "none: no SPF record"
		if depth == 0 {
			e.result.Problem = "the domain has no SPF record"
		}
		e.note(s)
		return None, nil
	}
	if depth == 0 {
		e.result.Record = text
	}
	r, err := ParseRecord(text)
	if err != nil {
		return e.end(permanent("the record of %s: %v", domain, err), s), nil
	}
	s.Outcome = "the record"
	e.note(s)
	for i := range r.directives {
		d := &r.directives[i]
		s := Step{Depth: depth, Domain: domain, Term: d.text}
		match, err := e.match(d, domain, &s)
		if err != nil {
			return e.end(err, s), nil
		}
		if !match {
			if s.Outcome == "" {
				s.Outcome = "no match"
			}
			e.note(s)
			continue
		}
		s.Outcome = "match: " + string(d.verdict)
		e.note(s)
		e.result.Mechanism, e.result.Source = d.text, domain
		if d.verdict == Fail && r.explain != nil {
			return d.verdict, &explanation{domain, r.explain}
		}
		return d.verdict, nil
	}
	if r.redirect != nil {
		return e.redirect(r, domain, depth)
	}
	e.note(Step{Depth: depth, Domain: domain, Outcome: "no term matches: neutral"}) // RFC 7208 4.7
	e.result.Mechanism, e.result.Source = "default", domain
	return Neutral, nil
}

// redirect goes on with the record of another domain (RFC 7208 6.1).
func (e *evaluation) redirect(r *Record, domain string, depth int) (Verdict, *explanation) {
	s := Step{Depth: depth, Domain: domain, Term: r.redirectAs}
	if err := e.count(); err != nil {
		return e.end(err, s), nil
	}
	name, err := e.name(r.redirect, domain)
	if errors.Is(err, errLocal) {
		s.Outcome = errLocal.Error() + ": neutral"
		e.note(s)
		return Neutral, nil
	}
	target, wrong := checkable(name)
	if wrong != "" {
		return e.end(permanent("redirect to %s: %s", printable(name), wrong), s), nil
	}
	s.Outcome = "on to " + target
	e.note(s)
	v, explain := e.host(target, depth+1)
	if v == None {
		return e.end(permanent("redirect to %s, which has no SPF record", target), s), nil
	}
	return v, explain
}

// record is the SPF record of a domain, empty where it has none (RFC 7208 4.4, 4.5).
func (e *evaluation) record(domain string, s *Step) (string, error) {
	texts, err := e.checker.Resolver.LookupTXT(e.ctx, domain)
	switch {
	case err == nil:
	case nothing(err):
		s.Answer = []string{err.Error()}
		return "", nil
	default:
		return "", temporary(err)
	}
	found, ok := "", false
	for _, text := range texts {
		if _, is := cutVersion(text); !is {
			continue
		}
		s.answer(strconv.Quote(text))
		if ok {
			return "", permanent("%s has more than one SPF record", domain)
		}
		found, ok = text, true
	}
	return found, nil
}

// count counts a term that asks the DNS (RFC 7208 4.6.4).
func (e *evaluation) count() error {
	if e.lookups++; e.lookups > maxLookups {
		e.lookups = maxLookups
		return permanent("more than %d terms that ask the DNS", maxLookups)
	}
	return nil
}

// void counts an answer without a record (RFC 7208 4.6.4).
func (e *evaluation) void() error {
	if e.voids++; e.voids > maxVoids {
		return permanent("more than %d look-ups found nothing", maxVoids)
	}
	return nil
}

// nothing tells whether a look-up found for certain that there is nothing, or
// could not be asked because the name is none.
func nothing(err error) bool {
	if dns.IsNone(err) {
		return true
	}
	de, ok := errors.AsType[*dns.Error](err)
	return ok && de.Kind == dns.BadName
}

// answer tells a record of a step.
func (s *Step) answer(record string) {
	const most = 600
	switch n := len(s.Answer); {
	case n < maxAnswers:
		if len(record) > most {
			record = record[:most] + "..."
		}
		s.Answer = append(s.Answer, record)
	case n == maxAnswers:
		s.Answer = append(s.Answer, "...")
	}
}

// maxExplanation bounds what a domain may have us say in a reply.
const maxExplanation = 400

// explain is the text of a fail (RFC 7208 6.2), empty where the domain gives none
// that can be used: whatever is wrong with it, the verdict stands.
func (e *evaluation) explain(x *explanation) string {
	s := Step{Domain: x.domain, Term: "exp", Outcome: "not used"}
	defer func() { e.note(s) }()
	name, err := e.name(x.target, x.domain)
	if err != nil {
		s.Outcome = err.Error()
		return ""
	}
	s.Query = "TXT " + printable(name)
	texts, err := e.checker.Resolver.LookupTXT(e.ctx, name)
	if err != nil {
		s.Outcome = "not used: " + err.Error()
		return ""
	}
	for _, text := range texts {
		s.answer(strconv.Quote(text))
	}
	if len(texts) != 1 {
		return ""
	}
	m, err := parseMacros(texts[0], textLetters, true)
	if err != nil {
		s.Outcome = "not used: " + err.Error()
		return ""
	}
	text := strings.TrimSpace(e.expand(m, x.domain))
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			s.Outcome = "not used: it is not one line of ASCII"
			return ""
		}
	}
	s.Outcome = "the explanation"
	return text[:min(len(text), maxExplanation)]
}
