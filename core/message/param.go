package message

import (
	"slices"
	"strconv"
	"strings"
)

// Bounds of a parameter list.
const (
	maxParams   = 200
	maxSegments = 1000 // of one value, RFC 2231 section 3
)

// Params are the parameters of a Content-Type or Content-Disposition field, in
// their order. Keys are lower-case; values are UTF-8, their continuations joined
// and their charset decoded (RFC 2231).
type Params []ContentParam

// ContentParam is one of them. Value is what the standard says it means. Others
// are what a reader that is more lenient, or less, may take it for: the text with
// its encoded words decoded, or with what stands behind its closing quote.
type ContentParam struct {
	Key, Value string
	Others     []string
}

// Get is the value of the first parameter of that name; "" where there is none.
func (p Params) Get(key string) string {
	for _, one := range p {
		if one.Key == key {
			return one.Value
		}
	}
	return ""
}

// rawParam is a parameter as it is written.
type rawParam struct {
	key   string // without the asterisks
	value string
	wider string // value with what follows its closing quote, "" where nothing does
	index int    // of a continuation, -1: whole
	coded bool   // percent-encoded
}

// ParseContent reads the value of a Content-Type or Content-Disposition field
// (RFC 2045 section 5.1, RFC 2183) as leniently as mail readers do: comments,
// missing or unclosed quotes, blanks within unquoted values, doubled semicolons.
// value is the part before the first semicolon, in lower case. clean tells that
// nothing in it was ambiguous or beyond the bounds; the time is linear in s.
func ParseContent(s string) (value string, params Params, clean bool) {
	clean = true
	value, rest := cutValue(s)
	value = strings.Trim(value, " \t\r\n\"")
	if i := strings.IndexAny(value, " \t"); i >= 0 && strings.Contains(value[i:], "=") {
		// The first semicolon is missing: "multipart/mixed boundary=x".
		value, rest, clean = value[:i], ";"+value[i:]+rest, false
	}
	value = strings.ToLower(value)
	var raw []rawParam
	for n := 0; rest != ""; n++ {
		if n == maxParams {
			clean = false
			break
		}
		var p rawParam
		var ok bool
		p, rest, ok = cutParam(rest[1:])
		if !ok {
			clean = false
		}
		if p.key != "" {
			raw = append(raw, p)
		}
	}
	params, ok := joinParams(raw)
	return value, params, clean && ok
}

// cutValue reads up to a semicolon and leaves comments out. rest begins with it.
func cutValue(s string) (value, rest string) {
	if i := strings.IndexAny(s, ";("); i < 0 || s[i] == ';' {
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ';':
			return b.String(), s[i:]
		case '(':
			n := commentLen(s[i:])
			if n == 0 {
				b.WriteString(s[i:]) // unclosed: all of it is text
				return b.String(), ""
			}
			i += n - 1
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

// commentLen is the length of the comment at the start of s (RFC 5322 section
// 3.2.2), 0 where it is not closed.
func commentLen(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// cutParam reads key=value; rest is "" or begins with the next semicolon.
func cutParam(s string) (p rawParam, rest string, ok bool) {
	p.index = -1
	s = skipBlanks(s)
	i := strings.IndexAny(s, "=;")
	if i < 0 {
		return rawParam{}, "", strings.TrimSpace(s) == ""
	}
	if s[i] == ';' {
		return rawParam{}, s[i:], strings.TrimSpace(s[:i]) == ""
	}
	ok = p.readKey(strings.ToLower(strings.TrimSpace(s[:i])))
	s = skipBlanks(s[i+1:])
	if !strings.HasPrefix(s, `"`) {
		if i = strings.IndexByte(s, ';'); i < 0 {
			i = len(s)
		}
		p.value, rest = strings.TrimRight(s[:i], " \t\r\n"), s[i:]
		if j := strings.IndexAny(p.value, " \t("); j >= 0 {
			ok = false
			if cut := strings.TrimRight(p.value[:j], " \t"); p.key == "boundary" || p.key == "charset" {
				p.value, p.wider = cut, p.value
			}
		}
		return p, rest, ok
	}
	value, rest, closed := cutQuoted(s)
	p.value = value
	if i = strings.IndexByte(rest, ';'); i < 0 {
		i = len(rest)
	}
	junk := strings.TrimSpace(rest[:i])
	if junk != "" && commentLen(junk) != len(junk) {
		p.wider, ok = value+junk, false
	}
	return p, rest[i:], ok && closed
}

func skipBlanks(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		n := 0
		if strings.HasPrefix(s, "(") {
			n = commentLen(s)
		}
		if n == 0 {
			return s
		}
		s = s[n:]
	}
}

// cutQuoted reads the quoted string at the start of s. One that is never closed
// ends with the first semicolon, or with s.
func cutQuoted(s string) (value, rest string, closed bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
				i++
			}
			b.WriteByte(s[i]) // a lone backslash is a path's, as some systems write names
		default:
			b.WriteByte(c)
		}
	}
	if i := strings.IndexByte(s, ';'); i > 0 {
		return strings.TrimRight(s[1:i], " \t\r\n"), s[i:], false
	}
	return b.String(), "", false
}

