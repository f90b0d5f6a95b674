package queue_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
)

func BenchmarkCommit(b *testing.B) {
	for _, sync := range []bool{true, false} {
		for _, n := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("sync=%v/producers=%d", sync, n), func(b *testing.B) {
				q := open(b, b.TempDir(), queue.Options{NoSync: !sync})
				commitMany(b, q, n, func(string) {})
			})
		}
	}
}

// BenchmarkThrough is a message's whole life: commit, and removal after its delivery.
func BenchmarkThrough(b *testing.B) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("producers=%d", n), func(b *testing.B) {
			q := open(b, b.TempDir(), queue.Options{})
			commitMany(b, q, n, func(id string) {
				if err := q.Settle(b.Context(), queue.Change{Message: &queue.Message{ID: id}, Remove: true}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func commitMany(b *testing.B, q *queue.Queue, producers int, then func(id string)) {
	body, head := text(4096), []byte("Received: by mx.example\r\n")
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range producers {
		wg.Go(func() {
			m := envelope("", 1)
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				m.ID = id(int(n))
				d := q.Begin(m.ID)
				if _, err := d.Write(body); err != nil {
					b.Error(err)
				}
				s, err := d.Commit(b.Context(), m, head, 0)
				if err != nil {
					b.Error(err)
					return
				}
				s.(message.Retainer).Release()
				then(m.ID)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkSyncedAppend is what the disk itself gives to one writer: compare
// with one producer of BenchmarkCommit.
func BenchmarkSyncedAppend(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	body := text(4096 + 300)
	for b.Loop() {
		if _, err := f.Write(body); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSettle defers messages, one in a step, or many.
func BenchmarkSettle(b *testing.B) {
	for _, each := range []int{1, 50} {
		b.Run(fmt.Sprintf("messages=%d", each), func(b *testing.B) {
			q := open(b, b.TempDir(), queue.Options{})
			changes := make([]queue.Change, each)
			for i := range changes {
				changes[i].Message = envelope(id(i), 1)
				mustAdd(b, q, changes[i].Message, 4096)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				for _, c := range changes {
					r := &c.Message.Recipients[0]
					r.State, r.Attempts, r.Next = queue.Deferred, n, birth.Add(time.Duration(n)*time.Second)
				}
				if err := q.Settle(b.Context(), changes...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkBacklog looks at 100,000 messages of 1 KB: opening, listing, what is due.
func BenchmarkBacklog(b *testing.B) {
	const messages = 100_000
	dir := b.TempDir()
	q := open(b, dir, queue.Options{NoSync: true})
	for i := range messages {
		m := envelope(id(i), 1)
		m.Recipients[0].Next = birth.Add(time.Duration(i) * time.Second)
		mustAdd(b, q, m, 1000)
	}
	mustClose(b, q)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			q, err := queue.Open(dir, pebble.Open, queue.Options{})
			if err != nil || q.Totals().Messages != messages {
				b.Fatal(err)
			}
			mustClose(b, q)
		}
	})
	q = open(b, dir, queue.Options{})
	b.Run("due=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range q.Due(birth.Add(messages*time.Second), 1000) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 1000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("due=none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for range q.Due(birth.Add(-time.Second), 1000) {
				b.Fatal("one is due")
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range q.All() {
				n++
			}
			if n != messages {
				b.Fatal(n)
			}
		}
	})
	b.Run("body", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			_, c, err := q.Body(id(n * 7919 % messages))
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
			n++
		}
	})
}
