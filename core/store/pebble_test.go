package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/postern-mta/postern/core/disk"
)

func onDisk(s *Embedded) *pebbleTable { return s.table.(*pebbleTable) }

// count returns how many keys the database has, index keys included.
func count(t *testing.T, s *Embedded) int {
	t.Helper()
	it, err := onDisk(s).db.NewIter(&pebble.IterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func sweep(t *testing.T, s *Embedded) {
	t.Helper()
	for range 100 {
		n, err := onDisk(s).sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
	t.Fatal("the sweep never ends")
}

// unattended opens a store in memory files whose housekeeping has ended, so that only the test sweeps and syncs.
func unattended(t *testing.T, c *clock, files vfs.FS) *Embedded {
	t.Helper()
	s := open(t, "store", Options{Now: c.now, files: files})
	onDisk(s).stop()
	onDisk(s).running.Wait()
	onDisk(s).ctx = t.Context()
	return s
}

func TestSweepRemovesWhatExpired(t *testing.T) {
	c := newClock()
	s := unattended(t, c, vfs.NewMem())
	put(t, s, "for ever", "x", 0)
	for i := range 3 * sweepBatch {
		put(t, s, fmt.Sprint("short", i), "x", time.Minute)
	}
	put(t, s, "renewed", "x", time.Minute)
	put(t, s, "renewed", "y", time.Hour)
	put(t, s, "kept", "x", time.Minute)
	put(t, s, "kept", "y", 0)
	if err := s.Delete(t.Context(), []byte("short0")); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, _, err := s.Take(t.Context(), []byte("bucket"), 1, 10, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Incr(t.Context(), []byte("counter"), 1, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, s); n != 1+2*(3*sweepBatch-1)+2+1+2+2 {
		t.Errorf("%d keys before", n)
	}
	sweep(t, s)
	if n := count(t, s); n != 1+2*(3*sweepBatch-1)+2+1+2+2 {
		t.Errorf("%d keys after a sweep with nothing expired", n)
	}
	c.advance(3 * time.Minute)
	sweep(t, s)
	if n := count(t, s); n != 1+2+1 {
		t.Errorf("%d keys after the sweep, want the three that live and one index key", n)
	}
	holds(t, s, "for ever", "x")
	holds(t, s, "renewed", "y")
	holds(t, s, "kept", "y")

	c.advance(-time.Hour) // the clock goes back: what expires before the last sweep is found all the same
	put(t, s, "earlier", "x", time.Second)
	c.advance(time.Minute)
	sweep(t, s)
	if n := count(t, s); n != 4 {
		t.Errorf("%d keys after the clock went back, want 4", n)
	}
}

// TestSweepAmidWrites renews keys while they are swept: none may be lost.
func TestSweepAmidWrites(t *testing.T) {
	c := newClock()
	s := unattended(t, c, vfs.NewMem())
	var all sync.WaitGroup
	var done atomic.Bool
	for w := range 4 {
		all.Go(func() {
			for i := range 500 {
				key := fmt.Sprint(w, i%7)
				put(t, s, key, "x", time.Second)
				c.advance(300 * time.Millisecond)
				put(t, s, key, "y", time.Hour)
				holds(t, s, key, "y")
			}
		})
	}
	all.Go(func() {
		for !done.Load() {
			if _, err := onDisk(s).sweep(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	all.Go(func() {
		defer done.Store(true)
		for i := range 500 {
			put(t, s, fmt.Sprint("other", i), "x", time.Second)
		}
	})
	all.Wait()
	c.advance(2 * time.Hour)
	sweep(t, s)
	if n := count(t, s); n != 0 {
		t.Errorf("%d keys are never swept", n)
	}
}

// TestSyncSurvivesPowerLoss cuts the power: what a sync covered is there again, the rest may be.
func TestSyncSurvivesPowerLoss(t *testing.T) {
	c := newClock()
	files := vfs.NewCrashableMem()
	s := unattended(t, c, files)
	put(t, s, "before", "x", time.Hour)
	if err := onDisk(s).sync(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "after", "x", time.Hour)
	after := files.CrashClone(vfs.CrashCloneCfg{})
	again := unattended(t, c, after)
	holds(t, again, "before", "x")
	holds(t, again, "after", "-")
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	if os.Getenv("STORE_TEST_DIR") != "" { // the other process
		_, err := Open(os.Getenv("STORE_TEST_DIR"), Options{})
		fmt.Println("second process:", errors.Is(err, ErrLocked), err)
		return
	}
	s := open(t, dir, Options{})
	for _, readOnly := range []bool{false, true} {
		if _, err := Open(dir, Options{ReadOnly: readOnly}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Errorf("second time in this process: %v", err)
		}
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLocked$")
	again.Env = append(os.Environ(), "STORE_TEST_DIR="+dir)
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "second process: true store: open "+dir+": in use by another process") {
		t.Errorf("%v: %s", err, out)
	}
	put(t, s, "k", "still open", 0)
	holds(t, s, "k", "still open")
}

func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"emptied":  func(file string) error { return os.Truncate(file, 0) },
		"garbage":  func(file string) error { return os.WriteFile(file, bytes.Repeat([]byte("garbage "), 100), 0o600) },
		"vanished": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Options{})
			put(t, s, "k", "v", 0)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
			if err != nil || len(manifests) == 0 {
				t.Fatal(manifests, err)
			}
			for _, file := range manifests {
				if err := damage(file); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Open(dir, Options{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("absent and read-only", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "none")
		if _, err := Open(dir, Options{ReadOnly: true}); err == nil {
			t.Error("opened what isn't there")
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("read-only made a directory")
		}
	})
}

// logText is a log that goroutines write and the test reads.
type logText struct {
	told chan struct{} // has room for one: something was written
	mu   sync.Mutex
	b    bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	defer func() {
		select {
		case l.told <- struct{}{}:
		default:
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestFullDisk lets writes to the disk fail from a point on: writes to the
// store must end with errors, reads go on, closing come back, and what had been
// synced be there for the next process.
func TestFullDisk(t *testing.T) {
	for name, hit := range map[string]string{"everything": "", "logs": ".log", "tables": ".sst", "manifest": "MANIFEST"} {
		t.Run(name, func(t *testing.T) {
			var full atomic.Bool
			defer full.Store(false)
			memory := vfs.NewCrashableMem()
			files := errorfs.Wrap(memory, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, hit) {
					return syscall.ENOSPC
				}
				return nil
			}))
			log := &logText{told: make(chan struct{}, 1)}
			s, err := Open("store", Options{files: files, Log: slog.New(slog.NewTextHandler(log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "k", "before", 0)
			if err := onDisk(s).sync(); err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			fillUntilRefused(t, s)
			holds(t, s, "k", "before")
			select {
			case <-log.told: // maybe only after the write that failed had returned
			case <-t.Context().Done():
			}
			if err := s.Close(); err == nil {
				t.Error("closing said that all is durable")
			}
			if text := log.String(); !strings.Contains(text, "no space") && !strings.Contains(text, errBehind.Error()) || strings.Count(text, "\n") > 5 {
				t.Errorf("log: %.2000s", text)
			}
			again := open(t, "store", Options{files: memory.CrashClone(vfs.CrashCloneCfg{})})
			holds(t, again, "k", "before")
			put(t, again, "k", "after", 0)
			holds(t, again, "k", "after")
		})
	}
}

// TestOpensAgain: after a failure the memory can be read, and written as soon as the
// disk takes something again; what had been synced is there.
func TestOpensAgain(t *testing.T) {
	for name, hit := range map[string]string{"everything": "", "logs": ".log", "tables": ".sst", "manifest": "MANIFEST"} {
		t.Run(name, func(t *testing.T) {
			var full atomic.Bool
			defer full.Store(false)
			files := errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, hit) {
					return syscall.EIO
				}
				return nil
			}))
			s := unattended(t, newClock(), files)
			d := onDisk(s)
			put(t, s, "k", "before", time.Hour)
			if err := d.sync(); err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			for i := range 1000 {
				if err := s.Put(t.Context(), fmt.Appendf(nil, "%d", i), make([]byte, 100<<10), 0); err != nil {
					break
				}
			}
			<-d.db.Ended()
			if _, pause := d.mender.Failed(d.db.Failed()); pause != disk.FirstPause {
				t.Errorf("the first pause is %v", pause)
			}
			holds(t, s, "k", "before")
			if hit != ".sst" { // a table is not written by opening
				if err := d.reopen(); err == nil {
					t.Fatal("open again on a disk that fails")
				} else if _, pause := d.mender.Again(err); pause != 2*disk.FirstPause {
					t.Errorf("the second pause is %v", pause)
				}
				holds(t, s, "k", "before")
				if err := s.Put(t.Context(), []byte("k"), []byte("refused"), 0); err == nil || !strings.Contains(err.Error(), "until it is open again") {
					t.Errorf("put: %v", err)
				}
			}
			if now, ok := s.Trouble(); !ok || s.Failures() != 1 || !strings.Contains(now.String(), "input/output error") {
				t.Errorf("%v %v", now, ok)
			}
			full.Store(false)
			if err := d.reopen(); err != nil {
				t.Fatal(err)
			}
			d.mender.Mended()
			holds(t, s, "k", "before")
			put(t, s, "k", "after", time.Hour)
			if err := d.sync(); err != nil {
				t.Error(err)
			}
			holds(t, s, "k", "after")
			if _, ok := s.Trouble(); ok {
				t.Error("it is still in trouble")
			}
		})
	}
}

// TestMendsItself: the housekeeping notices a failure, and opens the memory again.
func TestMendsItself(t *testing.T) {
	log := &logText{told: make(chan struct{}, 1)}
	s := open(t, "store", Options{files: vfs.NewMem(), Log: slog.New(slog.NewTextHandler(log, nil))})
	put(t, s, "k", "before", 0)
	if err := onDisk(s).sync(); err != nil {
		t.Fatal(err)
	}
	onDisk(s).db.Fail(errors.New("of the test's own"))
	for !strings.Contains(log.String(), "open again\" after=") {
		<-log.told
	}
	holds(t, s, "k", "before")
	put(t, s, "k", "after", 0)
	holds(t, s, "k", "after")
}

// A flush that does not come to an end: writes are refused, none waits for it, and
// all is well once it has ended.
func TestSlowDisk(t *testing.T) {
	held := make(chan struct{})
	var slow atomic.Bool
	files := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slow.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, ".sst") {
			<-held
		}
		return nil
	}))
	s := open(t, "store", Options{files: files})
	slow.Store(true)
	fillUntilRefused(t, s)
	slow.Store(false)
	close(held)
	var err error
	for range 20 { // each waits for the flush
		onDisk(s).trouble.Store(nil)
		if err = s.Put(t.Context(), []byte("k"), []byte("after"), 0); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	holds(t, s, "k", "after")
}

func fillUntilRefused(t *testing.T, s *Embedded) {
	t.Helper()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			big := make([]byte, 100<<10)
			for i := range 1000 {
				if err := s.Put(t.Context(), fmt.Appendf(nil, "%d/%d", w, i), big, 0); err != nil {
					if !errors.Is(err, errBehind) && !strings.Contains(err.Error(), "no space") {
						t.Error(err)
					}
					return
				}
			}
			t.Error("100 MB were written to a full disk")
		})
	}
	all.Wait()
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	fill(b, s)
	key := []byte("greylist/192.0.2.0/24/user@example.com/77")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := s.Get(b.Context(), key); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkGetFromTable reads a key that has left the memtable.
func BenchmarkGetFromTable(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	fill(b, s)
	if err := onDisk(s).db.Flush(); err != nil {
		b.Fatal(err)
	}
	key := []byte("greylist/192.0.2.0/24/user@example.com/77")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := s.Get(b.Context(), key); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	key := make([]byte, 0, 64)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		key = fmt.Appendf(key[:0], "greylist/192.0.2.0/24/user@example.com/%d", i)
		if err := s.Put(b.Context(), key, []byte("1782907200"), 36*24*time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIncr(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Incr(b.Context(), []byte("counter"), 1, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Take(b.Context(), []byte("rate"), 1, 1e9, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

func fill(b *testing.B, s Store) {
	for i := range 10_000 {
		if err := s.Put(b.Context(), fmt.Appendf(nil, "greylist/192.0.2.0/24/user@example.com/%d", i), []byte("1782907200"), time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}
