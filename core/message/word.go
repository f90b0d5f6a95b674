package message

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// maxCharsetName bounds the first word of an encoded word.
const maxCharsetName = 80

// DecodeWords decodes the encoded words of an unstructured text (RFC 2047), the
// way mail readers do: charsets of any name they know, a language behind "*" (RFC
// 2231 section 5), blanks inside a word, characters that are split over several.
// What can't be decoded stays as it is; the result is valid UTF-8. Its time and
// size are linear in s.
func DecodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return anyText(s)
	}
	d := wordDecoder{}
	done, end := 0, -1 // end: the first "?=" at or behind the last place that was asked about
	for i := 0; ; {
		n := strings.Index(s[i:], "=?")
		if n < 0 {
			break
		}
		i += n
		text := wordText(s[i:])
		if text == 0 {
			i += 2
			continue
		}
		if text += i; end < text {
			n := strings.Index(s[text:], "?=")
			if n < 0 {
				break // no later word can be whole, either
			}
			end = text + n
		}
		w, ok := readWord(s[i:text], s[text:end])
		if !ok {
			i += 2
			continue
		}
		d.literal(s[done:i])
		d.word(w)
		i = end + 2
		done = i
	}
	d.literal(s[done:])
	d.flush()
	return d.out.String()
}

// anyText is raw text as UTF-8.
func anyText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return charset{}.text([]byte(s))
}

type word struct {
	charset string
	b       []byte
}

// wordText is where the encoded text begins in the word at the start of s, 0
// where there is none: "=?", a charset, "?", one letter, "?".
func wordText(s string) int {
	i := 2 + strings.IndexByte(s[2:min(len(s), 2+maxCharsetName)], '?')
	if i <= 2 || len(s) < i+3 || s[i+2] != '?' || strings.ContainsAny(s[2:i], " \t=") {
		return 0
	}
	if kind := s[i+1] | 0x20; kind != 'q' && kind != 'b' {
		return 0
	}
	return i + 3
}

// readWord decodes a word of its front, "=?charset?q?", and its encoded text.
func readWord(front, text string) (w word, ok bool) {
	w.charset, _, _ = strings.Cut(front[2:len(front)-3], "*")
	if _, known := charsetNamed(w.charset); !known {
		return w, false
	}
	if front[len(front)-2]|0x20 == 'q' {
		w.b = decodeQ(text)
	} else {
		w.b = decodeB(text)
	}
	return w, true
}

func decodeQ(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			b = append(b, ' ')
		case c == '=' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return b
}

func decodeB(s string) []byte {
	b, _, _ := readLimited(&base64Reader{r: strings.NewReader(s)}, len(s))
	return b
}

// wordDecoder joins words and what stands between them.
type wordDecoder struct {
	out   strings.Builder
	last  word
	open  bool   // last waits for a word of the same charset
	blank string // between it and what follows
}

func (d *wordDecoder) literal(s string) {
	if s == "" {
		return
	}
	if d.open && strings.Trim(s, " \t\r\n") == "" {
		d.blank += s // dropped, should another word follow
		return
	}
	d.flush()
	d.out.WriteString(anyText(s))
}

func (d *wordDecoder) word(w word) {
	if d.open {
		d.blank = ""
		if strings.EqualFold(d.last.charset, w.charset) {
			d.last.b = append(d.last.b, w.b...)
			return
		}
		d.flush()
	}
	d.last, d.open = w, true
}

func (d *wordDecoder) flush() {
	if d.open {
		c, _ := charsetNamed(d.last.charset)
		d.out.WriteString(c.text(d.last.b))
		d.out.WriteString(d.blank)
	}
	d.last, d.open, d.blank = word{}, false, ""
}

// EncodeWords is a text as a header field's value carries it: what is not ASCII in
// encoded words (RFC 2047), in UTF-8, the rest as it is.
func EncodeWords(s string) string { return encodeWords(strings.ToValidUTF8(s, "\uFFFD"), 0) }

// maxWord is the longest encoded word (RFC 2047 section 2), and maxWordLine the
// longest line that holds one.
const (
	maxWord     = 75
	maxWordLine = 76
)

// encodeWords writes each blank-separated run that holds something beyond
// printable ASCII as encoded words (RFC 2047). Blanks between two encoded runs are
// encoded with them, since a reader drops those between encoded words. column is
// where the text begins in its line.
func encodeWords(s string, column int) string {
	if plain(s) {
		return s
	}
	words := strings.SplitAfter(s, " ")
	var b strings.Builder
	for i := 0; i < len(words); {
		if plain(words[i]) {
			b.WriteString(words[i])
			i++
			continue
		}
		j := i + 1
		for k := j; k < len(words); k++ {
			if !plain(words[k]) {
				j = k + 1
			}
		}
		run := strings.Join(words[i:j], "")
		trimmed := strings.TrimRight(run, " ")
		first := maxWord
		if b.Len() == 0 {
			first = max(maxWordLine-column, 30)
		}
		appendWords(&b, trimmed, min(first, maxWord))
		b.WriteString(run[len(trimmed):])
		i = j
	}
	return b.String()
}

// appendWords writes s as encoded words, the first one of at most first octets.
func appendWords(b *strings.Builder, s string, first int) {
	const overhead = len("=?utf-8?q??=")
	costly := 0
	for i := range len(s) {
		if !plainQ(s[i]) && s[i] != ' ' {
			costly++
		}
	}
	kind := byte('q')
	if costly*5 > len(s)*3 {
		kind = 'b' // it is the shorter one
	}
	room := first - overhead
	for start := true; s != ""; start = false {
		n := cutForWord(s, kind, room)
		if !start {
			b.WriteByte(' ')
		}
		b.WriteString("=?utf-8?")
		b.WriteByte(kind)
		b.WriteByte('?')
		if kind == 'b' {
			b.WriteString(base64.StdEncoding.EncodeToString([]byte(s[:n])))
		} else {
			writeQ(b, s[:n])
		}
		b.WriteString("?=")
		s, room = s[n:], maxWord-overhead
	}
}

// cutForWord is how much of s fits in room octets of a word; no character is cut.
func cutForWord(s string, kind byte, room int) int {
	n, used := 0, 0
	for n < len(s) {
		_, size := utf8.DecodeRuneInString(s[n:])
		if kind == 'b' {
			if (n+size+2)/3*4 > room && n > 0 {
				return n
			}
		} else {
			for i := range size {
				if c := s[n+i]; plainQ(c) || c == ' ' {
					used++
				} else {
					used += 3
				}
			}
			if used > room && n > 0 {
				return n
			}
		}
		n += size
	}
	return n
}

// plainQ tells what stands for itself in the encoding Q wherever a word may stand.
func plainQ(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("!*+-/", c) >= 0
}

func writeQ(b *strings.Builder, s string) {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ':
			b.WriteByte('_')
		case plainQ(c):
			b.WriteByte(c)
		default:
			b.Write([]byte{'=', digits[c>>4], digits[c&15]})
		}
	}
}

func plain(s string) bool {
	for _, r := range s {
		if (r < ' ' && r != '\t') || r > '~' || r == utf8.RuneError {
			return false
		}
	}
	return true
}
