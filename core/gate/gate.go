// Package gate decides who may connect, before a byte of SMTP is spoken:
//
//  1. Listen opens a socket (listen.go). Serve accepts a connection (gate.go); from
//     a listed proxy it reads the PROXY header first (proxy.go), so that all that
//     follows is about the client. Over the total or the client's limit it is
//     told 421 and closed.
//  2. The connection rules (rules.go, the language of tcprules with CIDR and
//     IPv6) deny it, or allow it and set variables for policies.
//  3. The session's facts are filled in: relaying or not, the client's name,
//     looked up beside the conversation (session.go), and the generation of
//     policies that the connection keeps to its end.
//  4. The protocol engine gets a Conn, and tells it where the conversation stands
//     (census.go). XCLIENT comes back here (Xclient), since
//     new facts mean a new look at rules and relaying.
//
// Certificates and their reload are in tls.go.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// Listener is what one [[listen]] says about those who come in by it.
//
// A client on a unix socket has no address: whoever may open the socket's file
// counts as one on the loopback, 127.0.0.1 port 0, in all lists and rules.
type Listener struct {
	Name        string
	Protocol    string   // smtp, submission, lmtp
	Greeting    string   // what stands in the greeting behind the name and ESMTP, "" nothing
	StartTLS    bool     // STARTTLS is offered
	RequireTLS  bool     // with StartTLS: nothing is done for a client before it
	ImplicitTLS bool     // the handshake comes first (RFC 8314); instead of StartTLS
	Auth        []string // mechanisms of AUTH to offer, over TLS
	// Sender tells whether an authenticated client may send under an address; nil:
	// under any.
	Sender      func(user string, from message.Address) bool
	RelayFrom   []netip.Prefix
	XclientFrom []netip.Prefix
	ProxyFrom   []netip.Prefix // who must send a PROXY header
	Rules       *Rules         // nil: everybody is allowed
}

// Limits bound the connections.
type Limits struct {
	Connections int // in all
	PerClient   int // of one address (an IPv6 client is its /64); clients in relay_from are exempt
}

// Options of New.
type Options struct {
	Hostname string
	Limits   Limits
	Chain    func() *hooks.Chain // the newest generation, acquired for the caller
	DNS      dns.Resolver        // nil: clients have no names
	Record   *record.Recorder
	Log      *slog.Logger // nil: none
}

// Gate is shared by all listeners. It is safe for concurrent use.
type Gate struct {
	o        Options
	limits   atomic.Pointer[Limits]
	mu       sync.Mutex
	total    int
	byClient map[netip.Prefix]int

	byListener map[string]*census
}

// New makes a gate.
func New(o Options) *Gate {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{o: o, byClient: map[netip.Prefix]int{}, byListener: map[string]*census{}}
	g.SetLimits(o.Limits)
	return g
}

// SetLimits replaces the limits; connections that are open stay.
func (g *Gate) SetLimits(l Limits) { g.limits.Store(&l) }

// Connections is how many are open.
func (g *Gate) Connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// Conn is one accepted connection with what is known about it. The protocol
// engine owns it while it serves; Chain is released when that returns.
type Conn struct {
	net.Conn
	Session  *hooks.Session
	Chain    *hooks.Chain
	Listener *Listener

	gate   *Gate
	peer   netip.AddrPort // who connected: the one that a PROXY header named, where there was one
	census *census        // where it is counted, and as what
	at     hooks.Stage
	tls    bool
}

// Serve accepts connections until ctx is done, gives each to serve in a
// goroutine of its own, and returns when all of them have ended. The listener's
// facts may change between connections: current gives them. It closes ln.
func (g *Gate) Serve(ctx context.Context, ln net.Listener, current func() *Listener, serve func(context.Context, *Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	all := crew{serve: func(c net.Conn) { g.one(ctx, c, current(), serve) }, free: make(chan net.Conn)}
	defer all.wait()
	pause := time.Duration(0)
	for {
		c, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case err == nil:
			pause = 0
			all.take(c)
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ECONNABORTED):
			// Out of descriptors: those who wait stay in the backlog until a connection ends.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			g.o.Log.Warn("connection not accepted", "listener", current().Name, "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		default:
			return fmt.Errorf("gate: accept on %s: %w", ln.Addr(), err)
		}
	}
}

