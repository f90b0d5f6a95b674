package qmqp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
)

// Port is where QMQP servers listen, QMTP's is 209.
const Port = "628"

// Times of a client, as qmail's has them.
const (
	connectTime = 10 * time.Second
	peerTime    = 60 * time.Second // of one read or write
	answerTime  = time.Hour        // of a whole session
	maxAnswer   = 4 << 10          // bytes of an answer
)

// Client sends messages by QMQP. It is safe for concurrent use.
type Client struct {
	// Lookup returns the addresses of a name; nil: servers are given by address.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects; nil: net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Message is what is sent: lines that end with LF, in Size bytes.
type Message struct {
	Sender     string // as qmail has addresses
	Recipients []string
	Body       io.Reader
	Size       int64
}

// Unreached is why no server took the connection.
type Unreached struct {
	Err     error
	Timeout bool // the last of them did not answer, rather than refuse
}

func (u *Unreached) Error() string { return u.Err.Error() }
func (u *Unreached) Unwrap() error { return u.Err }

// ErrNoServers says that a list has none.
var ErrNoServers = errors.New("there is no server to send to")

// Send sends the message to the first of the servers that takes the connection; once
// one does, its answer is final, whatever it is. The reply is that answer, and peer
// who gave it. An error that wraps *Unreached is that nobody did; any other that the
// connection was lost, when the message may have been taken.
func (c *Client) Send(ctx context.Context, servers []string, m Message) (reply message.Reply, peer string, err error) {
	conn, err := c.connect(ctx, servers)
	if err != nil {
		return message.Reply{}, "", err
	}
	defer conn.Close()
	peer = conn.RemoteAddr().String()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	w := bufio.NewWriterSize(patient{conn}, 64<<10)
	if err := write(w, m); err != nil && !answered(err) {
		return message.Reply{}, peer, err
	}
	reply, err = answer(patient{conn})
	return reply, peer, err
}

// answered tells whether a failed write may have an answer waiting for it: the server
// has said its word, and reads no more.
func answered(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	return network
}

// connect tries the servers in their order.
func (c *Client) connect(ctx context.Context, servers []string) (net.Conn, error) {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var last error = ErrNoServers
	for _, server := range servers {
		host, port := server, Port
		if h, p, err := net.SplitHostPort(server); err == nil {
			host, port = h, p
		}
		addrs, err := c.addresses(ctx, strings.Trim(host, "[]"))
		if err != nil {
			last = err
		}
		for _, a := range addrs {
			one, cancel := context.WithTimeout(ctx, connectTime)
			conn, err := dial(one, "tcp", net.JoinHostPort(a.String(), port))
			cancel()
			if err == nil {
				return conn, nil
			}
			last = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	timeout := errors.Is(last, context.DeadlineExceeded)
	if e, ok := errors.AsType[net.Error](last); ok {
		timeout = timeout || e.Timeout()
	}
	return nil, &Unreached{last, timeout}
}

func (c *Client) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if c.Lookup == nil {
		return nil, fmt.Errorf("%w: %q is no IP address", ErrNoServers, host)
	}
	return c.Lookup(ctx, host)
}

// write writes the whole request.
func write(w *bufio.Writer, m Message) error {
	size := netstring(m.Size) + netstring(int64(len(m.Sender)))
	for _, r := range m.Recipients {
		size += netstring(int64(len(r)))
	}
	// Errors of the bufio.Writer stay, and Flush tells them.
	_, _ = fmt.Fprintf(w, "%d:%d:", size, m.Size)
	n, err := io.Copy(struct{ io.Writer }{w}, m.Body)
	if err == nil && n != m.Size {
		err = fmt.Errorf("the message has %d bytes, not the %d that were counted", n, m.Size)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, ",%d:%s,", len(m.Sender), m.Sender)
	for _, r := range m.Recipients {
		_, _ = fmt.Fprintf(w, "%d:%s,", len(r), r)
	}
	_ = w.WriteByte(',')
	return w.Flush()
}

// netstring is how long a netstring of n bytes is as a whole.
func netstring(n int64) int64 { return int64(len(fmt.Sprint(n))) + 1 + n + 1 }

var errAnswer = errors.New("the server's answer is none of QMQP")

// answer reads the server's answer.
func answer(r io.Reader) (message.Reply, error) {
	in := NewReader(bufio.NewReaderSize(r, maxAnswer+16))
	text, ok, err := in.Short(maxAnswer)
	switch {
	case err != nil:
		return message.Reply{}, fmt.Errorf("reading the server's answer: %w", unexpected(err))
	case !ok || len(text) == 0:
		return message.Reply{}, errAnswer
	case text[0] == 'K':
		return message.NewReply(250, "2.0.0", "%s", clean(text[1:])), nil
	}
	reply, ok := qmail.Said(string(text))
	if !ok {
		switch text[0] {
		case 'D':
			return qmail.Refused.Reply(), nil
		case 'Z':
			return qmail.Deferred.Reply(), nil
		}
		return message.Reply{}, errAnswer
	}
	return reply, nil
}

func clean(text []byte) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, string(bytes.ToValidUTF8(text, []byte("?"))))
}

// patient gives each read and write its time.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	_ = p.SetReadDeadline(time.Now().Add(peerTime)) // fails on a closed connection only
	return p.Conn.Read(b)
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.SetWriteDeadline(time.Now().Add(peerTime))
	return p.Conn.Write(b)
}
