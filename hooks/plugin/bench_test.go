package plugin_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/plugin"
)

// BenchmarkCall is one round trip at a time; p50-µs is the median.
func BenchmarkCall(b *testing.B) {
	p := load(b, "probe", plugin.Options{})
	tx := mail("x")
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := p.Handle(b.Context(), hooks.Mail, tx); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "p50-µs")
}

// BenchmarkCall16 keeps sixteen calls under way.
func BenchmarkCall16(b *testing.B) {
	p := load(b, "probe", plugin.Options{})
	var failed atomic.Int64
	b.SetParallelism(8) // of 2 cores
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		tx := mail("x")
		for pb.Next() {
			if _, err := p.Handle(b.Context(), hooks.Mail, tx); err != nil {
				failed.Add(1)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	if failed.Load() > 0 {
		b.Errorf("%d calls failed", failed.Load())
	}
}

// BenchmarkBody is a call with a message, in the ways it goes. The plugin reads all of
// it; of a stream it makes a SHA-256, too.
func BenchmarkBody(b *testing.B) {
	for _, c := range []struct {
		name, program string
		size          int
	}{
		{"100KiB-bytes", "probe", 100 << 10},
		{"100KiB-file", "probe-file", 100 << 10},
		{"1MiB-file", "probe", 1 << 20},
		{"50MiB-file", "probe-file", 50 << 20},
		{"100KiB-stream", "probe-stream", 100 << 10},
		{"50MiB-stream", "probe-stream", 50 << 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := load(b, c.program, plugin.Options{})
			tx := mail("x")
			tx.Body = message.Bytes(make([]byte, c.size))
			b.SetBytes(int64(c.size))
			for b.Loop() {
				if _, err := p.Handle(b.Context(), hooks.Message, tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHost is a call in which the plugin asks the store eight times.
func BenchmarkHost(b *testing.B) {
	p := load(b, "probe", plugin.Options{})
	tx := mail("store")
	for b.Loop() {
		if _, err := p.Handle(b.Context(), hooks.Mail, tx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart is from nothing to a plugin that takes calls, and its end.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	var loading time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		p, _, err := plugin.Load(program(b, "probe"), plugin.Options{TempDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		loading += time.Since(start)
		n++
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(loading.Milliseconds())/float64(n), "load-ms")
}
