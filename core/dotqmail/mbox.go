package dotqmail

import (
	"bufio"
	"bytes"
)

// MboxWriter writes one message into an mbox file: what is written into it, with LF line
// ends, gets a ">" before each line that would look like the start of another message.
// End ends it with a blank line.
type MboxWriter struct {
	w       *bufio.Writer
	quotes  int  // ">" at the start of the line that are not written yet
	from    int  // bytes of "From " behind them, neither
	started bool // the line is known not to be one, or is written
	any     bool
	last    byte
}

// NewMbox begins a message.
func NewMbox(w *bufio.Writer) *MboxWriter { return &MboxWriter{w: w} }

const from = "From "

// Write takes a piece of the message. Its error is of what it writes to.
func (m *MboxWriter) Write(p []byte) (int, error) {
	n := len(p)
	if n > 0 {
		m.any, m.last = true, p[n-1]
	}
	for len(p) > 0 {
		if m.started {
			i := bytes.IndexByte(p, '\n') + 1
			if i == 0 {
				i = len(p)
			} else {
				m.started = false
			}
			_, _ = m.w.Write(p[:i]) // a bufio.Writer keeps its error
			p = p[i:]
			continue
		}
		switch c := p[0]; {
		case c == '>' && m.from == 0:
			m.quotes++
			p = p[1:]
		case c == from[m.from]:
			p = p[1:]
			if m.from++; m.from == len(from) {
				_ = m.w.WriteByte('>')
				m.flush()
			}
		default:
			m.flush()
		}
	}
	return n, m.err()
}

// flush writes what was held back; the line is no question any more.
func (m *MboxWriter) flush() {
	for range m.quotes {
		_ = m.w.WriteByte('>')
	}
	_, _ = m.w.WriteString(from[:m.from])
	m.quotes, m.from, m.started = 0, 0, true
}

func (m *MboxWriter) err() error {
	_, err := m.w.Write(nil)
	return err
}

// End ends the message, and flushes.
func (m *MboxWriter) End() error {
	m.flush()
	if m.any && m.last != '\n' {
		_ = m.w.WriteByte('\n')
	}
	_ = m.w.WriteByte('\n')
	return m.w.Flush()
}
