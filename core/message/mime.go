package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Bounds of a walk. A reader of mail has bounds of its own, so a message beyond
// these is one to be careful with: MIME.Truncated says which was met.
const (
	maxMIMEDepth   = 32
	maxMIMEParts   = 1000
	maxPartHeader  = 64 << 10 // octets of one header section that are looked at
	maxMIMEHeaders = 1 << 20  // of all of them together
	maxBoundary    = 900      // RFC 2046 section 5.1.1 says 70
)

// MIME is the structure of a message, found in one pass. It holds no content.
type MIME struct {
	Root *Part
	// Truncated names the bound that was met ("depth", "parts", "header", "size");
	// what lies beyond it was not looked at. "" where there was none.
	Truncated string

	parts []*Part
}

// Parts walks the parts in the order in which they stand: a multipart before its
// children.
func (m *MIME) Parts() iter.Seq[*Part] {
	return func(yield func(*Part) bool) {
		for _, p := range m.parts {
			if !yield(p) {
				return
			}
		}
	}
}

// Len is the number of parts.
func (m *MIME) Len() int { return len(m.parts) }

// At is the i-th part in that order, from 0; nil beyond the last.
func (m *MIME) At(i int) *Part {
	if i < 0 || i >= len(m.parts) {
		return nil
	}
	return m.parts[i]
}

// Faulty tells whether the structure is broken or ambiguous anywhere, so that
// readers may differ about what the message holds.
func (m *MIME) Faulty() bool {
	for _, p := range m.parts {
		if p.Fault != "" {
			return true
		}
	}
	return m.Truncated != ""
}

// ParseMIME finds the structure of the message in b, header section included, that
// of nested messages, encoded ones too, and files that are uuencoded in its texts.
// It reads b in pieces, in time linear in its size, and keeps only what Part says,
// and of encoded content at most 8 MiB. Broken input gives the structure that a
// lenient reader sees; the error is one of reading b.
func ParseMIME(b Body) (*MIME, error) {
	w := mimeWalk{m: &MIME{}, body: b, size: b.Size()}
	w.m.Root = &Part{Path: "1", Type: "text/plain", body: b}
	err := w.run()
	if err == nil {
		u := unpacker{m: w.m, count: len(w.m.parts), headers: w.headers, left: maxDecoded}
		w.m.parts = u.unpack(w.m.parts)
		err = u.err
	}
	if err != nil {
		return nil, fmt.Errorf("mime: %w", err)
	}
	return w.m, nil
}

// run walks the message from its root on.
func (w *mimeWalk) run() error {
	piece := NewPiece()
	defer piece.Free()
	w.buf = piece[:]
	w.enter(w.m.Root)
	for !w.done && w.err == nil {
		w.step()
	}
	if w.err == nil {
		w.closeTo(0, w.size)
	}
	return w.err
}

// mimeWalk is one pass over a message. At any time tip is the innermost part that
// has not ended, and open are the multiparts around it whose delimiters count.
type mimeWalk struct {
	m    *MIME
	body Body
	size int64
	err  error
	done bool

	window []byte
	base   int64 // offset of window[0]
	at     int64 // what comes next
	buf    []byte

	tip     *Part
	open    []openPart
	headers int // octets of header sections looked at
	others  int // parts that are there already

	inHeader bool   // of tip
	section  int    // octets of it looked at
	cut      bool   // the last line was longer than the window: what follows is its rest
	field    []byte // the field that is being read
	wanted   bool   // it is one of ours
}

type openPart struct {
	part  *Part
	delim string // "--boundary"
}

// enter begins a part at its header section.
func (w *mimeWalk) enter(p *Part) {
	w.tip, w.inHeader, w.section, w.cut = p, true, 0, false
	w.field, w.wanted = w.field[:0], false
	w.m.parts = append(w.m.parts, p)
}

// step looks at one line of a header section, or moves on to the next delimiter.
func (w *mimeWalk) step() {
	if !w.inHeader {
		w.seek()
		return
	}
	line, whole := w.line()
	if w.err != nil {
		return
	}
	if len(line) == 0 {
		w.headerDone(w.size)
		return
	}
	if !w.cut {
		if bytes.HasPrefix(line, []byte("--")) && (w.ownDelimiter(line) || w.delimiter(line, w.at)) {
			return
		}
		if isBlank(line) {
			w.at += int64(len(line))
			w.headerDone(w.at)
			return
		}
		if w.section == 0 && !StartsHeader(line) {
			w.tip.fault("no header section")
			w.headerDone(w.at)
			return
		}
	}
	w.headerLine(line)
	w.cut = !whole
}

