package arc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/auth/dkim"
)

// Verify judges the chain of a message (RFC 8617 section 5.2). The error is one of
// reading the message.
func Verify(ctx context.Context, v *dkim.Verifier, m *dkim.Message) (*Report, error) {
	list, err := sets(m)
	if err != nil {
		return &Report{Word: Fail, Reason: err.Error()}, nil
	}
	if list == nil {
		return &Report{Word: None}, nil
	}
	r := &Report{Word: Pass}
	if err := r.verify(ctx, v, m, list); err != nil {
		return nil, err
	}
	for _, s := range list {
		r.Sets = append(r.Sets, s.Set)
	}
	return r, nil
}

func (r *Report) fail(format string, args ...any) {
	if r.Word == Pass {
		r.Word, r.Reason = Fail, fmt.Sprintf(format, args...)
	}
}

func (r *Report) verify(ctx context.Context, v *dkim.Verifier, m *dkim.Message, list []*set) error {
	last := list[len(list)-1]
	if last.State == Fail {
		r.fail("set %d says that the chain has failed: cv=fail", last.Instance)
		return nil
	}
	for _, s := range list {
		want := Pass
		if s.Instance == 1 {
			want = None
		}
		if s.State != want {
			r.fail("set %d has cv=%.10s, and %s is expected", s.Instance, s.state, want)
			return nil
		}
	}
	var names []string
	for _, s := range list {
		s.Seal.begin(s.seal)
		s.Message.begin(s.message)
		names = append(names, s.Seal.Query, s.Message.Query)
	}
	keys := v.FindKeys(ctx, names)
	if err := last.verifyMessage(v, m, keys); err != nil {
		return err
	}
	r.note(last.Instance, "message signature", last.Message)
	for i := len(list); i > 0 && r.Word == Pass; i-- {
		s := list[i-1]
		s.verifySeal(v, m, keys, list[:i])
		r.note(s.Instance, "seal", s.Seal)
	}
	if r.Word != Pass {
		return nil
	}
	r.OldestPass = last.Instance
	for i := len(list) - 1; i > 0; i-- {
		s := list[i-1]
		if err := s.verifyMessage(v, m, keys); err != nil {
			return err
		}
		if s.Message.Word != dkim.Pass {
			return nil
		}
		r.OldestPass = s.Instance
	}
	r.OldestPass = 0
	return nil
}

// note makes the chain fail where a step does.
func (r *Report) note(instance int, what string, s Step) {
	if s.Word != dkim.Pass {
		r.fail("the %s of set %d: %s", what, instance, s.Reason)
		r.Temporary = s.Word == dkim.TempError
	}
}

// begin fills in what a signature says of its key.
func (s *Step) begin(f field) {
	s.Algorithm = strings.ToLower(f.tags.Get("a"))
	s.Query = dkim.KeyName(f.tags.Get("s"), strings.ToLower(f.tags.Get("d")))
}

// settle verifies a signature of what was hashed.
func (s *Step) settle(v *dkim.Verifier, keys dkim.Keys, f field, digest []byte) {
	s.Record, _ = keys.Record(s.Query)
	sig, err := dkim.Decode64(f.tags.Get("b"))
	switch {
	case err != nil:
		s.Word, s.Reason = dkim.Neutral, "b= is not base64"
	case s.Algorithm != "rsa-sha256" && s.Algorithm != "ed25519-sha256":
		s.Word, s.Reason = dkim.Neutral, fmt.Sprintf("a=%.20s is an algorithm that is not known", s.Algorithm)
	default:
		s.Word, s.Reason = v.VerifySum(keys, s.Query, s.Algorithm, digest, sig)
	}
}

// verifySeal verifies the seal over all sets up to its own (section 5.1.1).
func (s *set) verifySeal(v *dkim.Verifier, m *dkim.Message, keys dkim.Keys, upTo []*set) {
	h := sha256.New()
	writeSets(h, m, upTo[:len(upTo)-1])
	m.WriteField(h, dkim.Relaxed, s.results.Field)
	m.WriteField(h, dkim.Relaxed, s.message.Field)
	m.WriteSelf(h, dkim.Relaxed, s.seal.Field, s.seal.tags.Find("b"))
	s.Seal.settle(v, keys, s.seal, h.Sum(nil))
}

// writeSets writes whole sets as a seal signs them.
func writeSets(w io.Writer, m *dkim.Message, list []*set) {
	for _, s := range list {
		m.WriteField(w, dkim.Relaxed, s.results.Field)
		m.WriteField(w, dkim.Relaxed, s.message.Field)
		m.WriteField(w, dkim.Relaxed, s.seal.Field)
	}
}

// verifyMessage verifies the signature over the message.
func (s *set) verifyMessage(v *dkim.Verifier, m *dkim.Message, keys dkim.Keys) error {
	step, tags := &s.Message, s.message.tags
	// Without c= the public suite of the protocol wants the relaxed forms.
	header, body, ok := dkim.ParseCanon(cmp.Or(tags.Get("c"), "relaxed/relaxed"))
	if c := tags.Find("c"); !ok || c != nil && c.Value == "" {
		step.Word, step.Reason = dkim.Neutral, "c= is a canonical form that is not known"
		return nil
	}
	if step.Word, step.Reason = v.Expired(tags); step.Word != "" {
		return nil
	}
	limit := int64(-1)
	if text := tags.Get("l"); tags.Find("l") != nil {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			step.Word, step.Reason = dkim.Neutral, "l= is no number"
			return nil
		}
		limit = n
	}
	want, err := dkim.Decode64(tags.Get("bh"))
	if err != nil {
		step.Word, step.Reason = dkim.Neutral, "bh= is not base64"
		return nil
	}
	sum, total, err := m.BodyHash(body, limit)
	switch {
	case err != nil:
		return err
	case sum == nil || limit >= 0 && limit < total:
		step.Word, step.Reason = dkim.Policy, "l= does not sign the body as it is"
		return nil
	case !bytes.Equal(sum, want):
		step.Word, step.Reason = dkim.Fail, "the body was changed: its hash is not bh="
		return nil
	}
	h := sha256.New()
	m.WriteFields(h, header, s.signed())
	m.WriteSelf(h, header, s.message.Field, tags.Find("b"))
	step.settle(v, keys, s.message, h.Sum(nil))
	return nil
}
