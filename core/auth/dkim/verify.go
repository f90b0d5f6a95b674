package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// Verifier verifies messages. Its zero values are the defaults; it is safe for
// concurrent use.
type Verifier struct {
	Resolver dns.Resolver
	Now      func() time.Time // nil: time.Now
	// Signatures is how many are verified of one message; 0: 16. Four times as many
	// are read, so that broken ones don't use it up.
	Signatures int
	// Timeout is how long all look-ups of a message may take; 0: 20s.
	Timeout time.Duration
	// Skew is how far in the future a signature may be made; 0: 5m.
	Skew time.Duration
	// MinBits and MaxBits bound RSA keys; 0: 1024 (RFC 8301 section 3.2), 8192.
	MinBits, MaxBits int
}

// Limits of a Verifier that sets none.
const (
	DefaultSignatures = 16
	DefaultTimeout    = 20 * time.Second
	DefaultSkew       = 5 * time.Minute
	DefaultMinBits    = 1024
	DefaultMaxBits    = 8192
)

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}

// Check verifies the signatures of a message. The error is one of reading it.
func (v *Verifier) Check(ctx context.Context, m message.Body) (*Report, error) {
	opened, err := Open(m)
	if err != nil {
		return nil, err
	}
	return v.Verify(ctx, opened)
}

// Verify is Check for a message that is open already.
func (v *Verifier) Verify(ctx context.Context, m *Message) (*Report, error) {
	limit := orElse(v.Signatures, DefaultSignatures)
	report := &Report{}
	var all []*signature
	var open []*signature // without a result so far
	for f := range m.Named("dkim-signature") {
		if len(all) == 4*limit || len(open) == limit {
			report.Left = m.Count("dkim-signature") - len(all)
			break
		}
		s, fault := parseSignature(f)
		if fault == nil {
			fault = v.timely(s)
		}
		if fault != nil {
			s.Word, s.Reason = fault.word, fault.reason
		} else {
			s.Query = KeyName(s.Selector, s.Domain)
			open = append(open, s)
		}
		all = append(all, s)
	}
	keys := v.FindKeys(ctx, queries(open))
	var ready []*signature
	var want []wanted
	for _, s := range open {
		f := keys[s.Query]
		s.Record = f.record
		if f.key != nil {
			s.Testing, s.KeyBits = f.key.Testing, f.key.Bits
		}
		if s.Word, s.Reason = v.judgeKey(f, s.Algorithm, s.Identity, s.Domain); s.Word == "" {
			ready = append(ready, s)
			want = append(want, wanted{s.Body, s.Length})
		}
	}
	if err := m.hashContent(want); err != nil {
		return nil, err
	}
	for _, s := range ready {
		s.verify(m, keys[s.Query].key)
	}
	report.Results = make([]Result, len(all))
	for i, s := range all {
		report.Results[i] = s.Result
	}
	return report, nil
}

func queries(list []*signature) []string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Query
	}
	return names
}

// timely judges the times of a signature.
func (v *Verifier) timely(s *signature) *fault {
	now, skew := v.now(), orElse(v.Skew, DefaultSkew)
	switch {
	case !s.Expires.IsZero() && now.After(s.Expires.Add(skew)):
		return &fault{Fail, "it expired on " + s.Expires.Format(time.DateTime) + " UTC"}
	case s.Signed.After(now.Add(skew)):
		return &fault{Policy, "it is made in the future, on " + s.Signed.Format(time.DateTime) + " UTC"}
	}
	return nil
}

// Expired judges x= and t= of a field of tags, which ARC has too (RFC 8617 section
// 4.1.2): the result of one that counts no more, or can't be read, and why; "" of others.
// One that is made in the future is no reason to say that a chain is broken for good.
func (v *Verifier) Expired(tags Tags) (Word, string) {
	s := &signature{}
	f := s.readTimes(tags)
	if f == nil {
		f = v.timely(s)
	}
	if f == nil || f.word == Policy {
		return "", ""
	}
	return f.word, f.reason
}

// Keys are the answers to questions for keys, by name.
type Keys map[string]found

