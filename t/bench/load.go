//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// load is a crowd of clients in one thread. None pipelines: each waits for every
// reply, as smtp-source does.
type load struct {
	to       netip.AddrPort
	sessions int
	messages int
	kept     bool // one connection for all messages of a session
	body     []byte
	rcpt     func(i int) string // of message i; nil: one address
	sender   func(i int) string // the same
	began    func(i int)        // called when message i is begun; may be nil
	every    time.Duration      // of one session: rest before each message
	stranger func(i int) string // what XCLIENT says of connection i; nil: nothing
	waits    bool               // a recipient that is deferred ends its message, and is no failure
	ready    func() error       // called once, when all sessions have greeted and none has begun a message; nil: nobody waits for others

	poll        int
	clients     map[int]*client
	begun       int // messages
	connections int
	done        int
	took        []time.Duration // from MAIL to the last 250, by message
	buf         []byte
	failed      error
	since       time.Time // when the first message could begin
	greeted     []*client // that wait for the others
}

// client is a session of it.
type client struct {
	fd      int
	state   int
	in      []byte // of a reply that is not whole
	out     []byte // what the socket did not take
	message int
	began   time.Time
	number  int  // of the connection
	known   bool // XCLIENT has been said
}

// What a client waits for: the reply to what it said last.
const (
	connecting = iota
	welcomed
	helo
	introduced
	mailed
	named
	asked
	sent
	parting
)

// mailOf is a message of that many octets, with the end of DATA behind it.
func mailOf(size int) []byte {
	head := "From: <a@src.example>\r\nTo: <u@dest.example>\r\nSubject: benchmark\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <bench@src.example>\r\n\r\n"
	line := strings.Repeat("x", 76) + "\r\n"
	text := head + strings.Repeat(line, max(size-len(head), 0)/len(line)+1)
	text = strings.TrimRight(text[:max(size-2, len(head)+1)], "\r\n") + "\r\n"
	return []byte(text + ".\r\n")
}

// run sends everything, or fails at the first reply that is not what it ought to be.
func (l *load) run(ctx context.Context) (took time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return 0, err
	}
	l.clients, l.buf, l.took = map[int]*client{}, make([]byte, 64<<10), make([]time.Duration, 0, l.messages)
	defer func() {
		for fd := range l.clients {
			_ = unix.Close(fd)
		}
		_ = unix.Close(l.poll)
	}()
	l.since = time.Now()
	for range min(l.sessions, l.messages) {
		if err := l.connect(); err != nil {
			return 0, err
		}
	}
	events := make([]unix.EpollEvent, 256)
	quiet := time.Now()
	for l.done < l.messages || len(l.clients) > 0 {
		n, err := unix.EpollWait(l.poll, events, 1000)
		if err != nil && err != unix.EINTR {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if n > 0 {
			quiet = time.Now()
		} else if time.Since(quiet) > 2*time.Minute {
			return 0, fmt.Errorf("no reply from %s for two minutes, after %d of %d messages", l.to, l.done, l.messages)
		}
		for i := range max(n, 0) {
			if c := l.clients[int(events[i].Fd)]; c != nil {
				l.turn(c, events[i].Events)
			}
		}
		if l.failed != nil {
			return 0, l.failed
		}
	}
	return time.Since(l.since), nil
}

func (l *load) connect() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.to.Port()), Addr: l.to.Addr().As4()}); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return fmt.Errorf("connect to %s: %w", l.to, err)
	}
	l.clients[fd] = &client{fd: fd, message: l.begun, number: l.connections}
	l.connections++
	l.begun++
	return unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)})
}

// turn goes on with a client that has something to do.
func (l *load) turn(c *client, what uint32) {
	if what&unix.EPOLLOUT != 0 {
		l.writable(c)
		return
	}
	n, err := unix.Read(c.fd, l.buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n <= 0 {
		l.gone(c, err)
		return
	}
	got := l.buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, got...)
		got = c.in
	}
	whole, rest := lastReply(got)
	if whole == nil {
		c.in = append(c.in[:0:0], got...)
		return
	}
	c.in = append(c.in[:0:0], rest...)
	l.reply(c, whole)
}

