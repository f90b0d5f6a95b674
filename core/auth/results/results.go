// Package results writes and reads Authentication-Results fields (RFC 8601): what was
// found out about who sent a message, for whoever reads it next.
//
// Field.Bytes quotes what has to be quoted, so that nothing a sender chose can end a
// value and begin another result. Parse reads fields of any maker, within bounds.
// Claims tells which foreign fields pose as ours and are to be removed (section 5).
package results

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// Name is the field's name.
const Name = "Authentication-Results"

// Field is the value of an Authentication-Results field.
type Field struct {
	ID      string   // who judged: the authserv-id
	Methods []Method // none: nothing was judged
}

// Method is the result of one method (a resinfo).
type Method struct {
	Name    string // "spf", "dkim"…
	Word    string // "pass", "fail"…
	Comment string // for people; empty: none
	Reason  string
	Props   []Prop
}

// Prop is a property that the result is about: "smtp", "mailfrom", "example.org".
type Prop struct{ Type, Name, Value string }

// Prop is the value of a property, "" where there is none.
func (m *Method) Prop(kind, name string) string {
	for _, p := range m.Props {
		if p.Type == kind && p.Name == name {
			return p.Value
		}
	}
	return ""
}

// maxLine is where lines are folded, where a blank allows it.
const maxLine = 76

// Bytes is the whole field, folded, with its final CRLF.
func (f Field) Bytes() []byte { return f.Named(Name + ": ") }

// Value is the field's value without folding.
func (f Field) Value() string {
	parts := []string{quote(f.ID)}
	for i := range f.Methods {
		parts = append(parts, strings.Join(f.Methods[i].words(), " "))
	}
	if len(f.Methods) == 0 {
		parts = append(parts, "none")
	}
	return strings.Join(parts, "; ")
}

// Named is the whole field with another beginning, as that of an ARC set.
func (f Field) Named(start string) []byte {
	b := append([]byte(start), quote(f.ID)...)
	if len(f.Methods) == 0 {
		return append(b, "; none\r\n"...)
	}
	for i := range f.Methods {
		b = append(b, ";\r\n\t"...)
		line := 8
		for j, word := range f.Methods[i].words() {
			switch {
			case j == 0:
			case line+1+len(word) > maxLine:
				b = append(b, "\r\n\t "...)
				line = 9
			default:
				b = append(b, ' ')
				line++
			}
			b = append(b, word...)
			line += len(word)
		}
	}
	return append(b, "\r\n"...)
}

// words are the parts of a result between which a line may be folded.
func (m *Method) words() []string {
	list := []string{keyword(m.Name) + "=" + keyword(m.Word)}
	if m.Comment != "" {
		list = append(list, "("+comment(m.Comment)+")")
	}
	if m.Reason != "" {
		list = append(list, "reason="+quoted(m.Reason))
	}
	for _, p := range m.Props {
		if p.Value != "" {
			list = append(list, keyword(p.Type)+"."+keyword(p.Name)+"="+quote(p.Value))
		}
	}
	return list
}

// keyword is a text reduced to what a keyword may hold.
func keyword(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s)
	if s == "" {
		return "x"
	}
	return s
}

// maxValue bounds a value that is written.
const maxValue = 500

// plain is a text of bounded length without what no field may hold.
func plain(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\r' || r == '\n':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
}

func comment(s string) string { return inComment.Replace(plain(s)) }

// What stands for characters that would end a comment or a quoted string.
var (
	inComment = strings.NewReplacer("(", "[", ")", "]", `\`, "/")
	inQuotes  = strings.NewReplacer(`\`, `\\`, `"`, `\"`)
)

// quote is a value, as it is where it may stand so: a token, or an address of a
// dot-string and a domain.
func quote(s string) string {
	s = plain(s)
	local, domain, at := strings.Cut(s, "@")
	if isToken(s) || at && (local == "" || isToken(local)) && isToken(domain) {
		return s
	}
	return quoted(s)
}

func quoted(s string) string {
	return `"` + inQuotes.Replace(plain(s)) + `"`
}

// isToken tells whether s is a token of RFC 2045 section 5.1.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?=`, r) })
}

// Claims tells whether a field's value says that id wrote it, in whatever spelling. One
// whose author can't be read does, too: nobody may guess it to be ours.
func Claims(value, id string) bool {
	s := scanner{rest: value}
	got, ok := s.word(";")
	return !ok || got == "" || same(got, id)
}

func same(a, b string) bool { return canonical(a) == canonical(b) }

func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), "."))
	if a, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(name); err == nil {
		return a
	}
	return name
}

// Bounds of a field that is read.
const (
	maxField   = 64 << 10
	maxMethods = 100
	maxProps   = 100
	maxNested  = 20 // comments
)

