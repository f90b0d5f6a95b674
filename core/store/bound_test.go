package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// stock puts n entries that can't be packed, of which the i-th expires after i minutes.
func stock(t *testing.T, s *Embedded, n int, ttl func(i int) time.Duration) {
	t.Helper()
	value := make([]byte, 500)
	for i := range n {
		_, _ = rand.Read(value)
		if err := s.Put(t.Context(), fmt.Appendf(nil, "key%d", i), value, ttl(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := onDisk(s).db.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestBound(t *testing.T) {
	s := unattended(t, newClock(), vfs.NewMem())
	const n = 12_000 // 6 MB
	stock(t, s, n, func(i int) time.Duration { return time.Duration(i+1) * time.Minute })
	table := onDisk(s)
	before := table.used()
	if err := table.bound(t.Context(), before+1); err != nil || table.used() < before {
		t.Fatalf("within the bound: %d of %d, %v", table.used(), before, err)
	}
	bound := before * 9 / 10
	if err := table.bound(t.Context(), bound); err != nil {
		t.Fatal(err)
	}
	if used := table.used(); used > bound {
		t.Errorf("%d octets are used of %d", used, bound)
	}
	has := func(i int) bool {
		_, ok, err := s.Get(t.Context(), fmt.Appendf(nil, "key%d", i))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	gone := 0
	for gone < n && !has(gone) {
		gone++
	}
	if gone < n/10 || gone > n/2 {
		t.Errorf("%d of %d entries are gone", gone, n)
	}
	for i := gone; i < n; i += 97 {
		if !has(i) {
			t.Errorf("entry %d is gone, which expires later than %d", i, gone)
		}
	}
	sweep(t, s)
	if !has(n - 1) {
		t.Error("a sweep after it takes what has time")
	}
	if err := s.Put(t.Context(), []byte("key0"), []byte("again"), time.Minute); err != nil || !has(0) {
		t.Error("what is gone can't come again", err)
	}
}

// TestBoundOfWhatStays: entries that never expire are not thrown away, and that is told.
func TestBoundOfWhatStays(t *testing.T) {
	s := unattended(t, newClock(), vfs.NewMem())
	stock(t, s, 2000, func(int) time.Duration { return 0 })
	if err := onDisk(s).bound(t.Context(), 1000); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if _, ok, err := s.Get(t.Context(), []byte("key7")); !ok || err != nil {
		t.Error(ok, err)
	}
	if err := onDisk(s).bound(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
