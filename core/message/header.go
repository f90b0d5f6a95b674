package message

import (
	"bytes"
	"errors"
	"iter"
	"strings"
	"unicode/utf8"
)

// What an edit of a header may not hold.
var (
	ErrFieldName  = errors.New("a field name is one or more printable characters without blanks and colons, at most 200")
	ErrFieldValue = errors.New("a field value must not hold CR, LF or NUL")
	ErrFieldLong  = errors.New("a field value is at most 64 KiB")
)

const (
	maxFieldName  = 200
	maxFieldValue = 64 << 10
)

// Field is one header field as it came: Raw is every byte of it, folding and
// line ends included. A line that is no field (no colon, a "From " line) is kept
// as a Field with an empty Name, so that a message leaves as it came.
type Field struct {
	Name string
	Raw  []byte
}

// Value is the text behind the colon, unfolded (RFC 5322 section 2.2.3) and
// trimmed, not decoded.
func (f Field) Value() string {
	_, v, ok := bytes.Cut(f.Raw, []byte{':'})
	if !ok || f.Name == "" {
		return ""
	}
	v = bytes.Trim(v, " \t\r\n")
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 {
		return string(v)
	}
	unfolded := make([]byte, 0, len(v))
	for _, c := range v {
		if c != '\r' && c != '\n' {
			unfolded = append(unfolded, c)
		}
	}
	return string(unfolded)
}

// Decoded is Value with its encoded words decoded (RFC 2047); what can't be
// decoded stays as it is, and the result is valid UTF-8.
func (f Field) Decoded() string {
	return DecodeWords(f.Value())
}

// Header is a header section, kept byte for byte. The zero value is an empty
// one. It is not safe for concurrent change; Clone is cheap.
type Header struct {
	fields []Field
	edited bool
	utf8   bool // see AllowUTF8
}

// AllowUTF8 lets fields that are added hold UTF-8 as it is (RFC 6532) instead of
// encoded words: for a message whose header section needs SMTPUTF8 anyway.
func (h *Header) AllowUTF8() { h.utf8 = true }

// HeaderLen is the length of the header section at the start of b: the offset
// of the empty line that ends it (0 where the message starts with one). Where
// no empty line is in b, ok is false and all of b may be header.
func HeaderLen(b []byte) (n int, ok bool) {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return 0, true
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 2, true
	}
	return len(b), false
}

// StartsHeader tells whether the message that begins with b can begin with a
// header section: with a field, or with the "From " line of a mailbox file. A
// message that does not is all body. While the first line is too short to tell,
// it can.
func StartsHeader(b []byte) bool {
	if bytes.HasPrefix(b, []byte("From ")) || bytes.HasPrefix(b, []byte(">From ")) {
		return true
	}
	for i, c := range b {
		switch {
		case c == ':':
			return i > 0 && fieldName(b[:i+1]) != ""
		case c == '\r' || c == '\n' || i > maxFieldName:
			return false
		}
	}
	return true
}

// ParseHeader reads a header section, without the empty line that ends it. The
// fields refer to section's bytes, which must not change afterwards.
func ParseHeader(section []byte) *Header {
	h := &Header{fields: make([]Field, 0, bytes.Count(section, []byte{'\n'}))}
	for f := range FieldsOf(section) {
		h.fields = append(h.fields, f)
	}
	return h
}

func validName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ':' {
			return false
		}
	}
	return true
}

// Fields walks the fields from the top, the lines that are none included.
func (h *Header) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		if h == nil {
			return
		}
		for _, f := range h.fields {
			if !yield(f) {
				return
			}
		}
	}
}

// Named walks the fields of that name, in any case, from the top.
func (h *Header) Named(name string) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for f := range h.Fields() {
			if f.Name != "" && strings.EqualFold(f.Name, name) && !yield(f) {
				return
			}
		}
	}
}

// Get is the decoded text of the first field of that name; ok is false where
// there is none.
func (h *Header) Get(name string) (text string, ok bool) {
	for f := range h.Named(name) {
		return f.Decoded(), true
	}
	return "", false
}

// Count is the number of fields of that name.
func (h *Header) Count(name string) int {
	n := 0
	for range h.Named(name) {
		n++
	}
	return n
}

// Edited tells whether an edit changed the header since it was parsed.
func (h *Header) Edited() bool { return h != nil && h.edited }

