package message

import (
	"io"
	"strings"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// RenderHTML writes the text that a reader of the HTML in r sees, good enough to
// be searched: entities decoded, scripts and styles left out, a line for each
// block, blanks folded, the text of images in their place. r is UTF-8. At most
// limit bytes are made; more tells that there were others. HTML is taken apart as
// browsers do (WHATWG, section 13.2.5), in time linear in its size.
func RenderHTML(r io.Reader, limit int) (text string, more bool, err error) {
	v := htmlView{limit: limit}
	err = readHTML(r, v.token)
	return strings.TrimSpace(v.out.String()), v.full, err
}

// readHTML hands each token to f until it reports false. Texts inside script and
// style are left out.
func readHTML(r io.Reader, f func(t html.TokenType, z *html.Tokenizer, tag atom.Atom, attrs bool) bool) error {
	z := html.NewTokenizer(r)
	skip := atom.Atom(0)
	for {
		t := z.Next()
		tag, attrs := atom.Atom(0), false
		switch t {
		case html.ErrorToken:
			if err := z.Err(); err != io.EOF {
				return err
			}
			return nil
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			var name []byte
			name, attrs = z.TagName()
			tag = atom.Lookup(name)
			switch {
			case t == html.StartTagToken && (tag == atom.Script || tag == atom.Style):
				skip = tag
			case t == html.EndTagToken && tag == skip:
				skip = 0
			}
		case html.TextToken:
			if skip != 0 {
				continue
			}
		}
		if !f(t, z, tag, attrs) {
			return nil
		}
	}
}

// htmlView is the text so far.
type htmlView struct {
	out   strings.Builder
	limit int
	full  bool
	blank bool // a blank waits
	line  bool // a line end waits
}

func (v *htmlView) token(t html.TokenType, z *html.Tokenizer, tag atom.Atom, attrs bool) bool {
	switch t {
	case html.TextToken:
		v.text(string(z.Text()))
	case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
		if blockTag(tag) {
			v.line = true
		}
		if tag == atom.Td || tag == atom.Th {
			v.blank = true
		}
		for attrs {
			var key, value []byte
			key, value, attrs = z.TagAttr()
			if tag == atom.Img && string(key) == "alt" {
				v.text(string(value))
			}
		}
	}
	return !v.full
}

func (v *htmlView) text(s string) {
	for _, r := range s {
		if unicode.IsSpace(r) {
			v.blank = true
			continue
		}
		if r == '\u200b' || r == '\u200c' || r == '\u200d' || r == '\ufeff' || r == '\u00ad' || r == '\u2060' {
			continue // what nobody sees must not split a word
		}
		if v.out.Len()+8 > v.limit {
			v.full = true
			return
		}
		switch {
		case v.out.Len() == 0:
		case v.line:
			v.out.WriteByte('\n')
		case v.blank:
			v.out.WriteByte(' ')
		}
		v.line, v.blank = false, false
		v.out.WriteRune(r)
	}
}

// blockTag tells whether the tag ends the line.
func blockTag(a atom.Atom) bool {
	switch a {
	case atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Br, atom.Center, atom.Dd, atom.Div, atom.Dl, atom.Dt,
		atom.Footer, atom.Form, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Header, atom.Hr, atom.Li, atom.Ol,
		atom.P, atom.Pre, atom.Section, atom.Table, atom.Title, atom.Tr, atom.Ul, atom.Body, atom.Head:
		return true
	}
	return false
}

// htmlOf is a plain text as HTML.
func htmlOf(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	for i, l := range lines {
		lines[i] = html.EscapeString(strings.TrimRight(l, "\r"))
	}
	return "<div>" + strings.Join(lines, "<br>\r\n") + "</div>"
}
