package message

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/transform"
)

// charset is how a text part's bytes become characters.
type charset struct {
	name  string
	enc   encoding.Encoding // nil: UTF-8, US-ASCII, UTF-7 or unknown
	plain bool              // every byte below 0x80 is that character of ASCII, wherever it stands behind the last text
}

// charsetNamed finds a charset by the label of a MIME parameter, as browsers and
// mail readers do: by the names of the WHATWG's Encoding standard, then those of
// IANA. known is false for a label that none of them has.
func charsetNamed(label string) (c charset, known bool) {
	label = strings.ToLower(strings.Trim(label, " \t\"'"))
	c = charset{name: label}
	switch label {
	case "utf-8", "utf8", "unicode-1-1-utf-8", "us-ascii", "ascii", "ansi_x3.4-1968", "":
		c.plain = true
		return c, true
	case "utf-7", "unicode-1-1-utf-7":
		c.name = "utf-7"
		return c, true
	case "iso-8859-1", "iso8859-1", "latin1":
		c.enc, c.plain = charmap.Windows1252, true // what all readers take it for
		return c, true
	}
	enc, err := htmlindex.Get(label)
	if err != nil || enc == encoding.Replacement {
		if enc, err = ianaindex.IANA.Encoding(label); err != nil || enc == nil {
			return charset{name: label, plain: true}, false
		}
	}
	c.enc = enc
	c.plain = !strings.HasPrefix(label, "utf") && !strings.HasPrefix(label, "iso-2022") && !strings.HasPrefix(label, "hz") && !strings.Contains(label, "ucs") && !strings.Contains(label, "unicode")
	return c, true
}

// ascii tells whether the charset is US-ASCII, by name or by default (RFC 2046
// section 4.1.2).
func (c charset) ascii() bool {
	return c.name == "" || c.name == "us-ascii" || c.name == "ascii" || c.name == "ansi_x3.4-1968"
}

func (c charset) utf8() bool {
	return c.name == "utf-8" || c.name == "utf8" || c.name == "unicode-1-1-utf-8"
}

// reader decodes r to UTF-8. What does not decode becomes U+FFFD; bytes beyond
// ASCII where none are announced, and in unknown charsets, are read as UTF-8
// where they are that, else as windows-1252.
func (c charset) reader(r io.Reader) io.Reader {
	switch {
	case c.name == "utf-7":
		return transform.NewReader(r, &utf7{})
	case c.enc != nil:
		return transform.NewReader(r, c.enc.NewDecoder())
	}
	return &guessReader{r: r, as: guess{strict: c.utf8()}}
}

// text is reader for a short text.
func (c charset) text(b []byte) string {
	s, err := io.ReadAll(c.reader(strings.NewReader(string(b))))
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return strings.ToValidUTF8(string(s), "\uFFFD")
}

// encode writes UTF-8 text in the charset; ok is false where it can't hold it.
func (c charset) encode(s string) (b []byte, ok bool) {
	switch {
	case c.utf8():
		return []byte(s), true
	case isASCII(s) && c.plain:
		return []byte(s), true
	case c.enc == nil || !c.plain:
		return nil, false
	}
	enc := c.enc
	if c.name == "iso-8859-1" || c.name == "iso8859-1" || c.name == "latin1" {
		enc = charmap.ISO8859_1 // what is written keeps to the label
	}
	b, err := enc.NewEncoder().Bytes([]byte(s))
	return b, err == nil
}

// guessReader reads ASCII as it is, and from the first other byte on by guess.
type guessReader struct {
	r  io.Reader
	as guess
	on io.Reader // what comes next, once there was such a byte
}

func (g *guessReader) Read(p []byte) (int, error) {
	if g.on != nil {
		return g.on.Read(p)
	}
	n, err := g.r.Read(p)
	for i, c := range p[:n] {
		if c < utf8.RuneSelf {
			continue
		}
		rest := io.MultiReader(bytes.NewReader(bytes.Clone(p[i:n])), &told{g.r, err})
		g.on = transform.NewReader(rest, g.as)
		if i == 0 {
			return g.on.Read(p)
		}
		return i, nil
	}
	return n, err
}

// told is a reader whose next error is known already, where it is not nil.
type told struct {
	r   io.Reader
	err error
}

func (t *told) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	return t.r.Read(p)
}

// guess is a transform.Transformer: valid UTF-8 passes; other bytes become
// U+FFFD where strict, else the characters of windows-1252.
type guess struct{ strict bool }

func (guess) Reset() {}

func (g guess) Transform(dst, src []byte, atEOF bool) (nd, ns int, err error) {
	for ns < len(src) {
		c := src[ns]
		if c < utf8.RuneSelf {
			run := ns
			for run < len(src) && src[run] < utf8.RuneSelf {
				run++
			}
			n := copy(dst[nd:], src[ns:run])
			nd, ns = nd+n, ns+n
			if ns < run {
				return nd, ns, transform.ErrShortDst
			}
			continue
		}
		if !atEOF && !utf8.FullRune(src[ns:]) {
			return nd, ns, transform.ErrShortSrc
		}
		r, n := utf8.DecodeRune(src[ns:])
		if r == utf8.RuneError && n == 1 && !g.strict {
			r = charmap.Windows1252.DecodeByte(c)
		}
		if nd+utf8.UTFMax > len(dst) {
			return nd, ns, transform.ErrShortDst
		}
		nd += utf8.EncodeRune(dst[nd:], r)
		ns += n
	}
	return nd, ns, nil
}

// utf7 decodes UTF-7 (RFC 2152), which some readers still follow.
type utf7 struct {
	shifted bool
	fresh   bool // directly behind '+'
	bits    uint32
	count   uint
	high    rune // a surrogate that waits for its second half
}

func (u *utf7) Reset() { *u = utf7{} }

func (u *utf7) Transform(dst, src []byte, atEOF bool) (nd, ns int, err error) {
	put := func(r rune) { nd += utf8.EncodeRune(dst[nd:], r) }
	for ; ns < len(src); ns++ {
		if nd+2*utf8.UTFMax > len(dst) {
			return nd, ns, transform.ErrShortDst
		}
		c := src[ns]
		if !u.shifted {
			if c == '+' {
				*u = utf7{shifted: true, fresh: true}
			} else if c < utf8.RuneSelf {
				put(rune(c))
			} else {
				put(charmap.Windows1252.DecodeByte(c))
			}
			continue
		}
		v := base64Value[c]
		if v == noBase64 {
			if u.fresh && c == '-' {
				put('+')
			} else if c != '-' {
				put(rune(c & 0x7f))
			}
			u.Reset()
			continue
		}
		u.fresh = false
		u.bits, u.count = u.bits<<6|uint32(v), u.count+6
		if u.count < 16 {
			continue
		}
		u.count -= 16
		r := rune(u.bits >> u.count & 0xFFFF)
		switch {
		case utf16.IsSurrogate(r) && u.high == 0:
			u.high = r
		case u.high != 0:
			put(utf16.DecodeRune(u.high, r))
			u.high = 0
		default:
			put(r)
		}
	}
	return nd, ns, nil
}
