package disk

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Guard is the file system that Pebble sees. The first change of the disk that fails
// is the last that is tried: it and all that follow are answered as if they had been
// done, so that Pebble comes to its end without having met an error.
type Guard struct {
	vfs.FS  // the disk, for who looks at Failed by himself
	log     *slog.Logger
	running sync.RWMutex // held for reading by each change
	after   *vfs.MemFS   // what was created after the failure, since it may be read again
	ended   chan struct{}
	why     atomic.Pointer[error]
}

// NewGuard is one for that disk. What can't be released after a failure is told to log.
func NewGuard(files vfs.FS, log *slog.Logger) *Guard {
	return &Guard{FS: files, log: log, after: vfs.NewMem(), ended: make(chan struct{})}
}

// Failed is what ended all changes; nil as long as there is nothing. It is set before
// the first wrong answer.
func (g *Guard) Failed() error {
	if p := g.why.Load(); p != nil {
		return *p
	}
	return nil
}

// Fail ends all changes. Only the first reason counts.
func (g *Guard) Fail(err error) {
	if g.why.CompareAndSwap(nil, &err) {
		close(g.ended)
	}
}

// Ended is closed when Failed is no longer nil.
func (g *Guard) Ended() <-chan struct{} { return g.ended }

// Drain waits, after a failure, for the changes that had begun before it.
func (g *Guard) Drain() {
	g.running.Lock()
	defer g.running.Unlock()
}

// asideTime is how long Aside waits, after a failure, for what is still read.
const asideTime = 10 * time.Second

// Aside runs f, an opening or a closing of Pebble, which may panic and, after a failure,
// may find locks that are held for ever. After a failure it returns when the disk has what
// it will ever have from this guard.
func (g *Guard) Aside(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- recovered(f) }()
	select {
	case err := <-done:
		return err
	case <-g.ended:
	}
	g.Drain()
	timer := time.NewTimer(asideTime)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		g.log.Warn("a failed store is not released; it keeps its memory until a restart")
		return g.Failed()
	}
}

// recovered is what f returns, or the error that it panics with.
func recovered(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if err, ok = r.(error); !ok {
				err = fmt.Errorf("%v", r)
			}
		}
	}()
	return f()
}

// Change runs an operation that changes the disk. Where its error may be an
// ordinary answer, mild is set, and the caller gets it.
func (g *Guard) Change(mild bool, operation func() error) error {
	g.running.RLock()
	defer g.running.RUnlock()
	if g.Failed() != nil {
		return nil
	}
	err := operation()
	if err == nil || mild {
		return err
	}
	g.Fail(err)
	return nil
}

// opened is Change for a file that is to be written.
func (g *Guard) opened(name string, operation func() (vfs.File, error)) (f vfs.File, err error) {
	_ = g.Change(false, func() error { // its error ends the guard
		f, err = operation()
		return err
	})
	if f != nil && err == nil {
		return &guardedFile{f, g}, nil
	}
	if err := g.after.MkdirAll(g.after.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	return g.after.Create(name, vfs.WriteCategoryUnspecified)
}

func (g *Guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.opened(name, func() (vfs.File, error) { return g.FS.Create(name, c) })
}

func (g *Guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.opened(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, c, o...) })
}

func (g *Guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.opened(to, func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, c) })
}

func (g *Guard) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if g.Failed() != nil {
		if f, err := g.after.Open(name, o...); err == nil {
			return f, nil
		}
	}
	return g.FS.Open(name, o...)
}

func (g *Guard) Stat(name string) (vfs.FileInfo, error) {
	if g.Failed() != nil {
		if fi, err := g.after.Stat(name); err == nil {
			return fi, nil
		}
	}
	return g.FS.Stat(name)
}

func (g *Guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g}, nil
}

func (g *Guard) Rename(from, to string) error {
	return g.Change(false, func() error { return g.FS.Rename(from, to) })
}

func (g *Guard) Link(from, to string) error {
	return g.Change(true, func() error { return g.FS.Link(from, to) })
}

func (g *Guard) Remove(name string) error {
	return g.Change(true, func() error { return g.FS.Remove(name) })
}

func (g *Guard) RemoveAll(name string) error {
	return g.Change(true, func() error { return g.FS.RemoveAll(name) })
}

func (g *Guard) MkdirAll(name string, _ os.FileMode) error {
	return g.Change(true, func() error { return g.FS.MkdirAll(name, 0o700) })
}

// Lock does nothing: the caller of Open holds the lock.
func (g *Guard) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }

// Unwrap implements vfs.FS.
func (g *Guard) Unwrap() vfs.FS { return g.FS }

type guardedFile struct {
	vfs.File
	guard *Guard
}

func (f *guardedFile) Write(p []byte) (int, error) {
	return len(p), f.guard.Change(false, func() error { _, err := f.File.Write(p); return err })
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), f.guard.Change(false, func() error { _, err := f.File.WriteAt(p, off); return err })
}

func (f *guardedFile) Preallocate(off, length int64) error {
	return f.guard.Change(true, func() error { return f.File.Preallocate(off, length) })
}

func (f *guardedFile) Sync() error     { return f.guard.Change(false, f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.guard.Change(false, f.File.SyncData) }

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.guard.Change(false, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
