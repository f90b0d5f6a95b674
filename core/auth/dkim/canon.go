package dkim

import (
	"bytes"

	"github.com/postern-mta/postern/core/message"
)

// Canon is a canonical form (RFC 6376 section 3.4).
type Canon uint8

// The canonical forms.
const (
	Simple  Canon = iota // as it is, but for empty lines at the end of a body
	Relaxed              // blanks, folding and the case of field names don't count
)

// String is the form's name in c=.
func (c Canon) String() string { return [...]string{"simple", "relaxed"}[min(c, Relaxed)] }

// MarshalText writes the form's name.
func (c Canon) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// AppendField appends the canonical form of a field, line end included.
func (c Canon) AppendField(b []byte, f message.Field) []byte {
	if c == Simple {
		b = append(b, f.Raw...)
		if !bytes.HasSuffix(f.Raw, []byte("\r\n")) { // the message ends with it
			b = append(b, "\r\n"...)
		}
		return b
	}
	for i := range len(f.Name) {
		ch := f.Name[i]
		if ch >= 'A' && ch <= 'Z' {
			ch += 'a' - 'A'
		}
		b = append(b, ch)
	}
	b = append(b, ':')
	_, value, _ := bytes.Cut(f.Raw, []byte{':'})
	start, blank := len(b), false
	for _, ch := range value {
		switch {
		case ch == '\r' || ch == '\n':
		case isBlank(ch):
			blank = true
		default:
			if blank && len(b) > start {
				b = append(b, ' ')
			}
			blank = false
			b = append(b, ch)
		}
	}
	return append(b, "\r\n"...)
}

// bodyWriter brings a body, which is written to it in pieces, into canonical form
// and hands it to out, again in pieces.
type bodyWriter struct {
	canon Canon
	out   func(p []byte)

	buf   []byte         // of the relaxed form, what is not handed on yet
	piece *message.Piece // where buf begins
	some  bool           // something was handed on
	ends  int64          // line ends that wait: they count only where something follows
	cr    bool           // the last byte was a CR, which waits too
	blank bool           // blanks wait
}

// crlfs is what many line ends are written from.
const crlfs = "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"

func (w *bodyWriter) write(p []byte) {
	if len(p) == 0 {
		return
	}
	if w.canon == Simple {
		w.simple(p)
	} else {
		w.relaxed(p)
	}
}

// flushEnds hands on the line ends that wait.
func (w *bodyWriter) flushEnds() {
	block := []byte(crlfs)
	for w.ends > 0 {
		n := min(w.ends, int64(len(crlfs)/2))
		w.out(block[:2*n])
		w.ends -= n
	}
}

func (w *bodyWriter) simple(p []byte) {
	if w.cr {
		w.cr = false
		if p[0] == '\n' {
			w.ends++
			p = p[1:]
		} else {
			w.flushEnds()
			w.out([]byte{'\r'})
		}
	}
	end := len(p)
	if end > 0 && p[end-1] == '\r' {
		w.cr = true
		end--
	}
	var ends int64
	for end >= 2 && p[end-1] == '\n' && p[end-2] == '\r' {
		end -= 2
		ends++
	}
	if end == 0 {
		w.ends += ends
		return
	}
	w.flushEnds()
	w.out(p[:end])
	w.some = true
	w.ends = ends
}

// put hands on what waits, and then p.
func (w *bodyWriter) put(p []byte) {
	if w.ends > 0 {
		w.drain()
		w.flushEnds()
	}
	if w.blank {
		w.buf = append(w.buf, ' ')
		w.blank = false
	}
	w.buf = append(w.buf, p...)
	w.some = true
}

// room gives buf its place.
func (w *bodyWriter) room() {
	if w.piece == nil {
		w.piece = message.NewPiece()
		w.buf = w.piece[:0]
	}
}

func (w *bodyWriter) drain() {
	if len(w.buf) > 0 {
		w.out(w.buf)
		w.buf = w.buf[:0]
	}
}

func (w *bodyWriter) relaxed(p []byte) {
	w.room()
	for len(p) > 0 {
		if n := w.whole(p); n > 0 {
			p = p[n:]
			continue
		}
		if w.cr {
			w.cr = false
			if p[0] == '\n' {
				w.blank = false // blanks at the end of a line don't count
				w.ends++
				p = p[1:]
				continue
			}
			w.put([]byte{'\r'})
		}
		n := 0
		for n < len(p) && p[n] != ' ' && p[n] != '\t' && p[n] != '\r' {
			n++
		}
		if n > 0 {
			w.line(p[:n])
			p = p[n:]
			continue
		}
		if p[0] == '\r' {
			w.cr = true
		} else {
			w.blank = true
		}
		p = p[1:]
	}
	w.drain()
}

// whole takes the first line of p if it is in canonical form already, as most are, and
// tells its length.
func (w *bodyWriter) whole(p []byte) int {
	if w.cr || w.blank {
		return 0
	}
	n := bytes.IndexByte(p, '\n') - 1
	if n <= 0 || p[n] != '\r' || p[n-1] == ' ' {
		return 0
	}
	line := p[:n]
	if bytes.IndexByte(line, '\t') >= 0 || bytes.IndexByte(line, '\r') >= 0 || bytes.Contains(line, []byte("  ")) {
		return 0
	}
	w.line(line)
	w.ends = 1
	return n + 2
}

// line takes bytes that are in canonical form.
func (w *bodyWriter) line(p []byte) {
	if w.ends == 0 && len(w.buf)+len(p) < 32<<10 {
		if w.blank {
			w.buf = append(w.buf, ' ')
			w.blank = false
		}
		w.buf = append(w.buf, p...)
		w.some = true
		return
	}
	if w.ends == 1 && len(w.buf)+len(p) < 32<<10 {
		w.buf = append(w.buf, '\r', '\n')
		w.ends = 0
		w.line(p)
		return
	}
	w.put(p)
	w.drain()
}

// end writes what ends the body: a line end, where it does not stand there for
// nothing (RFC 6376 sections 3.4.3 and 3.4.4).
func (w *bodyWriter) end() {
	if w.cr { // alone
		w.cr = false
		if w.canon == Relaxed {
			w.put([]byte{'\r'})
		} else {
			w.flushEnds()
			w.out([]byte{'\r'})
			w.some = true
		}
	}
	w.drain()
	if w.some || w.canon == Simple {
		w.out([]byte("\r\n"))
	}
	if w.piece != nil {
		w.piece.Free()
		w.piece, w.buf = nil, nil
	}
}
