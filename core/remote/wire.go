package remote

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"time"
)

// maxReply bounds one reply of another server, all its lines together.
const maxReply = 64 << 10

var (
	errLongReply = errors.New("a reply without end")
	errBadReply  = errors.New("a reply that is none")
)

// wire is the connection below the client library. It is for one goroutine,
// except Close.
type wire struct {
	net.Conn
	canned []byte // read before what the other side says
	budget int    // bytes that may still be read before the next command
	held   []byte // written with the next bytes, so that the end of a message needs no packet of its own
}

// Read bounds what one reply may hold.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.canned) > 0 {
		n := copy(p, w.canned)
		w.canned = w.canned[n:]
		return n, nil
	}
	if w.budget <= 0 {
		return 0, errLongReply
	}
	n, err := w.Conn.Read(p[:min(len(p), w.budget)])
	w.budget -= n
	return n, err
}

// Write sends what is held, and p.
func (w *wire) Write(p []byte) (int, error) {
	if len(w.held) == 0 {
		return w.Conn.Write(p)
	}
	w.held = append(w.held, p...)
	_, err := w.Conn.Write(w.held)
	w.held = w.held[:0]
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// expect allows one more reply.
func (w *wire) expect() { w.budget = maxReply }

// exchange sends a command beside the client library, between two of its own,
// and returns the code of the reply. more tells that bytes came behind the reply:
// nobody may send those.
func (w *wire) exchange(command string, timeout time.Duration) (code int, more bool, err error) {
	if err := w.SetDeadline(time.Now().Add(timeout)); err != nil {
		return 0, false, err
	}
	defer func() { _ = w.SetDeadline(time.Time{}) }()
	w.expect()
	if _, err := w.Write([]byte(command + "\r\n")); err != nil {
		return 0, false, err
	}
	var got []byte
	for {
		p := make([]byte, 4096)
		n, err := w.Read(p)
		if err != nil {
			return 0, false, err
		}
		got = append(got, p[:n]...)
		for {
			line, rest, whole := bytes.Cut(got, []byte("\n"))
			if !whole {
				break
			}
			code, err := strconv.Atoi(string(line[:min(3, len(line))]))
			if err != nil || code < 100 {
				return 0, false, errBadReply
			}
			got = rest
			if len(line) < 4 || line[3] != '-' {
				return code, len(rest) > 0, nil
			}
		}
	}
}
