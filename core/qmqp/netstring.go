package qmqp

import (
	"bufio"
	"errors"
	"io"
)

// Bounds of what a peer may say.
const (
	maxAddress = 999 // bytes, as qmail's servers have it
	maxDigits  = 10  // of a length
)

// What is wrong with a netstring.
var (
	errLength = errors.New("a length is at most 10 decimal digits and a colon")
	errComma  = errors.New("a netstring ends with a comma")
	errEnd    = errors.New("a netstring reaches beyond the one that it is in")
)

// Reader reads netstrings (cr.yp.to/proto/netstrings.txt), also nested ones, from a
// stream. Leading zeros of a length are read over, as qmail's programs do. It takes no
// memory of its own. An io.ErrUnexpectedEOF is an end in the middle of one; io.EOF
// one in front of a length.
type Reader struct {
	b    *bufio.Reader
	read int64 // since the last Within
	end  int64 // where the outer netstring ends, by read; -1: there is none
}

// NewReader reads from b, whose buffer holds more than an address.
func NewReader(b *bufio.Reader) *Reader { return &Reader{b: b, end: -1} }

// Length reads the length of the next netstring, to its colon.
func (r *Reader) Length() (n int64, err error) {
	for digits := 0; ; digits++ {
		c, err := r.byte()
		switch {
		case errors.Is(err, io.EOF) && digits == 0:
			return 0, io.EOF
		case err != nil:
			return 0, unexpected(err)
		case c == ':' && digits > 0:
			if r.end >= 0 && r.read+n >= r.end { // its comma must be inside too
				return 0, errEnd
			}
			return n, nil
		case c < '0' || c > '9' || digits == maxDigits:
			return 0, errLength
		}
		n = 10*n + int64(c-'0')
	}
}

// Within makes the next netstrings parts of one of n bytes, of which the length was
// read, until Left is 0.
func (r *Reader) Within(n int64) { r.read, r.end = 0, n }

// Without ends what Within began, behind the last part.
func (r *Reader) Without() { r.end = -1 }

// Left is how many bytes of the outer netstring are left.
func (r *Reader) Left() int64 { return r.end - r.read }

// Content gives the content of a netstring whose length was read; the caller reads
// all of it, then Comma. It is good until the next call.
func (r *Reader) Content(n int64) io.Reader { return &content{r, n} }

// Comma reads the end of a netstring.
func (r *Reader) Comma() error {
	c, err := r.byte()
	switch {
	case err != nil:
		return unexpected(err)
	case c != ',':
		return errComma
	}
	return nil
}

// Skip reads over n bytes.
func (r *Reader) Skip(n int64) error {
	for n > 0 {
		k, err := r.b.Discard(int(min(n, 1<<20)))
		r.read += int64(k)
		if n -= int64(k); err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// Short reads a whole netstring of at most most bytes, which fit into b's buffer. A
// longer one is read over, and ok is false. What it returns is good until the next
// call.
func (r *Reader) Short(most int) (text []byte, ok bool, err error) {
	n, err := r.Length()
	if err != nil {
		return nil, false, err
	}
	if n > int64(most) {
		if err := r.Skip(n); err != nil {
			return nil, false, err
		}
		return nil, false, r.Comma()
	}
	text, err = r.b.Peek(int(n) + 1)
	if err != nil {
		return nil, false, unexpected(err)
	}
	if text[n] != ',' {
		return nil, false, errComma
	}
	_, err = r.b.Discard(int(n) + 1)
	r.read += n + 1
	return text[:n], true, err
}

func (r *Reader) byte() (byte, error) {
	c, err := r.b.ReadByte()
	if err == nil {
		r.read++
	}
	return c, err
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

type content struct {
	r    *Reader
	left int64
}

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.b.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.r.read += int64(n)
	return n, unexpected(err)
}