// readKey takes "name", "name*", "name*3" and "name*3*" apart.
func (p *rawParam) readKey(key string) (ok bool) {
	key, p.coded = strings.CutSuffix(key, "*")
	name, index, split := strings.Cut(key, "*")
	p.key = strings.TrimSpace(name)
	if !split {
		return p.key != "" && !strings.ContainsAny(p.key, " \t\"()")
	}
	n, err := strconv.Atoi(index)
	if err != nil || n < 0 || n >= maxSegments {
		return false
	}
	p.index = n
	return p.key != ""
}

// joinParams joins continuations and decodes. Where a name has both a plain value
// and one of RFC 2231, the latter is its value and the former one of the others.
func joinParams(raw []rawParam) (params Params, clean bool) {
	clean = true
	groups := map[string][]rawParam{}
	var keys []string
	for _, p := range raw {
		if groups[p.key] == nil {
			keys = append(keys, p.key)
		}
		groups[p.key] = append(groups[p.key], p)
	}
	for _, key := range keys {
		one := ContentParam{Key: key}
		var values []string
		var pieces, plain []rawParam
		for _, p := range groups[key] {
			switch {
			case p.index >= 0:
				pieces = append(pieces, p)
			case p.coded:
				values = append(values, decodeExtended(p.value))
			default:
				plain = append(plain, p)
			}
		}
		if len(pieces) > 0 {
			v, ok := joinPieces(pieces)
			values, clean = append(values, v), clean && ok
		}
		for _, p := range plain {
			values = append(values, anyText(p.value))
			if w := DecodeWords(p.value); w != p.value {
				values = append(values, w)
			}
			if p.wider != "" {
				values = append(values, DecodeWords(p.wider))
			}
		}
		clean = clean && len(plain) < 2
		one.Value = values[0]
		for _, v := range values[1:] {
			if v != one.Value && !slices.Contains(one.Others, v) {
				one.Others = append(one.Others, v)
			}
		}
		params = append(params, one)
	}
	return params, clean
}

// joinPieces joins name*0, name*1… in the order of their numbers. Missing ones
// are skipped, as some readers do, and of doubled ones the first counts.
func joinPieces(pieces []rawParam) (v string, clean bool) {
	slices.SortStableFunc(pieces, func(a, b rawParam) int { return a.index - b.index })
	var b []byte
	label := ""
	clean = true
	last := -1
	for _, p := range pieces {
		if p.index == last {
			clean = false
			continue
		}
		clean = clean && p.index == last+1
		text := p.value
		if p.coded {
			if last < 0 {
				label, text = cutCharset(text)
			}
			b = append(b, percentDecode(text)...)
		} else {
			b = append(b, text...)
		}
		last = p.index
	}
	c, known := charsetNamed(label)
	return c.text(b), clean && known
}

// decodeExtended reads charset'language'percent-encoded.
func decodeExtended(s string) string {
	label, text := cutCharset(s)
	c, _ := charsetNamed(label)
	return c.text(percentDecode(text))
}

func cutCharset(s string) (label, text string) {
	if label, rest, ok := strings.Cut(s, "'"); ok {
		if _, text, ok = strings.Cut(rest, "'"); ok {
			return label, text
		}
	}
	return "", s
}

// percentDecode leaves what is no escape as it is.
func percentDecode(s string) []byte {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0 {
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return b
}