// What is wrong with a field.
var (
	errLong    = errors.New("the field is longer than 64 KiB")
	errID      = errors.New("there is no name of who judged")
	errVersion = errors.New("a version that is not known")
	errSyntax  = errors.New("METHOD=RESULT is expected")
	errMany    = errors.New("too many results or properties")
)

// Parse reads a field's value. Comments are passed over; a quoted value is never ended
// by what stands within it.
func Parse(value string) (Field, error) {
	if len(value) > maxField {
		return Field{}, errLong
	}
	s := scanner{rest: value}
	id, ok := s.word(";")
	if !ok || id == "" {
		return Field{}, errID
	}
	f := Field{ID: id}
	if version, ok := s.word(";"); !ok || version != "" && version != "1" {
		return f, errVersion
	}
	for s.next(';') {
		m, err := s.method()
		switch {
		case err != nil:
			return f, fmt.Errorf("result %d: %w", len(f.Methods)+1, err)
		case m == nil: // none, or nothing behind the last semicolon
		case len(f.Methods) == maxMethods:
			return f, errMany
		default:
			f.Methods = append(f.Methods, *m)
		}
	}
	if s.skip(); s.bad || s.rest != "" {
		return f, errSyntax
	}
	return f, nil
}

// scanner reads a value.
type scanner struct {
	rest string
	bad  bool // a comment or a quoted string has no end
}

// skip passes over blanks and comments.
func (s *scanner) skip() {
	for s.rest != "" {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.rest = s.rest[1:]
		case '(':
			s.comment()
		default:
			return
		}
	}
}

func (s *scanner) comment() {
	depth := 0
	for i := 0; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '(':
			if depth++; depth > maxNested {
				s.bad, s.rest = true, ""
				return
			}
		case ')':
			if depth--; depth == 0 {
				s.rest = s.rest[i+1:]
				return
			}
		}
	}
	s.bad, s.rest = true, ""
}

// next takes c, if that is what follows.
func (s *scanner) next(c byte) bool {
	s.skip()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// word is a quoted string, or what stands before a blank, a comment, or one of the
// characters of end; "" where such a one stands first. Not ok: it has no end.
func (s *scanner) word(end string) (text string, ok bool) {
	s.skip()
	if s.bad {
		return "", false
	}
	if strings.HasPrefix(s.rest, `"`) {
		return s.quotedString()
	}
	n := strings.IndexAny(s.rest, " \t\r\n(\""+end)
	if n < 0 {
		n = len(s.rest)
	}
	text, s.rest = s.rest[:n], s.rest[n:]
	return text, true
}

func (s *scanner) quotedString() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case '\\':
			if i++; i < len(s.rest) {
				b.WriteByte(s.rest[i])
			}
		case '\r', '\n':
		default:
			b.WriteByte(c)
		}
	}
	s.bad, s.rest = true, ""
	return "", false
}

// key is a name up to its equals sign; blanks and comments may part it.
func (s *scanner) key() (string, error) {
	key := ""
	for {
		word, ok := s.word("=;")
		if !ok {
			return "", errSyntax
		}
		key += word
		if s.next('=') {
			if key == "" {
				return "", errSyntax
			}
			return strings.ToLower(key), nil
		}
		if word == "" || len(key) > 200 {
			return key, errSyntax
		}
	}
}

// method reads a result; nil for "none", or for nothing.
func (s *scanner) method() (*Method, error) {
	s.skip()
	if s.rest == "" || s.rest[0] == ';' {
		return nil, nil
	}
	name, err := s.key()
	if err != nil {
		if name == "none" {
			return nil, nil
		}
		return nil, err
	}
	name, _, _ = strings.Cut(name, "/") // a version of the method
	word, ok := s.word(";")
	if !ok || word == "" {
		return nil, errSyntax
	}
	m := &Method{Name: name, Word: strings.ToLower(word)}
	for {
		if s.skip(); s.bad {
			return nil, errSyntax
		}
		if s.rest == "" || s.rest[0] == ';' {
			return m, nil
		}
		key, err := s.key()
		if err != nil {
			return nil, err
		}
		value, ok := s.value()
		if !ok {
			return nil, errSyntax
		}
		kind, prop, dotted := strings.Cut(key, ".")
		switch {
		case len(m.Props) == maxProps:
			return nil, errMany
		case key == "reason":
			m.Reason = value
		case dotted:
			m.Props = append(m.Props, Prop{kind, prop, value})
		}
	}
}

// value is a value, or an address whose local part may be quoted.
func (s *scanner) value() (string, bool) {
	text, ok := s.word(";")
	if ok && strings.HasPrefix(s.rest, "@") {
		rest, _ := s.word(";")
		text += rest
	}
	return text, ok
}
