package console

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// ListenInjection makes a socket like that of ListenControl which every account of this
// host may connect to. It is for ServeInjection.
func ListenInjection(path string) (net.Listener, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("console: %s: %w", path, ErrLongPath)
	}
	ln, err := listenSocket(path, 0o666)
	if err != nil {
		return nil, fmt.Errorf("console: socket %s: %w", path, err)
	}
	return ln, nil
}

// ServeInjection takes messages on ln, as Client.Inject hands them over, and nothing
// else, until ctx is done; it closes ln. Who brings a message is what the kernel says,
// not what is said in the envelope. The client that it says it serves is believed: to be
// judged as a stranger's gains nobody anything.
func (s *Server) ServeInjection(ctx context.Context, ln net.Listener, via string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /inject", func(w http.ResponseWriter, r *http.Request) {
		who := r.RemoteAddr
		s.injectBy(w, r, func(ctx context.Context, d queue.Drop, body io.Reader) message.Reply {
			if who == "" {
				return message.NewReply(451, "4.7.0", "It is not known who you are")
			}
			d.Via, d.Trace = via, who
			return s.o.Inject(ctx, d, body)
		})
	})
	return s.serve(ctx, peerListener{ln}, &http.Server{Handler: mux})
}

// peerListener has its connections' remote address say who is there.
type peerListener struct{ net.Listener }

// Accept implements net.Listener.
func (l peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return peerConn{c, peer(c)}, nil
}

type peerConn struct {
	net.Conn
	who string
}

// RemoteAddr implements net.Conn.
func (c peerConn) RemoteAddr() net.Addr { return peerAddr(c.who) }

type peerAddr string

// Network implements net.Addr.
func (peerAddr) Network() string { return "unix" }

// String implements net.Addr.
func (a peerAddr) String() string { return string(a) }

// peer is who is at the other end of a unix socket, as qmail's Received fields have it;
// "" where that can't be known.
func peer(c net.Conn) string {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return ""
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return ""
	}
	var cred *syscall.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || cred == nil {
		return ""
	}
	return fmt.Sprintf("(qmail %d invoked by uid %d)", cred.Pid, cred.Uid)
}
