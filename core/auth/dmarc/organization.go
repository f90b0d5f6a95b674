package dmarc

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/postern-mta/postern/core/dns"
)

// maxQuestions bounds the questions of one evaluation.
const maxQuestions = 60

// walkLabels is the length at which a walk goes on from a name with more labels, so
// that it asks at most eight questions (RFC 9989 4.10).
const walkLabels = 7

// evaluation is one evaluation under way. It belongs to one goroutine.
type evaluation struct {
	e     *Evaluator
	ctx   context.Context
	known map[string]level // by name
	steps []Step
	asked int

	unsure string // which comparison can't be told now
}

// level is what one name of a walk publishes.
type level struct {
	name   string
	record *Record // nil: none that can be used
	err    error   // it can't be told now
}

var errQuestions = errors.New("more than " + strconv.Itoa(maxQuestions) + " questions to the DNS")

func (v *evaluation) note(s Step) {
	if len(v.steps) < 2*maxQuestions {
		v.steps = append(v.steps, s)
	}
}

// at asks what a name publishes, once in an evaluation.
func (v *evaluation) at(name string) level {
	if l, ok := v.known[name]; ok {
		return l
	}
	l := level{name: name}
	if v.asked++; v.asked > maxQuestions {
		l.err = errQuestions
		return l
	}
	s := Step{What: name, Query: "TXT _dmarc." + name}
	texts, err := v.e.Resolver.LookupTXT(v.ctx, "_dmarc."+name)
	switch {
	case err != nil && !nothing(err):
		l.err, s.Outcome = err, "temperror: "+err.Error()
	case err != nil:
		s.Outcome = "no record"
		s.Answer = []string{err.Error()}
	default:
		s.Outcome = l.take(texts, &s)
	}
	v.note(s)
	v.known[name] = l
	return l
}

// take chooses the DMARC record among the TXT records of a name: two are none (RFC
// 9989 4.10).
func (l *level) take(texts []string, s *Step) (outcome string) {
	var found []string
	for _, text := range texts {
		if isRecord(text) {
			found = append(found, text)
			s.Answer = append(s.Answer, strconv.Quote(text[:min(len(text), 600)]))
		}
	}
	switch len(found) {
	case 0:
		return "no DMARC record"
	case 1:
	default:
		return "several records, of which none counts"
	}
	r, err := readRecord(found[0])
	if err != nil {
		return "the record can't be used: " + err.Error()
	}
	l.record = &r
	if len(r.Mistakes) > 0 {
		return "a record, with mistakes: " + strings.Join(r.Mistakes, "; ")
	}
	return "a record"
}

// nothing tells whether there is certainly no record.
func nothing(err error) bool {
	if dns.IsNone(err) {
		return true
	}
	de, ok := errors.AsType[*dns.Error](err)
	return ok && de.Kind == dns.BadName
}

// walk asks a name and those above it, from the bottom, at most eight (RFC 9989
// 4.10). It ends at a record that says psd=n or psd=y.
func (v *evaluation) walk(domain string) ([]level, error) {
	var levels []level
	for name := domain; ; {
		l := v.at(name)
		if l.err != nil {
			return levels, l.err
		}
		levels = append(levels, l)
		if l.record != nil && l.record.PSD != 'u' {
			return levels, nil
		}
		if name = above(name, name == domain); name == "" {
			return levels, nil
		}
	}
}

// above is the next name of a walk: one label less, and from the start at most 7.
func above(name string, start bool) string {
	labels := strings.Split(name, ".")
	drop := 1
	if start && len(labels) > walkLabels {
		drop = len(labels) - walkLabels
	}
	if drop >= len(labels) {
		return ""
	}
	return strings.Join(labels[drop:], ".")
}

// organization is the organizational domain that a walk found (RFC 9989 4.10.2).
func organization(levels []level) string {
	start := levels[0].name
	top := start
	for i, l := range levels {
		if l.record == nil {
			continue
		}
		switch {
		case l.record.PSD == 'n':
			return l.name
		case l.record.PSD == 'y' && i > 0:
			return child(start, l.name)
		}
		top = l.name
	}
	return top
}

// child is the name one label below parent that name stands at or below.
func child(name, parent string) string {
	rest := strings.TrimSuffix(name, "."+parent)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + parent
}

// Organizational is the organizational domain of a name by the public suffix list
// (RFC 7489 3.2), empty for a public suffix or what is no name.
func Organizational(domain string) string {
	name, err := dns.Canonical(domain)
	if err != nil || strings.HasPrefix(domain, ".") {
		return ""
	}
	org, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return ""
	}
	return org
}
