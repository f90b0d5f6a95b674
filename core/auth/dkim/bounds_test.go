package dkim

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// counted is a body that counts what is read of it.
type counted struct {
	message.Bytes
	read atomic.Int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Bytes.ReadAt(p, off)
	c.read.Add(int64(n))
	return n, err
}

// asked is a resolver that counts its questions.
type asked struct {
	dns.Resolver
	n atomic.Int64
}

func (a *asked) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a.n.Add(1)
	return a.Resolver.LookupTXT(ctx, name)
}

// A large message with several signatures is read once, and hashed once for each
// canonical form, whatever l= they have.
func TestBodyHashedOnce(t *testing.T) {
	m := letter + strings.Repeat("A line of a long message that nobody reads to its end.\r\n", 20_000)
	for _, c := range []string{"relaxed/relaxed", "simple/simple", "simple/relaxed", "relaxed/simple"} {
		for _, l := range []string{"-l", "l=1000", "l=500000"} {
			m = craft(t, testKeys().ed, m, "", set("c="+c, l))
		}
	}
	body := &counted{Bytes: message.Bytes(m)}
	opened, err := Open(body)
	if err != nil {
		t.Fatal(err)
	}
	head := body.read.Load()
	r, err := (&Verifier{Resolver: zone(t), Now: func() time.Time { return at }}).Verify(t.Context(), opened)
	if err != nil {
		t.Fatal(err)
	}
	if got := words(r); got != strings.TrimSpace(strings.Repeat(" policy policy pass", 4)) {
		t.Error(got)
	}
	if got, want := body.read.Load()-head, body.Size()-opened.start; got != want {
		t.Errorf("%d bytes read, the content has %d", got, want)
	}
	if len(opened.totals) != 2 || len(opened.hashes) != 6 {
		t.Errorf("%d forms, %d hashes", len(opened.totals), len(opened.hashes))
	}
	// A form that was hashed is not hashed again, ARC's neither.
	before := body.read.Load()
	for _, c := range []Canon{Simple, Relaxed} {
		if sum, total, err := opened.BodyHash(c, -1); sum == nil || total == 0 || err != nil {
			t.Error(sum, total, err)
		}
	}
	if body.read.Load() != before {
		t.Error("read again")
	}
}

// 20,000 signatures: few are read, fewer verified, and the DNS is asked once for each
// key at most.
func TestManySignatures(t *testing.T) {
	one := craft(t, testKeys().ed, letter, "", nil)
	field := strings.TrimSuffix(one, letter)
	for name, test := range map[string]struct {
		field   func(i int) string
		results int
		asked   int64
	}{
		"good":         {func(int) string { return field }, DefaultSignatures, 1},
		"broken":       {func(int) string { return "DKIM-Signature: v=1; a=\r\n" }, 4 * DefaultSignatures, 0},
		"many domains": {func(i int) string { return strings.Replace(field, "d=example.org", fmt.Sprintf("d=d%d.example", i), 1) }, DefaultSignatures, DefaultSignatures},
	} {
		var b strings.Builder
		for i := range 20_000 {
			b.WriteString(test.field(i))
		}
		b.WriteString(letter)
		resolver := &asked{Resolver: zone(t)}
		r := check(t, &Verifier{Resolver: resolver}, b.String())
		if len(r.Results) != test.results || r.Left != 20_000-test.results || resolver.n.Load() != test.asked {
			t.Errorf("%s: %d results, %d left, %d questions", name, len(r.Results), r.Left, resolver.n.Load())
		}
	}
}

// Header tricks: what is allocated stays within a few times the header section.
func TestHugeHeaders(t *testing.T) {
	long := "from" + strings.Repeat(":x", 500_000) // 1 MB of h=
	bounded(t, "1 MB of h=", "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=ed; bh=; b=; h="+long+"\r\n"+letter, Neutral)
	names := "from" + strings.Repeat(":to", 10_000)
	m := craft(t, testKeys().ed, letter, "", set("h="+names))
	bounded(t, "30 KB of h=", m, Pass)
	bounded(t, "100,000 fields", strings.Repeat("To: x\r\n", 100_000)+craft(t, testKeys().ed, letter, "", set("h="+names)), Fail)
	bounded(t, "a field of 4 MB", "To: "+strings.Repeat("x ", 2<<20)+"\r\n"+craft(t, testKeys().ed, letter, "", nil), Pass)
	bounded(t, "a header section of 17 MB", strings.Repeat("To: x\r\n", 17<<20/7)+letter, None)
	bounded(t, "a million tags", "DKIM-Signature: "+strings.Repeat("a=;", 1_000_000)+"\r\n"+letter, Neutral)
	bounded(t, "colons", "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=ed; bh=; b=; h="+strings.Repeat(":", 60_000)+"\r\n"+letter, Neutral)
}

func bounded(t *testing.T, name, m string, want Word) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := (&Verifier{Resolver: zone(t), Now: func() time.Time { return at }}).Check(t.Context(), message.Bytes(m))
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(16*len(m)+(8<<20)) {
		t.Errorf("%s: %d bytes allocated for a message of %d", name, got, len(m))
	}
	if want == None {
		if err != ErrSection {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	if err != nil || r.Word() != want {
		t.Errorf("%s: %v %+v", name, err, r)
	}
}

// failing is a body whose end can't be read.
type failing struct{ message.Bytes }

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 20_000 {
		return 0, io.ErrClosedPipe
	}
	return f.Bytes.ReadAt(p, off)
}

func TestUnreadable(t *testing.T) {
	m := craft(t, testKeys().ed, letter+strings.Repeat("x\r\n", 10_000), "", nil)
	if _, err := (&Verifier{Resolver: zone(t)}).Check(t.Context(), failing{message.Bytes(m)}); err == nil {
		t.Error("no error")
	}
}

// The questions end with the caller's context, whatever the resolver does.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := (&Verifier{Resolver: zone(t), Now: func() time.Time { return at }}).Check(ctx, message.Bytes(craft(t, testKeys().ed, letter, "", nil)))
	if err != nil || r.Word() != TempError {
		t.Errorf("%v %+v", err, r)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		body := letter + strings.Repeat("A line of some sixty bytes, as people write them in letters.\r\n", size/62)
		m := craft(b, testKeys().rsa, body, "", set("a=rsa-sha256", "s=rsa", "c=relaxed/relaxed"))
		for _, n := range []int{1, 3} {
			for strings.Count(m, "DKIM-Signature") < n {
				m = craft(b, testKeys().rsa, m, "", set("a=rsa-sha256", "s=rsa", "c=relaxed/relaxed"))
			}
			b.Run(fmt.Sprintf("%dKB_%d", size>>10, n), func(b *testing.B) {
				v := &Verifier{Resolver: zone(b), Now: func() time.Time { return at }}
				body := message.Bytes(m)
				b.SetBytes(int64(len(m)))
				b.ReportAllocs()
				for b.Loop() {
					if r, err := v.Check(b.Context(), body); err != nil || r.Word() != Pass {
						b.Fatal(err, r)
					}
				}
			})
		}
	}
}
