// Package dmarc judges whether the domain that readers see in From stands behind a
// message: SPF or DKIM passed for it or for its organization, and if not, what its
// owner asks receivers to do (RFC 9989, with the ways of RFC 7489 where asked for).
//
// The map, in the order of an evaluation:
//
//	dmarc.go         Evaluator, what it is given and what it answers
//	from.go          the domains of the From field, or why there are none
//	organization.go  the tree walk, and the public suffix list
//	record.go        ParseRecord: policies, reports, alignment modes
//	evaluate.go      alignment, and the policy that applies
//
// The package verifies nothing itself: it is told what SPF and DKIM found. Every
// verdict comes with its steps and the DNS records that led to it. Bounded are the
// domains of From (3), the identifiers that are compared (20), and the questions of
// one evaluation (60).
package dmarc

import (
	"cmp"
	"context"
	"time"

	"github.com/postern-mta/postern/core/dns"
)

// Verdict is a result as it stands in Authentication-Results (RFC 7489 11.2).
type Verdict string

// The verdicts.
const (
	None      Verdict = "none"      // the domain has no policy
	Pass      Verdict = "pass"      // SPF or DKIM passed for the domain
	Fail      Verdict = "fail"      // neither did
	TempError Verdict = "temperror" // it can't be told now
	PermError Verdict = "permerror" // there is no From that can be judged
)

// Policy is what a domain's owner asks for where mail fails.
type Policy string

// The policies, the strictest last.
const (
	Monitor    Policy = "none"
	Quarantine Policy = "quarantine"
	Reject     Policy = "reject"
)

// Organization is how the organizational domain of a name is found.
type Organization string

// The ways to find it.
const (
	TreeWalk   Organization = "tree-walk"   // RFC 9989 4.10: by what the domains above it publish
	SuffixList Organization = "suffix-list" // RFC 7489 3.2: by the public suffix list
)

// SPF is what SPF found of the reverse-path, or of HELO where that is null.
type SPF struct {
	Verdict string // pass, fail, temperror…; empty where nothing was found
	Domain  string
}

// Signature is what DKIM found of one signature.
type Signature struct {
	Verdict  string // pass, fail, temperror…
	Domain   string // d=
	Selector string // s=
}

// Message is what an evaluation is about.
type Message struct {
	From       []string // the values of all From fields
	SPF        SPF
	Signatures []Signature
}

// Evaluator judges messages. It must not be changed once it is in use, and is then
// safe for concurrent use.
type Evaluator struct {
	Resolver     dns.Resolver
	Organization Organization  // empty: TreeWalk
	Sample       func() int    // 0 to 99, for pct= of RFC 7489; nil: every message counts. With TreeWalk there is no pct
	Timeout      time.Duration // of one evaluation; 0: 20 s
}

// Step is one thing that an evaluation did.
type Step struct {
	What    string   `json:"what"`             // what it was about
	Query   string   `json:"query,omitempty"`  // what was asked: type and name
	Answer  []string `json:"answer,omitempty"` // the records
	Outcome string   `json:"outcome"`          // what came of it
}

// Aligned is an identifier that was compared with the domain of From.
type Aligned struct {
	Method   string `json:"method"` // spf or dkim
	Domain   string `json:"domain"`
	Selector string `json:"selector,omitempty"`
	Verdict  string `json:"verdict"` // what SPF or DKIM found
	Aligned  bool   `json:"aligned"`
}

// Result is the answer of an evaluation.
type Result struct {
	Verdict      Verdict   `json:"verdict"`
	From         string    `json:"from"`                   // the domain judged, in A-labels
	Policy       Policy    `json:"policy,omitempty"`       // what the owner publishes for it
	Tag          string    `json:"tag,omitempty"`          // the tag that says so: p, sp or np
	Disposition  Policy    `json:"disposition"`            // what the owner asks for this message: none where it passes
	Reason       string    `json:"reason,omitempty"`       // why it is less than Policy
	Domain       string    `json:"domain,omitempty"`       // whose record applies
	Record       string    `json:"record,omitempty"`       // that record
	Organization string    `json:"organization,omitempty"` // of From
	SPF          bool      `json:"spf"`                    // SPF passed, aligned
	DKIM         bool      `json:"dkim"`                   // a signature passed, aligned
	Identifiers  []Aligned `json:"identifiers"`
	Problem      string    `json:"problem,omitempty"` // why permerror or temperror
	Steps        []Step    `json:"steps"`

	Published Record       `json:"-"` // the record, read
	Method    Organization `json:"-"` // how organizational domains were found
}

// Evaluate judges a message. It always answers; ctx and the Timeout end it with
// temperror. Of several domains in From the strictest outcome counts.
func (e *Evaluator) Evaluate(ctx context.Context, m Message) Result {
	timeout := e.Timeout
	if timeout <= 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v := &evaluation{e: e, ctx: ctx, known: map[string]level{}}
	domains, wrong := FromDomains(m.From)
	if wrong != "" {
		v.note(Step{What: "From", Outcome: "permerror: " + wrong})
		return Result{Verdict: PermError, Disposition: Monitor, Problem: wrong, Steps: v.steps, Identifiers: []Aligned{}}
	}
	var worst Result
	for i, domain := range domains {
		r := v.domain(domain, m)
		if i == 0 || rank(r) > rank(worst) {
			worst = r
		}
	}
	if len(domains) > 1 {
		v.note(Step{What: "From", Outcome: "of its domains " + worst.From + " counts, whose outcome is the strictest"})
	}
	worst.Steps, worst.Method = v.steps, cmp.Or(e.Organization, TreeWalk)
	return worst
}

// rank orders results by how strict they are.
func rank(r Result) int {
	switch {
	case r.Verdict == Fail && r.Disposition == Reject:
		return 5
	case r.Verdict == Fail && r.Disposition == Quarantine:
		return 4
	case r.Verdict == TempError:
		return 3
	case r.Verdict == Fail:
		return 2
	case r.Verdict == None:
		return 1
	}
	return 0
}
