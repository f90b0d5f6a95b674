package pebble

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// failure is the end of a handle.
type failure struct {
	failed chan struct{} // closed when err is set
	err    atomic.Pointer[error]
	log    *slog.Logger
}

func (f *failure) get() error {
	if p := f.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *failure) set(err error) {
	err = fmt.Errorf("the store failed: %w", err)
	if f.err.CompareAndSwap(nil, &err) {
		close(f.failed)
	}
}

// guard is the file system that Pebble sees. The first change of the disk that
// fails is the last that is tried: it and all that follow are answered as if they
// had been done, so that Pebble comes to its end without having met an error. What
// it creates from then on is in memory, since it may be read again.
type guard struct {
	vfs.FS
	failure *failure
	running sync.RWMutex // held for reading by each change
	after   *vfs.MemFS   // what was created after the failure
}

// change runs an operation that changes the disk. Where its error may be an
// ordinary answer, mild is set, and the caller gets it.
func (g *guard) change(mild bool, operation func() error) error {
	g.running.RLock()
	defer g.running.RUnlock()
	if g.failure.get() != nil {
		return nil
	}
	err := operation()
	if err == nil || mild {
		return err
	}
	g.failure.set(err)
	return nil
}

// drain waits, after a failure, for the changes that had begun before it.
func (g *guard) drain() {
	g.running.Lock()
	defer g.running.Unlock()
}

// opened is change for a file that is to be written.
func (g *guard) opened(name string, operation func() (vfs.File, error)) (f vfs.File, err error) {
	if err := g.change(false, func() error {
		f, err = operation()
		return err
	}); err != nil {
		return nil, err
	}
	if f == nil || err != nil {
		if err := g.after.MkdirAll(g.after.PathDir(name), 0o700); err != nil {
			return nil, err
		}
		return g.after.Create(name, vfs.WriteCategoryUnspecified)
	}
	return &guardedFile{f, g}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.opened(name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.opened(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.opened(to, func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

func (g *guard) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if g.failure.get() != nil {
		if f, err := g.after.Open(name, o...); err == nil {
			return f, nil
		}
	}
	return g.FS.Open(name, o...)
}

func (g *guard) Stat(name string) (vfs.FileInfo, error) {
	if g.failure.get() != nil {
		if fi, err := g.after.Stat(name); err == nil {
			return fi, nil
		}
	}
	return g.FS.Stat(name)
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g}, nil
}

func (g *guard) Rename(from, to string) error {
	return g.change(false, func() error { return g.FS.Rename(from, to) })
}

func (g *guard) Link(from, to string) error {
	return g.change(true, func() error { return g.FS.Link(from, to) })
}

func (g *guard) Remove(name string) error {
	return g.change(true, func() error { return g.FS.Remove(name) })
}

func (g *guard) RemoveAll(name string) error {
	return g.change(true, func() error { return g.FS.RemoveAll(name) })
}

func (g *guard) MkdirAll(name string, _ os.FileMode) error {
	return g.change(true, func() error { return g.FS.MkdirAll(name, 0o700) })
}

// Lock does nothing: the queue's lock keeps others out, and a failed handle must
// not keep the next one out.
func (g *guard) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }

// Unwrap implements vfs.FS.
func (g *guard) Unwrap() vfs.FS { return g.FS }

type guardedFile struct {
	vfs.File
	guard *guard
}

func (f *guardedFile) Write(p []byte) (int, error) {
	return len(p), f.guard.change(false, func() error {
		_, err := f.File.Write(p)
		return err
	})
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), f.guard.change(false, func() error {
		_, err := f.File.WriteAt(p, off)
		return err
	})
}

func (f *guardedFile) Preallocate(off, length int64) error {
	return f.guard.change(true, func() error { return f.File.Preallocate(off, length) })
}

func (f *guardedFile) Sync() error     { return f.guard.change(false, f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.guard.change(false, f.File.SyncData) }

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.guard.change(false, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// park ends the use of this goroutine, with whatever locks it holds in Pebble.
func park() { select {} }

// logger is what Pebble writes to. Fatalf must not return.
type logger struct {
	failure *failure
	log     *slog.Logger
}

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("queue: store: " + fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("queue: store: " + fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.failure.set(fmt.Errorf(format, args...))
	park()
}
