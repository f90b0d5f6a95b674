package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// MaxSocketPath is the longest path of a Unix socket, in bytes (unix(7)).
const MaxSocketPath = 107

// ErrLongPath says that a socket's path can't be used.
var ErrLongPath = fmt.Errorf("the path of the control socket is longer than %d bytes: set [server] control to a shorter one", MaxSocketPath)

// ErrSocketInUse says that a daemon answers on the socket already.
var ErrSocketInUse = errors.New("a daemon answers on the control socket already")

// ListenControl makes the control socket, with mode 0600 from its first moment.
// A socket on which nobody answers any more is replaced. Closing the listener
// removes it.
func ListenControl(path string) (net.Listener, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("console: %s: %w", path, ErrLongPath)
	}
	ln, err := listenSocket(path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("console: control socket %s: %w", path, err)
	}
	return ln, nil
}

func listenSocket(path string, mode fs.FileMode) (net.Listener, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		return nil, errors.Join(ErrSocketInUse, c.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		if fi, err := os.Lstat(path); err != nil {
			return nil, err
		} else if fi.Mode().Type() != fs.ModeSocket {
			return nil, errors.New("there is something else of that name")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// It is made inside a folder that only we can enter, and moved when its mode
	// is right: a umask would be the whole process's.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	if len(made) > MaxSocketPath {
		made = path
	}
	l, err := net.Listen("unix", made)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = os.Chmod(made, mode)
	if err == nil && made != path {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{Listener: l, path: path}, nil
}

// socket is a listener that removes its path when it is closed.
type socket struct {
	net.Listener
	path string
}

// Close implements net.Listener.
func (s *socket) Close() error {
	err := s.Listener.Close()
	if gone := os.Remove(s.path); err == nil && !errors.Is(gone, fs.ErrNotExist) {
		err = gone
	}
	return err
}

// dialSocket is the client's side.
func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	if len(path) > MaxSocketPath {
		return nil, ErrLongPath
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
