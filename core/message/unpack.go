package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxDecoded bounds, for one message, the octets of encoded parts that are decoded
// to look for more of them.
const maxDecoded = 8 << 20

// Wrapper is a Body that wants to see what is read of content that was decoded out
// of it, too.
type Wrapper interface {
	Body
	// Wrap is b, seen.
	Wrap(b Body) Body
}

// unpacker finds the parts that stand in the content of others: nested messages in
// base64 or quoted-printable, and files that are uuencoded in a text.
type unpacker struct {
	m       *MIME // bounds, and what was met of them
	count   int   // parts there are
	headers int   // octets of header sections looked at
	left    int   // octets that may still be decoded
	err     error
}

// unpack is the list with the parts that its parts hold behind each of them.
func (u *unpacker) unpack(list []*Part) []*Part {
	var out []*Part // nil as long as it is the same
	for i, p := range list {
		var inner []*Part
		if u.err == nil && len(p.Children) == 0 {
			inner = u.within(p)
		}
		if len(inner) > 0 && out == nil {
			out = append(make([]*Part, 0, len(list)+len(inner)), list[:i]...)
		}
		if out != nil {
			out = append(append(out, p), inner...)
		}
	}
	if out == nil {
		return list
	}
	return out
}

// within is what the content of one leaf holds.
func (u *unpacker) within(p *Part) []*Part {
	switch {
	case p.nested():
		return u.message(p)
	case p.Type == "text/plain" && p.Encoding != uuencode:
		return u.files(p)
	}
	return nil
}

// room tells whether the part may hold n more, and says which bound was met where
// it may not.
func (u *unpacker) room(p *Part) bool {
	switch {
	case p.Depth+1 >= maxMIMEDepth:
		p.fault("nested too deep")
		u.truncate("depth")
	case u.count >= maxMIMEParts:
		u.truncate("parts")
	default:
		return true
	}
	return false
}

func (u *unpacker) truncate(bound string) {
	if u.m.Truncated == "" {
		u.m.Truncated = bound
	}
}

// decoded is the content of a part as a body, nil where it is too long.
func (u *unpacker) decoded(p *Part) Body {
	b, more, err := readLimited(p.Reader(), u.left)
	u.left -= len(b)
	switch {
	case err != nil:
		u.err = err
		return nil
	case more:
		p.fault("encoded content that is too long to be looked into")
		u.truncate("size")
		return nil
	}
	if w, ok := p.body.(Wrapper); ok {
		return w.Wrap(Bytes(b))
	}
	return Bytes(b)
}

// message is a nested message in an encoding that is to be undone.
func (u *unpacker) message(p *Part) []*Part {
	if !u.room(p) || !p.Encoded() {
		return nil
	}
	body := u.decoded(p)
	if body == nil {
		return nil
	}
	child := p.child(0)
	child.body, child.Decoded, child.Parent = body, true, nil
	w := mimeWalk{m: &MIME{Root: child}, body: body, size: body.Size(), others: u.count, headers: u.headers}
	if u.err = w.run(); u.err != nil {
		return nil
	}
	child.Parent = p
	u.count += len(w.m.parts)
	u.headers = w.headers
	u.truncate(w.m.Truncated)
	return u.unpack(w.m.parts)
}

// files are the uuencoded ones in a text. They are no children of it: the text is
// still a text.
func (u *unpacker) files(p *Part) []*Part {
	// A text without a line that could begin one is the rule, and the cheap case.
	if found, err := findsBegin(p.Reader()); err != nil || !found {
		u.err = err
		return nil
	}
	body, from, end := p.body, p.From, p.End
	if p.Encoded() {
		if body = u.decoded(p); body == nil {
			return nil
		}
		from, end = 0, body.Size()
	}
	s := uuScan{r: io.NewSectionReader(body, from, end-from), base: from}
	var list []*Part
	for u.err == nil {
		f, ok := s.next()
		if u.err = s.err; !ok || u.err != nil || !u.room(p) {
			break
		}
		u.count++
		f.Path, f.Depth, f.Parent = p.Path+"."+strconv.Itoa(len(list)+1), p.Depth+1, p
		f.body, f.Decoded = body, p.Decoded || p.Encoded()
		list = append(list, f)
	}
	return list
}

// Encoded tells whether the part has a transfer encoding that changes its content.
func (p *Part) Encoded() bool {
	return p.Encoding == "base64" || p.Encoding == "quoted-printable" || p.Encoding == uuencode
}

// nested tells whether the part is a message.
func (p *Part) nested() bool { return p.Type == "message/rfc822" || p.Type == "message/global" }

var beginLine = []byte("begin")

