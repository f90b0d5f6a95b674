package qmail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Failure is a status with what led to it; nil where that is nil.
func Failure(s Status, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", s, err)
}

// Spool is a message that was read to its end: in memory while it is small, in a
// file without a name else.
type Spool struct {
	memory []byte
	file   *os.File
	size   int64
}

// spoolMemory is how much of a message is kept in memory.
const spoolMemory = 256 << 10

// ReadSpool reads body to its end. The file is made in dir, where it may be large,
// or in the usual place for temporary files. The error is a Status, with its cause.
func ReadSpool(dir string, body io.Reader) (*Spool, error) {
	s := &Spool{memory: make([]byte, spoolMemory)}
	n, err := io.ReadFull(body, s.memory)
	s.memory, s.size = s.memory[:n], int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s, nil
	case err != nil:
		return nil, Failure(ReadFailed, err)
	}
	if s.file, err = spoolFile(dir); err != nil {
		return nil, Failure(NoSpool, err)
	}
	reading := &reads{r: body}
	if _, err = s.file.Write(s.memory); err == nil {
		_, err = io.CopyBuffer(writerOnly{s.file}, reading, make([]byte, 64<<10))
	}
	if err != nil {
		s.Close()
		if reading.err != nil {
			return nil, Failure(ReadFailed, err)
		}
		return nil, Failure(WriteFailed, err)
	}
	s.memory = nil
	s.size, err = s.file.Seek(0, io.SeekCurrent)
	return s, Failure(WriteFailed, err)
}

// spoolFile makes a file of which nothing is left when it is closed.
func spoolFile(dir string) (f *os.File, err error) {
	for _, place := range []string{dir, os.TempDir()} {
		if f, err = os.CreateTemp(place, "queue-in-*.tmp"); err == nil {
			return f, os.Remove(f.Name())
		}
	}
	return nil, err
}

// Reader reads the message from its start.
func (s *Spool) Reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.memory)
	}
	return io.NewSectionReader(s.file, 0, s.size)
}

// Size is the message's, in bytes.
func (s *Spool) Size() int64 { return s.size }

// Close gives back what it takes.
func (s *Spool) Close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name any more
	}
}

// reads remembers an error of the reading side.
type reads struct {
	r   io.Reader
	err error
}

func (r *reads) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// writerOnly keeps io.Copy from having the kernel move the bytes, which would hide
// which side failed.
type writerOnly struct{ io.Writer }