// Clone is a header that can be edited without changing h.
func (h *Header) Clone() *Header {
	if h == nil {
		return &Header{}
	}
	return &Header{fields: append([]Field(nil), h.fields...), edited: h.edited, utf8: h.utf8}
}

// Bytes is the header section as it is now, without the empty line.
func (h *Header) Bytes() []byte {
	if h == nil {
		return nil
	}
	n := 0
	for _, f := range h.fields {
		n += len(f.Raw)
	}
	b := make([]byte, 0, n)
	for _, f := range h.fields {
		b = append(b, f.Raw...)
	}
	return b
}

// Prepend puts a field on top. The value is UTF-8; it is encoded and folded.
func (h *Header) Prepend(name, value string) error {
	f, err := h.newField(name, value)
	if err == nil {
		h.fields = append([]Field{f}, h.fields...)
		h.edited = true
	}
	return err
}

// Append puts a field at the end of the section.
func (h *Header) Append(name, value string) error {
	f, err := h.newField(name, value)
	if err != nil {
		return err
	}
	if n := len(h.fields); n > 0 && !bytes.HasSuffix(h.fields[n-1].Raw, []byte("\n")) {
		last := &h.fields[n-1]
		last.Raw = append(append([]byte(nil), last.Raw...), "\r\n"...)
	}
	h.fields = append(h.fields, f)
	h.edited = true
	return nil
}

// Replace puts value into the first field of that name and removes the others;
// where there is none, it appends one.
func (h *Header) Replace(name, value string) error {
	f, err := h.newField(name, value)
	if err != nil {
		return err
	}
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			h.fields[i] = f
			h.removeFrom(i+1, name, 0)
			h.edited = true
			return nil
		}
	}
	return h.Append(name, value)
}

// Remove takes away the n-th field of that name, counted from 1 at the top, or
// all of them where n is 0. It tells how many went.
func (h *Header) Remove(name string, n int) int {
	gone := h.removeFrom(0, name, n)
	if gone > 0 {
		h.edited = true
	}
	return gone
}

func (h *Header) removeFrom(start int, name string, n int) int {
	kept, seen, gone := h.fields[:start:start], 0, 0
	for _, f := range h.fields[start:] {
		if f.Name != "" && strings.EqualFold(f.Name, name) {
			if seen++; n == 0 || seen == n {
				gone++
				continue
			}
		}
		kept = append(kept, f)
	}
	if gone > 0 {
		h.fields = append([]Field(nil), kept...)
	}
	return gone
}

// CheckField tells why name and value can't be those of a header field: ErrFieldName,
// ErrFieldValue or ErrFieldLong, nil where they can.
func CheckField(name, value string) error {
	_, err := (*Header)(nil).newField(name, value)
	return err
}

func (h *Header) newField(name, value string) (Field, error) {
	if !validName(name) || len(name) > maxFieldName {
		return Field{}, ErrFieldName
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		return Field{}, ErrFieldValue
	}
	if len(value) > maxFieldValue {
		return Field{}, ErrFieldLong
	}
	if h != nil && h.utf8 {
		return Field{Name: name, Raw: fold(name, strings.ToValidUTF8(value, "\uFFFD"))}, nil
	}
	return Field{Name: name, Raw: fold(name, encodeWords(strings.ToValidUTF8(value, "\uFFFD"), len(name)+2))}, nil
}

// fold writes "Name: value" in lines of at most 76 octets where blanks allow it
// and never over 998 (RFC 5322 section 2.1.1); a longer run without a blank is
// cut.
func fold(name, value string) []byte {
	const soft, hard = maxWordLine, 998
	b := make([]byte, 0, len(name)+len(value)+8)
	b = append(b, name...)
	b = append(b, ": "...)
	line := len(b)
	for value != "" {
		word := value
		if i := strings.IndexAny(value[1:], " \t"); i >= 0 {
			word = value[:i+1]
		}
		value = value[len(word):]
		blank := word[0] == ' ' || word[0] == '\t'
		if blank && line+len(word) > soft && strings.Trim(word, " \t") != "" {
			b = append(b, "\r\n"...)
			line = 0
		}
		for line+len(word) > hard {
			cut := hard - line
			for cut > 1 && !utf8.RuneStart(word[cut]) {
				cut--
			}
			b = append(append(b, word[:cut]...), "\r\n "...)
			word, line = word[cut:], 1
		}
		b = append(b, word...)
		line += len(word)
	}
	return append(b, '\r', '\n')
}
