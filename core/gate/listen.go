package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Listen opens the socket that a [[listen]] address names: "host:port",
// "unix:/path" or "systemd:NAME". mode is that of a unix socket's file.
//
// A unix socket that nobody answers at is replaced, one that somebody does is
// not, and neither is a file of any other kind; it is removed when the listener
// is closed. A systemd socket is one that was passed to this process under that
// name (sd_listen_fds(3), FileDescriptorName=); it may be asked for again.
func Listen(address string, mode fs.FileMode) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path, mode)
	}
	if name, ok := strings.CutPrefix(address, "systemd:"); ok {
		return passed(name, os.Getenv, os.Getpid())
	}
	// The protocol's own time-outs end a connection whose client is gone, so TCP's
	// keep-alives would only cost four system calls a connection.
	plain := net.ListenConfig{KeepAlive: -1}
	ln, err := plain.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("gate: listen: %w", err)
	}
	return ln, nil
}

func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := clearStale(path); err != nil {
		return nil, fmt.Errorf("gate: listen on unix:%s: %w", path, err)
	}
	// The file must not be open to more than it should for the moment between
	// bind and Chmod: where the system heeds it, bind makes the file with the mode
	// that the socket has before it, less the umask.
	closed := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode.Perm())) })
	}}
	ln, err := closed.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("gate: listen: %w", err)
	}
	u := ln.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode.Perm()); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("gate: listen on unix:%s: %w", path, err)
	}
	made, err := os.Lstat(path)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("gate: listen on unix:%s: %w", path, err)
	}
	return &unixListener{UnixListener: u, path: path, made: made}, nil
}

// clearStale looks whether a socket may be put at path.
func clearStale(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is no socket is in the way")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path) // whoever made it is gone
	}
	return fmt.Errorf("a socket in the way may be in use: %w", err)
}

// unixListener removes its file when it is closed, if it is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(l.path) // a file that stays is replaced by the next one
	}
	return l.UnixListener.Close()
}

// Addr names the path that clients know.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// firstPassed is where systemd's descriptors begin.
const firstPassed = 3

// maxPassed bounds how many may be there.
const maxPassed = 1024

// passed finds the socket of a name among those that this process was started
// with.
func passed(name string, env func(string) string, pid int) (net.Listener, error) {
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 1 || n > maxPassed || env("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, fmt.Errorf("gate: listen on systemd:%s: this process was given no sockets; start it by a .socket unit", name)
	}
	names := strings.Split(env("LISTEN_FDNAMES"), ":")
	found := -1
	for i := range n {
		own := "unknown" // what systemd calls one without a name
		if i < len(names) && names[i] != "" {
			own = names[i]
		}
		syscall.CloseOnExec(firstPassed + i)
		if own != name {
			continue
		}
		if found >= 0 {
			return nil, fmt.Errorf("gate: listen on systemd:%s: several sockets have that name; give each .socket unit one ListenStream= and a FileDescriptorName= of its own", name)
		}
		found = firstPassed + i
	}
	if found < 0 {
		return nil, fmt.Errorf("gate: listen on systemd:%s: no socket of that name was given; there are %s", name, strings.Join(names, ", "))
	}
	return adopt(found, name)
}

// adopt makes a listener of a descriptor, which stays open for the next time.
func adopt(fd int, name string) (net.Listener, error) {
	own, err := syscall.Dup(fd)
	if err != nil {
		return nil, fmt.Errorf("gate: listen on systemd:%s: %w", name, err)
	}
	f := os.NewFile(uintptr(own), "systemd:"+name)
	defer f.Close() // FileListener makes a copy of its own
	syscall.CloseOnExec(own)
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("gate: listen on systemd:%s: that is no listening stream socket: %w", name, err)
	}
	return ln, nil
}
