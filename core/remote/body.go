package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
// LF, which intake lets into no message, becomes CRLF too: some servers take it
// for a line end, and a message must never be able to end itself there. The last
// line end is left to the caller, who writes it together with the final dot.
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

// finish takes in the end of the message.
func (s *stuffer) finish() {
	if s.cr {
		s.cr = false
		s.endLine()
	}
}

// writeBody sends the message up to its last line end. The last piece stays with
// the wire until the final dot is written. Each piece has block of time, all of
// them as much as a slow line needs. An error that is no errBody is the host's.
func (w *wire) writeBody(body message.Body, block time.Duration) error {
	end := time.Now().Add(block + time.Duration(body.Size()/minRate)*time.Second)
	size := body.Size()
	in := make([]byte, min(blockSize, size))
	s := stuffer{out: w.held[:0]}
	for at := int64(0); at < size; {
		n, err := body.ReadAt(in[:min(int64(len(in)), size-at)], at)
		if n == 0 {
			return fmt.Errorf("%w: %w", errBody, errors.Join(err, io.ErrUnexpectedEOF))
		}
		at += int64(n)
		s.add(in[:n])
		if at == size || len(s.out) < blockSize {
			continue
		}
		now := time.Now()
		if now.After(end) {
			return fmt.Errorf("less than %d bytes a second were taken", minRate)
		}
		if err := w.SetDeadline(now.Add(block)); err != nil {
			return err
		}
		if _, err := w.Conn.Write(s.out); err != nil {
			return err
		}
		s.out = s.out[:0]
	}
	s.finish()
	w.held = s.out
	return w.SetDeadline(time.Now().Add(block))
}
