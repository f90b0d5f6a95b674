package smtpd

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// modelled is what a text behind DATA means, one byte at a time: the model that
// dots is held against. rest is what stands behind the end.
type modelled struct {
	text                []byte
	rest                []byte
	end                 bool
	bareLF, bareCR, nul bool
}

// model reads RFC 5321 section 4.5.2 literally.
func model(b []byte, normalise bool) modelled {
	var m modelled
	line := true
	for i := 0; i < len(b); i++ {
		if line && b[i] == '.' {
			if i+2 < len(b) && b[i+1] == '\r' && b[i+2] == '\n' {
				m.end, m.rest = true, b[i+3:]
				return m
			}
			line = false
			continue
		}
		switch {
		case b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n':
			m.text = append(m.text, '\r', '\n')
			line = true
			i++
			continue
		case b[i] == '\r':
			m.bareCR = true
			m.text = append(m.text, '\r')
		case b[i] == '\n':
			m.bareLF = true
			if normalise {
				m.text = append(m.text, '\r')
			}
			m.text = append(m.text, '\n')
		case b[i] == 0:
			m.nul = true
			fallthrough
		default:
			m.text = append(m.text, b[i])
		}
		line = false
	}
	return m
}

// readCut reads b with dots, given in pieces that end at the cuts, as packets do.
func readCut(b []byte, normalise bool, cuts []int) modelled {
	var m modelled
	d := dots{line: true, normalise: normalise}
	var room [maxCuts]cut
	var held []byte
	from := 0
	for _, at := range append(cuts, len(b)) {
		held = append(held, b[from:at]...)
		from = at
		for len(held) > 0 && !m.end {
			c := d.scan(held, &room)
			c.write(held, (*gathered)(&m.text))
			held = held[c.n:]
			m.end = c.end
			if !c.more {
				break
			}
		}
		if m.end {
			m.rest = append(held, b[from:]...)
			break
		}
	}
	m.bareLF, m.bareCR, m.nul = d.bareLF, d.bareCR, d.nul
	return m
}

// same compares what was read with the model. Without an end the last bytes may
// be still undecided, so only a prefix is asked for.
func same(t *testing.T, b []byte, normalise bool, cuts []int) {
	t.Helper()
	got, want := readCut(b, normalise, cuts), model(b, normalise)
	if got.end != want.end {
		t.Fatalf("%q cut at %v: end %v, want %v", b, cuts, got.end, want.end)
	}
	if !got.end {
		if !bytes.HasPrefix(want.text, got.text) || len(want.text)-len(got.text) > 2 {
			t.Fatalf("%q cut at %v: text %q, want %q", b, cuts, got.text, want.text)
		}
		return
	}
	if !bytes.Equal(got.text, want.text) || !bytes.Equal(got.rest, want.rest) {
		t.Fatalf("%q cut at %v: text %q rest %q, want %q rest %q", b, cuts, got.text, got.rest, want.text, want.rest)
	}
	if got.bareLF != want.bareLF || got.bareCR != want.bareCR || got.nul != want.nul {
		t.Fatalf("%q cut at %v: bare LF %v CR %v NUL %v, want %v %v %v", b, cuts, got.bareLF, got.bareCR, got.nul, want.bareLF, want.bareCR, want.nul)
	}
}

type gathered []byte

func (g *gathered) Write(p []byte) { *g = append(*g, p...) }

type counted int

func (n *counted) Write(p []byte) { *n += counted(len(p)) }

// smugglers are byte strings that some server once took for the end of data.
var smugglers = []string{
	"\n.\n", "\n.\r\n", "\n.\r", "\r.\r", "\r.\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\n.\r\r\n", "\r\n.\r\r", "\n\r.\n\r",
	"\n\n.\n\n", "\r\r.\r\r", "\r\n.\x00\r\n", "\r\n\x00.\r\n", "\r\n.\r\x00\n", "\r\x00\n.\r\n", "\x00\n.\n", "\r\n. \r\n",
	"\r\n.\t\r\n", "\r\n.\x0b\r\n", "\r\n.\xc2\x85\r\n", "\r\n.\xe2\x80\xa8", "\n.\r\x00\n.\n", "\r\n..\r\n", "\x0c.\r\n",
	"\r\r\n.\r\r\n", "\r\n.\n\r\n", "\n\r\n.\r", "\r\n\x00\x00.\r\n", "\r\n.\r\x00",
}

// TestSmuggling: nothing but CRLF.CRLF ends a message, however it is cut into
// packets (checklist 1 to 3), in the body, in the header and as the first line.
func TestSmuggling(t *testing.T) {
	const tail = "MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<x@example.net>\r\nDATA\r\n\r\nsmuggled\r\n.\r\n"
	for _, end := range smugglers {
		for _, before := range []string{"Subject: x\r\n\r\nfirst body", "Subject: x", ""} {
			if before == "" {
				end = strings.TrimLeft(end, "\r\n\x00")
				if end == ".\r\n" {
					continue // that one is an end, at the start
				}
			}
			b := []byte(before + end + tail + "NOOP\r\n")
			var every []int
			for i := range b {
				every = append(every, i)
			}
			at := len(before)
			for _, cuts := range [][]int{nil, every, {at + len(end)/2, at + len(end)}} {
				for _, normalise := range []bool{false, true} {
					same(t, b, normalise, cuts)
					m := readCut(b, normalise, cuts)
					if !m.end || string(m.rest) != "NOOP\r\n" {
						t.Fatalf("%q cut at %v: end %v, rest %q", b, cuts, m.end, m.rest)
					}
					if !bytes.Contains(m.text, []byte("smuggled@evil.example")) {
						t.Fatalf("%q cut at %v: the end came too early", b, cuts)
					}
				}
			}
		}
	}
}

