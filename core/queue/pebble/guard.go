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
		f.log.Error("queue: the store failed; nothing is accepted until it is opened again", "error", err)
	}
}

// park ends the use of this goroutine, with whatever locks it holds in Pebble.
func park() { select {} }

// guard is the file system that Pebble sees. Once it is armed, the first change
// of the disk that fails is the last that is tried.
type guard struct {
	vfs.FS
	failure *failure
	armed   atomic.Bool  // Open is over; before, it gets the errors itself
	running sync.RWMutex // held for reading by each change
}

// change runs an operation that changes the disk. It does not return after a
// failure, be it this one's or an earlier one's. Where the error may be an
// ordinary answer, mild is set, and the caller gets it.
func (g *guard) change(mild bool, operation func() error) error {
	g.running.RLock()
	if g.failure.get() != nil {
		g.running.RUnlock()
		park()
	}
	err := operation()
	if err != nil && !mild && g.armed.Load() {
		g.failure.set(err)
		g.running.RUnlock()
		park()
	}
	g.running.RUnlock()
	return err
}

// drain waits, after a failure, for the changes that had begun before it.
func (g *guard) drain() {
	g.running.Lock()
	defer g.running.Unlock()
}

func (g *guard) opened(operation func() (vfs.File, error)) (f vfs.File, err error) {
	err = g.change(false, func() error {
		f, err = operation()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.opened(func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.opened(func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.opened(func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
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

func (f *guardedFile) Write(p []byte) (n int, err error) {
	err = f.guard.change(false, func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.guard.change(false, func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
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
