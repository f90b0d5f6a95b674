package t

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth/arc"
	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/auth/spf"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// BenchmarkAuthentication is SPF, DKIM (RSA of 2048 bits), DMARC and ARC (a set of a
// forwarder, with a key of either kind) of a message of 4 KB, with the DNS's answers at
// hand.
func BenchmarkAuthentication(b *testing.B) {
	author, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	_, short, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	for name, list := range map[string]crypto.Signer{"arc=rsa": author, "arc=ed25519": short} {
		b.Run(name, func(b *testing.B) { benchmarkAuthentication(b, author, list) })
	}
}

func benchmarkAuthentication(b *testing.B, author, list crypto.Signer) {
	record := func(key crypto.Signer) string {
		text, err := dkim.Record(key.Public())
		if err != nil {
			b.Fatal(err)
		}
		return text
	}
	zone := &dns.Zone{TXT: map[string][]string{
		"s._domainkey.example.org": {record(author)}, "arc._domainkey.list.example": {record(list)},
		"example.org": {"v=spf1 include:_spf.example.org -all"}, "_spf.example.org": {"v=spf1 ip4:192.0.2.0/24 ~all"},
		"_dmarc.example.org": {"v=DMARC1; p=reject"},
	}}
	text := "From: Ann <ann@example.org>\r\nTo: ben@example.net\r\nSubject: Lunch\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n" +
		strings.Repeat("A line of some sixty bytes, as people write them in letters.\r\n", 4096/62)
	now := time.Now()
	ring := dkim.NewKeyring([]*dkim.SigningKey{{Domain: "example.org", Selector: "s", Private: author}})
	signed, err := ring.Sign(message.Bytes(text), message.Address{Local: "ann", Domain: "example.org"}, now)
	if err != nil || len(signed) == 0 {
		b.Fatal(err)
	}
	text = string(signed) + text
	v := &dkim.Verifier{Resolver: zone}
	opened, err := dkim.Open(message.Bytes(text))
	if err != nil {
		b.Fatal(err)
	}
	came, err := arc.Verify(b.Context(), v, opened)
	if err != nil {
		b.Fatal(err)
	}
	found := results.Field{ID: "list.example", Methods: []results.Method{{Name: "dkim", Word: "pass"}}}
	seal, err := (&arc.Sealer{Domain: "list.example", Selector: "arc", Private: list}).Seal(opened, came, found, now)
	if err != nil {
		b.Fatal(err)
	}
	m := message.Bytes(string(seal) + text)

	client := spf.Client{IP: netip.MustParseAddr("192.0.2.7"), Helo: "mx.example.org", Local: "ann", Domain: "example.org"}
	checker, evaluator := &spf.Checker{Resolver: zone}, &dmarc.Evaluator{Resolver: zone}
	b.ReportAllocs()
	for b.Loop() {
		by := checker.Check(b.Context(), client)
		opened, err := dkim.Open(m)
		if err != nil {
			b.Fatal(err)
		}
		signatures, err := v.Verify(b.Context(), opened)
		if err != nil {
			b.Fatal(err)
		}
		chain, err := arc.Verify(b.Context(), v, opened)
		if err != nil {
			b.Fatal(err)
		}
		policy := evaluator.Evaluate(b.Context(), dmarc.Message{
			From: []string{"Ann <ann@example.org>"}, SPF: dmarc.SPF{Verdict: string(by.Verdict), Domain: "example.org"},
			Signatures: []dmarc.Signature{{Verdict: string(signatures.Word()), Domain: "example.org", Selector: "s"}},
		})
		if by.Verdict != spf.Pass || signatures.Word() != dkim.Pass || chain.Word != arc.Pass || policy.Verdict != dmarc.Pass {
			b.Fatal(by.Verdict, signatures.Word(), chain.Word, policy.Verdict)
		}
	}
}