// headerLine takes a line of the header section, or a piece of a long one.
func (w *mimeWalk) headerLine(line []byte) {
	w.at += int64(len(line))
	w.section += len(line)
	w.headers += len(line)
	limit := maxPartHeader
	if w.tip.Parent == nil {
		limit = maxMIMEHeaders
	}
	if w.section > limit || w.headers > maxMIMEHeaders {
		w.tip.fault("a header section that is too long")
		w.truncate("header")
		w.done = w.headers > maxMIMEHeaders
		w.flushField()
		w.tip.From, w.tip.End, w.inHeader = w.at, w.at, false
		return
	}
	if !w.cut && line[0] != ' ' && line[0] != '\t' {
		w.flushField()
		w.wanted = wantedField(line)
	}
	if w.wanted {
		w.field = append(w.field, line...)
	}
}

func isBlank(line []byte) bool { return line[0] == '\n' || string(line) == "\r\n" }

// wantedField tells whether the line begins one of the fields of MIME.
func wantedField(line []byte) bool {
	const prefix = "content-"
	return len(line) > len(prefix) && strings.EqualFold(string(line[:len(prefix)]), prefix)
}

func (w *mimeWalk) flushField() {
	if !w.wanted {
		return
	}
	f := Field{Name: fieldName(w.field), Raw: w.field}
	if f.Name != "" {
		w.tip.field(strings.ToLower(f.Name), f.Value())
	}
	w.field, w.wanted = w.field[:0], false
}

// truncate says that a bound was met.
func (w *mimeWalk) truncate(bound string) {
	if w.m.Truncated == "" {
		w.m.Truncated = bound
	}
}

// headerDone ends the header section of tip: content begins at from.
func (w *mimeWalk) headerDone(from int64) {
	w.flushField()
	p := w.tip
	p.From, p.End, w.inHeader = from, from, false
	switch {
	case !p.nested() && !p.Multipart():
	case p.Depth+1 >= maxMIMEDepth:
		p.fault("nested too deep")
		w.truncate("depth")
	case p.Multipart():
		w.enterMultipart(p)
	case p.Encoded(): // it is looked into later; RFC 2046 section 5.2.1 allows no encoding
		if p.Type == "message/rfc822" {
			p.fault("a nested message in " + p.Encoding)
		}
	default:
		w.enterChild(p, from)
	}
}

func (w *mimeWalk) enterChild(p *Part, at int64) {
	if w.others+len(w.m.parts) >= maxMIMEParts {
		w.truncate("parts")
		w.done = true
		return
	}
	w.enter(p.child(at))
}

func (w *mimeWalk) enterMultipart(p *Part) {
	boundary := p.boundary()
	if boundary == "" || len(boundary) > maxBoundary || strings.ContainsAny(boundary, "\r\n") {
		p.fault("multipart without a possible boundary")
		return
	}
	for _, o := range w.open {
		if o.delim == "--"+boundary {
			p.fault("the boundary of a multipart around it")
		}
	}
	w.open = append(w.open, openPart{p, "--" + boundary})
}

// seek moves on to the next line that begins with "--" and is a delimiter.
func (w *mimeWalk) seek() {
	if len(w.open) == 0 {
		w.at, w.done = w.size, true
		return
	}
	for w.err == nil {
		if w.startsLine() && w.have(2) && w.window[w.at-w.base] == '-' && w.window[w.at-w.base+1] == '-' {
			if line, _ := w.line(); w.delimiter(line, w.at) {
				return
			}
		}
		if !w.nextDashes() {
			w.at, w.done = w.size, true
			return
		}
	}
}

// startsLine tells whether at is where a line begins.
func (w *mimeWalk) startsLine() bool {
	i := w.at - w.base
	return w.at == 0 || i > 0 && i <= int64(len(w.window)) && w.window[i-1] == '\n'
}

// nextDashes moves to behind the next LF that "--" follows.
func (w *mimeWalk) nextDashes() bool {
	for w.err == nil {
		rest := w.window[w.at-w.base:]
		if i := bytes.Index(rest, []byte("\n--")); i >= 0 {
			w.at += int64(i) + 1
			return true
		}
		w.at += int64(max(0, len(rest)-2))
		if !w.fill() {
			return false
		}
	}
	return false
}

