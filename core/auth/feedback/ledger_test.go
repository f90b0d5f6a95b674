package feedback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/store"
)

// desk is a reporter with a clock, a store and a DNS of the test.
type desk struct {
	Reporter
	clock time.Time
	zone  *dns.Zone
	sent  map[string][]byte
	fail  error
}

func newDesk(t *testing.T) *desk {
	d := &desk{clock: time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC), sent: map[string][]byte{}}
	now := func() time.Time { return d.clock }
	memory := store.Memory(now)
	t.Cleanup(func() { _ = memory.Close() })
	d.zone = &dns.Zone{TXT: map[string][]string{
		"_dmarc.example.org":   {"v=DMARC1; p=reject; sp=none; rua=mailto:dmarc@example.org,mailto:in@reports.example,mailto:no@other.example,mailto:tiny@example.org!10"},
		"_dmarc.quiet.example": {"v=DMARC1; p=reject"}, "example.org._report._dmarc.reports.example": {"v=DMARC1;"},
	}}
	d.Reporter = Reporter{
		Ledger: NewLedger(memory, now), Resolver: d.zone, Who: func() Who { return Who{"mx.example.net", "Example, Net", "noreply-dmarc@mx.example.net"} }, Now: now, Log: slog.New(slog.DiscardHandler),
		Send: func(_ context.Context, to string, m []byte) error {
			if d.fail == nil {
				d.sent[to] = m
			}
			return d.fail
		},
	}
	return d
}

func (d *desk) judge(t *testing.T, from, ip string, signature dmarc.Signature) {
	t.Helper()
	r := (&dmarc.Evaluator{Resolver: d.zone}).Evaluate(t.Context(), dmarc.Message{From: []string{from}, SPF: dmarc.SPF{Verdict: "fail", Domain: "bounce.example"}, Signatures: []dmarc.Signature{signature}})
	if err := d.Ledger.Add(t.Context(), &r, netip.MustParseAddr(ip), "bounce.example", string(r.Disposition), ""); err != nil {
		t.Fatal(err)
	}
}

func TestReportsOfADay(t *testing.T) {
	d := newDesk(t)
	pass := dmarc.Signature{Verdict: "pass", Domain: "example.org", Selector: "s1"}
	d.judge(t, "a@example.org", "192.0.2.7", pass)
	d.judge(t, "b@example.org", "192.0.2.7", pass)
	d.judge(t, "a@quiet.example", "192.0.2.7", pass)
	if err := d.Ledger.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.judge(t, "c@example.org", "192.0.2.7", pass)
	d.judge(t, "c@news.example.org", "2001:db8::1", dmarc.Signature{Verdict: "fail", Domain: "example.org"})
	d.SendDue(t.Context())
	if len(d.sent) != 0 {
		t.Fatal("sent before the day was over")
	}
	d.clock = d.clock.Add(2 * time.Hour)
	d.judge(t, "tomorrow@example.org", "192.0.2.7", pass)
	d.fail = errors.New("the queue is closed")
	d.SendDue(t.Context())
	d.fail = nil
	d.SendDue(t.Context())
	if len(d.sent) != 2 || d.sent["dmarc@example.org"] == nil || d.sent["in@reports.example"] == nil {
		t.Fatalf("sent to %d: %v", len(d.sent), d.sent)
	}
	mail := d.sent["dmarc@example.org"]
	list, err := Read(mail)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v\n%s", err, mail)
	}
	r := list[0]
	if r.Reporter != "Example, Net" || r.Domain != "example.org" || r.P != "reject" || r.SP != "none" || r.Begin.Format(time.DateOnly) != "2026-11-22" || r.End.Sub(r.Begin) != 24*time.Hour-time.Second || len(r.Records) != 2 {
		t.Errorf("%+v", r)
	}
	one, other := r.Records[0], r.Records[1]
	if one.Count != 3 {
		one, other = other, one
	}
	if one.Count != 3 || one.Source.String() != "192.0.2.7" || one.DKIM != "pass" || one.SPF != "fail" || one.Disposition != "none" || one.Signatures[0].Selector != "s1" || one.Senders[0].Domain != "bounce.example" {
		t.Errorf("%+v", one)
	}
	if other.Count != 1 || other.From != "news.example.org" || other.DKIM != "fail" || other.Disposition != "none" {
		t.Errorf("%+v", other)
	}
	n, _ := message.HeaderLen(mail)
	subject, _ := message.ParseHeader(mail[:n]).Get("Subject")
	if !strings.HasPrefix(subject, "Report Domain: example.org Submitter: mx.example.net Report-ID: <") || !strings.Contains(string(mail), `filename="mx.example.net!example.org!1795305600!1795391999.xml.gz"`) {
		t.Errorf("%s\n%s", subject, mail)
	}
	clear(d.sent)
	d.SendDue(t.Context())
	if len(d.sent) != 0 {
		t.Error("sent twice")
	}
	d.clock = d.clock.Add(24 * time.Hour)
	d.SendDue(t.Context())
	if len(d.sent) != 2 {
		t.Errorf("the next day: %d", len(d.sent))
	}
}