// findsBegin tells whether a text has a line that may begin a uuencoded file.
func findsBegin(r io.Reader) (bool, error) {
	piece := NewPiece()
	defer piece.Free()
	buf := piece[:]
	n := 1
	buf[0] = '\n'
	for {
		k, err := r.Read(buf[n:])
		n += k
		for rest := buf[:n]; ; {
			i := bytes.Index(rest, beginLine)
			if i < 0 {
				break
			}
			if i > 0 && rest[i-1] == '\n' && i+len(beginLine) < len(rest) && (rest[i+5] == ' ' || rest[i+5] == '-') {
				return true, nil
			}
			if i+len(beginLine) >= len(rest) {
				break
			}
			rest = rest[i+1:]
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		keep := min(n, len(beginLine)+1)
		copy(buf, buf[n-keep:n])
		n = keep
	}
}

// uuScan walks the uuencoded files of a text.
type uuScan struct {
	r    *io.SectionReader
	base int64 // of the section, in its body
	in   *bufio.Reader
	at   int64 // what comes next, in the section
	err  error
}

// next is the next file whose first line of data is one, or that has none.
func (s *uuScan) next() (*Part, bool) {
	if s.in == nil {
		s.in = bufio.NewReaderSize(s.r, 32<<10)
	}
	var file *Part
	var first bool // the next line is the first of file
	for s.err == nil {
		start := s.at
		line, whole := s.line()
		if len(line) == 0 {
			break
		}
		text := bytes.TrimRight(line, "\r\n")
		switch {
		case first && !(whole && uuData(file.Encoding, text)):
			file = nil
			fallthrough
		case file == nil:
			if f := uuBegin(text); f != nil && whole {
				file, first = f, true
				file.Start, file.From = s.base+start, s.base+s.at
				continue
			}
		case uuEnd(file.Encoding, text):
			file.End = s.base + start
			return file, true
		}
		first = false
	}
	if file == nil || s.err != nil || first {
		return nil, false
	}
	file.End = s.base + s.at
	file.fault("a uuencoded file that does not end")
	return file, true
}

// line is the next line, at most a window of it; then whole is false.
func (s *uuScan) line() (line []byte, whole bool) {
	line, err := s.in.ReadSlice('\n')
	s.at += int64(len(line))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		s.err = err
	}
	return line, err == nil || errors.Is(err, io.EOF)
}

// uuBegin reads "begin 644 name" or "begin-base64 644 name".
func uuBegin(line []byte) *Part {
	if !bytes.HasPrefix(line, beginLine) || len(line) > 1024 {
		return nil
	}
	word, rest, _ := strings.Cut(string(line), " ")
	mode, name, ok := strings.Cut(strings.TrimLeft(rest, " "), " ")
	if !ok || len(mode) < 3 || len(mode) > 4 || strings.Trim(mode, "01234567") != "" {
		return nil
	}
	p := &Part{Type: "application/octet-stream", Disposition: "attachment", Encoding: uuencode, inText: true}
	switch word {
	case "begin":
	case "begin-base64":
		p.Encoding, p.inText = "base64", false
	default:
		return nil
	}
	if name = cleanName(anyText(name)); name == "" {
		return nil
	}
	p.Names = []string{name}
	return p
}

// uuEnd tells whether a line ends a file.
func uuEnd(encoding string, line []byte) bool {
	if encoding == "base64" {
		return string(line) == "===="
	}
	return string(line) == "end"
}

// uuData tells whether a line may be the first of a file.
func uuData(encoding string, line []byte) bool {
	if uuEnd(encoding, line) {
		return true
	}
	if encoding == "base64" {
		return len(line) > 0 && len(line) < 200 && bytes.IndexByte(line, ' ') < 0
	}
	if len(line) == 0 || line[0] < ' ' || line[0] > '`' {
		return false
	}
	n := uuLength(line)
	for _, c := range line[1:] {
		if c < ' ' || c > '`' {
			return false
		}
	}
	// Blanks at the end may be lost; a checksum may follow.
	return len(line)-1 <= (n+2)/3*4+1 && (n == 0 || len(line) > 1)
}

// uuLength is how many octets a line stands for.
func uuLength(line []byte) int { return int(line[0]-' ') & 63 }

// uuencode is the transfer encoding of uuencoded content; mail names it in several
// ways.
const uuencode = "x-uuencode"

// uuReader decodes uuencoded data. Before "begin", where one is to come, and behind
// the end, nothing counts.
type uuReader struct {
	r     *bufio.Reader
	begun bool
	buf   [64]byte
	next  []byte
	err   error
}

func newUUReader(r io.Reader, begun bool) *uuReader {
	return &uuReader{r: bufio.NewReaderSize(r, 4<<10), begun: begun}
}

func (d *uuReader) Read(p []byte) (int, error) {
	for len(d.next) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		d.line()
	}
	n := copy(p, d.next)
	d.next = d.next[n:]
	return n, nil
}

func (d *uuReader) line() {
	line, err := d.r.ReadSlice('\n')
	whole := !errors.Is(err, bufio.ErrBufferFull)
	for errors.Is(err, bufio.ErrBufferFull) { // too long to be one
		_, err = d.r.ReadSlice('\n')
	}
	if err != nil {
		d.err = err
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case !whole || len(line) == 0:
	case !d.begun:
		if f := uuBegin(line); f != nil && f.Encoding == uuencode {
			d.begun = true
		}
	case string(line) == "end":
		d.err = io.EOF
	case line[0] >= ' ' && line[0] <= '`':
		d.next = d.buf[:uuDecode(&d.buf, line)]
	}
}

// uuDecode decodes one line; what is missing at its end are blanks.
func uuDecode(out *[64]byte, line []byte) int {
	n := uuLength(line)
	at := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 63
		}
		return 0
	}
	for i, k := 1, 0; k < n; i, k = i+4, k+3 {
		a, b, c, e := at(i), at(i+1), at(i+2), at(i+3)
		for j, v := range [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | e} {
			if k+j < n {
				out[k+j] = v
			}
		}
	}
	return n
}