// FindKeys asks for the keys with those names at once.
func (v *Verifier) FindKeys(ctx context.Context, names []string) Keys {
	keys := make(Keys, len(names))
	if len(names) == 0 {
		return keys
	}
	ctx, cancel := context.WithTimeout(ctx, orElse(v.Timeout, DefaultTimeout))
	defer cancel()
	for _, name := range names {
		keys[name] = found{}
	}
	if len(keys) == 1 {
		keys[names[0]] = findKey(ctx, v.Resolver, names[0])
		return keys
	}
	var asking sync.WaitGroup
	var mu sync.Mutex
	unique := make([]string, 0, len(keys))
	for name := range keys {
		unique = append(unique, name)
	}
	for _, name := range unique {
		asking.Go(func() {
			f := findKey(ctx, v.Resolver, name)
			mu.Lock()
			defer mu.Unlock()
			keys[name] = f
		})
	}
	asking.Wait()
	return keys
}

// judgeKey is the result of a signature whose key is none that could verify it, ""
// where it can.
func (v *Verifier) judgeKey(f found, algorithm, identity, domain string) (Word, string) {
	if f.word != "" {
		return f.word, f.reason
	}
	if wrong := f.key.fits(algorithm); wrong != "" {
		return PermError, wrong
	}
	if f.key.Strict && ascii(identity[strings.LastIndexByte(identity, '@')+1:]) != ascii(domain) {
		return PermError, "the key is for i= with the very domain of d= (t=s)"
	}
	if f.key.Type != "rsa" {
		return "", ""
	}
	low, high := orElse(v.MinBits, DefaultMinBits), orElse(v.MaxBits, DefaultMaxBits)
	switch {
	case f.key.Bits < low:
		return Policy, fmt.Sprintf("a key of %d bits is too short, %d are demanded", f.key.Bits, low)
	case f.key.Bits > high:
		return Policy, fmt.Sprintf("a key of %d bits is too long, %d are the limit", f.key.Bits, high)
	}
	return "", ""
}

// Verify is the result of a signature by algorithm of what has the SHA-256 sum digest,
// with the key of that name: pass, or why not. ARC signs so too (RFC 8617).
func (v *Verifier) VerifySum(keys Keys, query, algorithm string, digest, sig []byte) (Word, string) {
	f := keys[query]
	if word, reason := v.judgeKey(f, algorithm, "", ""); word != "" {
		return word, reason
	}
	if !f.key.verify(digest, sig) {
		return Fail, "the signature does not match the header fields"
	}
	return Pass, ""
}

// Record is the text of the record with that name, and its key; empty where there is
// none.
func (k Keys) Record(query string) (record string, key *Key) { return k[query].record, k[query].key }

// verify compares the signature with the message.
func (s *signature) verify(m *Message, key *Key) {
	total := m.totals[s.Body]
	sum := m.hashes[wanted{s.Body, s.Length}]
	switch {
	case sum == nil:
		length := fmt.Sprintf("%d bytes", s.Length)
		if s.Length == math.MaxInt64 {
			length = "more bytes than any message has"
		}
		s.Word, s.Reason = PermError, fmt.Sprintf("l= signs %s of a body of %d", length, total)
		return
	case !bytes.Equal(sum, s.hash):
		s.Word, s.Reason = Fail, "the body was changed: its hash is not bh="
		return
	}
	h := sha256.New()
	m.WriteFields(h, s.Header, s.Fields)
	m.WriteSelf(h, s.Header, s.field, s.b)
	if !key.verify(h.Sum(nil), s.value) {
		s.Word, s.Reason = Fail, "the signature does not match the header fields"
		return
	}
	if s.Length >= 0 {
		s.Unsigned = total - s.Length
	}
	s.Extra = m.extra(s.Fields)
	s.Word, s.Reason = s.taken(m)
}

// taken judges a signature that is right. What nobody signed must not be seen as if it
// were (RFC 6376 sections 8.2 and 8.15).
func (s *signature) taken(m *Message) (Word, string) {
	if s.Unsigned > 0 {
		return Policy, fmt.Sprintf("the last %d bytes of the body are not signed (l=)", s.Unsigned)
	}
	if n := m.Count("from"); n > 1 {
		for _, name := range s.Extra {
			if name == "from" {
				return Policy, fmt.Sprintf("there are %d From fields, and not all are signed", n)
			}
		}
	}
	return Pass, ""
}

// single are the fields that a message has once at most (RFC 5322 section 3.6, and MIME's).
var single = [...]string{"from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references", "mime-version", "content-type", "content-transfer-encoding"}

// extra are the names of the fields that should stand once, and of which there are
// several, signed in part.
func (m *Message) extra(signed []string) (list []string) {
	for _, name := range single {
		n := m.Count(name)
		if n < 2 {
			continue
		}
		covered := 0
		for _, s := range signed {
			if s == name {
				covered++
			}
		}
		if covered > 0 && covered < n {
			list = append(list, name)
		}
	}
	return list
}
