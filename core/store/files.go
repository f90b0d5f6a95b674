package store

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardedFS keeps a write that fails in the log from ending the process.
// Pebble answers such a failure (a full disk, mostly) when it changes to the
// next log file, with a panic under locks that no recover survives. So the
// first failure is reported to the table, which takes no write from then on, and
// Pebble is told that all is well: what comes after is discarded, and the disk
// stays as if the power had gone at that moment, which is a state that Open
// recovers from.
type guardedFS struct {
	vfs.FS
	t *pebbleTable
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// Create implements vfs.FS.
func (g guardedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(name) {
		return g.FS.Create(name, category)
	}
	return g.guard(func() (vfs.File, error) { return g.FS.Create(name, category) })
}

// ReuseForWrite implements vfs.FS.
func (g guardedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(newname) {
		return g.FS.ReuseForWrite(oldname, newname, category)
	}
	return g.guard(func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir implements vfs.FS. A directory is synced for each new log.
func (g guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return guardedFile{f, g.t}, nil
}

// Unwrap implements vfs.FS.
func (g guardedFS) Unwrap() vfs.FS { return g.FS }

func (g guardedFS) guard(open func() (vfs.File, error)) (vfs.File, error) {
	if g.t.broken.Load() == nil {
		f, err := open()
		if err == nil {
			return guardedFile{f, g.t}, nil
		}
		g.t.fail(err)
	}
	// Nothing is written to this file: guardedFile drops it all.
	f, err := vfs.NewMem().Create("discarded", vfs.WriteCategoryUnspecified)
	return guardedFile{f, g.t}, err
}

type guardedFile struct {
	vfs.File
	t *pebbleTable
}

// try does something on the disk unless that is over, and reports its failure.
func (f guardedFile) try(do func() error) {
	if f.t.broken.Load() != nil {
		return
	}
	if err := do(); err != nil {
		f.t.fail(err)
	}
}

// Write implements vfs.File.
func (f guardedFile) Write(p []byte) (int, error) {
	f.try(func() error { _, err := f.File.Write(p); return err })
	return len(p), nil
}

// WriteAt implements vfs.File.
func (f guardedFile) WriteAt(p []byte, at int64) (int, error) {
	f.try(func() error { _, err := f.File.WriteAt(p, at); return err })
	return len(p), nil
}

// Preallocate implements vfs.File.
func (f guardedFile) Preallocate(offset, length int64) error {
	f.try(func() error { return f.File.Preallocate(offset, length) })
	return nil
}

// Sync implements vfs.File.
func (f guardedFile) Sync() error {
	f.try(f.File.Sync)
	return nil
}

// SyncTo implements vfs.File.
func (f guardedFile) SyncTo(length int64) (full bool, err error) {
	f.try(func() error { full, err = f.File.SyncTo(length); return err })
	return full, nil
}

// SyncData implements vfs.File.
func (f guardedFile) SyncData() error {
	f.try(f.File.SyncData)
	return nil
}

// Close implements vfs.File.
func (f guardedFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.t.fail(err)
	}
	return nil
}
