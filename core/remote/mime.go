package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// Bounds of the structure of a message that is looked into. One beyond them goes
// only to hosts that take it as it is.
const (
	maxEntities   = 2000
	maxDepth      = 50
	maxPartHeader = 1 << 20
	maxLine       = 998 // RFC 5322 section 2.1.1
)

var errComplex = errors.New("its MIME structure is too large")

// entity is a message or a body part (RFC 2045 section 2.4) with what its content
// is like. Offsets are those in the whole message.
type entity struct {
	parent   *entity
	headTo   int64 // of the empty line behind the header section
	bodyFrom int64
	bodyTo   int64
	media    string // media type, "" where none is given
	label    string // Content-Transfer-Encoding in lower case
	labelAt  [2]int64
	boundary string // of a multipart
	message  bool   // its body is a message; it has one child
	top      bool   // it is itself a message
	version  bool   // of top: there is a MIME-Version
	odd      bool   // readers may differ over its header section
	rawHead  bool   // and it holds a NUL, or a lone CR or LF
	depth    int

	// The content of a leaf, or what stands around the parts of a multipart.
	size   int64
	eight  int64 // bytes beyond ASCII
	binary bool  // there is a NUL, a lone CR or LF, or too long a line
}

func (e *entity) leaf() bool { return e.boundary == "" && !e.message }

// signed tells whether a change of e would break a signature (RFC 1847): it is
// part of a multipart/signed.
func (e *entity) signed() bool {
	for p := e.parent; p != nil; p = p.parent {
		if p.media == "multipart/signed" {
			return true
		}
	}
	return false
}

// structure is a message taken apart.
type structure struct {
	entities []*entity // in their order
	utf8     bool      // a header section goes beyond ASCII
}

