//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idleScene holds connections that say EHLO and then nothing.
func idleScene(ctx context.Context, b *bench, r *report) (section, error) {
	n := b.share(10_000, 100)
	hop, err := startSink(loopback, nil)
	if err != nil {
		return section{}, err
	}
	defer hop.stop()
	s, err := b.relay(ctx, hop.addr)
	if err != nil {
		return section{}, err
	}
	defer s.away()
	if err := rest(ctx, s, time.Minute); err != nil {
		return section{}, err
	}
	before := s.g.pss()
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	for i := range n {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 77, byte(i/250), byte(1+i%250))}}
		c, err := d.DialContext(ctx, "tcp", s.addr.String())
		if err != nil {
			return section{}, fmt.Errorf("connection %d: %w", i, err)
		}
		held = append(held, c)
		if err := ehlo(c); err != nil {
			return section{}, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	if err := rest(ctx, s, time.Minute); err != nil {
		return section{}, err
	}
	after := s.g.pss()
	each := float64(after-before) / 1024 / float64(n)
	if b.messages >= 1_000_000 {
		r.most(fmt.Sprintf("%d idle connections: memory of each", n), "KB", 16, each)
	}
	return section{Title: "Idle connections", Note: fmt.Sprintf("%d connections after EHLO, client and server in two processes; memory is the server's PSS.", n), Rows: []row{
		{"memory of a connection", []figure{one("", "KB", each)}},
		{"memory of the server with all of them", []figure{one("", "MB", float64(after)/(1<<20))}},
	}}, nil
}

func ehlo(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReaderSize(c, 512)
	if _, err := r.ReadString('\n'); err != nil {
		return err
	}
	if _, err := fmt.Fprint(c, "EHLO idle.example\r\n"); err != nil {
		return err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "250-") {
			return c.SetDeadline(time.Time{})
		}
	}
}

// largeScene relays large messages: one, and ten at once.
func largeScene(ctx context.Context, b *bench, r *report) (section, error) {
	size := b.share(50<<20, 1<<20)
	hop, err := startAwaySink(ctx)
	if err != nil {
		return section{}, err
	}
	defer hop.stop()
	s, err := b.relay(ctx, hop.addr)
	if err != nil {
		return section{}, err
	}
	defer s.away()
	mb := float64(size) / (1 << 20)
	sec := section{Title: "Large messages", Note: fmt.Sprintf("Messages of %.0f MB, relayed; resident memory at the most. The disk: as many octets written to one file and synced.", mb)}
	body, done := mailOf(size), 0
	var most [3]float64
	var rates [3]float64
	for i, n := range []int{1, 1, 10} { // the first is for warming up
		unix.Sync()
		s.g.calm()
		l := &load{to: s.addr, sessions: n, messages: n, kept: true, body: body}
		took, err := l.run(ctx)
		if err != nil {
			return sec, err
		}
		done += n
		if err := hop.wait(ctx, done, waitAtMost); err != nil {
			return sec, err
		}
		_, peak := s.g.rss()
		most[i], rates[i] = float64(peak)/(1<<20), float64(n)*mb/took.Seconds()
	}
	disk := [2]float64{}
	for i, n := range []int{1, 10} {
		unix.Sync()
		if disk[i], err = writeRate(filepath.Join(b.dir, "written"), body[:size], n); err != nil {
			return sec, err
		}
	}
	if b.messages >= 1_000_000 {
		r.most("50 MB, ten at once: resident memory, of that with one", "", 1.5, most[2]/most[1])
		r.least("50 MB, ten at once: accepted, of the disk's speed", "", 0.8, rates[2]/disk[1])
	}
	for i, name := range []string{"one", "ten at once"} {
		sec.Rows = append(sec.Rows, row{name, []figure{one("accepted", "MB/s", rates[i+1]), one("the disk alone", "MB/s", disk[i]), one("resident", "MB", most[i+1])}})
	}
	return sec, nil
}

// writeRate is how fast n times those octets come to the disk, in MB a second.
func writeRate(file string, body []byte, n int) (float64, error) {
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer os.Remove(file)
	defer f.Close()
	begin := time.Now()
	for range n {
		if _, err := f.Write(body); err != nil {
			return 0, err
		}
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return 0, err
	}
	return float64(n*len(body)) / (1 << 20) / time.Since(begin).Seconds(), nil
}
