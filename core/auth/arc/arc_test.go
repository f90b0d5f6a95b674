package arc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth/dkim"
	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

var at = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const letter = "From: Ann <ann@example.org>\r\nTo: list@example.net\r\nSubject: Lunch\r\n\r\nlunch?\r\n"

// hops are forwarders, each with a key of its own at hopN.example.
func hop(n int) *Sealer {
	return &Sealer{Domain: fmt.Sprintf("hop%d.example", n), Selector: "arc", Private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(n)}, ed25519.SeedSize))}
}

func verifier(t testing.TB) (*dkim.Verifier, *counter) {
	zone := &dns.Zone{TXT: map[string][]string{}, Fail: map[string]dns.Kind{}}
	for n := range 60 {
		r, err := dkim.Record(hop(n).Private.Public())
		if err != nil {
			t.Fatal(err)
		}
		zone.TXT[fmt.Sprintf("arc._domainkey.hop%d.example", n)] = []string{r}
	}
	zone.Fail["arc._domainkey.lame.example"] = dns.Failure
	c := &counter{Resolver: zone}
	return &dkim.Verifier{Resolver: c}, c
}

type counter struct {
	dns.Resolver
	n atomic.Int64
}

func (c *counter) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.n.Add(1)
	return c.Resolver.LookupTXT(ctx, name)
}

