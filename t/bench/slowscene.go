//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// slowHop is a next hop that answers after a while; never, where that is 0.
type slowHop struct {
	ln   net.Listener
	wg   sync.WaitGroup
	stop context.CancelFunc
}

func startSlowHop(ctx context.Context, pause time.Duration) (*slowHop, netip.AddrPort, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	h := &slowHop{ln: ln, stop: stop}
	h.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.talk(ctx, c, pause) })
		}
	})
	at, err := netip.ParseAddrPort(ln.Addr().String())
	return h, at, err
}

func (h *slowHop) talk(ctx context.Context, c net.Conn, pause time.Duration) {
	defer c.Close()
	closed := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer closed()
	if pause == 0 {
		<-ctx.Done()
		return
	}
	r, data := bufio.NewReader(c), false
	say := func(text string) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
		_, err := fmt.Fprint(c, text+"\r\n")
		return err == nil
	}
	for ok := say("220 slow.example"); ok; {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case data && line != ".\r\n":
		case strings.HasPrefix(line, "DATA"):
			ok, data = say("354 go"), true
		default:
			ok, data = say("250 ok"), false
		}
	}
}

func (h *slowHop) end() {
	h.stop()
	_ = h.ln.Close()
	h.wg.Wait()
}

// slowScene sends mail to ten next hops in turns: at first all answer, then one
// never does and one takes a second for each reply. It is about the other eight.
func slowScene(ctx context.Context, b *bench, r *report) (section, error) {
	n := b.share(5000, 200)
	s := section{Title: "A slow and a silent next hop among ten", Note: fmt.Sprintf("%d messages to ten next hops in turns, one each 5 ms, timed from MAIL to the arrival at one of the eight that answer.", n)}
	var p99 [2]float64
	for i, name := range []string{"all ten answer", "one is silent, one takes a second for each reply"} {
		list, err := b.tenHops(ctx, n, i == 1)
		if err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
		p99[i] = quantile(list, 0.99)
		s.Rows = append(s.Rows, row{name, latencies(list)})
	}
	if b.messages >= 1_000_000 {
		r.most("eight next hops beside a silent and a slow one: p99, of ten that answer", "", 2, p99[1]/p99[0])
	}
	return s, nil
}

// tenHops returns how long the messages to the eight took.
func (b *bench) tenHops(ctx context.Context, n int, trouble bool) ([]time.Duration, error) {
	came := newArrivals(n)
	var routes strings.Builder
	healthy := 0
	for i := range 10 {
		var at netip.AddrPort
		switch {
		case trouble && i < 2:
			h, addr, err := startSlowHop(ctx, time.Duration(i)*time.Second)
			if err != nil {
				return nil, err
			}
			defer h.end()
			at = addr
		default:
			h, err := startSink(loopback, func(rcpt string) {
				if i >= 2 {
					came.take(rcpt)
				}
			})
			if err != nil {
				return nil, err
			}
			defer h.stop()
			at = h.addr
		}
		fmt.Fprintf(&routes, "[[route]]\nto_domain = [\"d%d.example\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n", i, at)
	}
	for i := range n {
		if i%10 >= 2 {
			healthy++
		}
	}
	came.expect(healthy)
	s, err := b.stopped(routes.String())
	if err != nil {
		return nil, err
	}
	if err := b.startIn(ctx, s); err != nil {
		return nil, err
	}
	defer s.away()
	l := &load{
		to: s.addr, sessions: 1, messages: n, kept: true, body: mailOf(b.size), every: 5 * time.Millisecond,
		began: func(i int) {
			if i%10 >= 2 {
				came.begin(i)
			}
		},
		rcpt: func(i int) string { return fmt.Sprintf("m%d@d%d.example", i, i%10) },
	}
	if _, err := l.run(ctx); err != nil {
		return nil, err
	}
	if err := came.wait(ctx, time.Minute); err != nil {
		return nil, err
	}
	return came.between(time.Time{}, time.Now()), nil
}
