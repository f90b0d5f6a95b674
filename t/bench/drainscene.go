//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/queue"
)

// fresh sends a message every ten milliseconds to another destination until it
// is stopped, and notes how long each takes to its next hop.
type fresh struct {
	*arrivals
	hop  *sink
	load *load
	stop context.CancelFunc
	err  chan error
}

// freshMost bounds it.
const freshMost = 60_000

func newFresh() (*fresh, error) {
	f := &fresh{arrivals: newArrivals(freshMost), err: make(chan error, 1)}
	var err error
	f.hop, err = startSink(loopback, f.take)
	return f, err
}

func (f *fresh) start(ctx context.Context, to netip.AddrPort, body []byte) {
	ctx, f.stop = context.WithCancel(ctx)
	f.load = &load{
		to: to, sessions: 1, messages: freshMost, kept: true, body: body, began: f.begin, every: 10 * time.Millisecond,
		rcpt: func(i int) string { return fmt.Sprintf("m%d@other.example", i) },
	}
	go func() {
		_, err := f.load.run(ctx)
		f.err <- err
	}()
}

// end stops it.
func (f *fresh) end() error {
	f.stop()
	if err := <-f.err; err != nil && err != context.Canceled {
		return err
	}
	return nil
}

// drainScene has a next hop come back that much mail waits for, while fresh mail
// goes to another one.
func drainScene(ctx context.Context, b *bench, r *report) (section, error) {
	n := b.share(20_000, 200)
	others, err := newFresh()
	if err != nil {
		return section{}, err
	}
	defer others.hop.stop()
	busy, err := startSink(loopback, nil)
	if err != nil {
		return section{}, err
	}
	defer busy.stop()
	dead, err := freePort()
	if err != nil {
		return section{}, err
	}
	s, err := b.stopped(fmt.Sprintf("[[route]]\nto_domain = [\"back.example\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n[[route]]\nto_domain = [\"busy.example\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n", dead, busy.addr, others.hop.addr))
	if err != nil {
		return section{}, err
	}
	now := time.Now()
	if err := b.fill(ctx, s, n, func(i int) *queue.Message {
		return deferred(i, fmt.Sprintf("m%d@back.example", i), now.Add(-time.Hour), now.Add(-time.Minute))
	}); err != nil {
		return section{}, err
	}
	if err := b.startIn(ctx, s); err != nil {
		return section{}, err
	}
	defer s.away()
	if err := rest(ctx, s, time.Minute); err != nil { // it has found the next hop down
		return section{}, err
	}
	others.start(ctx, s.addr, mailOf(b.size))
	quiet := time.Now()
	time.Sleep(min(time.Duration(n)*time.Millisecond/2, 10*time.Second))
	loaded := time.Now()
	relayed, err := b.plainRate(ctx, s, busy, n)
	if err != nil {
		_ = others.end() // the first error is the one to tell
		return section{}, err
	}
	up := time.Now()
	back := newArrivals(n)
	hop, err := startSink(dead, back.take)
	if err != nil {
		return section{}, err
	}
	defer hop.stop()
	// Each message waits for a time of its own; an operator who knows better says so.
	if err = unix.Kill(s.cmd.Process.Pid, unix.SIGALRM); err == nil {
		err = back.wait(ctx, 5*time.Minute)
	}
	if stopped := others.end(); err == nil {
		err = stopped
	}
	if err != nil {
		return section{}, err
	}
	first, last := back.came[0], back.came[0]
	for _, t := range back.came {
		if t.Before(first) {
			first = t
		}
		if t.After(last) {
			last = t
		}
	}
	rate := float64(n) / max(last.Sub(first).Seconds(), 1e-3)
	before, beside, during := others.between(quiet, loaded), others.between(loaded, up), others.between(first, last)
	if b.messages >= 1_000_000 {
		r.least(fmt.Sprintf("%d to a next hop that is back: drained, of the relay's rate", n), "", 1, rate/relayed)
		r.most("fresh mail to another one meanwhile: p50, of that beside the relay", "", 1.2, quantile(during, 0.5)/quantile(beside, 0.5))
	}
	return section{
		Title: "A next hop that comes back", Note: fmt.Sprintf("%d messages wait for it when it returns and an operator has everything tried (SIGALRM); a message every 10 ms goes to another one, timed from MAIL to its arrival.", n),
		Rows: []row{
			{"relayed by the same server before, accepted meanwhile", []figure{one("", "/s", relayed)}},
			{"drained", []figure{one("", "/s", rate)}},
			{"from the signal to the first message", []figure{one("", "s", first.Sub(up).Seconds())}},
			{"fresh mail, nothing else: p50", []figure{one("", "ms", quantile(before, 0.5))}},
			{"fresh mail, nothing else: p99", []figure{one("", "ms", quantile(before, 0.99))}},
			{"fresh mail beside the relay: p50", []figure{one("", "ms", quantile(beside, 0.5))}},
			{"fresh mail beside the relay: p99", []figure{one("", "ms", quantile(beside, 0.99))}},
			{"fresh mail beside the drain: p50", []figure{one("", "ms", quantile(during, 0.5))}},
			{"fresh mail beside the drain: p99", []figure{one("", "ms", quantile(during, 0.99))}},
		},
	}, nil
}

// plainRate is how fast the server relays mail that comes in, on kept connections.
func (b *bench) plainRate(ctx context.Context, s *server, to *sink, n int) (float64, error) {
	had := to.count.Load()
	l := &load{to: s.addr, sessions: 50, messages: n, kept: true, body: mailOf(b.size), rcpt: func(int) string { return "u@busy.example" }}
	begin := time.Now()
	if _, err := l.run(ctx); err != nil {
		return 0, err
	}
	for to.count.Load() < had+int64(n) {
		if time.Since(begin) > waitAtMost || ctx.Err() != nil {
			return 0, fmt.Errorf("only %d of %d messages were relayed", to.count.Load()-had, n)
		}
		time.Sleep(time.Millisecond)
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
