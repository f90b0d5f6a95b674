package dkim

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// writes is a message that is written in pieces of n bytes.
func writes(m string, n int) func(io.Writer) error {
	return func(w io.Writer) error {
		for len(m) > n {
			if _, err := io.WriteString(w, m[:n]); err != nil {
				return err
			}
			m = m[n:]
		}
		_, err := io.WriteString(w, m)
		return err
	}
}

// TestThrough: what is written is opened as what is read, however it comes in pieces.
func TestThrough(t *testing.T) {
	for name, m := range map[string]string{
		"usual":          letter,
		"long section":   "A: b\r\n" + strings.Repeat("X-Long: yes, it is\r\n", 5000) + "From: a@example.org\r\n\r\nbody \r\n\r\n",
		"no content":     "From: a@example.org\r\n\r\n",
		"no empty line":  "From: a@example.org\r\nTo: b@example.net\r\n",
		"no section":     "no field here\r\n\r\nFrom: a@example.org\r\n\r\nx\r\n",
		"empty section":  "\r\nFrom: a@example.org\r\n\r\nx\r\n",
		"empty":          "",
		"no line end":    "From: a@example.org\r\n\r\nx",
		"blanks at ends": "From: a@example.org\r\n\r\nx  y \r\n\t \r\n\r\n",
	} {
		want, err := Open(message.Bytes(m))
		if err != nil {
			t.Fatal(err)
		}
		sum, total, err := want.BodyHash(Relaxed, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 7, 1000, 16 << 10, 1 << 20} {
			got, err := Through(writes(m, n))
			if err != nil {
				t.Fatal(err)
			}
			sum2, total2, err := got.BodyHash(Relaxed, -1)
			if err != nil || string(sum) != string(sum2) || total != total2 || len(got.fields) != len(want.fields) || got.Count("from") != want.Count("from") {
				t.Errorf("%s in pieces of %d: %d fields, content of %d; want %d, %d: %v", name, n, len(got.fields), total2, len(want.fields), total, err)
			}
		}
	}
	got, err := Through(writes(letter, 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := got.BodyHash(Simple, -1); err == nil {
		t.Error("a hash that was not made")
	}
	if _, err := Through(func(io.Writer) error { return iotest.ErrTimeout }); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
	if _, err := Through(writes(strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 17000), 1<<16)); !errors.Is(err, ErrSection) {
		t.Error(err)
	}
}

// TestAgain: another form of a message is signed by the keys of the domain that signed
// it before, as they are now.
func TestAgain(t *testing.T) {
	again := func(old, m string, now time.Time) string {
		t.Helper()
		fields, err := ring().Again([]byte(old), writes(m, 50), now)
		if err != nil {
			t.Fatal(err)
		}
		return string(fields)
	}
	old := signWith(t, ring(), letter, "", at)
	other := strings.Replace(letter, "\r\n\r\n", "\r\nX: y\r\n\r\nmore=20\r\n", 1)
	if got := words(check(t, nil, old+other)); got != "fail fail" {
		t.Fatal(got)
	}
	if got := words(check(t, nil, again(old, other, at)+other)); got != "pass pass" {
		t.Error(got)
	}
	if got := again(old, other, at.Add(2*time.Hour)); strings.Count(got, "DKIM-Signature:") != 3 { // with a key that is new
		t.Error(got)
	}
	old = signWith(t, ring(), "From: a@mail.example.net\r\n\r\n", "", at.Add(-time.Hour))
	if old == "" || again(old, other, at) != "" { // its key is gone
		t.Error(old)
	}
	for _, bad := range []string{"", "X: y\r\n", "DKIM-Signature: v=1\r\n", "DKIM-Signature: d=elsewhere.example\r\n"} {
		if got := again(bad, other, at); got != "" {
			t.Errorf("%q: %s", bad, got)
		}
	}
	if got := again("DKIM-Signature: d=example.org\r\n", "From: a@example.org\r\n"+letter, at); got != "" {
		t.Error("signed with two From fields", got)
	}
	if _, err := ring().Again([]byte("DKIM-Signature: d=example.org\r\n"), func(io.Writer) error { return iotest.ErrTimeout }, at); !errors.Is(err, iotest.ErrTimeout) {
		t.Error(err)
	}
	var none *Keyring
	if fields, err := none.Again([]byte("DKIM-Signature: d=example.org\r\n"), nil, at); fields != nil || err != nil {
		t.Error(fields, err)
	}
}