// one brings a connection through the gate.
func (g *Gate) one(ctx context.Context, nc net.Conn, l *Listener, serve func(context.Context, *Conn)) {
	defer nc.Close()
	ctx, cancel := context.WithCancel(ctx) // ends what was begun for this connection alone
	defer cancel()
	client, local := addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	proxy := contains(l.ProxyFrom, client.Addr())
	key, err := g.enter(client.Addr(), proxy || contains(l.RelayFrom, client.Addr()))
	if err != nil {
		g.turnAway(nc, l, client, 421, "4.7.0", err.Error())
		return
	}
	defer func() { g.leave(key) }()
	if proxy {
		p, err := readProxy(ctx, nc)
		if err != nil {
			g.o.Log.Warn("connection refused", "listener", l.Name, "client", client.String(), "error", err)
			g.turnAway(nc, l, client, 421, "4.7.0", errProxy.Error())
			return
		}
		if p.client.IsValid() {
			client, local = p.client, p.local
			key, err = g.move(key, client.Addr(), contains(l.RelayFrom, client.Addr()))
		}
		if err != nil {
			g.turnAway(nc, l, client, 421, "4.7.0", err.Error())
			return
		}
	}
	c := &Conn{Conn: nc, Listener: l, gate: g, peer: client}
	c.Session = &hooks.Session{ID: message.NewID(time.Now()), Listener: l.Name, Protocol: l.Protocol, Local: local, Started: time.Now()}
	if deny := c.meet(ctx, client); deny != nil {
		g.turnAway(nc, l, client, 554, "5.7.1", deny.Error())
		return
	}
	c.census = g.census(l.Name)
	c.Stands(hooks.Connect)
	defer c.gone()
	c.Chain = g.o.Chain()
	defer c.Chain.Release()
	serve(ctx, c)
}

// turnAway says why in one line and closes; whether the line is read is not our
// concern, so the write may not wait.
func (g *Gate) turnAway(nc net.Conn, l *Listener, client netip.AddrPort, code int, status, text string) {
	_ = nc.SetDeadline(time.Now().Add(time.Second))
	r := message.NewReply(code, status, "%s %s", g.o.Hostname, text)
	if !l.ImplicitTLS { // to whom it would be no reply
		_, _ = nc.Write(r.Append(nil))
	}
	s := &hooks.Session{ID: message.NewID(time.Now()), Listener: l.Name, Protocol: l.Protocol, Client: client, Started: time.Now()}
	g.o.Record.Refused(hooks.NewTransaction(s, ""), hooks.Connect, "gate", r)
	if tcp, ok := nc.(*net.TCPConn); ok {
		// What the client has sent already would turn our close into a reset
		// that can overtake the reply: end our side first and read a little.
		_ = tcp.CloseWrite()
		var drop [512]byte
		for range 8 {
			if _, err := tcp.Read(drop[:]); err != nil {
				return
			}
		}
	}
}

var (
	errCrowd  = errors.New("too many connections, please try again later")
	errClient = errors.New("too many connections from you, please try again later")
)

// enter counts a connection in, or says which limit it is over.
func (g *Gate) enter(ip netip.Addr, exempt bool) (netip.Prefix, error) {
	key := clientKey(ip)
	limits := g.limits.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= limits.Connections {
		return key, errCrowd
	}
	if !exempt && g.byClient[key] >= limits.PerClient {
		return key, errClient
	}
	g.total++
	g.byClient[key]++
	return key, nil
}

// move counts a connection that entered as a proxy's as its client's from now on.
func (g *Gate) move(from netip.Prefix, ip netip.Addr, exempt bool) (netip.Prefix, error) {
	key := clientKey(ip)
	limits := g.limits.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !exempt && g.byClient[key] >= limits.PerClient {
		return from, errClient
	}
	g.byClient[key]++
	g.drop(from)
	return key, nil
}

func (g *Gate) leave(key netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	g.drop(key)
}

// drop is called with mu held.
func (g *Gate) drop(key netip.Prefix) {
	if g.byClient[key]--; g.byClient[key] <= 0 {
		delete(g.byClient, key)
	}
}

// clientKey is what one client is: an IPv4 address, or an IPv6 /64, since that
// is what one customer gets.
func clientKey(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func contains(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// addrPort is an end of a connection; of one through a unix socket, the loopback.
func addrPort(a net.Addr) netip.AddrPort {
	switch t := a.(type) {
	case *net.TCPAddr:
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	case *net.UnixAddr:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	return netip.AddrPort{}
}
