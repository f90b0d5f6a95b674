package disk

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard is the file system that Pebble sees.
type guard struct {
	vfs.FS
	log     *slog.Logger
	running sync.RWMutex // held for reading by each change
	after   *vfs.MemFS   // what was created after the failure, since it may be read again
	ended   chan struct{}
	why     atomic.Pointer[error]
}

func newGuard(files vfs.FS) *guard {
	return &guard{FS: files, after: vfs.NewMem(), ended: make(chan struct{})}
}

func (g *guard) failed() error {
	if p := g.why.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends all changes. Only the first reason counts.
func (g *guard) fail(err error) {
	if g.why.CompareAndSwap(nil, &err) {
		close(g.ended)
	}
}

// drain waits, after a failure, for the changes that had begun before it.
func (g *guard) drain() {
	g.running.Lock()
	defer g.running.Unlock()
}

// change runs an operation that changes the disk. Where its error may be an
// ordinary answer, mild is set, and the caller gets it.
func (g *guard) change(mild bool, operation func() error) error {
	g.running.RLock()
	defer g.running.RUnlock()
	if g.failed() != nil {
		return nil
	}
	err := operation()
	if err == nil || mild {
		return err
	}
	g.fail(err)
	return nil
}

// opened is change for a file that is to be written.
func (g *guard) opened(name string, operation func() (vfs.File, error)) (f vfs.File, err error) {
	_ = g.change(false, func() error { // its error ends the guard
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
	if g.failed() != nil {
		if f, err := g.after.Open(name, o...); err == nil {
			return f, nil
		}
	}
	return g.FS.Open(name, o...)
}

func (g *guard) Stat(name string) (vfs.FileInfo, error) {
	if g.failed() != nil {
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

func (g *guard) MkdirAll(name string, mode os.FileMode) error {
	return g.change(true, func() error { return g.FS.MkdirAll(name, mode) })
}

// Lock does nothing: the caller of Open holds the lock.
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
	return len(p), f.guard.change(false, func() error { _, err := f.File.Write(p); return err })
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), f.guard.change(false, func() error { _, err := f.File.WriteAt(p, off); return err })
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
