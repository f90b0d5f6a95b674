// Package tcpserver runs a program for each TCP connection, as tcpserver(1) of
// ucspi-tcp does: connection rules, the environment that programs expect, a limit, and
// log lines that existing tools read. It also takes IPv6 addresses, and rules in their
// language as well as compiled.
//
// Where the original forks first and looks names up in the child, here a goroutine
// looks up, and a process begins only for a connection that the rules allow. So the
// line "pid" comes right before "ok", and a denied connection, which costs no process,
// stands in the log under the server's own pid.
package tcpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/dns"
)

// Server is one socket and the program behind it.
type Server struct {
	Options
	DNS    dns.Resolver // nil: no names
	Log    io.Writer    // lines; nil: none
	Stdout io.Writer    // where -1 prints the port

	rules   rulesCache
	mu      sync.Mutex
	running int
	free    chan struct{} // a place for each connection at a time
}

// Exit statuses of tcpserver, and of a connection in its log.
const (
	statusUsage = 100
	statusFatal = 111
	denied      = statusUsage << 8 // the wait status of a process that ended with 100
	dropped     = statusFatal << 8
)

// Error ends the server with an exit status.
type Error struct {
	Status int
	Text   string
	Err    error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

func fatal(err error, format string, args ...any) error {
	return &Error{statusFatal, fmt.Sprintf(format, args...), err}
}

// Run serves until ctx is done, and then returns nil without waiting for the programs
// that run: they are on their own, as with the original. What is being looked up for
// connections that are accepted already is finished first.
func (s *Server) Run(ctx context.Context) error {
	ln, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer ln.Close()
	if err := s.drop(); err != nil {
		return err
	}
	if s.PrintPort {
		if _, err := fmt.Fprintln(s.Stdout, ln.port); err != nil {
			return fatal(err, "unable to print the port")
		}
	}
	s.free = make(chan struct{}, s.Limit)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	s.status(0)
	var meeting sync.WaitGroup
	defer meeting.Wait()
	for {
		select {
		case s.free <- struct{}{}: // over the limit, connections wait in the backlog
		case <-ctx.Done():
			return nil
		}
		c, err := ln.accept()
		switch {
		case err == nil:
			s.status(1)
			meeting.Add(1)
			go func() { // ends with its lookups, which are bounded, or its program
				defer func() {
					s.status(-1)
					<-s.free
				}()
				s.one(ctx, c, meeting.Done)
			}()
			continue
		case ctx.Err() != nil:
			return nil
		}
		<-s.free
		s.logf(1, "warning: unable to accept: %v", err)
		select { // such as too many open files
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// drop gives up root where the options say so.
func (s *Server) drop() error {
	if s.GID != nil {
		if err := errors.Join(unix.Setgroups([]int{*s.GID}), unix.Setgid(*s.GID)); err != nil {
			return fatal(err, "unable to set gid")
		}
	}
	if s.UID != nil {
		if err := unix.Setuid(*s.UID); err != nil {
			return fatal(err, "unable to set uid")
		}
	}
	return nil
}

// status counts connections and logs how many there are.
func (s *Server) status(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += change
	if s.Verbosity >= 2 {
		_, _ = fmt.Fprintf(s.Log, "tcpserver: status: %d/%d\n", s.running, s.Limit)
	}
}

// logf writes a line where the server is as talkative as that.
func (s *Server) logf(verbosity int, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Verbosity >= verbosity {
		_, _ = fmt.Fprintf(s.Log, "tcpserver: "+format+"\n", args...)
	}
}

// socket is the listening socket. Go's own listeners change what programs get: Nagle's
// algorithm off, keepalive on, descriptors that don't block.
type socket struct {
	file *os.File
	port int
}

// listen binds the address and listens with the backlog that is asked for.
func (s *Server) listen(ctx context.Context) (*socket, error) {
	ip, err := s.address(ctx)
	if err != nil {
		return nil, err
	}
	port := 0
	if s.Port != "0" {
		if port, err = net.DefaultResolver.LookupPort(ctx, "tcp", s.Port); err != nil {
			return nil, fatal(nil, "unable to figure out port number for %s", s.Port)
		}
	}
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
	if ip.Is4() {
		family = unix.AF_INET
		to = &unix.SockaddrInet4{Port: port, Addr: ip.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fatal(err, "unable to create socket")
	}
	file := os.NewFile(uintptr(fd), "socket")
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, to)); err != nil {
		_ = file.Close()
		return nil, fatal(err, "unable to bind")
	}
	if err := unix.Listen(fd, s.Backlog); err != nil {
		_ = file.Close()
		return nil, fatal(err, "unable to listen")
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		_ = file.Close()
		return nil, fatal(err, "unable to get local address")
	}
	return &socket{file, int(addrPort(local).Port())}, nil
}

// address is that of the host argument: 0 for all of IPv4, an address, a name.
func (s *Server) address(ctx context.Context) (netip.Addr, error) {
	switch s.Host {
	case "", "0":
		return netip.IPv4Unspecified(), nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(s.Host, "[]")); err == nil {
		return ip.Unmap(), nil
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", s.Host) // with /etc/hosts
	if err != nil || len(all) == 0 {
		return netip.Addr{}, fatal(nil, "unable to figure out IP address for %s", s.Host)
	}
	return all[0].Unmap(), nil
}

// accepted is a connection whose descriptor blocks, as programs expect.
type accepted struct {
	file          *os.File
	local, remote netip.AddrPort
}

func (l *socket) accept() (*accepted, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var from unix.Sockaddr
	var failed error
	err = raw.Read(func(ln uintptr) bool {
		for {
			fd, from, failed = unix.Accept4(int(ln), unix.SOCK_CLOEXEC)
			if failed != unix.EINTR && failed != unix.ECONNABORTED {
				return failed != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	c := &accepted{file: os.NewFile(uintptr(fd), "connection"), remote: addrPort(from)}
	local, err := unix.Getsockname(fd)
	if err != nil {
		_ = c.file.Close()
		return nil, err
	}
	c.local = addrPort(local)
	return c, nil
}

// Close ends accept, and the socket.
func (l *socket) Close() error { return l.file.Close() }

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch t := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(t.Addr), uint16(t.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(t.Addr).Unmap(), uint16(t.Port))
	}
	return netip.AddrPort{}
}

func portText(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
