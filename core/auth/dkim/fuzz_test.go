package dkim

import (
	"bytes"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// FuzzSignature: whatever a field says, it is read or has a reason, and nothing that
// reaches a log or a header field can end a line.
func FuzzSignature(f *testing.F) {
	f.Add(" v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=x; h=from:to; bh=LjkN2rUhrS3zKXfH2vNgUzz5ERRJkgP9CURXBX0JP0Q=; b=dGVzdAo=; i=a=20@example.org; l=10; t=1; x=2; q=dns/txt\r\n")
	f.Add(" v=1;\r\n\ta=ed25519-sha256 ; d=\r\n example.org;s=x;h=from : to;bh=;b=\r\n")
	f.Add(" v=1; v=1\r\n")
	f.Fuzz(func(t *testing.T, value string) {
		s, fault := parseSignature(message.Field{Name: "DKIM-Signature", Raw: []byte("DKIM-Signature:" + value)})
		if fault != nil && (fault.reason == "" || strings.ContainsAny(fault.reason, "\r\n")) {
			t.Fatalf("%q", fault.reason)
		}
		for _, text := range []string{s.Domain, s.Selector, s.Identity} {
			if strings.ContainsAny(text, "\r\n\x00") {
				t.Fatalf("%q", text)
			}
		}
		if fault == nil && (s.b == nil || !ValidDomain(s.Domain) || !ValidDomain(s.Selector) || !Within(s.Identity[strings.LastIndexByte(s.Identity, '@')+1:], s.Domain) || len(s.hash) != 32) {
			t.Fatalf("%+v", s)
		}
	})
}

// FuzzKey: whatever a record says, it is no key or can be verified with.
func FuzzKey(f *testing.F) {
	f.Add("v=DKIM1; k=rsa; h=sha256; s=email; t=y:s; n=x; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC6aakWzruYAKX9OdOdSHMemqVdGQurNYLC1H7O/T2LQIHVbkKF6KKjlgFM7lr8skfZMhJe/KRGMvVjCV5ZakZIGeP3Hi1qXCEvmjS4ElpMPMPyPrZigt95ipqywPYZJWHbRiJ085VdkSCtLUvo5sypA0nTJeynEouAN+/wBaCO6QIDAQAB")
	f.Add("k=ed25519; p=yi50DjK5O9pqbFpNHklsv9lqaS0ArSYu02qp1S0DW1Y=")
	f.Add("v=DKIM1; p=")
	f.Fuzz(func(t *testing.T, record string) {
		k, err := ParseKey(record)
		if err != nil {
			return
		}
		if (k.Public == nil) != k.Revoked {
			t.Fatalf("%+v", k)
		}
		if k.Bits <= DefaultMaxBits && k.verify(make([]byte, 32), bytes.Repeat([]byte{1}, 256)) {
			t.Fatal("verified")
		}
	})
}

// FuzzVerify: whatever a message holds, each signature has a result.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(letter), "v=DKIM1; p=")
	f.Add([]byte(craft(f, testKeys().ed, letter, "", nil)), record(f, testKeys().ed))
	f.Add([]byte("DKIM-Signature: v=1; a=rsa-sha256; d=e.org; s=s; h=from; bh=LjkN2rUhrS3zKXfH2vNgUzz5ERRJkgP9CURXBX0JP0Q=; b=dGVz"), record(f, testKeys().rsa))
	f.Fuzz(func(t *testing.T, m []byte, record string) {
		z := &dns.Zone{TXT: map[string][]string{"*.org": {record}}}
		r, err := (&Verifier{Resolver: z}).Check(t.Context(), message.Bytes(m))
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range r.Results {
			if one.Word == "" || one.Word == None || (one.Reason == "") != (one.Word == Pass) || strings.ContainsAny(one.Reason, "\r\n") {
				t.Fatalf("%+v", one)
			}
		}
	})
}
