package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

const (
	udpSize    = 1232 // DNS flag day 2020: fits one unfragmented packet on any path
	udpBuffer  = 4096 // some servers send more than they were allowed to
	maxStrange = 64   // packets on our port that answer something else
	headerSize = 12
)

// ask sends q to the servers in turn until one knows. Those that failed are not
// asked again, those that were silent are, each time with an equal share of
// the time that is left.
func (c *Client) ask(ctx context.Context, q question) (*wire.Msg, *Error) {
	todo := c.inOrder()
	var refusal *Error
	attempts := max(len(todo), minAttempts)
	deadline, _ := ctx.Deadline()
	for i := range attempts {
		if len(todo) == 0 || ctx.Err() != nil {
			break
		}
		s := todo[0]
		todo = todo[1:]
		share := time.Until(deadline) / time.Duration(attempts-i)
		m, err := c.askServer(ctx, s, q, share)
		switch {
		case err == nil:
			return m, nil
		case err.Kind == Timeout:
			todo = append(todo, s)
		default:
			refusal = err
		}
	}
	if refusal != nil {
		return nil, refusal
	}
	err := failed(q, Timeout, "no answer in time")
	err.Cause = ctx.Err()
	return nil, err
}

// inOrder returns the servers as configured, but those silent of late last.
func (c *Client) inOrder() []*server {
	var good, silent []*server
	now := time.Now()
	for _, s := range c.servers {
		if t := s.silent.Load(); t != nil && now.Sub(*t) < sulk {
			silent = append(silent, s)
		} else {
			good = append(good, s)
		}
	}
	return append(good, silent...)
}

// askServer asks one server, within share, and judges what it says.
func (c *Client) askServer(ctx context.Context, s *server, q question, share time.Duration) (*wire.Msg, *Error) {
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	select {
	case c.sockets <- struct{}{}:
		defer func() { <-c.sockets }()
	case <-ctx.Done():
		return nil, failed(q, Timeout, "too many look-ups under way")
	}
	m := new(wire.Msg)
	m.SetQuestion(q.name+".", q.qtype)
	m.SetEdns0(udpSize, false)
	c.stats.questions.Add(1)
	reply, err := c.exchange(ctx, s.addr, m)
	if err == nil && (reply.Rcode == wire.RcodeFormatError || reply.Rcode == wire.RcodeNotImplemented || reply.Rcode == wire.RcodeBadVers) {
		m.Extra = nil // RFC 6891 7: a server that knows no EDNS
		m.Id = wire.Id()
		c.stats.questions.Add(1)
		reply, err = c.exchange(ctx, s.addr, m)
	}
	if err != nil {
		return nil, c.broken(s, q, err)
	}
	s.silent.Store(nil)
	switch {
	case reply.Rcode == wire.RcodeNameError:
	case reply.Rcode != wire.RcodeSuccess:
		return nil, failed(q, Failure, rcodeText(reply.Rcode)+" from "+s.addr.String())
	case !reply.Authoritative && !reply.RecursionAvailable && len(reply.Answer) == 0:
		return nil, failed(q, Failure, "server "+s.addr.String()+" only refers to others")
	}
	return reply, nil
}

// broken classifies an exchange without an answer.
func (c *Client) broken(s *server, q question, err error) *Error {
	now := time.Now()
	s.silent.Store(&now)
	out := failed(q, Failure, "server "+s.addr.String()+": "+err.Error())
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		out = failed(q, Timeout, "no answer from "+s.addr.String())
	}
	out.Cause = err
	return out
}

func rcodeText(rcode int) string {
	if text, ok := wire.RcodeToString[rcode]; ok {
		return text
	}
	return fmt.Sprintf("response code %d", rcode)
}

// exchanger sends one message and waits for its answer.
type exchanger struct {
	buffers sync.Pool // of *[udpBuffer]byte
}

func newExchanger() *exchanger {
	return &exchanger{sync.Pool{New: func() any { return new([udpBuffer]byte) }}}
}

// exchange asks over UDP, from a port and with an id nobody can guess, and
// again over TCP where the answer didn't fit (RFC 7766 5). ctx has a deadline.
func (x *exchanger) exchange(ctx context.Context, to netip.AddrPort, m *wire.Msg) (*wire.Msg, error) {
	packed, err := m.Pack()
	if err != nil {
		return nil, err
	}
	reply, err := x.overUDP(ctx, to, packed)
	if err != nil || !reply.Truncated {
		return reply, err
	}
	return overTCP(ctx, to, packed)
}

// dial connects, and ends the connection's reads and writes with ctx; hang up with the function returned.
func dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, func(), error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); _ = conn.Close() }, nil
}

func (x *exchanger) overUDP(ctx context.Context, to netip.AddrPort, query []byte) (*wire.Msg, error) {
	conn, hangUp, err := dial(ctx, "udp", to)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := x.buffers.Get().(*[udpBuffer]byte)
	defer x.buffers.Put(buf)
	for range maxStrange {
		n, err := conn.Read(buf[:])
		if err != nil {
			return nil, err
		}
		if !answers(buf[:n], query) {
			continue // a late answer or a forged one
		}
		reply := new(wire.Msg)
		if err := reply.Unpack(buf[:n]); err == nil {
			return reply, nil
		} else if reply.Truncated {
			return reply, nil // cut in the middle of a record, which TCP will mend
		}
		return nil, errors.New("garbled answer")
	}
	return nil, errors.New("flooded with packets that answer nothing asked")
}

func overTCP(ctx context.Context, to netip.AddrPort, query []byte) (*wire.Msg, error) {
	conn, hangUp, err := dial(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, raw); err != nil {
		return nil, err
	}
	if !answers(raw, query) {
		return nil, errors.New("answer to another question")
	}
	reply := new(wire.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, errors.New("garbled answer")
	}
	return reply, nil
}

// answers tells whether packet is a response to query: the same id and
// question, letter case apart. An error may come without the question, as from
// servers that couldn't read it: all that a forger gains there is a retry.
func answers(packet, query []byte) bool {
	if len(packet) < headerSize || !bytes.Equal(packet[:2], query[:2]) {
		return false
	}
	const response, opcode, rcode = 0x80, 0x78, 0x0f
	if packet[2]&response == 0 || packet[2]&opcode != 0 {
		return false
	}
	questions := binary.BigEndian.Uint16(packet[4:])
	if questions == 0 {
		return len(packet) == headerSize && packet[3]&rcode != 0
	}
	asked := question0(query)
	return questions == 1 && len(packet) >= headerSize+len(asked) &&
		bytes.EqualFold(packet[headerSize:headerSize+len(asked)], asked)
}

// question0 returns the bytes of the question of a message that we packed.
func question0(query []byte) []byte {
	end := headerSize
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	return query[headerSize:min(end+5, len(query))]
}
