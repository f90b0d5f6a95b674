package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// seal is a signature that tells what it is of.
func seal(kind string, m io.Reader) ([]byte, error) {
	b, err := io.ReadAll(m)
	return fmt.Appendf(nil, "DKIM-Signature: %s;\r\n of=%d\r\n", kind, len(b)), err
}

// TestSignedSpan: where our signatures and seals stand is kept with the message; what
// others put there is none of ours.
func TestSignedSpan(t *testing.T) {
	w := open(t, func(s *Settings) {
		s.Sign = func(_ message.Address, m message.Body, _ time.Time) ([]byte, error) {
			return seal("ours", message.NewReader(m))
		}
		s.Seal = func(_ any, m message.Body, _ results.Field, _ time.Time) ([]byte, error) {
			return seal("seal", message.NewReader(m))
		}
		s.Chain = func(context.Context, message.Body) any { return nil }
	})
	const text = "DKIM-Signature: theirs\r\nSubject: x\r\n\r\nbody\r\n"
	for _, relaying := range []bool{true, false} {
		tx := transaction("a@example.net", "keep@example.net")
		tx.Session.Relaying = relaying
		a := w.take(t, chain(oneByOne(hooks.Message)), tx, text, 100)
		if !a.Queued {
			t.Fatal(a)
		}
		n := 0
		for m, err := range w.queue.All() {
			if err != nil {
				t.Fatal(err)
			}
			n++
			body, closer, err := w.queue.Body(m.ID)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(message.NewReader(body))
			_ = closer.Close()
			if err != nil {
				t.Fatal(err)
			}
			got := string(b[m.Signed.From:m.Signed.To])
			if !strings.HasPrefix(got, map[bool]string{true: "DKIM-Signature: ours;\r\n of=", false: "DKIM-Signature: seal;\r\n of="}[relaying]) || !strings.HasSuffix(got, "\r\n") || strings.Count(got, "Signature") != 1 {
				t.Errorf("%v: %q", m.Signed, got)
			}
			if err := w.queue.Remove(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
		}
		if n != 2 {
			t.Errorf("%d messages", n)
		}
	}
	w = open(t, nil)
	w.take(t, chain(), transaction("a@example.net"), text, 100)
	if s := w.taken[0].Signed; !s.Empty() {
		t.Error("nobody signed", s)
	}
}

// TestCopySigned: a copy is signed as it is, behind our Received field; without a key it
// has no signature of ours, and what others signed stays.
func TestCopySigned(t *testing.T) {
	const ours, sig, rest = "Received: from a\r\n\tby b\r\n", "DKIM-Signature: ours;\r\n of=0\r\n", "DKIM-Signature: theirs\r\nSubject: x\r\n\r\nbody\r\n"
	m := &queue.Message{Size: int64(len(ours + sig + rest)), Signed: queue.Span{From: int64(len(ours)), To: int64(len(ours + sig))}}
	edits := []hooks.Edit{{Kind: hooks.AddRcptHeader, Name: "X-For", Value: "b"}}
	now := time.Now()
	sign := func(old []byte, write func(io.Writer) error, at time.Time) ([]byte, error) {
		if string(old) != sig || !at.Equal(now) {
			t.Errorf("%q at %v", old, at)
		}
		var b strings.Builder
		if err := write(&b); err != nil {
			return nil, err
		}
		if b.String() != ours+"X-For: b\r\n"+rest {
			t.Errorf("signed %q", b.String())
		}
		return []byte("DKIM-Signature: new\r\n"), nil
	}
	none := func([]byte, func(io.Writer) error, time.Time) ([]byte, error) { return nil, nil }
	bad := func([]byte, func(io.Writer) error, time.Time) ([]byte, error) { return nil, errors.New("no way") }
	for name, test := range map[string]struct {
		again Again
		edits []hooks.Edit
		want  string
		span  string
	}{
		"signed anew":      {sign, edits, ours + "DKIM-Signature: new\r\nX-For: b\r\n" + rest, "DKIM-Signature: new\r\n"},
		"theirs goes":      {none, []hooks.Edit{{Kind: hooks.RemoveRcptHeader, Name: "DKIM-Signature", N: 1}}, ours + strings.TrimPrefix(rest, "DKIM-Signature: theirs\r\n"), ""},
		"no key":           {none, edits, ours + "X-For: b\r\n" + rest, ""},
		"no signer":        {nil, edits, ours + "X-For: b\r\n" + rest, ""},
		"the same for all": {nil, nil, ours + sig + rest, sig},
	} {
		c, body, err := CopySigned(m, message.Bytes(ours+sig+rest), test.edits, test.again, now)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(message.NewReader(body))
		if err != nil || string(b) != test.want || c.Size != int64(len(b)) || string(b[c.Signed.From:c.Signed.To]) != test.span {
			t.Errorf("%s: %q, %d, %v: %v", name, b, c.Size, c.Signed, err)
		}
	}
	if _, _, err := CopySigned(m, message.Bytes(ours+sig+rest), edits, bad, now); err == nil {
		t.Error("no error")
	}
	if _, _, err := CopySigned(m, message.Bytes(ours), edits, sign, now); err == nil {
		t.Error("a body that is too short")
	}
	plain := *m
	plain.Signed = queue.Span{}
	if c, body, err := CopySigned(&plain, message.Bytes(ours+rest), edits, bad, now); err != nil || !c.Signed.Empty() || c.Size != body.Size() {
		t.Error(c, err)
	}
}
