package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/postern-mta/postern/core/message"
)

const (
	blockSize = 32 << 10
	minRate   = 1 << 10 // bytes a second that the other side must take on the whole
)

// errBody marks a failure to read the message, which is not the host's fault.
var errBody = errors.New("the queued message can't be read")

// stuffer writes a message as DATA wants it (RFC 5321 section 4.5.2): a dot in
// front of each line that begins with one, CRLF for every line end. A lone CR or
// LF, which intake lets into no message but a binary one, becomes CRLF too: some
// servers take it for a line end, and a message must never be able to end itself
// there.
type stuffer struct {
	out   []byte
	began bool // something of the present line is written
	eol   bool // a line end is owed
	cr    bool // the last byte was a CR, not written yet
}

// add takes in the next bytes of the message.
func (s *stuffer) add(p []byte) {
	for len(p) > 0 {
		if s.cr {
			s.cr = false
			s.endLine()
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		line, rest, end := p, []byte(nil), byte(0)
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, rest, end = p[:i], p[i+1:], '\n'
			if i > 0 && p[i-1] == '\r' {
				line = p[:i-1]
			}
		}
		if i := bytes.IndexByte(line, '\r'); i >= 0 { // a lone one, or the last byte of p
			line, rest, end = p[:i], p[i+1:], '\r'
		}
		if len(line) > 0 {
			s.text(line)
		}
		switch end {
		case '\n':
			s.endLine()
		case '\r':
			s.cr = true
		}
		p = rest
	}
}

func (s *stuffer) text(line []byte) {
	if s.eol {
		s.out, s.eol = append(s.out, '\r', '\n'), false
	}
	if !s.began && line[0] == '.' {
		s.out = append(s.out, '.')
	}
	s.began = true
	s.out = append(s.out, line...)
}

func (s *stuffer) endLine() {
	if s.eol {
		s.out = append(s.out, '\r', '\n')
	}
	s.eol, s.began = true, false
}

// finish takes in the end of the message: the last line's end, which is made
// where there is none, and the final dot.
func (s *stuffer) finish() {
	if s.cr {
		s.cr = false
		s.endLine()
	}
	if s.eol || s.began {
		s.out = append(s.out, '\r', '\n')
	}
	s.out = append(s.out, ".\r\n"...)
}

// content is what a host gets: the message, or what became of it for a host that
// can't take it as it is.
type content struct {
	body message.Body
	plan *plan // nil: as it is
	size int64
}

// writeTo writes all of it. Errors of reading the message are errBody.
func (c content) writeTo(w io.Writer) error {
	if c.plan != nil {
		return c.plan.render(c.body, w)
	}
	return copyBody(w, c.body, 0, c.body.Size())
}

// copyBody copies a range of a message, in pieces.
func copyBody(w io.Writer, body message.Body, from, to int64) error {
	piece := message.NewPiece()
	defer piece.Free()
	in := piece[:blockSize]
	for from < to {
		n, err := body.ReadAt(in[:min(int64(len(in)), to-from)], from)
		if n == 0 {
			return fmt.Errorf("%w: %w", errBody, errors.Join(err, io.ErrUnexpectedEOF))
		}
		from += int64(n)
		if _, err := w.Write(in[:n]); err != nil {
			return err
		}
	}
	return nil
}

// bodyWriter sends a message in large pieces. Each has block of time, all of them
// as much as a slow line needs.
type bodyWriter struct {
	w     *wire
	s     *stuffer // nil: bytes go as they are
	block time.Duration
	end   time.Time
}

func (b *bodyWriter) Write(p []byte) (int, error) {
	if len(b.w.out) >= blockSize {
		if time.Now().After(b.end) {
			return 0, fmt.Errorf("less than %d bytes a second were taken", minRate)
		}
		if err := b.w.flush(b.block); err != nil {
			return 0, err
		}
	}
	if b.s == nil {
		b.w.out = append(b.w.out, p...)
		return len(p), nil
	}
	b.s.out = b.w.out
	b.s.add(p)
	b.w.out = b.s.out
	return len(p), nil
}

// errUnknown marks an error behind which the host may have the whole message.
var errUnknown = errors.New("the message may have arrived")

// writeMessage sends the message with its end: behind DATA, the final dot; with
// chunked, as one BDAT (RFC 3030 section 2). The last piece holds the end, so only
// an error of writing it is errUnknown: before it nothing can have been delivered.
func (w *wire) writeMessage(c content, chunked bool, block time.Duration) error {
	b := bodyWriter{w: w, block: block, end: time.Now().Add(block + time.Duration(c.size/minRate)*time.Second)}
	if chunked {
		w.say("BDAT ", strconv.FormatInt(c.size, 10), " LAST")
	} else {
		b.s = &stuffer{}
	}
	if err := c.writeTo(&b); err != nil {
		w.out = w.out[:0]
		return err
	}
	if b.s != nil {
		b.s.out = w.out
		b.s.finish()
		w.out = b.s.out
	}
	if err := w.flush(block); err != nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return nil
}