// TestDots: RFC 5321 section 4.5.2.
func TestDots(t *testing.T) {
	for _, c := range []struct {
		in, text, rest string
		faulty         bool
	}{
		{in: ".\r\n", text: ""},
		{in: ".\r\nQUIT\r\n", text: "", rest: "QUIT\r\n"},
		{in: "a\r\n.\r\n", text: "a\r\n"},
		{in: "\r\n.\r\n", text: "\r\n"},
		{in: "..\r\n.\r\n", text: ".\r\n"},
		{in: "...\r\n..a\r\n.b\r\n.\r\n", text: "..\r\n.a\r\nb\r\n"},
		{in: "a.\r\n.\r\n", text: "a.\r\n"},
		{in: "a\n.\r\n.\r\n", text: "a\n.\r\n", faulty: true},
		{in: "a\rb\r\n.\r\n", text: "a\rb\r\n", faulty: true},
		{in: "a\x00b\r\n.\r\n", text: "a\x00b\r\n", faulty: true},
		{in: "a\r\r\n.\r\n", text: "a\r\r\n", faulty: true},
		{in: "ok\r\n.\r\nNO\x00OP\n\r", text: "ok\r\n", rest: "NO\x00OP\n\r"},
	} {
		d := dots{line: true}
		var room [maxCuts]cut
		got := d.scan([]byte(c.in), &room)
		var text []byte
		got.write([]byte(c.in), (*gathered)(&text))
		if !got.end || string(text) != c.text || c.in[got.n:] != c.rest || d.faulty() != c.faulty {
			t.Errorf("%q: text %q rest %q end %v faulty %v", c.in, text, c.in[got.n:], got.end, d.faulty())
		}
	}
}

// TestNormalise: bare_lf = "normalise" makes CRLF of a bare LF; CR and NUL stay
// faults, and a dot behind a bare LF is content.
func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\r\n.\r\n":         "a\r\nb\r\n",
		"a\n.\nb\r\n.\r\n":      "a\r\n.\r\nb\r\n",
		"a\n.\r\nb\r\n.\r\n":    "a\r\n.\r\nb\r\n",
		"\n\n\n.\r\nb\r\n.\r\n": "\r\n\r\n\r\n.\r\nb\r\n",
	} {
		m := readCut([]byte(in), true, nil)
		if string(m.text) != want || m.bareCR || m.nul || !m.end {
			t.Errorf("%q: %+v, want text %q", in, m, want)
		}
	}
	if !(&dots{normalise: true, bareCR: true}).faulty() || !(&dots{normalise: true, nul: true}).faulty() || (&dots{normalise: true, bareLF: true}).faulty() {
		t.Error("what is faulty under normalise")
	}
}

// TestDotsRandom holds dots against the model with random texts and cuts.
func TestDotsRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"\r", "\n", ".", "\r\n", "\r\n.", "\r\n.\r", "x", "\x00", "hello", "..", "\r\n\r\n"}
	for range 20000 {
		var b []byte
		for range r.IntN(12) {
			b = append(b, words[r.IntN(len(words))]...)
		}
		b = append(b, "\r\n.\r\nNOOP\r\n"...)
		var cuts []int
		for at := 0; at < len(b); at += 1 + r.IntN(6) {
			cuts = append(cuts, at)
		}
		same(t, b, r.IntN(2) == 0, cuts)
	}
}

// TestManyCuts: a text of nothing but dotted lines or bare LFs is taken in
// bounded pieces.
func TestManyCuts(t *testing.T) {
	same(t, []byte(strings.Repeat("..\r\n", 1000)+".\r\n"), false, nil)
	same(t, []byte(strings.Repeat("\n", 1000)+"\r\n.\r\n"), true, nil)
	same(t, []byte(strings.Repeat("\r\n.\n", 1000)+"\r\n.\r\n"), true, nil)
}

func FuzzDots(f *testing.F) {
	for _, s := range smugglers {
		f.Add([]byte("a"+s+"b\r\n.\r\n"), uint64(1), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, normalise bool) {
		if len(b) > 1<<16 {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		var cuts []int
		for at := 0; at < len(b); at += 1 + r.IntN(8) {
			cuts = append(cuts, at)
		}
		same(t, b, normalise, cuts)
		same(t, b, normalise, nil)
	})
}

// naive is the loop that dots replaces, for comparison.
func naive(b []byte, out []byte) ([]byte, bool) {
	const (
		begin = iota
		dot
		dotCR
		middle
		cr
	)
	state, bad := begin, false
	for _, c := range b {
		switch {
		case state == begin && c == '.':
			state = dot
			continue
		case state == dot && c == '\r':
			state = dotCR
			continue
		case state == dotCR && c == '\n':
			return out, bad
		case c == '\r':
			bad = bad || state == cr
			state = cr
		case c == '\n':
			bad = bad || state != cr
			state = begin
		case c == 0:
			bad = true
			state = middle
		default:
			bad = bad || state == cr
			state = middle
		}
		out = append(out, c)
	}
	return out, bad
}

func benchText(line int) []byte {
	var b []byte
	for len(b) < bigSize-line-8 {
		b = append(b, strings.Repeat("x", line)...)
		b = append(b, "\r\n"...)
	}
	return b
}

func BenchmarkDots(b *testing.B) {
	for _, line := range []int{10, 72, 998} {
		text := benchText(line)
		b.Run(fmt.Sprintf("line%d", line), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			var room [maxCuts]cut
			var n counted
			for b.Loop() {
				d := dots{line: true}
				c := d.scan(text, &room)
				c.write(text, &n)
			}
		})
		b.Run(fmt.Sprintf("naive%d", line), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			out := make([]byte, 0, len(text))
			for b.Loop() {
				out, _ = naive(text, out[:0])
			}
		})
	}
}
