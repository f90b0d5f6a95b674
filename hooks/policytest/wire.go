package policytest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/postern-mta/postern/core/message"
)

// pipes is a net.Listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	done  <-chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serverEnd is the server's end of a connection in memory. It tells when the
// server waits for the client, or is done with it: only then has all happened that
// a reply comes from.
type serverEnd struct {
	net.Conn
	remote, local netip.AddrPort

	mu      sync.Mutex
	cond    *sync.Cond
	waiting bool
	over    bool
}

func newServerEnd(nc net.Conn, remote, local netip.AddrPort) *serverEnd {
	s := &serverEnd{Conn: nc, remote: remote, local: local}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *serverEnd) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }
func (s *serverEnd) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.local) }

func (s *serverEnd) Read(p []byte) (int, error) {
	s.set(true, false)
	n, err := s.Conn.Read(p)
	s.set(false, false)
	return n, err
}

func (s *serverEnd) Close() error {
	err := s.Conn.Close()
	s.set(false, true)
	return err
}

func (s *serverEnd) set(waiting, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.over = waiting, s.over || over
	s.cond.Broadcast()
}

// settled waits until the server waits for the client or has closed, and tells
// whether it has.
func (s *serverEnd) settled() (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.waiting && !s.over {
		s.cond.Wait()
	}
	return s.over
}

// gone waits until the server has closed.
func (s *serverEnd) gone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over {
		s.cond.Wait()
	}
}

// pumped is the client's end of a connection in memory. It takes in what the server
// says whether or not the test reads it, as a socket does.
type pumped struct {
	net.Conn

	mu   sync.Mutex
	cond *sync.Cond
	said []byte
	err  error
}

// pump begins to take in; it ends with the connection.
func pump(nc net.Conn) *pumped {
	p := &pumped{Conn: nc}
	p.cond = sync.NewCond(&p.mu)
	go func() {
		buf := make([]byte, 4<<10)
		for {
			n, err := nc.Read(buf)
			p.mu.Lock()
			p.said, p.err = append(p.said, buf[:n]...), err
			p.cond.Broadcast()
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *pumped) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.said) == 0 && p.err == nil {
		p.cond.Wait()
	}
	n := copy(b, p.said)
	if p.said = p.said[n:]; n > 0 {
		return n, nil
	}
	return 0, p.err
}

// client is the other end: it says what it is told, and reads replies.
type client struct {
	nc  net.Conn
	br  *bufio.Reader
	log *dialogue
}

func newClient(nc net.Conn, log *dialogue) *client {
	p := pump(nc)
	return &client{nc: p, br: bufio.NewReader(p), log: log}
}

// errGone is a reply that the server did not give because it closed.
var errGone = errors.New("the server closed the connection")

// maxReplyLines bounds a reply that is read.
const maxReplyLines = 1000

// read reads one reply.
func (c *client) read() (*reply, error) {
	r := &reply{}
	for range maxReplyLines {
		line, err := c.br.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
				return nil, errGone
			}
			return nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		c.log.add("S: " + line)
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil || len(line) < 4 {
			return nil, fmt.Errorf("the server said %q, which is no reply", line)
		}
		r.add(code, line[4:])
		if line[3] != '-' {
			return r, nil
		}
	}
	return nil, errors.New("a reply without an end")
}

// send writes beside the reading of the reply, since a pipe holds nothing; what
// could not be written shows in the reply that does not come.
func (c *client) send(text string) (sent chan struct{}) {
	sent = make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c.nc, text)
	}()
	return sent
}

// say sends a line, which the dialogue shows as shown, and reads its reply.
func (c *client) say(line, shown string) (*reply, error) {
	c.log.add("C: " + shown)
	sent := c.send(line + "\r\n")
	r, err := c.read()
	if err == nil {
		<-sent
	}
	return r, err
}

// secure puts TLS over the connection.
func (c *client) secure(ctx context.Context, config *tls.Config) error {
	t := tls.Client(c.nc, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("the TLS handshake failed: %w", err)
	}
	c.log.add("   (TLS)")
	c.nc, c.br = t, bufio.NewReader(t)
	return nil
}

// reply is a reply as it came.
type reply struct {
	code     int
	enhanced string
	lines    []string // without code and enhanced status
	each     []*reply // LMTP, PRDR: of the recipients
}

func (r *reply) add(code int, text string) {
	r.code = code
	if word, rest, _ := strings.Cut(text, " "); code >= 200 && word != "" {
		if _, ok := message.ParseEnhanced(word); ok {
			r.enhanced, text = word, rest
		}
	}
	r.lines = append(r.lines, text)
}

func (r *reply) String() string {
	s := strconv.Itoa(r.code)
	if r.enhanced != "" {
		s += " " + r.enhanced
	}
	return s + " " + strings.Join(r.lines, " | ")
}

// value is the reply as tests see it.
func (r *reply) value() map[string]any {
	lines := make([]any, 0, len(r.lines))
	for _, l := range r.lines {
		lines = append(lines, l)
	}
	v := map[string]any{"code": float64(r.code), "enhanced": r.enhanced, "text": strings.Join(r.lines, "\n"), "lines": lines}
	if r.each != nil {
		each := []any{}
		for _, one := range r.each {
			each = append(each, one.value())
		}
		v["replies"] = each
	}
	return v
}

// dialogue is what was said in one session, for whoever has to find out why a test
// failed. It is safe for concurrent use.
type dialogue struct {
	mu    sync.Mutex
	lines []string
}

// maxDialogue is how many lines of a session are kept.
const maxDialogue = 2000

func (d *dialogue) add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(d.lines) < maxDialogue:
		d.lines = append(d.lines, line)
	case len(d.lines) == maxDialogue:
		d.lines = append(d.lines, "…")
	}
}

func (d *dialogue) text() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lines...)
}
