//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/queue"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// idleSpan is how long an idle server is watched.
const idleSpan = 20 * time.Second

// startScene starts the gateway on a long queue of mail that waits for the hours
// to come, to a thousand destinations, with one message among it that is due.
func startScene(ctx context.Context, b *bench, r *report) (section, error) {
	came := newArrivals(1)
	hop, err := startSink(loopback, came.take)
	if err != nil {
		return section{}, err
	}
	defer hop.stop()
	s, err := b.stopped(fmt.Sprintf("[[route]]\nto_domain = [\"now.example\"]\nnext_hop = \"smtp://%s\"\ntls = \"none\"\n[[route]]\nto_domain = [\"*\"]\nnext_hop = \"mx\"\n", hop.addr))
	if err != nil {
		return section{}, err
	}
	now, begin := time.Now(), time.Now()
	if err := b.fill(ctx, s, b.messages, func(i int) *queue.Message {
		to := fmt.Sprintf("user%d@dest%d.example", i, rand.IntN(1000))
		due := now.Add(time.Hour + rand.N(24*time.Hour))
		if i == b.messages/2 {
			to, due = "m0@now.example", now
		}
		return deferred(i, to, now.Add(-time.Minute-rand.N(24*time.Hour)), due)
	}); err != nil {
		return section{}, err
	}
	filled := time.Since(begin)
	size := folderSize(filepath.Join(s.dir, "var"))
	say("  %d messages in %.0f s, %.0f MB on disk", b.messages, filled.Seconds(), float64(size)/(1<<20))
	unix.Sync()
	if _, err := b.binary(ctx, ""); err != nil { // building is not starting
		return section{}, err
	}
	var greeting, cpu, first, peaks []float64
	for i := range max(b.rounds, 1) {
		begin := time.Now()
		if err := b.startIn(ctx, s); err != nil {
			return section{}, err
		}
		greeting = append(greeting, time.Since(begin).Seconds())
		used, err := s.g.cpu()
		if err != nil {
			s.end()
			return section{}, err
		}
		cpu = append(cpu, used.Seconds())
		if i == 0 { // it is gone then
			if err := came.wait(ctx, time.Minute); err != nil {
				s.end()
				return section{}, err
			}
			first = append(first, came.came[0].Sub(begin).Seconds())
			err := rest(ctx, s, 5*time.Minute) // the store puts what it got at once into order
			if err != nil {
				s.end()
				return section{}, err
			}
		}
		if i < b.rounds-1 {
			time.Sleep(time.Second)
			_, most := s.g.rss()
			peaks = append(peaks, float64(most)/(1<<20))
			s.end()
		}
	}
	defer s.away()
	before, err := s.g.cpu()
	if err != nil {
		return section{}, err
	}
	if err := rest(ctx, s, 2*time.Minute); err != nil {
		return section{}, err
	}
	settled, err := s.g.cpu()
	if err != nil {
		return section{}, err
	}
	span := idleSpan
	if b.messages < 100_000 {
		span = time.Second
	}
	time.Sleep(span)
	after, err := s.g.cpu()
	if err != nil {
		return section{}, err
	}
	idle := (after - settled).Seconds() / span.Seconds() * 100
	resident, most := s.g.rss()
	peaks = append(peaks, float64(most)/(1<<20))
	var summary []float64
	for range max(b.rounds, 1) {
		begin := time.Now()
		out, err := b.postern(ctx, s, "queue", "summary")
		if err != nil {
			return section{}, err
		}
		summary = append(summary, time.Since(begin).Seconds())
		if want := fmt.Sprintf("%d messages for", b.messages-1); !strings.Contains(out, want) {
			return section{}, fmt.Errorf("summary does not say %q:\n%.300s", want, out)
		}
	}
	_, most = s.g.rss()
	fresh := &load{to: s.addr, sessions: 1, messages: b.share(1000, 20), kept: true, body: mailOf(b.size), rcpt: func(int) string { return "u@now.example" }}
	if _, err := fresh.run(ctx); err != nil {
		return section{}, err
	}
	atRest := float64(resident) / (1 << 20)
	whole := b.messages >= 1_000_000
	if whole {
		r.most("1,000,000 deferred: resident memory", "MB", 300, atRest)
		r.most("1,000,000 deferred: start to greeting", "s", 5, figure{Values: greeting}.median())
		r.most("1,000,000 deferred: start to the first delivery", "s", 5, first[0])
		r.most("1,000,000 deferred: `queue summary`", "s", 2, figure{Values: summary}.median())
		r.most("1,000,000 deferred: CPU while they wait", "%", 1, idle)
	}
	return section{
		Title: "A long queue", Note: fmt.Sprintf("%d messages to 1,000 destinations, one of them due; %.0f MB on disk, in the file system's cache at the start. Resident and idle after %.1f s of CPU that the start left to do.", b.messages, float64(size)/(1<<20), (settled - before).Seconds()),
		Rows: []row{
			{"start to greeting", []figure{{"", "s", greeting}}},
			{"CPU of it", []figure{{"", "s", cpu}}},
			{"start to the arrival of the one that is due", []figure{{"", "s", first}}},
			{"resident, idle", []figure{one("", "MB", atRest)}},
			{"resident at the most, the start included", []figure{{"", "MB", peaks}}},
			{"resident at the most, summaries included", []figure{one("", "MB", float64(most)/(1<<20))}},
			{"CPU, idle", []figure{one("", "%", idle)}},
			{"`postern queue summary`", []figure{{"", "s", summary}}},
			{"a message accepted meanwhile, p50", []figure{one("", "ms", quantile(fresh.took, 0.5))}},
		},
	}, nil
}

// rest waits until a server uses less than a twentieth of a core for a second.
func rest(ctx context.Context, s *server, patience time.Duration) error {
	last, err := s.g.cpu()
	if err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Second)
		now, err := s.g.cpu()
		if err != nil {
			return err
		}
		if now-last < 50*time.Millisecond {
			return nil
		}
		last = now
	}
	return ctx.Err()
}

// folderSize is what a folder takes on the disk, in octets.
func folderSize(dir string) (sum int64) {
	out, err := exec.Command("du", "-sk", dir).Output()
	if err == nil {
		_, _ = fmt.Sscan(string(out), &sum)
	}
	return sum << 10
}
