package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

const (
	bindTries  = 20 // a port free for UDP may be taken for TCP
	classicUDP = 512
	maxTCP     = 64<<10 - 1
)

// Server answers DNS queries from a Zone, over UDP and TCP on one port: what
// end-to-end tests give as [dns] servers. It is no server for the public.
type Server struct {
	zone    *Zone
	packets net.PacketConn
	streams net.Listener
}

// Listen binds addr, "127.0.0.1:0" for a port that is free. Queries wait until Serve.
func (z *Zone) Listen(addr string) (*Server, error) {
	if err := z.build(); err != nil {
		return nil, err
	}
	var last error
	for range bindTries {
		packets, err := net.ListenPacket("udp", addr)
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		streams, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return &Server{z, packets, streams}, nil
		}
		last = errors.Join(err, packets.Close())
	}
	return nil, fmt.Errorf("dns: %w", last)
}

// Addr returns the address and port bound.
func (s *Server) Addr() netip.AddrPort { return s.packets.LocalAddr().(*net.UDPAddr).AddrPort() }

// Serve answers until ctx ends, which is no error, and then closes the port. Call it once.
func (s *Server) Serve(ctx context.Context) error {
	return serve(ctx, wire.HandlerFunc(s.handle), s.packets, s.streams)
}

// serve runs a handler on both transports until ctx ends or one of them fails.
func serve(ctx context.Context, h wire.Handler, packets net.PacketConn, streams net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		running sync.WaitGroup
		errs    [2]error
	)
	for i, server := range []*wire.Server{{PacketConn: packets, Handler: h}, {Listener: streams, Handler: h}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() {
			defer cancel()
			errs[i] = server.ActivateAndServe()
		})
		running.Go(func() {
			<-ctx.Done()
			select {
			case <-started:
				_ = server.Shutdown()
			default: // it failed before it ran, or will find its socket closed
			}
			_ = packets.Close()
			_ = streams.Close()
		})
	}
	running.Wait()
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(errs[:]...)
}

func (s *Server) handle(w wire.ResponseWriter, m *wire.Msg) {
	reply := new(wire.Msg)
	if len(m.Question) != 1 {
		_ = w.WriteMsg(reply.SetRcodeFormatError(m))
		return
	}
	if s.zone.Delay > 0 {
		time.Sleep(s.zone.Delay) // each query has a goroutine
	}
	q := question{owner(m.Question[0].Name), m.Question[0].Qtype}
	found, kind := s.zone.reply(q)
	switch {
	case kind == Timeout:
		return
	case found == nil:
		reply.SetRcode(m, wire.RcodeServerFailure)
	default:
		reply.SetRcode(m, found.Rcode)
		reply.Answer, reply.Ns = found.Answer, found.Ns
	}
	reply.RecursionAvailable = true
	size := maxTCP
	if w.RemoteAddr().Network() == "udp" {
		size = classicUDP
	}
	if opt := m.IsEdns0(); opt != nil {
		reply.SetEdns0(udpSize, false)
		if w.RemoteAddr().Network() == "udp" {
			size = int(max(classicUDP, opt.UDPSize()))
		}
	}
	reply.Truncate(size)
	_ = w.WriteMsg(reply) // the asker will ask again
}
