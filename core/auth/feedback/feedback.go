// Package feedback reads and writes DMARC aggregate reports (RFC 7489 appendix C, RFC
// 9990): what receivers saw of mail in a domain's name.
//
//	feedback.go  Report and its records
//	read.go      Read: reports out of XML, gzip, zip or mail, all of it bounded
//	write.go     Write: a report as gzipped XML, as receivers send it
//	write.go     Write: a report as gzipped XML, and the message that carries it
//	ledger.go    Ledger: what was judged, by day and domain, in the store
//	reporter.go  Reporter: the reports of days that are over, sent to those who may have them
//	tally.go     Tally: what many reports say together; plot.go draws it
//
// A report comes from outside and is data: no entity of it is expanded, and bytes,
// records, texts and nested files have limits.
package feedback

import (
	"net/netip"
	"time"
)

// Report is one aggregate report.
type Report struct {
	Reporter string    `json:"reporter"` // org_name
	Email    string    `json:"email"`
	ID       string    `json:"id"`
	Begin    time.Time `json:"begin"`
	End      time.Time `json:"end"`
	Errors   []string  `json:"errors,omitempty"`

	Domain string `json:"domain"` // policy_published
	DKIM   string `json:"adkim,omitempty"`
	SPF    string `json:"aspf,omitempty"`
	P      string `json:"p,omitempty"`
	SP     string `json:"sp,omitempty"`
	NP     string `json:"np,omitempty"`
	FO     string `json:"fo,omitempty"`
	Pct    string `json:"pct,omitempty"`
	// Testing is "y" where the policy says t=y.
	Testing string `json:"testing,omitempty"`
	Method  string `json:"discovery_method,omitempty"` // "treewalk" or "psl"

	Records []Record `json:"records"`
}

// Record is a row: messages of one client that were judged alike.
type Record struct {
	Source      netip.Addr `json:"source"`
	Count       int64      `json:"count"`
	Disposition string     `json:"disposition"` // none, quarantine, reject; pass in RFC 9990
	DKIM        string     `json:"dkim"`        // aligned: pass or fail
	SPF         string     `json:"spf"`
	Reasons     []Reason   `json:"reasons,omitempty"`

	From         string `json:"header_from"`
	EnvelopeFrom string `json:"envelope_from,omitempty"`
	EnvelopeTo   string `json:"envelope_to,omitempty"`

	Signatures []Found `json:"auth_dkim,omitempty"`
	Senders    []Found `json:"auth_spf,omitempty"`
}

// Passed tells whether SPF or DKIM passed, aligned.
func (r *Record) Passed() bool { return r.DKIM == "pass" || r.SPF == "pass" }

// Reason is why a policy was not applied as published.
type Reason struct {
	Type    string `json:"type"`
	Comment string `json:"comment,omitempty"`
}

// Found is what DKIM or SPF found of a domain.
type Found struct {
	Domain   string `json:"domain"`
	Selector string `json:"selector,omitempty"`
	Scope    string `json:"scope,omitempty"`
	Result   string `json:"result"`
}