// takeApart walks through the MIME structure of a message in one reading, with
// bounded memory.
func takeApart(body message.Body) (*structure, error) {
	w := walker{s: &structure{}}
	w.begin(nil, 0)
	w.at.top = true
	piece := message.NewPiece()
	defer piece.Free()
	buf := piece[:blockSize]
	have, offset := 0, int64(0)
	for {
		left := body.Size() - offset - int64(have)
		n, err := io.ReadFull(io.NewSectionReader(body, offset+int64(have), left), buf[have:have+int(min(int64(len(buf)-have), left))])
		if err != nil && left > 0 {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		have += n
		done := int64(n) == left
		used, err := w.lines(buf[:have], offset, done)
		if err != nil {
			return nil, err
		}
		copy(buf, buf[used:have])
		have -= used
		offset += int64(used)
		if done {
			break
		}
	}
	w.end(body.Size())
	return w.s, nil
}

// walker is takeApart at work.
type walker struct {
	s      *structure
	at     *entity // what the lines belong to
	open   []*entity
	header []byte // of at, while it is read
	inHead bool
	from   int64 // where that section began

	cont bool // the line began in an earlier piece
	len  int  // of the line so far
	crlf bool // the line before ended with CRLF
}

func (w *walker) begin(parent *entity, offset int64) *entity {
	e := &entity{parent: parent, headTo: offset, bodyFrom: offset, bodyTo: offset}
	if parent != nil {
		e.depth = parent.depth + 1
	}
	w.s.entities = append(w.s.entities, e)
	w.at, w.inHead, w.from, w.header = e, true, offset, w.header[:0]
	return e
}

// lines takes in whole lines, and pieces of those that don't fit. It leaves what
// may be the start of one.
func (w *walker) lines(b []byte, offset int64, last bool) (used int, err error) {
	for used < len(b) {
		rest := b[used:]
		n := bytes.IndexByte(rest, '\n') + 1
		if n == 0 {
			if !last && len(rest) < len(b) {
				return used, nil
			}
			n = len(rest)
			if n > 1 && !last && rest[n-1] == '\r' {
				n--
			}
		}
		if err := w.line(rest[:n], offset+int64(used)); err != nil {
			return used, err
		}
		used += n
		if n == len(b) && !last {
			break
		}
	}
	return used, nil
}

// line takes in a line, or a piece of one.
func (w *walker) line(line []byte, offset int64) error {
	start := !w.cont
	w.cont = line[len(line)-1] != '\n'
	if start && bytes.HasPrefix(line, []byte("--")) {
		i, last, ok := w.match(line)
		switch {
		case ok && (w.crlf || offset == w.from):
			w.crlf = true
			return w.delimiter(i, last, offset, int64(len(line)))
		case ok: // some readers take it for a delimiter behind LF alone, too
			w.at.odd = true
		}
	}
	if w.inHead {
		return w.headLine(line, start, offset)
	}
	w.content(line, start)
	return nil
}

func endsLine(line []byte) bool {
	return len(line) > 1 && line[len(line)-2] == '\r' && line[len(line)-1] == '\n'
}

// content counts what is in a line of a body.
func (w *walker) content(line []byte, start bool) {
	e := w.at
	if start {
		w.len = 0
	}
	e.size += int64(len(line))
	w.crlf = endsLine(line)
	text := line
	if w.crlf {
		text = line[:len(line)-2]
	}
	w.len += len(text)
	if w.len > maxLine {
		e.binary = true
	}
	for _, c := range text {
		switch {
		case c >= 0x80:
			e.eight++
		case c == 0 || c == '\r' || c == '\n':
			e.binary = true
		}
	}
}

// headLine takes in a line of a header section.
func (w *walker) headLine(line []byte, start bool, offset int64) error {
	w.crlf = endsLine(line)
	if start && (string(line) == "\r\n" || string(line) == "\n") {
		return w.headEnd(offset, offset+int64(len(line)))
	}
	if len(w.header)+len(line) > maxPartHeader {
		return errComplex
	}
	w.header = append(w.header, line...)
	return nil
}

// headEnd reads a header section that is complete.
func (w *walker) headEnd(headTo, bodyFrom int64) error {
	e := w.at
	w.inHead = false
	e.headTo, e.bodyFrom = headTo, bodyFrom
	w.s.utf8 = w.s.utf8 || bytes.ContainsFunc(w.header, func(r rune) bool { return r >= 0x80 })
	e.read(w.header, w.from)
	if e.depth >= maxDepth || len(w.s.entities) >= maxEntities {
		return errComplex
	}
	switch {
	case e.boundary != "":
		w.open = append(w.open, e)
	case e.message:
		w.begin(e, bodyFrom).top = true
	}
	return nil
}

// match looks whether a line parts the innermost multipart that is open, or one
// around it (RFC 2046 section 5.1.1); last tells that it ends it.
func (w *walker) match(line []byte) (i int, last, ok bool) {
	text := bytes.TrimRight(line[2:], " \t\r\n")
	for i := len(w.open) - 1; i >= 0; i-- {
		rest, ok := bytes.CutPrefix(text, []byte(w.open[i].boundary))
		if ok && (len(rest) == 0 || string(rest) == "--") {
			return i, len(rest) > 0, true
		}
	}
	return 0, false, false
}

// delimiter takes in a line of that kind.
func (w *walker) delimiter(i int, last bool, offset, length int64) error {
	m := w.open[i]
	if w.inHead { // a part without a body
		if err := w.headEnd(offset, offset); err != nil {
			return err
		}
	}
	w.close(m, max(offset-2, 0))
	if last {
		w.open = w.open[:i]
		w.at, w.inHead = m, false
		return nil
	}
	w.open = w.open[:i+1]
	w.begin(m, offset+length)
	return nil
}

// close ends what is open below m; the line end in front of a delimiter belongs
// to the delimiter.
func (w *walker) close(m *entity, to int64) {
	for e := w.at; e != nil && e != m; e = e.parent {
		e.bodyTo = max(to, e.bodyFrom)
	}
}

// end ends all.
func (w *walker) end(size int64) {
	if w.inHead {
		w.at.read(w.header, w.from)
		w.at.headTo, w.at.bodyFrom = size, size
		w.s.utf8 = w.s.utf8 || bytes.ContainsFunc(w.header, func(r rune) bool { return r >= 0x80 })
	}
	for e := w.at; e != nil; e = e.parent {
		e.bodyTo = size
	}
}

// read takes the MIME fields out of a header section that begins at from.
func (e *entity) read(header []byte, from int64) {
	var types, labels int
	for f := range message.FieldsOf(header) {
		to := from + int64(len(f.Raw))
		switch {
		case f.Name == "" && !bytes.HasPrefix(f.Raw, []byte("From ")) && !bytes.HasPrefix(f.Raw, []byte(">From ")):
			e.odd = true
		case strings.EqualFold(f.Name, "MIME-Version"):
			e.version = true
		case strings.EqualFold(f.Name, "Content-Type"):
			types++
			e.setType(f.Value())
		case strings.EqualFold(f.Name, "Content-Transfer-Encoding"):
			labels++
			e.label = strings.ToLower(stripComment(f.Value()))
			e.labelAt = [2]int64{from, to}
		}
		from = to
	}
	var ends message.LineEnds
	ends.Scan(header)
	ends.End()
	e.rawHead = ends.Faulty()
	e.odd = e.odd || types > 1 || labels > 1 || !cleanLines(header)
	if types == 0 && e.parent != nil && e.parent.media == "multipart/digest" {
		e.media = "message/rfc822"
	}
	opaque := !identity(e.label)
	if opaque {
		e.boundary = ""
	}
	switch e.media {
	case "message/rfc822", "message/global", "message/news":
		e.message = !opaque
	}
}

// cleanLines tells whether every line ends with CRLF.
func cleanLines(b []byte) bool {
	return bytes.Count(b, []byte("\r\n")) == bytes.Count(b, []byte("\n")) && bytes.Count(b, []byte("\r\n")) == bytes.Count(b, []byte("\r")) && (len(b) == 0 || bytes.HasSuffix(b, []byte("\r\n")))
}

func (e *entity) setType(value string) {
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		e.odd = true
		media, _, _ = strings.Cut(strings.ToLower(value), ";")
		media = strings.TrimSpace(media)
	}
	e.media, e.boundary = media, ""
	if b := params["boundary"]; strings.HasPrefix(media, "multipart/") && b != "" && len(b) <= maxLine {
		e.boundary = b
	}
}

// identity tells whether a label means that the content is not encoded.
func identity(label string) bool {
	return label == "" || label == "7bit" || label == "8bit" || label == "binary"
}

// stripComment leaves the word in front of a comment.
func stripComment(s string) string {
	s, _, _ = strings.Cut(s, "(")
	return strings.TrimSpace(s)
}
