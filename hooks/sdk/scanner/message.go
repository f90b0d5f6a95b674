package scanner

import (
	"errors"
	"io"
)

// kept is how much of a message is remembered, in bytes, to begin again with: most
// are shorter.
const kept = 256 << 10

// Message is a message that flows by once. It belongs to one call.
type Message struct {
	r     io.Reader
	start []byte // what was read of it, while that is little
	past  bool   // more was read than start has
	now   *reader
	err   error // of reading it, but for its end
	ended bool
}

// NewMessage makes a message of a stream, such as the Stream of an event.
func NewMessage(r io.Reader) *Message { return &Message{r: r} }

// Err is why the message can't be read; nil where it can.
func (m *Message) Err() error { return m.err }

// again is the message from its start. The reader before it reads no more.
func (m *Message) again() (io.Reader, bool) {
	if m.past || m.err != nil {
		return nil, false
	}
	m.now = &reader{m: m}
	return m.now, true
}

// errOver is what a reader says that was given up.
var errOver = errors.New("the message is read anew")

type reader struct {
	m   *Message
	pos int
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	m := r.m
	if m.now != r {
		return 0, errOver
	}
	if r.pos < len(m.start) {
		n := copy(p, m.start[r.pos:])
		r.pos += n
		return n, nil
	}
	if m.err != nil || m.ended {
		return 0, m.end()
	}
	n, err := m.r.Read(p)
	if n > 0 && !m.past {
		if len(m.start)+n > kept {
			m.start, m.past = nil, true
		} else {
			m.start = append(m.start, p[:n]...)
		}
	}
	r.pos += n
	switch {
	case errors.Is(err, io.EOF):
		m.ended = true
	case err != nil:
		m.err = err
	}
	if n > 0 {
		return n, nil
	}
	return 0, m.endIf(err)
}

func (m *Message) endIf(err error) error {
	if err == nil {
		return nil
	}
	return m.end()
}

func (m *Message) end() error {
	if m.err != nil {
		return m.err
	}
	return io.EOF
}
