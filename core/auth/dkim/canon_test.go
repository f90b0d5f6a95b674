package dkim

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
)

// plain is the canonical body by the words of RFC 6376 section 3.4, on the whole text.
func plain(c Canon, body string) string {
	if c == Relaxed {
		body = regexp.MustCompile(`[ \t]+`).ReplaceAllString(body, " ")
		body = regexp.MustCompile(` (\r\n)`).ReplaceAllString(body, "$1")
		body = strings.TrimSuffix(body, " ")
	}
	for strings.HasSuffix(body, "\r\n") {
		body = strings.TrimSuffix(body, "\r\n")
	}
	if body != "" || c == Simple {
		body += "\r\n"
	}
	return body
}

func streamed(c Canon, body string, cut func() int) string {
	var out bytes.Buffer
	w := bodyWriter{canon: c, out: func(p []byte) { out.Write(p) }}
	for body != "" {
		n := min(max(cut(), 1), len(body))
		w.write([]byte(body[:n]))
		body = body[n:]
	}
	w.end()
	return out.String()
}

// The streamed forms are those of the whole, wherever it is cut.
func TestCanonicalBody(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{" ", "\t", "\r\n", "\r\n", "a", "b c", "\r", "\n", "  \r\n", strings.Repeat("x", 50)}
	for range 20000 {
		var b strings.Builder
		for range r.IntN(14) {
			b.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		for _, c := range []Canon{Simple, Relaxed} {
			want := plain(c, b.String())
			if got := streamed(c, b.String(), func() int { return 1 + r.IntN(5) }); got != want {
				t.Fatalf("%s of %q: %q; want %q", c, b.String(), got, want)
			}
		}
	}
	for _, body := range []string{strings.Repeat("\r\n", 100_000) + "x", strings.Repeat("word  word\t\r\n", 20_000), strings.Repeat("y", 200_000), strings.Repeat(" ", 200_000)} {
		for _, c := range []Canon{Simple, Relaxed} {
			if streamed(c, body, func() int { return message.PieceSize }) != plain(c, body) {
				t.Errorf("%s of %d bytes %q…", c, len(body), body[:10])
			}
		}
	}
}

// The examples of RFC 6376 section 3.4.5.
func TestCanonicalExamples(t *testing.T) {
	const m = "A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"
	opened, err := Open(message.Bytes(m))
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[Canon][2]string{
		Relaxed: {"a:X\r\nb:Y Z\r\n", " C\r\nD E\r\n"},
		Simple:  {"A: X\r\nB : Y\t\r\n\tZ  \r\n", " C \r\nD \t E\r\n"},
	} {
		var fields bytes.Buffer
		opened.WriteFields(&fields, c, []string{"a", "b", "b", "c"})
		body := streamed(c, m[opened.start:], func() int { return 3 })
		if fields.String() != want[0] || body != want[1] {
			t.Errorf("%s: %q %q", c, fields.String(), body)
		}
	}
}
