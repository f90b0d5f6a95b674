package console

import (
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Bounds of connections from one account of the host.
const (
	peerShare   = maxConnections / 4 // served at a time, so that nobody keeps the others out
	peerWaiting = 500                // that wait for their turn; what is beyond is closed
)

// peerListener hands out connections of a unix socket whose remote address says who is
// there, from each account a share at a time: the rest of its connections wait, in the
// order of coming. Its goroutine ends when the listener is closed; wait for it.
type peerListener struct {
	net.Listener
	ended chan struct{}

	mu      sync.Mutex
	come    sync.Cond // ready has one more, or err is set
	ready   []net.Conn
	open    map[uint32]int // handed out, or ready
	waiting map[uint32][]net.Conn
	err     error
}

func listenPeers(ln net.Listener) *peerListener {
	l := &peerListener{Listener: ln, ended: make(chan struct{}), open: map[uint32]int{}, waiting: map[uint32][]net.Conn{}}
	l.come.L = &l.mu
	go l.gather()
	return l
}

func (l *peerListener) gather() {
	defer close(l.ended)
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.end(err)
			return
		}
		pid, uid, ok := peer(c)
		if !ok {
			_ = c.Close() // whoever it is hears that it ended
			continue
		}
		l.enter(&peerConn{Conn: c, who: fmt.Sprintf("(qmail %d invoked by uid %d)", pid, uid), uid: uid, of: l})
	}
}

func (l *peerListener) enter(c *peerConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open[c.uid] < peerShare:
		l.open[c.uid]++
		l.ready = append(l.ready, c)
		l.come.Signal()
	case len(l.waiting[c.uid]) < peerWaiting:
		l.waiting[c.uid] = append(l.waiting[c.uid], c)
	default:
		_ = c.Conn.Close() // it is one too many; its caller tries again later
	}
}

// left makes room for the next one of an account.
func (l *peerListener) left(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list := l.waiting[uid]; len(list) > 0 && l.err == nil {
		if l.waiting[uid] = list[1:]; len(list) == 1 {
			delete(l.waiting, uid)
		}
		l.ready = append(l.ready, list[0])
		l.come.Signal()
		return
	}
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// end closes what nobody took.
func (l *peerListener) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	for _, c := range l.ready {
		_ = c.(*peerConn).Conn.Close() // it was never spoken to
	}
	for _, list := range l.waiting {
		for _, c := range list {
			_ = c.(*peerConn).Conn.Close()
		}
	}
	l.ready, l.waiting = nil, map[uint32][]net.Conn{}
	l.come.Broadcast()
}

// Accept implements net.Listener.
func (l *peerListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.ready) == 0 && l.err == nil {
		l.come.Wait()
	}
	if l.err != nil {
		return nil, l.err
	}
	c := l.ready[0]
	l.ready = l.ready[1:]
	return c, nil
}

type peerConn struct {
	net.Conn
	who  string
	uid  uint32
	of   *peerListener
	once sync.Once
}

// RemoteAddr implements net.Conn.
func (c *peerConn) RemoteAddr() net.Addr { return peerAddr(c.who) }

// Close implements net.Conn.
func (c *peerConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.of.left(c.uid) })
	return err
}

type peerAddr string

// Network implements net.Addr.
func (peerAddr) Network() string { return "unix" }

// String implements net.Addr.
func (a peerAddr) String() string { return string(a) }

// peer is who is at the other end of a unix socket; ok is false where that can't be known.
func peer(c net.Conn) (pid int32, uid uint32, ok bool) {
	sc, is := c.(syscall.Conn)
	if !is {
		return 0, 0, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var cred *syscall.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || cred == nil {
		return 0, 0, false
	}
	return cred.Pid, cred.Uid, true
}
