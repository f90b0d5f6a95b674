// Package scanner is what plugins share that show messages to a scanning server:
// where the servers are, which of several is asked, and how a message that flows
// by once is shown to the next one where the first fails.
//
//   - Parse and ParseList (server.go) read addresses of servers; OneLine cleans what they
//     say.
//   - Group.Ask (this file) asks the first server that answers, with bounds of time
//     for each.
//   - Message (message.go) is a stream that can be begun again while little of it
//     was read.
package scanner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// rest is how long a server that failed is asked last, so that not every message
// waits for one that is down.
const rest = 30 * time.Second

// Group is servers that do the same, the preferred one first. It is safe for
// concurrent use once its fields are set.
type Group struct {
	Name    string // of what they run, for errors
	Servers []Server

	Connect time.Duration // for a connection to one of them; 0: no bound of its own
	Scan    time.Duration // for all that one of them does for a message; 0: no bound of its own

	mu      sync.Mutex
	resting map[Server]time.Time // until when
}

// Ask has exchange show the message to one server after the other until one call
// returns nil. Each has a context with its bound of time, and the message from its
// start. Where too much of it has been read already to begin again, or it can't be
// read, no other server is asked. The error has what each of them said.
func (g *Group) Ask(ctx context.Context, m *Message, exchange func(ctx context.Context, s Server, r io.Reader) error) error {
	var failed []error
	for _, s := range g.order() {
		r, ok := m.again()
		if !ok {
			break
		}
		err := g.try(ctx, s, r, exchange)
		if err == nil {
			g.rests(s, false)
			return nil
		}
		failed = append(failed, fmt.Errorf("%s at %s: %w", g.Name, s, err))
		if m.err != nil || ctx.Err() != nil {
			break
		}
		g.rests(s, true)
	}
	return errors.Join(failed...)
}

func (g *Group) try(ctx context.Context, s Server, r io.Reader, exchange func(context.Context, Server, io.Reader) error) error {
	one := ctx
	if g.Scan > 0 {
		var cancel context.CancelFunc
		one, cancel = context.WithTimeout(ctx, g.Scan)
		defer cancel()
	}
	err := exchange(one, s, r)
	switch {
	case err == nil || one.Err() == nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("no verdict within %s", g.Scan)
}

// order is the servers, those that rest at the end.
func (g *Group) order() []Server {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var fresh, tired []Server
	for _, s := range g.Servers {
		if now.Before(g.resting[s]) {
			tired = append(tired, s)
		} else {
			fresh = append(fresh, s)
		}
	}
	return append(fresh, tired...)
}

func (g *Group) rests(s Server, failed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !failed {
		delete(g.resting, s)
		return
	}
	if g.resting == nil {
		g.resting = map[Server]time.Time{}
	}
	g.resting[s] = time.Now().Add(rest)
}

// Each has exchange talk to every server, for a health check, and returns what
// those said that failed. Servers that rest and answer rest no more.
func (g *Group) Each(ctx context.Context, exchange func(ctx context.Context, s Server) error) error {
	var failed []error
	for _, s := range g.Servers {
		err := exchange(ctx, s)
		if err == nil {
			g.rests(s, false)
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		failed = append(failed, fmt.Errorf("%s at %s: %w", g.Name, s, err))
	}
	return errors.Join(failed...)
}

// Dial connects to a server of the group within its bound. The end of ctx ends what
// waits for the connection.
func (g *Group) Dial(ctx context.Context, s Server) (net.Conn, error) {
	d := net.Dialer{Timeout: g.Connect}
	c, err := d.DialContext(ctx, s.Network, s.Address)
	if err != nil {
		return nil, err
	}
	return &conn{c, context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })}, nil
}

// conn is a connection that a context bounds.
type conn struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// CloseWrite says that we have said everything.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
