package message

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// insert puts the footer into one text part. It reports false where the part
// can't hold it as it is.
func (e *footerEdit) insert(p *Part) (bool, error) {
	c, known := charsetNamed(p.Charset())
	if !known || !c.plain {
		return false, nil
	}
	identity := false
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
		identity = true
	case "quoted-printable", "base64":
	default:
		return false, nil
	}
	text, more, err := readLimited(p.Reader(), maxFooterText)
	if err != nil || more {
		return false, err
	}
	if hasPGP(text) {
		e.why = "signed or encrypted (PGP)"
		return false, nil
	}
	footer, upgrade, ok := e.encoded(p, c, text, identity)
	if !ok {
		return false, nil
	}
	if !bytes.Contains(text, []byte("\r\n")) && bytes.IndexByte(text, '\n') >= 0 {
		footer = bytes.ReplaceAll(footer, []byte("\r\n"), []byte("\n")) // the part's own line ends
	}
	text = e.joined(p, text, footer)
	encoding := p.Encoding
	if identity && (!isASCII(string(footer)) && (upgrade || !has8bit(text, footer)) || longLines(footer)) {
		if p.Encoding == "binary" {
			return false, nil
		}
		encoding = "quoted-printable"
	}
	return e.write(p, text, encoding, upgrade)
}

// hasPGP tells whether a text holds an armoured signature or message (RFC 9580
// section 6.2, 7).
func hasPGP(text []byte) bool {
	return bytes.HasPrefix(text, []byte("-----BEGIN PGP ")) || bytes.Contains(text, []byte("\n-----BEGIN PGP "))
}

// has8bit tells whether text holds bytes beyond ASCII that are not the footer's.
func has8bit(text, footer []byte) bool {
	return !isASCII(string(bytes.Replace(text, footer, nil, 1)))
}

// longLines tells whether a line is longer than mail allows (RFC 5322 section
// 2.1.1).
func longLines(b []byte) bool {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n') + 1
		if i == 0 {
			i = len(b)
		}
		if i > 998 {
			return true
		}
		b = b[i:]
	}
	return false
}

// encoded is the footer in the part's charset. upgrade tells that the part's must
// become UTF-8 for it.
func (e *footerEdit) encoded(p *Part, c charset, text []byte, identity bool) (footer []byte, upgrade, ok bool) {
	eight := !isASCII(string(text))
	if p.Type == "text/html" {
		if footer, ok = c.encode(e.HTML); !ok || c.ascii() || identity && !eight {
			footer = charRefs(e.HTML)
		}
		return footer, false, true
	}
	plain := e.Text
	if strings.EqualFold(p.Params.Get("format"), "flowed") {
		plain = flowed(plain)
	}
	if footer, ok = c.encode(plain); ok {
		return footer, false, true
	}
	// US-ASCII is UTF-8 already. A part that says so and is not is no text to rely on.
	return []byte(plain), true, c.ascii() && !eight
}

// charRefs writes what is beyond ASCII as character references.
func charRefs(s string) []byte {
	var b []byte
	for _, r := range s {
		if r < 0x80 {
			b = append(b, byte(r))
		} else {
			b = fmt.Appendf(b, "&#%d;", r)
		}
	}
	return b
}

// flowed is a text as format=flowed has it: no line of it flows into the next (RFC
// 3676 section 4.2 and 4.4).
func flowed(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		if line != "-- " {
			line = strings.TrimRight(line, " ")
		}
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, ">") || strings.HasPrefix(line, "From ") {
			b.WriteByte(' ')
		}
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

// joined is the text with the footer in its place: an empty line parts plain
// texts; in HTML it stands just inside the body element.
func (e *footerEdit) joined(p *Part, text, footer []byte) []byte {
	nl := []byte("\r\n")
	if bytes.HasSuffix(footer, []byte("\n")) && !bytes.HasSuffix(footer, nl) {
		nl = nl[1:]
	}
	out := make([]byte, 0, len(text)+len(footer)+4*len(nl))
	if p.Type == "text/html" {
		at := placeInHTML(text, e.Top)
		out = append(append(out, text[:at]...), footer...)
		return append(out, text[at:]...)
	}
	if e.Top {
		return append(append(append(out, footer...), nl...), text...)
	}
	out = append(out, text...)
	if len(text) > 0 {
		if text[len(text)-1] != '\n' {
			out = append(out, nl...)
		}
		out = append(out, nl...)
	}
	return append(out, footer...)
}

