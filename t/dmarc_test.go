package t

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/auth/feedback"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/store"
)

// What was judged yesterday is reported today, as mail through the queue, and once.
func TestDMARCReportsAreSent(t *testing.T) {
	h := newHouse(t, built(t, filepath.Join(t.TempDir(), "postern"), "../cmd/postern"))
	h.configure("[dmarc]\nreports = true\norganization = \"Example, Ltd\"\n")
	yesterday := time.Now().Add(-24 * time.Hour)
	memory, err := store.Open(filepath.Join(h.dir, "var", "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ledger := feedback.NewLedger(memory, func() time.Time { return yesterday })
	zone := &dns.Zone{TXT: map[string][]string{"_dmarc.example.net": {"v=DMARC1; p=reject; rua=mailto:owner@example.net"}}}
	r := (&dmarc.Evaluator{Resolver: zone}).Evaluate(t.Context(), dmarc.Message{From: []string{"x@example.net"}})
	for range 3 {
		if err := ledger.Add(t.Context(), &r, netip.MustParseAddr("192.0.2.7"), "bounce.example", "reject", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := ledger.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := memory.Close(); err != nil {
		t.Fatal(err)
	}
	shut := h.open()
	h.eventually("the report is delivered", func() bool { return len(h.mailbox("owner")) > 0 })
	mail := h.mailbox("owner")[0]
	list, err := feedback.Read([]byte(strings.ReplaceAll(mail, "\n", "\r\n")))
	if err != nil || len(list) != 1 {
		t.Fatalf("%v\n%s", err, mail)
	}
	got := list[0]
	if got.Reporter != "Example, Ltd" || got.Email != "noreply-dmarc@mx.example.net" || got.Domain != "example.net" || len(got.Records) != 1 || got.Records[0].Count != 3 || got.Records[0].Disposition != "reject" {
		t.Errorf("%+v", got)
	}
	shut()
	h.open()
	if n := len(h.mailbox("owner")); n != 1 {
		t.Errorf("%d reports", n)
	}
}
