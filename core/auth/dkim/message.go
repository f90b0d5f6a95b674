package dkim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// maxSection bounds the header section that Open reads.
const maxSection = 16 << 20

// ErrSection is a header section of more than 16 MiB.
var ErrSection = errors.New("the header section has more than 16 MiB")

// Message is a message that is verified or signed: its header fields by name, and
// the hashes of its content as far as they are known. It belongs to one goroutine.
type Message struct {
	fields  []message.Field
	named   map[string][]int // by lower-case name, from the top
	body    message.Body
	start   int64 // of the content
	hashes  map[wanted][]byte
	totals  map[Canon]int64
	scratch []byte
}

// Open reads the header section of a message. It may lack a content, an empty line,
// or both; without a header section it is all content. The error is one of reading,
// or ErrSection.
func Open(m message.Body) (*Message, error) {
	section, start, err := readSection(m)
	if err != nil {
		return nil, err
	}
	out := &Message{body: m, start: start}
	out.take(section)
	return out, nil
}

// take fills in the header fields.
func (m *Message) take(section []byte) {
	m.fields = make([]message.Field, 0, bytes.Count(section, []byte{'\n'})+1)
	m.named = make(map[string][]int, 32)
	for f := range message.FieldsOf(section) {
		if f.Name != "" {
			name := strings.ToLower(f.Name)
			m.named[name] = append(m.named[name], len(m.fields))
		}
		m.fields = append(m.fields, f)
	}
}

// Through is Open for a message that can't be read here and there but only be written
// from its start to its end, which write does, once. It serves those who sign in the
// relaxed form: the hash of that form alone is made.
func Through(write func(io.Writer) error) (*Message, error) {
	out := &Message{hashes: map[wanted][]byte{}, totals: map[Canon]int64{}}
	t := through{look: 16 << 10, sum: newBodyHash(Relaxed)}
	if err := write(&t); err != nil {
		return nil, err
	}
	if err := t.section(true); err != nil {
		return nil, err
	}
	out.take(t.head)
	out.hashed(t.sum)
	return out, nil
}

// through parts a message that is written to it.
type through struct {
	head    []byte
	content bool // the header section is whole
	look    int  // how long it is when its end is looked for
	sum     *bodyHash
}

func (t *through) Write(p []byte) (int, error) {
	if t.content {
		t.sum.form.write(p)
		return len(p), nil
	}
	t.head = append(t.head, p...)
	if len(t.head) < t.look {
		return len(p), nil
	}
	return len(p), t.section(false)
}

// section looks for the end of the header section in what there is; last: that is all.
func (t *through) section(last bool) error {
	if t.content {
		return nil
	}
	n, whole := message.HeaderLen(t.head)
	if len(t.head) == 0 || !message.StartsHeader(t.head) && t.head[0] != '\r' {
		n, whole = -2, true
	}
	switch {
	case whole:
		rest := t.head[n+2:]
		t.head, t.content = t.head[:max(n, 0):max(n, 0)], true
		t.sum.form.write(rest)
	case !last && len(t.head) >= maxSection:
		return ErrSection
	}
	t.look = min(4*t.look, maxSection)
	return nil
}

func readSection(m message.Body) (section []byte, start int64, err error) {
	piece := message.NewPiece()
	defer piece.Free()
	for size := min(int64(len(piece)), m.Size()); ; size = min(4*size, m.Size(), maxSection) {
		b := piece[:]
		if size > int64(len(b)) {
			b = make([]byte, size)
		}
		b = b[:size]
		if n, err := m.ReadAt(b, 0); int64(n) < size && err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, fmt.Errorf("read the header section: %w", err)
		}
		if len(b) == 0 || !message.StartsHeader(b) && b[0] != '\r' {
			return nil, 0, nil
		}
		n, whole := message.HeaderLen(b)
		switch {
		case whole:
			return bytes.Clone(b[:n]), int64(n) + 2, nil
		case size == m.Size():
			return bytes.Clone(b), size, nil
		case size == maxSection:
			return nil, 0, ErrSection
		}
	}
}

// Named walks the fields of a lower-case name from the top.
func (m *Message) Named(name string) iter.Seq[message.Field] {
	return func(yield func(message.Field) bool) {
		for _, i := range m.named[name] {
			if !yield(m.fields[i]) {
				return
			}
		}
	}
}

// Count is how many fields of a lower-case name there are.
func (m *Message) Count(name string) int { return len(m.named[name]) }

// WriteFields writes the canonical forms of the fields that h= names, in lower case:
// of several with one name the last first, and nothing for those that are not there
// (RFC 6376 section 5.4.2).
func (m *Message) WriteFields(w io.Writer, c Canon, names []string) {
	used := make(map[string]int, len(names))
	for _, name := range names {
		list := m.named[name]
		i := len(list) - 1 - used[name]
		if i < 0 {
			continue
		}
		used[name]++
		m.WriteField(w, c, m.fields[list[i]])
	}
}

// WriteField writes the canonical form of one field.
func (m *Message) WriteField(w io.Writer, c Canon, f message.Field) {
	m.scratch = c.AppendField(m.scratch[:0], f)
	_, _ = w.Write(m.scratch) // a hash takes everything
}

// WriteSelf writes the canonical form of a signing field as it stood when it was
// signed: without the value of b=, which stands in its value from from to to, and
// without a line end (RFC 6376 section 3.7).
func (m *Message) WriteSelf(w io.Writer, c Canon, f message.Field, b *Tag) {
	at := bytes.IndexByte(f.Raw, ':') + 1
	raw := append(append(make([]byte, 0, len(f.Raw)), f.Raw[:at+b.From]...), f.Raw[at+b.To:]...)
	m.scratch = c.AppendField(m.scratch[:0], message.Field{Name: f.Name, Raw: raw})
	_, _ = w.Write(bytes.TrimSuffix(m.scratch, []byte("\r\n")))
}