// placeInHTML is where a piece at the top, or at the end, of the document belongs.
func placeInHTML(text []byte, top bool) int {
	z := html.NewTokenizer(bytes.NewReader(text))
	at, best, rank := 0, 0, 0
	if !top {
		best = len(text)
	}
	for {
		t := z.Next()
		raw := len(z.Raw())
		if t == html.ErrorToken {
			return min(best, len(text))
		}
		r := 0
		switch t {
		case html.DoctypeToken:
			r = 1
		case html.StartTagToken, html.EndTagToken:
			name, _ := z.TagName()
			tag := atom.Lookup(name)
			switch {
			case t == html.StartTagToken && tag == atom.Html:
				r = 2
			case t == html.EndTagToken && tag == atom.Head:
				r = 3
			case t == html.StartTagToken && tag == atom.Body:
				r = 4
			case !top && t == html.EndTagToken && tag == atom.Html:
				best, rank = pick(best, rank, at, 5)
			case !top && t == html.EndTagToken && tag == atom.Body:
				best, rank = pick(best, rank, at, 6)
			}
		}
		if top && r > rank {
			best, rank = at+raw, r
		}
		at += raw
	}
}

// pick takes the later of two places of the same rank, else the higher one.
func pick(best, rank, at, r int) (int, int) {
	if r >= rank {
		return at, r
	}
	return best, rank
}

// write puts the part's new text in the place of the old one, with its fields
// changed where the encoding or the charset did.
func (e *footerEdit) write(p *Part, text []byte, encoding string, upgrade bool) (bool, error) {
	switch encoding {
	case "quoted-printable":
		text = appendQuoted(nil, text)
	case "base64":
		text = appendBase64(nil, text)
	}
	change := func(h *Header) error {
		if upgrade {
			if err := h.Replace("Content-Type", contentType(p, "utf-8")); err != nil {
				return err
			}
		}
		if encoding != p.Encoding {
			return h.Replace("Content-Transfer-Encoding", encoding)
		}
		return nil
	}
	if p.Parent == nil {
		if err := change(e.header); err != nil {
			return false, nil //nolint:nilerr // such fields are not to be touched
		}
		if (upgrade || encoding != p.Encoding) && e.header.Count("MIME-Version") == 0 {
			_ = e.header.Append("MIME-Version", "1.0") // a valid field
		}
	} else if upgrade || encoding != p.Encoding {
		if p.From-p.Start > maxPartHeader {
			return false, nil
		}
		section, err := p.HeaderBytes()
		if err != nil {
			return false, err
		}
		n, ok := HeaderLen(section)
		if !ok {
			return false, nil
		}
		h := ParseHeader(section[:n])
		if change(h) != nil {
			return false, nil
		}
		e.splices = append(e.splices, splice{p.Start, p.From, h.Section()})
	}
	e.splices = append(e.splices, splice{p.From, p.End, text})
	return true, nil
}

// inQuotes is what stands for characters that would end a quoted string.
var inQuotes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// contentType is the part's Content-Type with another charset.
func contentType(p *Part, label string) string {
	var b strings.Builder
	b.WriteString(p.Type + "; charset=" + label)
	for _, one := range p.Params {
		if one.Key == "charset" {
			continue
		}
		value := inQuotes.Replace(one.Value)
		b.WriteString("; " + one.Key + `="` + value + `"`)
	}
	return b.String()
}

// ReplaceText is the content of a message that becomes the text, a UTF-8 text of
// that type, such as text/plain; h gets the MIME fields that it needs. Where kind
// is "", text is the content as it stands and h stays: its lines are given CRLF,
// and must be no longer than mail allows.
func ReplaceText(h *Header, text, kind string) (content []byte, err error) {
	if strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("a body must not hold NUL")
	}
	content = []byte(wireLines(text))
	if n := len(content); n > 0 && content[n-1] != '\n' {
		content = append(content, '\r', '\n')
	}
	if kind == "" {
		if longLines(content) {
			return nil, fmt.Errorf("a line of a body is at most 998 octets")
		}
		return content, nil
	}
	if !validType(kind) || !strings.HasPrefix(kind, "text/") {
		return nil, fmt.Errorf("%q is no type of text", kind)
	}
	content = []byte(strings.ToValidUTF8(string(content), "\uFFFD"))
	fields, content := textEntity(content, kind)
	mime := false
	for f := range h.Clone().Fields() {
		if f.Name != "" && wantedField(f.Raw) {
			mime = true
			h.Remove(f.Name, 0)
		}
	}
	if !mime && kind == "text/plain" && strings.Contains(fields, "7bit") {
		return content, nil // what a message without these fields is
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n"), "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		if err := h.Append(name, value); err != nil {
			return nil, err
		}
	}
	if h.Count("MIME-Version") == 0 {
		err = h.Append("MIME-Version", "1.0")
	}
	return content, err
}