func judge(t testing.TB, v *dkim.Verifier, m string) *Report {
	t.Helper()
	opened, err := dkim.Open(message.Bytes(m))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(t.Context(), v, opened)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pass hands a message on: it is judged, changed, and sealed as it then is.
func pass(t testing.TB, v *dkim.Verifier, n int, m string, change func(string) string) string {
	t.Helper()
	came := judge(t, v, m)
	if change != nil {
		m = change(m)
	}
	opened, err := dkim.Open(message.Bytes(m))
	if err != nil {
		t.Fatal(err)
	}
	found := results.Field{ID: hop(n).Domain, Methods: []results.Method{{Name: "arc", Word: string(came.Word)}, {Name: "spf", Word: "pass", Props: []results.Prop{{Type: "smtp", Name: "mailfrom", Value: "ann@example.org"}}}}}
	fields, err := hop(n).Seal(opened, came, found, at)
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + m
}

func TestChain(t *testing.T) {
	v, _ := verifier(t)
	m := letter
	if r := judge(t, v, m); r.Word != None {
		t.Fatal(r)
	}
	for n := 1; n <= 4; n++ {
		m = pass(t, v, n, m, func(m string) string { return "Received: by hop\r\n" + m })
	}
	r := judge(t, v, m)
	if r.Word != Pass || len(r.Sets) != 4 || r.OldestPass != 0 || strings.Join(r.Sealers(), " ") != "hop4.example hop3.example hop2.example hop1.example" {
		t.Fatalf("%+v", r)
	}
	if s := r.Sets[1]; s.Results != "hop2.example; arc=pass; spf=pass smtp.mailfrom=ann@example.org" {
		t.Errorf("%q", s.Results)
	}
	// A list that changes the subject: its own set and those after it stand for the message.
	changed := pass(t, v, 5, m, func(m string) string { return strings.Replace(m, "Lunch", "[list] Lunch", 1) })
	changed = pass(t, v, 6, changed, nil)
	if r := judge(t, v, changed); r.Word != Pass || r.OldestPass != 5 {
		t.Errorf("%+v", r)
	}
	// Without a set of its own the change breaks the chain, and who seals then says so.
	broken := strings.Replace(m, "lunch?", "dinner?", 1)
	if r := judge(t, v, broken); r.Word != Fail || !strings.Contains(r.Reason, "message signature of set 4") {
		t.Errorf("%+v", r)
	}
	sealed := pass(t, v, 5, broken, nil)
	if r := judge(t, v, sealed); r.Word != Fail || !strings.Contains(r.Reason, "cv=fail") || !strings.Contains(sealed, "cv=fail") {
		t.Errorf("%+v", r)
	}
	if again := pass(t, v, 6, sealed, nil); again != sealed {
		t.Error("sealed again")
	}
	// What one wrote down can't be changed, left out or moved.
	for name, m := range map[string]string{
		"results":          strings.Replace(m, "spf=pass", "spf=fail", 1),
		"a set less":       strings.Replace(m, "i=2;", "i=7;", 3),
		"another instance": strings.Replace(m, "i=2;", "i=3;", 1),
		"state":            strings.Replace(m, "cv=pass", "cv=none", 1),
	} {
		if r := judge(t, v, m); r.Word != Fail {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// 50 sets are a chain, 51 are none; each key is asked for once, and the work is bounded.
func TestLongChains(t *testing.T) {
	v, c := verifier(t)
	m := letter
	for n := 1; n <= 49; n++ {
		m = pass(t, v, n, m, nil)
	}
	c.n.Store(0)
	m = pass(t, v, 50, m, nil)
	before := c.n.Swap(0)
	r := judge(t, v, m)
	if r.Word != Pass || len(r.Sets) != 50 || before != 49 || c.n.Load() != 50 {
		t.Fatalf("%s %s, %d sets, %d and %d questions", r.Word, r.Reason, len(r.Sets), before, c.n.Load())
	}
	if again := pass(t, v, 51, m, nil); again != m {
		t.Error("a set above 50")
	}
	for name, m := range map[string]string{
		"20,000 seals":   strings.Repeat("ARC-Seal: i=1; cv=none; a=rsa-sha256; d=x.example; s=x; b=x\r\n", 20_000) + letter,
		"a million tags": "ARC-Seal: " + strings.Repeat("a=;", 1_000_000) + "\r\n" + letter,
		"51 results":     strings.Repeat("ARC-Authentication-Results: i=1; x\r\n", 51) + letter,
		"no number":      "ARC-Authentication-Results: i=999999999999999999999; x\r\n" + letter,
		"zero":           "ARC-Authentication-Results: i=0; x\r\n" + letter,
		"a plus":         "ARC-Authentication-Results: i=+1; x\r\n" + letter,
	} {
		c.n.Store(0)
		if r := judge(t, v, m); r.Word != Fail || c.n.Load() != 0 {
			t.Errorf("%s: %+v, %d questions", name, r, c.n.Load())
		}
	}
}

func TestTemporary(t *testing.T) {
	v, _ := verifier(t)
	m := pass(t, v, 1, letter, nil)
	m = strings.Replace(m, "d=hop1.example", "d=lame.example", 2)
	if r := judge(t, v, m); r.Word != Fail || !r.Temporary {
		t.Errorf("%+v", r)
	}
}

// FuzzSets: whatever the fields hold, the chain has a state, and a reason where it fails.
func FuzzSets(f *testing.F) {
	v, _ := verifier(f)
	f.Add([]byte(pass(f, v, 2, pass(f, v, 1, letter, nil), nil)))
	f.Add([]byte("ARC-Seal: i=1; cv=none\r\nARC-Message-Signature: i=1\r\nARC-Authentication-Results: i=1; x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, m []byte) {
		v, _ := verifier(t)
		r := judge(t, v, string(m))
		if (r.Reason == "") != (r.Word != Fail) || strings.ContainsAny(r.Reason, "\r\n\x00") {
			t.Fatalf("%+v", r)
		}
		opened, err := dkim.Open(message.Bytes(m))
		if err != nil {
			t.Fatal(err)
		}
		fields, err := hop(9).Seal(opened, r, results.Field{ID: "x"}, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(fields) > 0 && r.Word != Fail && (len(m) == 0 || message.StartsHeader(m)) {
			if again := judge(t, v, string(fields)+string(m)); again.Word != Pass {
				t.Fatalf("%+v", again)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v, _ := verifier(b)
	m := pass(b, v, 2, pass(b, v, 1, letter, nil), nil)
	b.ReportAllocs()
	for b.Loop() {
		if r := judge(b, v, m); r.Word != Pass {
			b.Fatal(r)
		}
	}
}

// A message signature that has expired stands for nothing; what earlier ones say of their
// times does not break the chain, nor does a clock that is fast.
func TestTimes(t *testing.T) {
	v, _ := verifier(t)
	now := at
	v.Now = func() time.Time { return now }
	m := pass(t, v, 1, letter, nil)
	now = at.Add(-time.Hour)
	if r := judge(t, v, m); r.Word != Pass {
		t.Errorf("%+v", r)
	}
	now = at
	old := hop(2)
	opened, err := dkim.Open(message.Bytes(m))
	if err != nil {
		t.Fatal(err)
	}
	// What Sealer never writes: x=.
	sum, _, err := opened.BodyHash(dkim.Relaxed, -1)
	if err != nil {
		t.Fatal(err)
	}
	found := message.Field{Name: "ARC-Authentication-Results", Raw: []byte("ARC-Authentication-Results: i=2; hop2.example; none\r\n")}
	f := dkim.NewField("ARC-Message-Signature")
	for _, tag := range [][2]string{{"i", "2"}, {"a", "ed25519-sha256"}, {"c", "relaxed/relaxed"}, {"d", old.Domain}, {"s", old.Selector}, {"t", fmt.Sprint(at.Unix())}, {"x", fmt.Sprint(at.Add(time.Hour).Unix())}, {"h", "from"}, {"bh", base64.StdEncoding.EncodeToString(sum)}} {
		f.Add(tag[0], tag[1])
	}
	h := sha256.New()
	opened.WriteFields(h, dkim.Relaxed, []string{"from"})
	raw, err := f.Seal(old.Private, opened, h)
	if err != nil {
		t.Fatal(err)
	}
	signed := message.Field{Name: "ARC-Message-Signature", Raw: raw}
	list, err := sets(opened)
	if err != nil {
		t.Fatal(err)
	}
	seal := dkim.NewField("ARC-Seal")
	for _, tag := range [][2]string{{"i", "2"}, {"a", "ed25519-sha256"}, {"cv", "pass"}, {"d", old.Domain}, {"s", old.Selector}} {
		seal.Add(tag[0], tag[1])
	}
	h = sha256.New()
	writeSets(h, opened, list)
	opened.WriteField(h, dkim.Relaxed, found)
	opened.WriteField(h, dkim.Relaxed, signed)
	sealed, err := seal.Seal(old.Private, opened, h)
	if err != nil {
		t.Fatal(err)
	}
	m = string(sealed) + string(raw) + string(found.Raw) + m
	if r := judge(t, v, m); r.Word != Pass {
		t.Fatalf("%+v", r)
	}
	last := pass(t, v, 3, m, nil)
	now = at.Add(2 * time.Hour)
	if r := judge(t, v, m); r.Word != Fail || !strings.Contains(r.Reason, "expired") {
		t.Errorf("%+v", r)
	}
	if r := judge(t, v, last); r.Word != Pass || r.OldestPass != 3 {
		t.Errorf("%+v", r)
	}
}
