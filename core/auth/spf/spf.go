// Package spf judges whether a client may send mail in a domain's name, by the
// record that the domain publishes (RFC 7208, internationalised as RFC 8616 says).
//
// The map, in the order of a check:
//
//	spf.go        Checker, what is asked of it and what it answers
//	evaluate.go   check_host: the record is found, its terms are tried in turn
//	mechanism.go  what each mechanism asks the DNS
//	record.go     ParseRecord: a record becomes terms, or has a mistake
//	macro.go      %{…}: parsed once, expanded where a name or a text is needed
//	header.go     the Received-SPF field
//
// A verdict always comes with its steps: each term that was tried, what was asked
// for it and which records were the answer. Everything is bounded: 10 terms that
// ask the DNS, 2 answers without a record, 10 names of an MX or PTR answer, the
// length of what a macro becomes, the number of steps, and the time of all of it.
package spf

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/dns"
)

// Verdict is one of the results of RFC 7208 2.6, as it stands in header fields.
type Verdict string

// The verdicts.
const (
	None      Verdict = "none"      // there is no domain to ask, or it has no record
	Neutral   Verdict = "neutral"   // the domain says nothing about the client
	Pass      Verdict = "pass"      // the client may send in the domain's name
	Fail      Verdict = "fail"      // it may not
	SoftFail  Verdict = "softfail"  // it probably may not
	TempError Verdict = "temperror" // it can't be told now
	PermError Verdict = "permerror" // the domain's records are wrong
)

// Identity is which name of the client was checked (RFC 7208 2.3, 2.4).
type Identity string

// The identities.
const (
	MailFrom Identity = "mailfrom"
	Helo     Identity = "helo"
)

// Client is what is known of the client and of what it said.
type Client struct {
	IP   netip.Addr
	Helo string // as given in HELO or EHLO
	// Local and Domain are the two sides of the reverse-path, the local part
	// without quotes; both empty for the null reverse-path.
	Local, Domain string
}

// Limits of a check (RFC 7208 4.6.4).
const (
	maxLookups = 10               // terms that ask the DNS
	maxVoids   = 2                // answers without a record
	maxNames   = 10               // names of one MX or PTR answer that are asked for addresses
	maxSteps   = 100              // steps that are told
	maxAnswers = 20               // records of one step that are told
	maxInput   = 1 << 10          // bytes of a name or local part that a client gives
	checkTime  = 20 * time.Second // RFC 7208 4.6.4: at least 20 seconds
)

// Checker judges clients. The zero Checker but for Resolver is ready; it must not
// be changed once it is in use, and is then safe for concurrent use.
type Checker struct {
	Resolver dns.Resolver
	Hostname string           // our name, for the macro r
	Now      func() time.Time // for the macro t; nil: time.Now
	Timeout  time.Duration    // of one check; 0: 20 s
}

// Step is one thing that a check did.
type Step struct {
	Depth   int      `json:"depth"`            // how many include and redirect lead here
	Domain  string   `json:"domain"`           // whose record says so
	Term    string   `json:"term,omitempty"`   // the term as published; empty where the record itself was asked for
	Query   string   `json:"query,omitempty"`  // what was asked: type and name
	Answer  []string `json:"answer,omitempty"` // the records, at most 20
	Outcome string   `json:"outcome"`          // what came of it
}

// Result is the answer of a check.
type Result struct {
	Verdict     Verdict  `json:"verdict"`
	Identity    Identity `json:"identity"`
	Domain      string   `json:"domain"`                // the domain checked, in A-labels and lower case; empty where there is none
	Sender      string   `json:"sender"`                // the sender that macros see
	Mechanism   string   `json:"mechanism,omitempty"`   // the directive that matched, as published, or "default"
	Source      string   `json:"source,omitempty"`      // the domain whose record holds it
	Record      string   `json:"record,omitempty"`      // the record of Domain
	Explanation string   `json:"explanation,omitempty"` // what the domain says of a fail, one line of ASCII
	Problem     string   `json:"problem,omitempty"`     // why none, temperror or permerror
	Lookups     int      `json:"lookups"`               // terms that asked the DNS
	Voids       int      `json:"voids"`                 // answers without a record
	Steps       []Step   `json:"steps"`
}

// Check judges the reverse-path of the client, and its HELO name where that is
// null (RFC 7208 2.4). It always answers; ctx and the Checker's Timeout end it with
// temperror.
func (c *Checker) Check(ctx context.Context, by Client) Result {
	if by.Domain == "" && by.Local == "" {
		// RFC 7208 2.4: the null reverse-path stands for postmaster at the HELO name.
		return c.check(ctx, by, MailFrom, "postmaster", by.Helo)
	}
	local := by.Local
	if local == "" {
		local = "postmaster" // RFC 7208 4.3
	}
	return c.check(ctx, by, MailFrom, local, by.Domain)
}

// CheckHelo judges the HELO name of the client (RFC 7208 2.3).
func (c *Checker) CheckHelo(ctx context.Context, by Client) Result {
	return c.check(ctx, by, Helo, "postmaster", by.Helo)
}

func (c *Checker) check(ctx context.Context, by Client, as Identity, local, domain string) Result {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = checkTime
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	e := evaluation{
		checker: c, ctx: ctx, ip: by.IP.Unmap().WithZone(""),
		helo: strings.TrimSuffix(bounded(by.Helo), "."), local: bounded(local), domain: bounded(domain),
	}
	e.result = Result{Identity: as, Sender: e.local + "@" + e.domain}
	name, wrong := checkable(e.domain)
	switch {
	case !e.ip.IsValid():
		e.result.Verdict, e.result.Problem = None, "the client has no IP address"
	case wrong != "":
		e.result.Verdict, e.result.Problem = None, wrong
	default:
		e.domain, e.result.Domain = name, name
		e.result.Sender = e.local + "@" + name
		v, explain := e.host(name, 0)
		e.result.Verdict = v
		if v == Fail && explain != nil {
			e.result.Explanation = e.explain(explain)
		}
	}
	e.result.Lookups, e.result.Voids = e.lookups, e.voids
	return e.result
}

// checkable returns a domain in A-labels and lower case, or why there is nothing
// to ask for it (RFC 7208 4.3): it is no domain name, or has only one label.
func checkable(domain string) (name, wrong string) {
	switch {
	case domain == "":
		return "", "there is no domain"
	case strings.HasPrefix(domain, "["):
		return "", "an address literal has no record"
	}
	name, err := dns.Canonical(domain)
	if err != nil {
		return "", "the domain is no domain name"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", "an address has no record"
	}
	if !strings.Contains(name, ".") {
		return "", "the domain has only one label"
	}
	return name, ""
}

func bounded(s string) string { return s[:min(len(s), maxInput)] }
