package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/postern-mta/postern/core/message"
)

// letter is a message as mailboxes and programs get it: with LF line ends.
type letter interface {
	// copyTo writes head, then the message.
	copyTo(ctx context.Context, w io.Writer, head []byte) error
	// reader reads it from the start.
	reader() io.Reader
	// file is the message in a file that can only be read, at its start. It stays the
	// letter's.
	file(ctx context.Context) (*os.File, error)
}

// stored is a message of the queue, which has CRLF line ends.
type stored struct{ body message.Body }

func (s stored) copyTo(ctx context.Context, w io.Writer, head []byte) error {
	return copyLF(ctx, w, head, s.body)
}

func (s stored) reader() io.Reader { return lines{bufio.NewReader(message.NewReader(s.body))} }

func (s stored) file(context.Context) (*os.File, error) { return nil, errors.ErrUnsupported }

// lines reads CRLF as LF.
type lines struct{ r *bufio.Reader }

func (l lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c, err := l.r.ReadByte()
		if err != nil {
			return n, err
		}
		if c == '\r' {
			if next, err := l.r.Peek(1); err == nil && next[0] == '\n' {
				continue
			}
		}
		p[n] = c
		n++
		if l.r.Buffered() == 0 {
			break
		}
	}
	return n, nil
}

// spooled is a message of the queue of which programs get a copy; its owner closes it.
type spooled struct {
	stored
	dir  string // where the copy is
	copy *os.File
}

// file makes the copy, which has no name, the first time.
func (s *spooled) file(ctx context.Context) (*os.File, error) {
	if s.copy == nil {
		if err := s.make(ctx); err != nil {
			return nil, fmt.Errorf("a copy of the message: %w", err)
		}
	}
	_, err := s.copy.Seek(0, io.SeekStart)
	return s.copy, err
}

func (s *spooled) make(ctx context.Context) error {
	w, err := os.CreateTemp(s.dir, "delivery-*.tmp")
	if err != nil {
		return err
	}
	defer w.Close()
	r, err := os.Open(w.Name())
	err = errors.Join(err, os.Remove(w.Name()))
	if err == nil {
		err = s.copyTo(ctx, w, nil)
	}
	if err != nil {
		if r != nil {
			_ = r.Close()
		}
		return err
	}
	s.copy = r
	return nil
}

func (s *spooled) close() {
	if s.copy != nil {
		_ = s.copy.Close() // it has no name any more
	}
}

// opened is a message in a file that somebody handed us.
type opened struct{ f *os.File }

func (o opened) copyTo(ctx context.Context, w io.Writer, head []byte) error {
	if _, err := w.Write(head); err != nil {
		return err
	}
	r := o.reader()
	for buf := make([]byte, block); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the message: %w", err)
		}
	}
}

func (o opened) reader() io.Reader { return io.NewSectionReader(o.f, 0, 1<<62) }

func (o opened) file(context.Context) (*os.File, error) {
	_, err := o.f.Seek(0, io.SeekStart)
	return o.f, err
}
