package intake

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/hooks"
)

// foreign tells whether the message comes from somebody who may have written anything
// into it: whoever may not relay, and users who log in. Hosts of our own that relay, such
// as a content filter, are let pass.
func (m *Mail) foreign() bool {
	s := m.tx.Session
	return !m.local && (!s.Relaying || s.Authenticated)
}

// maxForged bounds the fields of one message that are looked at; of more all go.
const maxForged = 100

// dropForged removes the Authentication-Results fields that claim to be ours, before any
// policy sees them, also where somebody signed them (RFC 8601 section 5).
func (m *Mail) dropForged() {
	var forged []int // counted from 1 at the top
	n := 0
	for f := range m.tx.Header.Named(results.Name) {
		if n++; n > maxForged || results.Claims(f.Value(), m.set.Hostname) {
			forged = append(forged, n)
		}
	}
	if forged == nil {
		return
	}
	run := hooks.HandlerRun{Policy: "authentication-results", Reason: "fields that claim to be ours are forged"}
	if n > maxForged {
		m.tx.Header.Remove(results.Name, 0)
		run.Edits = []hooks.Edit{{Kind: hooks.RemoveHeader, Name: results.Name}}
	} else {
		for _, at := range slices.Backward(forged) {
			m.tx.Header.Remove(results.Name, at)
			run.Edits = append(run.Edits, hooks.Edit{Kind: hooks.RemoveHeader, Name: results.Name, N: at})
		}
	}
	m.in.o.Record.Stage(m.tx, hooks.StageRun{Stage: hooks.Headers, Time: time.Now(), Handlers: []hooks.HandlerRun{run}})
}

// judged is our Authentication-Results field, of what policies found out about the
// sender and left as results (spf, dkim, dmarc, arc); nil where they found nothing out.
func (m *Mail) judged(host string) []byte {
	if f, any := m.results(host); any {
		return f.Bytes()
	}
	return nil
}

func (m *Mail) results(host string) (f results.Field, any bool) {
	f.ID = m.set.Hostname
	for _, method := range [...]struct {
		name string
		tell func(finding) []results.Method
	}{{"spf", spfMethods}, {"dkim", dkimMethods}, {"arc", arcMethods}, {"dmarc", dmarcMethods}} {
		if found, ok := m.tx.Results[method.name]; ok && finding(found).text("verdict") != "" {
			f.Methods = append(f.Methods, method.tell(found)...)
		}
	}
	if len(f.Methods) == 0 {
		return f, false
	}
	s := m.tx.Session
	if s.Authenticated {
		f.Methods = append(f.Methods, results.Method{Name: "auth", Word: "pass", Props: []results.Prop{{Type: "smtp", Name: "auth", Value: s.User}}})
	}
	if ip := s.Client.Addr().Unmap(); host != "" && ip.IsValid() { // RFC 8601 section 2.7.3
		f.Methods = append(f.Methods, results.Method{Name: "iprev", Word: "pass", Comment: host, Props: []results.Prop{{Type: "policy", Name: "iprev", Value: ip.String()}}})
	}
	return f, true
}

// finding is a result that a policy left: values of any kind, by name.
type finding map[string]any

func (f finding) text(name string) string {
	s, _ := f[name].(string)
	return s
}

func (f finding) list(name string) []any {
	l, _ := f[name].([]any)
	return l
}

func spfMethods(f finding) []results.Method {
	m := results.Method{Name: "spf", Word: f.text("verdict")}
	name := "mailfrom"
	if f.text("identity") == "helo" {
		name = "helo"
	}
	m.Props = []results.Prop{{Type: "smtp", Name: name, Value: f.text("domain")}}
	return []results.Method{m}
}

// dkimMethods are a result for each signature, as many as the policy tells of.
func dkimMethods(f finding) (list []results.Method) {
	for _, one := range f.list("signatures") {
		one, ok := one.(map[string]any)
		s := finding(one)
		if !ok || s.text("verdict") == "" {
			continue
		}
		m := results.Method{Name: "dkim", Word: s.text("verdict"), Reason: s.text("reason"), Props: []results.Prop{
			{Type: "header", Name: "d", Value: s.text("domain")},
			{Type: "header", Name: "i", Value: s.text("identity")},
			{Type: "header", Name: "s", Value: s.text("selector")},
			{Type: "header", Name: "a", Value: s.text("algorithm")},
			{Type: "header", Name: "b", Value: s.text("b")},
		}}
		var notes []string
		if bits, ok := s["bits"].(float64); ok && bits > 0 {
			notes = append(notes, fmt.Sprintf("%.0f-bit key", bits))
		}
		if testing, _ := s["testing"].(bool); testing {
			notes = append(notes, "testing")
		}
		m.Comment = strings.Join(notes, ", ")
		list = append(list, m)
	}
	if list == nil {
		list = append(list, results.Method{Name: "dkim", Word: f.text("verdict")})
	}
	return list
}

func arcMethods(f finding) []results.Method {
	m := results.Method{Name: "arc", Word: f.text("verdict"), Reason: f.text("reason")}
	if sealer := f.text("domain"); sealer != "" {
		m.Comment = "sealed by " + sealer
	}
	return []results.Method{m}
}

// dmarcMethods tells the policy and what becomes of the message by it, too.
func dmarcMethods(f finding) []results.Method {
	m := results.Method{Name: "dmarc", Word: f.text("verdict"), Reason: f.text("problem"), Props: []results.Prop{{Type: "header", Name: "from", Value: f.text("from")}}}
	if policy := f.text("policy"); policy != "" {
		m.Comment = "p=" + policy
		if disposition := f.text("disposition"); disposition != "" {
			m.Comment += " dis=" + disposition
		}
	}
	return []results.Method{m}
}
