package message

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// ends reads a text literally, one byte at a time.
func ends(b []byte) (l LineEnds) {
	for i, c := range b {
		switch {
		case c == '\n' && (i == 0 || b[i-1] != '\r'):
			l.BareLF = true
		case c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			l.BareCR = true
		case c == 0:
			l.NUL = true
		}
	}
	return l
}

// FuzzLineEnds: however a text is cut, what is seen in it is the same.
func FuzzLineEnds(f *testing.F) {
	for _, s := range []string{"", "a\r\nb", "\n.\n", "\r", "\r\r\n", "a\nb\x00", "\r\n.\r\r\n", "x\r", "\r\n\r\n"} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		rnd, got := rand.New(rand.NewPCG(seed, 0)), LineEnds{}
		for rest := b; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 5))
			got.Scan(rest[:n])
			got.Scan(nil)
			rest = rest[n:]
		}
		got.End()
		if want := ends(b); got != want {
			t.Fatalf("%q: %+v, want %+v", b, got, want)
		}
	})
}

func BenchmarkLineEnds(b *testing.B) {
	text := bytes.Repeat(append(bytes.Repeat([]byte("x"), 70), '\r', '\n'), 220)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var l LineEnds
		l.Scan(text)
	}
}
