package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// at is the time of all tests.
var at = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// testKeys are made once: RSA keys take long.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, ed, big crypto.Signer
},
) {
	k.rsa, _ = GenerateKey("rsa", 2048)
	k.big, _ = GenerateKey("rsa", 3072)
	k.ed = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return k
})

func record(t testing.TB, key crypto.Signer) string {
	t.Helper()
	r, err := Record(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const letter = "From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: Lunch\r\n  at   noon\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello  Bob,\r\n\r\nlunch?\t\r\n\r\n\r\n"

func zone(t testing.TB) *dns.Zone {
	return &dns.Zone{
		TXT: map[string][]string{
			"rsa._domainkey.example.org":        {record(t, testKeys().rsa)},
			"ed._domainkey.example.org":         {record(t, testKeys().ed)},
			"big._domainkey.example.org":        {record(t, testKeys().big)},
			"test._domainkey.example.org":       {strings.Replace(record(t, testKeys().ed), "k=", "t=y; k=", 1)},
			"strict._domainkey.example.org":     {strings.Replace(record(t, testKeys().ed), "k=", "t=s; k=", 1)},
			"gone._domainkey.example.org":       {"v=DKIM1; p="},
			"junk._domainkey.example.org":       {"v=DKIM1; p=!!"},
			"two._domainkey.example.org":        {"google-site-verification: 1", record(t, testKeys().ed)},
			"other._domainkey.example.org":      {record(t, testKeys().rsa)},
			"sha1._domainkey.example.org":       {strings.Replace(record(t, testKeys().ed), "k=", "h=sha1; k=", 1)},
			"rsa._domainkey.xn--exmple-cua.org": {record(t, testKeys().rsa)},
		},
		Fail: map[string]dns.Kind{"lame._domainkey.example.org": dns.Failure, "slow._domainkey.example.org": dns.Timeout},
	}
}

// craft signs m with whatever the tags say, whether it makes sense or not: canonical
// forms, h= and l= are followed, everything else is only written.
func craft(t testing.TB, key crypto.Signer, m, extra string, change func(tags Tags) Tags) string {
	t.Helper()
	opened, err := Open(message.Bytes(m))
	if err != nil {
		t.Fatal(err)
	}
	tags := Tags{{Name: "v", Value: "1"}, {Name: "a", Value: "ed25519-sha256"}, {Name: "d", Value: "example.org"}, {Name: "s", Value: "ed"}, {Name: "c", Value: "relaxed/simple"}, {Name: "h", Value: "from:to:subject:date"}}
	if change != nil {
		tags = change(tags)
	}
	header, body, _ := ParseCanon(tags.Get("c"))
	limit := int64(-1)
	if n, ok := number(tags.Get("l"), 20); ok {
		limit = n
	}
	sum, _, err := opened.BodyHash(body, limit)
	if err != nil {
		t.Fatal(err)
	}
	if sum == nil { // l= says more than there is
		sum, _, _ = opened.BodyHash(body, -1)
	}
	text := "DKIM-Signature:"
	for _, tag := range tags {
		text += " " + tag.Name + "=" + tag.Value + ";"
	}
	text += " bh=" + base64.StdEncoding.EncodeToString(sum) + ";\r\n " + extra + "b="
	h := sha256.New()
	opened.WriteFields(h, header, List(strings.ToLower(tags.Get("h"))))
	h.Write(bytes.TrimSuffix(header.AppendField(nil, message.Field{Name: "DKIM-Signature", Raw: []byte(text)}), []byte("\r\n")))
	sig, err := SignSum(key, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return text + base64.StdEncoding.EncodeToString(sig) + "\r\n" + m
}

// set is a change of tags: NAME=VALUE sets one, -NAME takes one away.
func set(changes ...string) func(Tags) Tags {
	return func(tags Tags) Tags {
		for _, c := range changes {
			if name, ok := strings.CutPrefix(c, "-"); ok {
				var kept Tags
				for _, tag := range tags {
					if tag.Name != name {
						kept = append(kept, tag)
					}
				}
				tags = kept
				continue
			}
			name, value, _ := strings.Cut(c, "=")
			if tag := tags.Find(name); tag != nil {
				tag.Value = value
				continue
			}
			tags = append(tags, Tag{Name: name, Value: value})
		}
		return tags
	}
}

func check(t testing.TB, v *Verifier, m string) *Report {
	t.Helper()
	if v == nil {
		v = &Verifier{}
	}
	if v.Resolver == nil {
		v.Resolver = zone(t)
	}
	v.Now = func() time.Time { return at }
	r, err := v.Check(t.Context(), message.Bytes(m))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerify(t *testing.T) {
	k := testKeys()
	for _, test := range []struct {
		name   string
		key    crypto.Signer
		change []string
		edit   func(string) string // of the signed message
		want   Word
		reason string
	}{
		{name: "simple", change: []string{"c=simple/simple"}, want: Pass},
		{name: "relaxed", change: []string{"c=relaxed/relaxed"}, want: Pass},
		{name: "no c=", change: []string{"-c"}, want: Pass},
		{name: "c= of one form", change: []string{"c=relaxed"}, want: Pass},
		{name: "RSA", key: k.rsa, change: []string{"a=rsa-sha256", "s=rsa"}, want: Pass},
		{name: "a= in capitals", key: k.rsa, change: []string{"a=RSA-SHA256", "s=rsa"}, want: Pass},
		{name: "tags that nobody knows", change: []string{"zz=1; a1_=x"}, want: Pass},
		{name: "folded h=", change: []string{"h=from :\r\n\tto\r\n :subject"}, want: Pass},
		{name: "a field that is not there", change: []string{"h=from:to:cc:x-none:subject"}, want: Pass},

		{name: "other letter case", change: []string{"d=Example.ORG", "i=@EXAMPLE.org"}, want: Pass},
		{name: "i= below d=", change: []string{"i=ann@mail.example.org"}, want: Pass},
		{name: "quoted-printable i=", change: []string{"i=a=20b=3B=40x@=65xample.org"}, want: Pass},
		{name: "i= elsewhere", change: []string{"i=@example.com"}, want: PermError, reason: "d=example.org"},
		{name: "i= not below", change: []string{"i=@badexample.org"}, want: PermError, reason: "d=example.org"},
		{name: "i= above", change: []string{"d=mail.example.org", "i=@example.org"}, want: PermError},
		{name: "i= is no address", change: []string{"i=ann"}, want: Neutral, reason: "i="},
		{name: "i= with a broken escape", change: []string{"i=a=2@example.org"}, want: Neutral, reason: "i="},
		{name: "i= with a control character", change: []string{"i=a=0A@example.org"}, want: Neutral, reason: "i="},
		{name: "i= and t=s", change: []string{"s=strict", "i=@mail.example.org"}, want: PermError, reason: "t=s"},
		{name: "t=s", change: []string{"s=strict", "i=x@EXAMPLE.org"}, want: Pass},
		{name: "U-labels", key: k.rsa, change: []string{"a=rsa-sha256", "d=exämple.org", "s=rsa", "i=@xn--exmple-cua.org"}, want: Pass},

		{name: "changed subject", edit: func(m string) string { return strings.Replace(m, "noon", "one", 1) }, want: Fail, reason: "header"},
		{name: "changed body", edit: func(m string) string { return strings.Replace(m, "lunch?", "dinner?", 1) }, want: Fail, reason: "body"},
		{name: "folded anew, relaxed", edit: func(m string) string { return strings.Replace(m, "\r\n  at   noon", " at \r\n\tnoon ", 1) }, want: Pass},
		{name: "folded anew, simple", change: []string{"c=simple/simple"}, edit: func(m string) string { return strings.Replace(m, "\r\n  at   noon", " at \r\n\tnoon ", 1) }, want: Fail},
		{name: "blanks in the body, relaxed", change: []string{"c=simple/relaxed"}, edit: func(m string) string { return strings.Replace(m, "Hello  Bob,", "Hello \t Bob,  ", 1) }, want: Pass},
		{name: "empty lines at the end", edit: func(m string) string { return m + "\r\n\r\n" }, want: Pass},
		{name: "a line at the end", edit: func(m string) string { return m + "x\r\n" }, want: Fail},
		{name: "a field on top", edit: func(m string) string { return "Received: x\r\n" + m }, want: Pass},
		{name: "the signature folded anew", edit: func(m string) string { return strings.Replace(m, " d=", "\r\n d=", 1) }, want: Pass},
		{name: "the signature with another tag", edit: func(m string) string { return strings.Replace(m, " d=", " q=dns/txt; d=", 1) }, want: Fail},

		{name: "expired", change: []string{"t=1000000000", "x=1000000100"}, want: Fail, reason: "expired on 2001-09-09"},
		{name: "expires before it is made", change: []string{"t=1000000100", "x=1000000000"}, want: PermError},
		{name: "expires later", change: []string{fmt.Sprintf("x=%d", at.Unix()+1)}, want: Pass},
		{name: "expires never", change: []string{"x=999999999999"}, want: Pass},
		{name: "expired within the skew of clocks", change: []string{fmt.Sprintf("x=%d", at.Unix()-60)}, want: Pass},
		{name: "made in the future", change: []string{fmt.Sprintf("t=%d", at.Unix()+3600)}, want: Policy, reason: "future"},
		{name: "made by a fast clock", change: []string{fmt.Sprintf("t=%d", at.Unix()+60)}, want: Pass},
		{name: "t= is no time", change: []string{"t=yesterday"}, want: Neutral},
		{name: "t= is negative", change: []string{"t=-1"}, want: Neutral},

		{name: "l= of all", change: []string{"l=24"}, want: Pass, reason: ""},
		{name: "l= of some", change: []string{"l=5"}, want: Policy, reason: "bytes of the body are not signed"},
		{name: "l= of nothing", change: []string{"l=0"}, want: Policy},
		{name: "l= and text behind it", change: []string{"l=24"}, edit: func(m string) string { return strings.TrimRight(m, "\r\n") + "\r\nBuy now!\r\n" }, want: Policy},
		{name: "l= of more", change: []string{"l=100"}, want: PermError, reason: "l= signs 100 bytes of a body of"},
		{name: "l= without end", change: []string{"l=99999999999999999999999999"}, want: PermError, reason: "more bytes than any message has"},
		{name: "l= negative", change: []string{"l=-1"}, want: Neutral},

		{name: "a second From on top", edit: func(m string) string { return "From: evil@example.com\r\n" + m }, want: Policy, reason: "2 From"},
		{name: "a second From below", edit: func(m string) string { return strings.Replace(m, "To:", "From: evil@example.com\r\nTo:", 1) }, want: Fail},
		{name: "oversigned From", change: []string{"h=from:from:to"}, want: Pass},
		{name: "oversigned From, a second one", change: []string{"h=from:from:to"}, edit: func(m string) string { return "From: evil@example.com\r\n" + m }, want: Fail},
		{name: "From not signed", change: []string{"h=to:subject"}, want: PermError, reason: "From"},

		{name: "no key", change: []string{"s=none"}, want: PermError, reason: "no key at none._domainkey.example.org"},
		{name: "revoked", change: []string{"s=gone"}, want: PermError, reason: "revoked"},
		{name: "no key that can be read", change: []string{"s=junk"}, want: PermError, reason: "base64"},
		{name: "one record of two", change: []string{"s=two"}, want: Pass},
		{name: "another kind of key", change: []string{"s=rsa"}, want: PermError, reason: "kind"},
		{name: "another key", key: k.big, change: []string{"a=rsa-sha256", "s=rsa"}, want: Fail},
		{name: "a key for SHA-1", change: []string{"s=sha1"}, want: PermError, reason: "sha256"},
		{name: "the DNS fails", change: []string{"s=lame"}, want: TempError},
		{name: "the DNS is slow", change: []string{"s=slow"}, want: TempError},

		{name: "rsa-sha1", change: []string{"a=rsa-sha1"}, want: PermError, reason: "sha1"},
		{name: "an unknown algorithm", change: []string{"a=dsa-sha256"}, want: Neutral, reason: "a=dsa-sha256"},
		{name: "an unknown form", change: []string{"c=nofws"}, want: Neutral},
		{name: "an unknown version", change: []string{"v=2"}, want: Neutral, reason: "v=2"},
		{name: "an unknown query", change: []string{"q=ldap"}, want: Neutral, reason: "q="},
		{name: "several queries", change: []string{"q=ldap:dns/txt"}, want: Pass},
		{name: "no version", change: []string{"-v"}, want: PermError, reason: "v="},
		{name: "no domain", change: []string{"-d"}, want: PermError, reason: "d="},
		{name: "a bad domain", change: []string{"d=example.org(.example.net"}, want: Neutral, reason: "d="},
		{name: "a bad selector", change: []string{"s=a b..c"}, want: Neutral, reason: "s="},
		{name: "a tag twice", change: []string{"zz=1; zz=2"}, want: Neutral, reason: "twice"},
		{name: "no tags", edit: func(m string) string { return "DKIM-Signature: hello\r\n" + letter }, want: Neutral},
		{name: "b= is no base64", edit: func(m string) string { return strings.Replace(m, "b=", "b=*", 2) }, want: Neutral},
	} {
		key := test.key
		if key == nil {
			key = k.ed
		}
		m := craft(t, key, letter, "", set(test.change...))
		if test.edit != nil {
			m = test.edit(m)
		}
		r := check(t, nil, m)
		if len(r.Results) != 1 || r.Results[0].Word != test.want || !strings.Contains(r.Results[0].Reason, test.reason) || r.Word() != test.want {
			t.Errorf("%s: %+v; want %s %s", test.name, r.Results, test.want, test.reason)
		}
		if (r.Results[0].Reason == "") != (test.want == Pass) {
			t.Errorf("%s: %s with the reason %q", test.name, test.want, r.Results[0].Reason)
		}
	}
}

// What a message may lack, or be.
func TestVerifyForms(t *testing.T) {
	for name, m := range map[string]string{
		"no body":             "From: a@example.org\r\n\r\n",
		"no empty line":       "From: a@example.org\r\nSubject: x\r\n",
		"no last line end":    "From: a@example.org\r\nSubject: x",
		"body of empty lines": "From: a@example.org\r\n\r\n\r\n\r\n\r\n",
		"no end of body":      "From: a@example.org\r\n\r\nno line end",
		"blanks at the end":   "From: a@example.org\r\n\r\nblanks  \t",
		"bare CR and LF":      "From: a@example.org\r\n\r\na\rb\nc\r",
		"blanks in the name":  "From : a@example.org\r\n\r\nx\r\n",
	} {
		for _, c := range []string{"simple/simple", "relaxed/relaxed"} {
			if r := check(t, nil, craft(t, testKeys().ed, m, "", set("c="+c, "h=from:subject"))); r.Word() != Pass {
				t.Errorf("%s, %s: %+v", name, c, r.Results)
			}
		}
	}
	for _, m := range []string{"", "\r\n", "\r\nbody", "no header at all", "From: a@example.org\r\n\r\n"} {
		if r := check(t, nil, m); r.Word() != None || len(r.Results) != 0 {
			t.Errorf("%q: %+v", m, r)
		}
	}
}

// A broken signature hides no other, and the best counts.
func TestVerifySeveral(t *testing.T) {
	m := craft(t, testKeys().ed, letter, "", nil)
	m = craft(t, testKeys().rsa, m, "", set("a=rsa-sha256", "s=rsa", "c=simple/relaxed"))
	m = "DKIM-Signature: broken\r\nDKIM-Signature: v=1; v=1\r\nDKIM-Signature:\r\n" + craft(t, testKeys().ed, m, "", set("s=slow"))
	r := check(t, nil, m)
	if words(r) != "neutral neutral neutral temperror pass pass" || r.Word() != Pass || r.Left != 0 {
		t.Errorf("%s, %d left", words(r), r.Left)
	}
	if got := r.Passed(); len(got) != 2 || got[0] != "example.org" {
		t.Error(got)
	}
}

func TestVerifyTells(t *testing.T) {
	m := craft(t, testKeys().ed, strings.Replace(letter, "Subject:", "Subject: first\r\nSubject:", 1), "", set("s=test", "i=x=20y@sub.example.org", fmt.Sprintf("t=%d", at.Unix()), "x=1800000000", "l=24"))
	got := check(t, nil, m).Results[0]
	if got.Word != Pass || !got.Testing || got.KeyBits != 256 || got.Length != 24 || got.Unsigned != 0 || got.Identity != "x y@sub.example.org" ||
		got.Query != "test._domainkey.example.org" || !strings.Contains(got.Record, "t=y") || !got.Signed.Equal(at) || got.Expires.Unix() != 1800000000 ||
		len(got.B) != 8 || len(got.Extra) != 1 || got.Extra[0] != "subject" || got.Algorithm != "ed25519-sha256" || got.Header != Relaxed || got.Body != Simple {
		t.Errorf("%+v", got)
	}
}

func TestKeySizes(t *testing.T) {
	m := craft(t, testKeys().rsa, letter, "", set("a=rsa-sha256", "s=rsa"))
	for _, test := range []struct {
		v    Verifier
		want Word
	}{{Verifier{}, Pass}, {Verifier{MinBits: 2048}, Pass}, {Verifier{MinBits: 2049}, Policy}, {Verifier{MaxBits: 2047}, Policy}} {
		if r := check(t, &test.v, m); r.Word() != test.want {
			t.Errorf("%+v: %+v", test.v, r.Results)
		}
	}
	// 512 bits, which nothing of today makes any more.
	const tiny = "v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ=="
	small := &dns.Zone{TXT: map[string][]string{"rsa._domainkey.example.org": {tiny}}}
	if r := check(t, &Verifier{Resolver: small}, m); r.Word() != Policy || r.Results[0].KeyBits != 512 {
		t.Errorf("%+v", r.Results)
	}
	// 32,768 bits are not even computed with.
	huge := &dns.Zone{TXT: map[string][]string{"rsa._domainkey.example.org": {"v=DKIM1; p=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x30, 0x82, 0x10, 0x0a}, 1100))}}}
	if r := check(t, &Verifier{Resolver: huge}, m); r.Word() != PermError {
		t.Errorf("%+v", r.Results)
	}
}
