package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
)

// inMemory is how much of an archive is held in memory where it must be read at any
// place; a larger one goes to a file that has no name any more.
const inMemory = 1 << 20

// source is content that is read from its beginning, whose first bytes can be seen
// before, and whose error is remembered.
type source struct {
	ctx  context.Context
	r    io.Reader
	head []byte
	read int64 // what Read gave
	err  error // of r, io.EOF aside
}

// peek is the first bytes, as many as tell a format.
func (s *source) peek() ([]byte, error) {
	head := make([]byte, headSize)
	n, err := io.ReadFull(onlyReader{s}, head)
	s.head = head[:n]
	s.read = 0
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return s.head, err
}

// onlyReader reads what is behind the head.
type onlyReader struct{ s *source }

func (o onlyReader) Read(p []byte) (int, error) { return o.s.behind(p) }

func (s *source) behind(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (n int, err error) {
	if len(s.head) > 0 {
		n = copy(p, s.head)
		s.head = s.head[n:]
	} else {
		n, err = s.behind(p)
	}
	s.read += int64(n)
	return n, err
}

// spool makes the content readable at any place. done gives it back.
func (s *source) spool() (at io.ReaderAt, size int64, done func(), err error) {
	done = func() {}
	var b bytes.Buffer
	size, err = io.CopyN(&b, s, inMemory)
	if errors.Is(err, io.EOF) {
		return bytes.NewReader(b.Bytes()), size, done, nil
	}
	if err != nil {
		return nil, 0, done, err
	}
	f, err := os.CreateTemp("", "postern-archive-")
	if err != nil {
		return nil, 0, done, err
	}
	done = func() { _ = f.Close() }
	_ = os.Remove(f.Name()) // the file stays while it is open
	if size, err = io.Copy(f, io.MultiReader(&b, s)); err != nil {
		done()
		return nil, 0, func() {}, err
	}
	return f, size, done, nil
}