// writable is a connection that stands, or one that takes octets again.
func (l *load) writable(c *client) {
	if c.state == connecting {
		if e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
			l.failed = fmt.Errorf("connect to %s: %w", l.to, unix.Errno(e))
			return
		}
		c.state = welcomed
	} else {
		left := c.out
		c.out = nil
		l.say(c, left)
		if len(c.out) > 0 {
			return
		}
	}
	l.watch(c, unix.EPOLLIN)
}

func (l *load) watch(c *client, what uint32) {
	if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: what, Fd: int32(c.fd)}); err != nil {
		l.failed = err
	}
}

// lastReply is the last line of the reply that b begins with, nil where it is not whole.
func lastReply(b []byte) (line, rest []byte) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return nil, b
		}
		if i < 4 || b[3] != '-' {
			return b[:i], b[i+1:]
		}
		b = b[i+1:]
	}
}

// reply says what comes next.
func (l *load) reply(c *client, line []byte) {
	want := byte('2')
	if c.state == asked {
		want = '3'
	}
	if c.state == named && l.waits && line[0] == '4' {
		l.next(c)
		return
	}
	if line[0] != want {
		l.failed = fmt.Errorf("message %d, state %d: %s answered %q", c.message, c.state, l.to, line)
		return
	}
	switch c.state {
	case welcomed:
		c.state = helo
		l.say(c, []byte("EHLO src.example\r\n"))
	case helo:
		if l.stranger != nil && !c.known {
			c.known, c.state = true, introduced
			l.say(c, []byte("XCLIENT "+l.stranger(c.number)+"\r\n"))
			return
		}
		l.meet(c)
	case introduced: // the session begins anew
		c.state = helo
		l.say(c, []byte("EHLO src.example\r\n"))
	case mailed:
		c.state = named
		l.say(c, []byte("RCPT TO:<"+l.address(l.rcpt, c.message, "u@dest.example")+">\r\n"))
	case named:
		c.state = asked
		l.say(c, []byte("DATA\r\n"))
	case asked:
		c.state = sent
		l.say(c, l.body)
	case sent:
		l.next(c)
	case parting:
		l.gone(c, nil)
	}
}

// meet begins the first message of a session, where wanted when all sessions can.
func (l *load) meet(c *client) {
	if l.ready == nil {
		l.mail(c)
		return
	}
	if l.greeted = append(l.greeted, c); len(l.greeted) < min(l.sessions, l.messages) {
		return
	}
	if err := l.ready(); err != nil {
		l.failed = err
		return
	}
	l.since, l.ready = time.Now(), nil
	for _, one := range l.greeted {
		l.mail(one)
	}
}

// next ends a message, and begins the next one of the connection.
func (l *load) next(c *client) {
	l.took = append(l.took, time.Since(c.began))
	l.done++
	if l.kept && l.begun < l.messages {
		c.message = l.begun
		l.begun++
		l.mail(c)
		return
	}
	c.state = parting
	l.say(c, []byte("QUIT\r\n"))
}

func (l *load) mail(c *client) {
	if l.every > 0 { // for one session alone
		time.Sleep(l.every)
	}
	if l.began != nil {
		l.began(c.message)
	}
	c.state, c.began = mailed, time.Now()
	l.say(c, []byte("MAIL FROM:<"+l.address(l.sender, c.message, "a@src.example")+">\r\n"))
}

func (l *load) address(f func(int) string, i int, otherwise string) string {
	if f == nil {
		return otherwise
	}
	return f(i)
}

func (l *load) say(c *client, b []byte) {
	n, err := unix.Write(c.fd, b)
	switch {
	case err == unix.EAGAIN:
		n = 0
	case err != nil:
		l.gone(c, err)
		return
	}
	if n < len(b) {
		c.out = b[n:]
		l.watch(c, unix.EPOLLOUT)
	}
}

// gone ends a connection, and begins the next one where there is more to send.
func (l *load) gone(c *client, err error) {
	delete(l.clients, c.fd)
	_ = unix.Close(c.fd)
	if c.state != parting {
		l.failed = fmt.Errorf("message %d, state %d: %s ended the connection (%v)", c.message, c.state, l.to, err)
		return
	}
	if !l.kept && l.begun < l.messages {
		if err := l.connect(); err != nil {
			l.failed = err
		}
	}
}

// quantile of durations, in milliseconds.
func quantile(list []time.Duration, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return s[min(int(q*float64(len(s))), len(s)-1)].Seconds() * 1e3
}
