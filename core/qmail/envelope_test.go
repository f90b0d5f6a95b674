package qmail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postern-mta/postern/core/message"
)

func read(text string) (list []string, err error) {
	err = ReadEnvelope(bufio.NewReader(iotest.OneByteReader(strings.NewReader(text))), func(letter byte, a []byte) error {
		list = append(list, string(letter)+string(a))
		return nil
	})
	return list, err
}

func TestReadEnvelope(t *testing.T) {
	long := strings.Repeat("x", maxAddress)
	for text, want := range map[string]string{
		"Fs@x\x00Tr@y\x00Tr@z\x00\x00":           "[Fs@x Tr@y Tr@z] <nil>",
		"F\x00Tr@y\x00\x00":                      "[F Tr@y] <nil>",
		"Fs@x\x00\x00":                           "[Fs@x] <nil>",
		"Fs@x\x00\x00behind":                     "[Fs@x] <nil>",
		"":                                       "[] exit status 54",
		"F":                                      "[] exit status 54",
		"Fs@x":                                   "[] exit status 54",
		"Fs@x\x00":                               "[Fs@x] exit status 54",
		"Fs@x\x00Tr@y\x00":                       "[Fs@x Tr@y] exit status 54",
		"Fs@x\x00Tr@y":                           "[Fs@x] exit status 54",
		"\x00":                                   "[] exit status 91",
		"Ts@x\x00\x00":                           "[] exit status 91",
		"Fs@x\x00Fr@y\x00\x00":                   "[Fs@x] exit status 91",
		"F" + long + "\x00T" + long + "\x00\x00": "[F" + long + " T" + long + "] <nil>",
		"F" + long + "x\x00\x00":                 "[] exit status 11",
		"F" + long + "x":                         "[] exit status 11",
		"Fs@x\x00T" + long + long + long + long + long: "[Fs@x] exit status 11",
	} {
		list, err := read(text)
		got, _, _ := strings.Cut(fmt.Sprint(list, " ", err), ": ")
		if got != want {
			t.Errorf("%.40q: %.200s, want %.200s", text, got, want)
		}
	}
}

