package remote

import (
	"bufio"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

const (
	maxReply = 64 << 10 // bounds one reply of another server, all its lines together
	maxText  = 1 << 10  // bounds what is kept of a reply's text
	window   = 4 << 10  // bytes of commands that may wait for their replies
)

var (
	errLongReply = errors.New("a reply without end")
	errBadReply  = errors.New("a reply that is none")
	errUnasked   = errors.New("a reply that no command asked for")
)

// wire is the connection with its buffers. It is for one goroutine, except Close.
type wire struct {
	net.Conn
	in  *bufio.Reader
	out []byte // written with the next flush
}

func newWire(c net.Conn) *wire { return &wire{Conn: c, in: bufio.NewReader(c)} }

// say adds a command to what the next flush writes.
func (w *wire) say(words ...string) {
	for _, s := range words {
		w.out = append(w.out, s...)
	}
	w.out = append(w.out, '\r', '\n')
}

// flush writes what is waiting.
func (w *wire) flush(timeout time.Duration) error {
	if len(w.out) == 0 {
		return nil
	}
	if err := w.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := w.Conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// reply waits for the next reply.
func (w *wire) reply(timeout time.Duration) (message.Reply, error) {
	if err := w.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return message.Reply{}, err
	}
	return readReply(w.in)
}

// exchange sends one command and returns the reply to it.
func (w *wire) exchange(timeout time.Duration, words ...string) (message.Reply, error) {
	w.say(words...)
	if err := w.flush(timeout); err != nil {
		return message.Reply{}, err
	}
	return w.reply(timeout)
}

// unasked tells whether something came that no command asked for. Where it is
// taken for the answer to the next one, every answer behind it is a wrong one.
func (w *wire) unasked() bool { return w.in.Buffered() > 0 }

// readReply reads one reply (RFC 5321 section 4.2): lines with the same code, all
// but the last with a hyphen behind it. LF alone ends a line, too. An enhanced
// status (RFC 2034) that fits the code is taken off the text, whose lines are
// parted by LF. A code outside 200 to 599 is no reply.
func readReply(r *bufio.Reader) (message.Reply, error) {
	var reply message.Reply
	var text []byte
	budget := maxReply
	for first := true; ; first = false {
		line, err := readLine(r, &budget)
		if err != nil {
			return message.Reply{}, err
		}
		code := codeOf(line)
		if code == 0 || !first && code != reply.Code {
			return message.Reply{}, errBadReply
		}
		more := len(line) > 3 && line[3] == '-'
		line = line[min(len(line), 4):]
		if !first {
			text = append(append(text, '\n'), line...)
		} else {
			reply.Code = code
			if !more {
				reply.Text = string(line)
				break
			}
			text = append(text, line...)
		}
		if !more {
			reply.Text = string(text)
			break
		}
	}
	word, _, _ := strings.Cut(reply.Text, " ")
	word, _, _ = strings.Cut(word, "\n")
	if e, ok := message.ParseEnhanced(word); ok && e[0] == reply.Code/100 {
		reply.Enhanced = e
		rest := strings.TrimPrefix(reply.Text[len(word):], " ")
		reply.Text = strings.ReplaceAll(rest, "\n"+word+" ", "\n")
	}
	return reply, nil
}

// codeOf is the code at the start of a reply's line, 0 where there is none.
func codeOf(line []byte) int {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0
	}
	return int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// readLine reads a line without its end. The result is good until the next read.
func readLine(r *bufio.Reader, budget *int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	*budget -= len(line)
	if err == bufio.ErrBufferFull {
		line = slices.Clone(line)
		for err == bufio.ErrBufferFull && *budget > 0 {
			var more []byte
			more, err = r.ReadSlice('\n')
			*budget -= len(more)
			line = append(line, more...)
		}
	}
	if *budget <= 0 {
		return nil, errLongReply
	}
	if err != nil {
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// bound is a reply with as much text as is kept.
func bound(r message.Reply) message.Reply {
	r.Text = r.Text[:min(len(r.Text), maxText)]
	return r
}
