//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// sink is a next hop in one thread that takes everything and keeps nothing.
// Besides SMTP it knows XWAIT n, which is answered when n messages have come.
type sink struct {
	addr  netip.AddrPort
	taken func(rcpt string) // called for each message; may be nil

	count   atomic.Int64
	ln      int
	poll    int
	wake    int // an eventfd that ends it
	conns   map[int]*taker
	waiting []waiter
	buf     []byte
	ended   chan struct{}
}

type waiter struct {
	fd int
	n  int64
}

// taker is a connection to it.
type taker struct {
	fd    int
	data  bool
	tail  []byte // of the message, at most 4 octets
	line  []byte // a command that is not whole
	rcpt  string
	reply []byte
}

// listenSink makes one on that address, whose port may be 0, without starting it.
func listenSink(at netip.AddrPort) (*sink, error) {
	s := &sink{conns: map[int]*taker{}, buf: make([]byte, 64<<10), ended: make(chan struct{})}
	var err error
	if s.ln, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(s.ln, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(s.ln, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	if err := unix.Listen(s.ln, 4096); err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(s.ln)
	if err != nil {
		return nil, err
	}
	s.addr = netip.AddrPortFrom(at.Addr(), uint16(name.(*unix.SockaddrInet4).Port))
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, err
	}
	s.watch(s.wake)
	s.watch(s.ln)
	return s, nil
}

// startSink is a sink in a goroutine of this process.
func startSink(at netip.AddrPort, taken func(rcpt string)) (*sink, error) {
	s, err := listenSink(at)
	if err != nil {
		return nil, err
	}
	s.taken = taken
	go s.serve()
	return s, nil
}

// stop ends it and its connections.
func (s *sink) stop() {
	_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-s.ended
}

func (s *sink) watch(fd int) {
	_ = unix.EpollCtl(s.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (s *sink) serve() {
	runtime.LockOSThread()
	defer close(s.ended)
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(s.poll, events, -1)
		if err != nil && err != unix.EINTR {
			panic(err) // the arguments are wrong
		}
		for i := range max(n, 0) {
			switch fd := int(events[i].Fd); fd {
			case s.wake:
				for fd := range s.conns {
					_ = unix.Close(fd)
				}
				_, _, _ = unix.Close(s.ln), unix.Close(s.poll), unix.Close(s.wake)
				return
			case s.ln:
				s.accept()
			default:
				s.read(s.conns[fd])
			}
		}
	}
}

func (s *sink) accept() {
	for {
		fd, _, err := unix.Accept4(s.ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		c := &taker{fd: fd}
		s.conns[fd] = c
		s.watch(fd)
		c.reply = append(c.reply, "220 sink.example ESMTP\r\n"...)
		s.answer(c)
	}
}

func (s *sink) end(c *taker) {
	delete(s.conns, c.fd)
	_ = unix.Close(c.fd)
}

func (s *sink) read(c *taker) {
	if c == nil {
		return
	}
	n, err := unix.Read(c.fd, s.buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n <= 0 {
		s.end(c)
		return
	}
	for b := s.buf[:n]; len(b) > 0 && s.conns[c.fd] == c; {
		if c.data {
			b = s.text(c, b)
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.line = append(c.line, b...)
			break
		}
		line := b[:i]
		if len(c.line) > 0 {
			line = append(c.line, line...)
			c.line = nil
		}
		b = b[i+1:]
		s.command(c, line)
	}
	if s.conns[c.fd] == c {
		s.answer(c)
	}
}

// text takes a part of a message, and returns what stands behind its end.
func (s *sink) text(c *taker, b []byte) []byte {
	const end = "\r\n.\r\n"
	edge := append(c.tail, b[:min(len(b), len(end)-1)]...)
	at := bytes.Index(edge, []byte(end))
	if at >= 0 {
		at += len(end) - len(c.tail)
	} else if at = bytes.Index(b, []byte(end)); at >= 0 {
		at += len(end)
	}
	if at < 0 {
		all := append(c.tail, b[max(0, len(b)-len(end)+1):]...)
		c.tail = append(c.tail[:0:0], all[max(0, len(all)-len(end)+1):]...)
		return nil
	}
	c.data, c.tail = false, nil
	c.reply = append(c.reply, "250 2.0.0 Ok\r\n"...)
	n := s.count.Add(1)
	if s.taken != nil {
		s.taken(c.rcpt)
	}
	for i := 0; i < len(s.waiting); {
		w := s.waiting[i]
		if n < w.n {
			i++
			continue
		}
		_, _ = unix.Write(w.fd, []byte("250 there\r\n"))
		s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
	}
	return b[at:]
}

func (s *sink) command(c *taker, line []byte) {
	line = bytes.TrimRight(line, "\r")
	verb := strings.ToUpper(string(line[:min(len(line), 5)]))
	switch strings.TrimRight(verb, " ") {
	case "EHLO":
		c.reply = append(c.reply, "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"...)
	case "RCPT":
		if s.taken != nil {
			_, rest, _ := bytes.Cut(line, []byte("<"))
			address, _, _ := bytes.Cut(rest, []byte(">"))
			c.rcpt = string(address)
		}
		c.reply = append(c.reply, "250 2.1.5 Ok\r\n"...)
	case "DATA":
		c.data, c.tail = true, []byte("\r\n")
		c.reply = append(c.reply, "354 Go\r\n"...)
	case "QUIT":
		c.reply = append(c.reply, "221 2.0.0 Bye\r\n"...)
		s.answer(c)
		s.end(c)
	case "XWAIT":
		n, _ := strconv.ParseInt(string(bytes.TrimSpace(line[5:])), 10, 64)
		if s.count.Load() >= n {
			c.reply = append(c.reply, "250 there\r\n"...)
		} else {
			s.waiting = append(s.waiting, waiter{c.fd, n})
		}
	default:
		c.reply = append(c.reply, "250 2.0.0 Ok\r\n"...)
	}
}

func (s *sink) answer(c *taker) {
	if len(c.reply) == 0 {
		return
	}
	if n, err := unix.Write(c.fd, c.reply); err != nil || n < len(c.reply) { // who does not read its replies is no client of ours
		s.end(c)
	}
	c.reply = c.reply[:0]
}

// sinkProcess is `bench sink`: it says its address and serves until its standard
// input ends.
func sinkProcess() error {
	s, err := listenSink(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		return err
	}
	fmt.Println(s.addr)
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
		s.stop()
	}()
	s.serve()
	return nil
}

// awaySink is a sink in a process of its own.
type awaySink struct {
	addr netip.AddrPort
	cmd  *exec.Cmd
	stop func()
}

func startAwaySink(ctx context.Context) (*awaySink, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, "sink")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &awaySink{cmd: cmd, stop: func() { _ = in.Close(); _ = cmd.Wait() }}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s.addr, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	return s, nil
}

// wait returns when so many messages have come to it in all.
func (s *awaySink) wait(ctx context.Context, n int, patience time.Duration) error {
	c, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "XWAIT %d\r\n", n); err != nil {
		return err
	}
	if _, err := r.ReadString('\n'); err != nil {
		return fmt.Errorf("not all of %d messages came to the next hop within %s: %w", n, patience, err)
	}
	return nil
}