func TestManyRecipients(t *testing.T) {
	n := 0
	var b bytes.Buffer
	if err := WriteEnvelope(&b, "s@x", slices.Repeat([]string{"r@y.example"}, MaxRecipients)); err != nil {
		t.Fatal(err)
	}
	whole := b.String()
	if err := ReadEnvelope(bufio.NewReader(&b), func(byte, []byte) error { n++; return nil }); err != nil || n != MaxRecipients+1 {
		t.Errorf("%d addresses, %v", n, err)
	}
	more := whole[:len(whole)-1] + "Tone@more.example\x00\x00"
	if err := ReadEnvelope(bufio.NewReader(strings.NewReader(more)), func(byte, []byte) error { return nil }); !errors.Is(err, ErrManyRecipients) {
		t.Errorf("one too many: %v", err)
	}
	stop := errors.New("stop")
	if err := ReadEnvelope(bufio.NewReader(strings.NewReader(whole)), func(byte, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                      "<> <nil>",
		"#@[]":                                  "<> <nil>",
		"a@b.Example":                           "<a@b.example> <nil>",
		"joe":                                   "<joe@host.example> <nil>",
		"a b@c.example":                         `<"a b"@c.example> <nil>`,
		"a@b@c.example":                         `<"a@b"@c.example> <nil>`,
		"l-@h.example-@[]":                      "<l-@h.example-@[]> <nil>",
		"ü@c.example":                           "<ü@c.example> <nil>",
		"a@":                                    "the address needs a domain",
		"@b.example":                            "syntax error",
		"a\nb@c.example":                        "syntax error",
		"a\x7fb@c.example":                      "syntax error",
		"\xff@c.example":                        "syntax error",
		"a@b c.example":                         "not a valid host name",
		strings.Repeat("x", 257) + "@b.example": "too long",
	} {
		a, err := Address(raw, "host.example")
		if got := fmt.Sprint(a.Path(), " ", err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", raw, got, want)
		}
		if err == nil && raw != "joe" && raw != "#@[]" && !strings.EqualFold(Text(a), raw) {
			t.Errorf("%q comes back as %q", raw, Text(a))
		}
	}
}

func TestReason(t *testing.T) {
	for _, r := range []message.Reply{
		message.NewReply(554, "5.7.1", "Refused: casino"),
		message.NewReply(451, "4.3.0", "Later"),
		message.NewReply(554, "5.7.1", "%s", strings.Repeat("ü", 300)),
	} {
		text := Reason(r)
		back, ok := Said(text)
		if !ok || len(text) > maxText || back.Permanent() != r.Permanent() || back.Status() != r.Status() || !strings.HasPrefix(r.Text, back.Text) {
			t.Errorf("%v: %q, %v %v", r, text, back, ok)
		}
	}
	if got := Reason(message.NewReply(550, "5.7.1", "Refused")); got != "DRefused (#5.7.1)" {
		t.Errorf("%q", got)
	}
	for _, text := range []string{"", "D", "Dx", "Kfine thing", "xyz"} {
		if r, ok := Said(text); ok {
			t.Errorf("%q: %v", text, r)
		}
	}
	if r, ok := Said("Zno code"); !ok || r.Code != 451 || r.Text != "no code" {
		t.Errorf("%v", r)
	}
	if r, ok := Said("Zbad code (#5.7.1)"); !ok || r.Code != 451 || r.Status() != "4.3.0" {
		t.Errorf("%v", r)
	}
}

func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "queue")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHand(t *testing.T) {
	dir := t.TempDir()
	keep := fmt.Sprintf("cat >%s/m; cat <&1 >%s/e", dir, dir)
	body := strings.Repeat("a line\n", 100_000)
	if r := Hand(t.Context(), program(t, keep), "s@x", []string{"r@y", "r@z"}, strings.NewReader(body)); !r.IsZero() {
		t.Fatal(r)
	}
	m, err := os.ReadFile(dir + "/m")
	e, err2 := os.ReadFile(dir + "/e")
	if errors.Join(err, err2) != nil || string(m) != body || string(e) != "Fs@x\x00Tr@y\x00Tr@z\x00\x00" {
		t.Errorf("%d bytes, %q, %v", len(m), e, errors.Join(err, err2))
	}
	// A message that can't be read is taken back: the envelope has no end.
	bad := errors.New("gone")
	if r := Hand(t.Context(), program(t, keep), "s@x", []string{"r@y"}, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(bad))); !r.Temporary() {
		t.Error(r)
	}
	if e, err := os.ReadFile(dir + "/e"); err != nil || len(e) > 0 {
		t.Errorf("%q, %v", e, err)
	}
	for script, want := range map[string]string{
		"exit 11":  "554 5.1.3",
		"exit 115": "554 5.1.3",
		"exit 31":  "554 5.3.0",
		"exit 12":  "554 5.3.0",
		"exit 40":  "554 5.3.0",
		"exit 41":  "451 4.3.0",
		"exit 51":  "451 4.3.0", "exit 52": "451 4.3.0", "exit 53": "451 4.3.1", "exit 54": "451 4.3.0",
		"exit 55": "451 4.3.5", "exit 56": "451 4.4.1", "exit 61": "451 4.3.0", "exit 62": "451 4.3.0", "exit 63": "451 4.3.0",
		"exit 64": "451 4.3.0", "exit 65": "451 4.3.0", "exit 66": "451 4.3.0",
		"exit 71": "451 4.3.0", "exit 72": "451 4.4.1", "exit 73": "451 4.4.1", "exit 74": "451 4.4.2",
		"exit 81": "451 4.3.0", "exit 91": "451 4.3.0", "exit 120": "451 4.3.0", "exit 1": "451 4.3.0 the queue program ended with status 1",
		"kill -9 $$":                                "451 4.3.0",
		"echo 'DNot you (#5.7.1)' >&6; exit 82":     "554 5.7.1 Not you",
		"printf 'ZToday not (#4.7.1)' >&6; exit 82": "451 4.7.1 Today not",
		"exit 82":               "451 4.3.0",
		"printf D >&6; exit 82": "451 4.3.0",
	} {
		if r := Hand(t.Context(), program(t, script), "s@x", []string{"r@y"}, strings.NewReader(body)); !strings.HasPrefix(r.String(), want) {
			t.Errorf("%s: %s, want %s", script, r, want)
		}
	}
	if r := Hand(t.Context(), filepath.Join(dir, "none"), "s@x", []string{"r@y"}, strings.NewReader(body)); !strings.Contains(r.String(), "can't be run") || !r.Temporary() {
		t.Error(r)
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("Fs@x\x00Tr@y\x00\x00"))
	f.Add([]byte("F#@[]\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var list []string
		err := ReadEnvelope(bufio.NewReader(bytes.NewReader(b)), func(_ byte, a []byte) error {
			list = append(list, string(a))
			if a, err := Address(string(a), "host.example"); err == nil && a.IsNull() != (len(list[len(list)-1]) == 0 || list[len(list)-1] == DoubleBounce) {
				t.Fatalf("%q: %v", list, a)
			}
			return nil
		})
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteEnvelope(&again, list[0], list[1:]); err != nil || !bytes.HasPrefix(b, again.Bytes()) {
			t.Fatalf("%q becomes %q, %v", b, again.Bytes(), err)
		}
	})
}

func BenchmarkEnvelope(b *testing.B) {
	var whole bytes.Buffer
	if err := WriteEnvelope(&whole, "sender@a.example", slices.Repeat([]string{"recipient@b.example"}, 1000)); err != nil {
		b.Fatal(err)
	}
	text := bytes.NewReader(whole.Bytes())
	r := bufio.NewReader(text)
	n := 0
	each := func(_ byte, a []byte) error { n += len(a); return nil }
	b.ReportAllocs()
	b.SetBytes(int64(whole.Len()))
	for b.Loop() {
		text.Reset(whole.Bytes())
		r.Reset(text)
		if err := ReadEnvelope(r, each); err != nil {
			b.Fatal(err)
		}
	}
}

func TestEnvelopeTakesNoMemory(t *testing.T) {
	var whole bytes.Buffer
	if err := WriteEnvelope(&whole, "sender@a.example", slices.Repeat([]string{"recipient@b.example"}, 1000)); err != nil {
		t.Fatal(err)
	}
	text := bytes.NewReader(whole.Bytes())
	r := bufio.NewReader(text)
	n := 0
	each := func(byte, []byte) error { n++; return nil }
	if allocs := testing.AllocsPerRun(20, func() {
		text.Reset(whole.Bytes())
		r.Reset(text)
		if err := ReadEnvelope(r, each); err != nil {
			t.Error(err)
		}
	}); allocs != 0 {
		t.Errorf("an envelope of 1000 recipients takes memory %v times", allocs)
	}
}
