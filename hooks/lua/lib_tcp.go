package lua

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Bounds of tcp.
const (
	tcpWait  = 5 * time.Second // where opts.wait says nothing
	maxConns = 8               // open in one call
	maxLine  = 64 << 10        // bytes of a line
)

func (st *state) openTCP(g *lua.LTable) {
	g.RawSetString("tcp", st.library(map[string]lua.LGFunction{"connect": st.tcpConnect}))
	st.tcpClass = st.single(map[string]lua.LGFunction{
		"write": st.tcpWrite, "line": st.tcpLine, "read": st.tcpRead, "close": st.tcpClose,
	}, st.missing("a connection", "connection"))
}

// tcpConn is a connection of the call under way; it ends with the call.
type tcpConn struct {
	conn net.Conn
	r    *bufio.Reader
	wait time.Duration
}

func (*tcpConn) luaKind() string { return "a connection" }

// tcpConnect is tcp.connect("host:port", { wait =, tls =, name = }).
func (st *state) tcpConnect(L *lua.LState) int {
	address := L.CheckString(1)
	c := &tcpConn{wait: tcpWait}
	secure, name := c.options(L)
	host, port, err := net.SplitHostPort(address)
	if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 || host == "" {
		return fail(L, "bad", quote(address)+` is no address such as "host.example.net:783"`)
	}
	if len(st.conns) >= maxConns {
		st.b.exceed(L, "more than %d connections open in one call", maxConns)
	}
	if name == "" {
		name = host
	}
	o := &st.script.options
	st.wait(L, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, c.wait)
		defer cancel()
		if c.conn, err = o.dialer()(ctx, "tcp", address); err != nil || !secure {
			return
		}
		over := tls.Client(c.conn, &tls.Config{ServerName: name, RootCAs: o.Library.Roots, MinVersion: tls.VersionTLS12})
		if err = over.HandshakeContext(ctx); err != nil {
			_ = c.conn.Close() // the handshake's error is what counts
		}
		c.conn = over
	})
	if err != nil {
		return failNet(L, err, c.wait)
	}
	c.r = bufio.NewReaderSize(c.conn, 4<<10)
	st.conns = append(st.conns, c)
	L.Push(st.object(c, st.tcpClass))
	return 1
}

func (c *tcpConn) options(L *lua.LState) (secure bool, name string) {
	if L.Get(2) == lua.LNil {
		return false, ""
	}
	t := L.CheckTable(2)
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		switch key := k.String(); key {
		case "wait":
			c.wait = waitOption(L, 2, v)
		case "tls":
			b, ok := v.(lua.LBool)
			if secure = bool(b); !ok {
				L.ArgError(2, "tls is true or false")
			}
		case "name":
			s, ok := v.(lua.LString)
			if name = string(s); !ok {
				L.ArgError(2, "name is the name that the certificate must have")
			}
		default:
			L.ArgError(2, fmt.Sprintf("there is no option %q%s", key, didYouMean(key, []string{"wait", "tls", "name"})))
		}
	}
	return secure, name
}

func (st *state) checkConn(L *lua.LState) *tcpConn {
	c, ok := L.CheckUserData(1).Value.(*tcpConn)
	if !ok {
		L.ArgError(1, "a connection is expected: write c:line() with a colon")
	}
	return c
}

// talk runs f, which uses the connection, for at most its wait.
func (st *state) talk(L *lua.LState, c *tcpConn, f func() error) error {
	if !slices.Contains(st.conns, c) {
		return net.ErrClosed
	}
	var err error
	st.wait(L, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, c.wait)
		defer cancel()
		// The deadline ends what is under way when the time is over, or the call.
		stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
		err = f()
		if !stop() && err == nil {
			_ = c.conn.SetDeadline(time.Time{}) // it was in time
		}
		if ctx.Err() != nil && err != nil {
			err = ctx.Err()
		}
	})
	return err
}

func (st *state) tcpWrite(L *lua.LState) int {
	c := st.checkConn(L)
	s, ok := joinable(L.Get(2))
	if !ok {
		L.ArgError(2, "a text is expected, not "+kindOf(L.Get(2)))
	}
	err := st.talk(L, c, func() error {
		_, err := io.WriteString(c.conn, s)
		return err
	})
	if err != nil {
		return st.failConn(L, c, err)
	}
	L.Push(lua.LTrue)
	return 1
}

var errLine = errors.New("a line of more than 64 KiB")

// tcpLine is :line(): the next line without its end.
func (st *state) tcpLine(L *lua.LState) int {
	c := st.checkConn(L)
	var line []byte
	err := st.talk(L, c, func() error {
		for {
			part, err := c.r.ReadSlice('\n')
			line = append(line, part...)
			switch {
			case len(line) > maxLine:
				return errLine
			case errors.Is(err, io.EOF) && len(line) > 0:
				return nil
			case !errors.Is(err, bufio.ErrBufferFull):
				return err
			}
		}
	})
	if err != nil {
		return st.failConn(L, c, err)
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	st.b.make(L, len(line))
	L.Push(lua.LString(line))
	return 1
}

// tcpRead is :read(n): n bytes, fewer where the other side ends.
func (st *state) tcpRead(L *lua.LState) int {
	c, n := st.checkConn(L), L.CheckInt(2)
	if n < 1 || n > maxRead {
		L.ArgError(2, fmt.Sprintf("between 1 and %d bytes can be read", maxRead))
	}
	st.b.make(L, n)
	p := make([]byte, n)
	err := st.talk(L, c, func() (err error) {
		n, err = io.ReadFull(c.r, p)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		return err
	})
	if err != nil {
		return st.failConn(L, c, err)
	}
	L.Push(lua.LString(p[:n]))
	return 1
}

// failConn is fail for a connection, which is of no use afterwards.
func (st *state) failConn(L *lua.LState, c *tcpConn, err error) int {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, errLine) {
		st.hangUpOne(c)
		text := err.Error()
		if errors.Is(err, net.ErrClosed) {
			text = "the connection is closed"
		}
		return fail(L, "bad", text)
	}
	st.hangUpOne(c)
	return failNet(L, err, c.wait)
}

func (st *state) tcpClose(L *lua.LState) int {
	st.hangUpOne(st.checkConn(L))
	return 0
}

func (st *state) hangUpOne(c *tcpConn) {
	if i := slices.Index(st.conns, c); i >= 0 {
		_ = c.conn.Close() // nothing is expected of it any more
		st.conns = slices.Delete(st.conns, i, i+1)
	}
}

// hangUp closes the connections that the call left open.
func (st *state) hangUp() {
	for _, c := range st.conns {
		_ = c.conn.Close() // nothing is expected of it any more
	}
	st.conns = nil
}