// Whether others want the report can't be told now: it waits.
func TestReportWaitsForTheDNS(t *testing.T) {
	d := newDesk(t)
	d.zone.TXT["_dmarc.example.org"] = []string{"v=DMARC1; p=reject; rua=mailto:in@slow.example"}
	d.zone.Fail = map[string]dns.Kind{"example.org._report._dmarc.slow.example": dns.Failure}
	d.judge(t, "a@example.org", "192.0.2.7", dmarc.Signature{})
	d.clock = d.clock.Add(2 * time.Hour)
	d.SendDue(t.Context())
	due, err := d.Ledger.Due(t.Context())
	if err != nil || len(due) != 1 || len(d.sent) != 0 {
		t.Errorf("%v %v %v", due, err, d.sent)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	d := newDesk(t)
	for i := range 3 * maxRows {
		d.judge(t, "a@example.org", fmt.Sprintf("10.0.%d.%d", i>>8, i&255), dmarc.Signature{})
	}
	if n := len(d.Ledger.books["example.org"].Rows); n != maxRows {
		t.Errorf("%d rows", n)
	}
	d.clock = d.clock.Add(2 * time.Hour)
	if err := d.Ledger.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The report says what it lacks.
	d.SendDue(t.Context())
	list, err := Read(d.sent["dmarc@example.org"])
	if err != nil || len(list) != 1 || len(list[0].Records) != maxRows || len(list[0].Errors) != 1 || !strings.HasPrefix(list[0].Errors[0], "2000 messages are left out") {
		t.Errorf("%v: %d records, %q", err, len(list[0].Records), list[0].Errors)
	}
}

// Rows of any length are no more than the store takes, and more domains than a day has
// reports on keep nobody else from theirs.
func TestLedgerFitsTheStore(t *testing.T) {
	d := newDesk(t)
	count := func(domain, from string, signatures int) {
		t.Helper()
		r := &dmarc.Result{Verdict: dmarc.Fail, Domain: domain, From: from, Record: "v=DMARC1; p=none; rua=mailto:a@" + domain, Published: dmarc.Record{Aggregate: []dmarc.URI{{Address: "a@" + domain}}}}
		for range signatures {
			r.Identifiers = append(r.Identifiers, dmarc.Aligned{Method: "dkim", Domain: strings.Repeat("<&>", 80), Verdict: "fail"})
		}
		if err := d.Ledger.Add(t.Context(), r, netip.MustParseAddr("192.0.2.7"), "bounce.example", "none", ""); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		count("long.example", fmt.Sprintf("%d.long.example", i), 20)
		if i%60 == 0 {
			if err := d.Ledger.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range maxBooks + 10 {
		count(fmt.Sprintf("%d.example", i), "x.example", 0)
	}
	for i := range 5 { // in another flush
		if err := d.Ledger.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		count(fmt.Sprintf("late%d.example", i), "x.example", 0)
	}
	if err := d.Ledger.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := d.Ledger.Lost(); n != 11+5 || d.Ledger.Lost() != 0 || d.Ledger.rows != 0 || len(d.Ledger.books) != 0 {
		t.Errorf("%d lost, %d rows, %d books", n, d.Ledger.rows, len(d.Ledger.books))
	}
	d.clock = d.clock.Add(2 * time.Hour)
	due, err := d.Ledger.Due(t.Context())
	if err != nil || len(due) != maxBooks {
		t.Fatal(len(due), err)
	}
	r, _, err := d.Ledger.Take(t.Context(), due[0][0], "long.example")
	if err != nil || len(r.Records) < 10 || len(r.Errors) != 1 {
		t.Errorf("%d records, %q, %v", len(r.Records), r.Errors, err)
	}
	n := int64(0)
	for _, row := range r.Records {
		n += row.Count
	}
	if left := int64(0); r.Errors != nil {
		if _, err := fmt.Sscan(r.Errors[0], &left); err != nil || n+left != 200 {
			t.Errorf("%d counted, %d left out: %v", n, left, err)
		}
	}
}

// What is softer than the domain asks has a reason of its own.
func TestReasons(t *testing.T) {
	d := newDesk(t)
	d.zone.TXT["_dmarc.example.org"] = []string{"v=DMARC1; p=reject; t=y; pct=0; rua=mailto:dmarc@example.org"}
	for _, way := range []dmarc.Organization{dmarc.TreeWalk, dmarc.SuffixList} {
		r := (&dmarc.Evaluator{Resolver: d.zone, Organization: way, Sample: func() int { return 50 }}).Evaluate(t.Context(), dmarc.Message{From: []string{"a@example.org"}})
		if err := d.Ledger.Add(t.Context(), &r, netip.MustParseAddr("192.0.2.7"), "", "none", "enforced is monitor"); err != nil {
			t.Fatal(err)
		}
	}
	d.clock = d.clock.Add(2 * time.Hour)
	d.SendDue(t.Context())
	list, err := Read(d.sent["dmarc@example.org"])
	if err != nil || len(list) != 1 || list[0].Method != "psl" || len(list[0].Records) != 2 {
		t.Fatalf("%v %+v", err, list)
	}
	got := map[string]bool{}
	for _, r := range list[0].Records {
		got[fmt.Sprint(r.Reasons)] = true
	}
	if !got["[{policy_test_mode } {local_policy enforced is monitor}]"] || !got["[{sampled_out } {local_policy enforced is monitor}]"] {
		t.Error(got)
	}
}