// have makes n octets from at on available, where there are so many.
func (w *mimeWalk) have(n int) bool {
	for int64(len(w.window))-(w.at-w.base) < int64(n) {
		if !w.fill() {
			return false
		}
	}
	return true
}

// fill slides the window: one octet before at stays, and more come behind it. It
// reports false at the end of the body, or where the window is full.
func (w *mimeWalk) fill() bool {
	end := w.base + int64(len(w.window))
	if w.err != nil || end >= w.size {
		return false
	}
	keep := max(0, w.at-1-w.base)
	n := copy(w.buf, w.window[min(keep, int64(len(w.window))):])
	w.base += keep
	room := w.buf[n:]
	if len(room) == 0 {
		return false
	}
	room = room[:min(int64(len(room)), w.size-end)]
	k, err := w.body.ReadAt(room, end)
	if err != nil && (!errors.Is(err, io.EOF) || k < len(room)) {
		w.err = err
		if errors.Is(err, io.EOF) {
			w.err = io.ErrUnexpectedEOF
		}
	}
	w.window = w.buf[:n+k]
	return k > 0
}

// line is the line at at, with its end; at most a window of it, then whole is
// false. It is valid until the next fill, and empty at the end of the body.
func (w *mimeWalk) line() (line []byte, whole bool) {
	searched := 0
	for {
		rest := w.window[w.at-w.base:]
		if i := bytes.IndexByte(rest[searched:], '\n'); i >= 0 {
			return rest[:searched+i+1], true
		}
		searched = len(rest)
		if !w.fill() {
			return w.window[w.at-w.base:], w.base+int64(len(w.window)) >= w.size
		}
	}
}

// delimiter looks whether line, at offset start, is a delimiter of one of the
// multiparts that are open, the innermost first, and acts on it.
func (w *mimeWalk) delimiter(line []byte, start int64) bool {
	if len(line) > maxBoundary+64 {
		return false
	}
	trimmed := bytes.TrimRight(line, " \t\r\n")
	for i := len(w.open) - 1; i >= 0; i-- {
		rest, ok := bytes.CutPrefix(trimmed, []byte(w.open[i].delim))
		closing := ok && string(rest) == "--"
		if !ok || len(rest) > 0 && !closing {
			continue
		}
		w.crossed(i, closing, start, start+int64(len(line)))
		return true
	}
	return false
}

// ownDelimiter looks whether line is a delimiter of the very part whose header
// section it stands in, which lacks its empty line then.
func (w *mimeWalk) ownDelimiter(line []byte) bool {
	w.flushField()
	boundary := w.tip.boundary()
	if !w.tip.Multipart() || boundary == "" || strings.TrimRight(string(line), " \t\r\n") != "--"+boundary {
		return false
	}
	w.tip.fault("a header section that does not end")
	w.headerDone(w.at)
	return true
}

// crossed acts on a delimiter of the i-th open multipart, from start to end.
func (w *mimeWalk) crossed(i int, closing bool, start, end int64) {
	if w.inHeader {
		w.tip.fault("a header section that does not end")
		w.flushField()
		w.tip.From, w.inHeader = start, false
	}
	w.closeTo(i+1, start-w.lineEnd(start))
	w.at = end
	if closing {
		w.open = w.open[:i] // its epilogue is still its own
		return
	}
	w.enterChild(w.tip, end)
}

// lineEnd is how many octets before start are the line end that belongs to the
// delimiter there (RFC 2046 section 5.1.1).
func (w *mimeWalk) lineEnd(start int64) int64 {
	var b [2]byte
	n := min(start, 2)
	if _, err := w.body.ReadAt(b[2-n:], start-n); err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	switch {
	case string(b[:]) == "\r\n":
		return 2
	case b[1] == '\n':
		return 1
	}
	return 0
}

// closeTo ends, before end, every part inside the first n open multiparts.
func (w *mimeWalk) closeTo(n int, end int64) {
	var stop *Part
	if n > 0 {
		stop = w.open[n-1].part
	}
	last := len(w.open) - 1
	for p := w.tip; p != stop; p = p.Parent {
		p.End = max(p.From, end)
		if n := len(p.Children); n > 0 { // it may begin with the line end that the delimiter took
			p.End = max(p.End, p.Children[n-1].End)
		}
		if last >= n && w.open[last].part == p {
			p.fault("multipart that is never closed")
			last--
		}
	}
	w.open, w.tip = w.open[:n], stop
}
