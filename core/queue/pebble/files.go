package pebble

import (
	"bytes"
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/postern-mta/postern/core/disk"
	"github.com/postern-mta/postern/core/queue/journal"
)

// journalFiles are the journal's directory, behind the guard: after the first
// change that fails there is no other. To the journal, unlike to Pebble, it is told.
type journalFiles struct {
	guard    *disk.Guard
	path     string
	noSync   bool
	readOnly bool
}

// journalDir is its name beside Pebble's files.
const journalDir = "journal"

// openFiles makes the directory where it is missing.
func openFiles(g *disk.Guard, parent string, noSync bool) (*journalFiles, error) {
	d := &journalFiles{guard: g, path: g.PathJoin(parent, journalDir), noSync: noSync}
	if _, err := g.FS.Stat(d.path); err == nil {
		return d, nil
	}
	return d, d.change(func() error {
		if err := g.FS.MkdirAll(d.path, 0o700); err != nil {
			return err
		}
		return syncNames(g.FS, parent)
	})
}

func syncNames(files vfs.FS, dir string) error {
	f, err := files.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *journalFiles) change(operation func() error) error {
	if err := d.guard.Change(false, operation); err != nil {
		return err
	}
	return d.guard.Failed()
}

func (d *journalFiles) join(name string) string { return d.guard.PathJoin(d.path, name) }

func (d *journalFiles) Names() ([]string, error) { return d.guard.FS.List(d.path) }

func (d *journalFiles) Create(name string) (journal.File, error) {
	var f vfs.File
	if err := d.change(func() (err error) {
		f, err = d.guard.FS.OpenReadWrite(d.join(name), vfs.WriteCategoryUnspecified)
		return err
	}); err != nil {
		return nil, err
	}
	return journalFile{f, d}, nil
}

// Prepare makes a file of zeros. Nothing rests on it yet, so the handle goes on where
// it fails, for want of room or of a descriptor.
func (d *journalFiles) Prepare(name string, size int64) (journal.File, error) {
	var f vfs.File
	err := d.guard.Change(true, func() (err error) {
		if f, err = d.guard.FS.OpenReadWrite(d.join(name), vfs.WriteCategoryUnspecified); err != nil {
			return err
		}
		if err = fill(f, size); err != nil {
			err = errors.Join(err, f.Close(), d.guard.FS.Remove(d.join(name)))
		}
		return err
	})
	if err == nil {
		err = d.guard.Failed()
	}
	if err != nil {
		return nil, err
	}
	return journalFile{f, d}, nil
}

func fill(f vfs.File, size int64) error {
	_ = f.Preallocate(0, size) // where it can't be had, there are only more pieces
	zeros := make([]byte, min(size, 256<<10))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(size-at, int64(len(zeros)))], at); err != nil {
			return err
		}
	}
	return f.SyncData()
}

func (d *journalFiles) Open(name string) (journal.File, error) {
	if d.readOnly {
		f, err := d.guard.FS.Open(d.join(name))
		return journalFile{f, d}, err
	}
	f, err := d.guard.FS.OpenReadWrite(d.join(name), vfs.WriteCategoryUnspecified)
	return journalFile{f, d}, err
}

func (d *journalFiles) Rename(from, to string) error {
	return d.change(func() error { return d.guard.FS.Rename(d.join(from), d.join(to)) })
}

func (d *journalFiles) Remove(name string) error {
	return d.change(func() error { return d.guard.FS.Remove(d.join(name)) })
}

func (d *journalFiles) Sync() error {
	return d.change(func() error { return syncNames(d.guard.FS, d.path) })
}

type journalFile struct {
	vfs.File
	dir *journalFiles
}

// Write writes and syncs in one call of the system where there is a real file.
func (f journalFile) Write(parts [][]byte, at int64) error {
	return f.dir.change(func() error {
		if fd := f.Fd(); fd != vfs.InvalidFd {
			flags := unix.RWF_DSYNC
			if f.dir.noSync {
				flags = 0
			}
			err := writeAll(int(fd), parts, at, flags)
			if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
				return err
			}
		}
		// It may scribble on what it is given.
		if _, err := f.WriteAt(bytes.Join(parts, nil), at); err != nil || f.dir.noSync {
			return err
		}
		return f.SyncData()
	})
}

// writeAll writes the parts, however many calls that takes. parts are changed.
func writeAll(fd int, parts [][]byte, at int64, flags int) error {
	for {
		n, err := unix.Pwritev2(fd, parts, at, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		at += int64(n)
		for len(parts) > 0 && n >= len(parts[0]) {
			n -= len(parts[0])
			parts = parts[1:]
		}
		if len(parts) == 0 {
			return nil
		}
		if n == 0 {
			return io.ErrShortWrite // of what is not empty
		}
		parts[0] = parts[0][n:]
	}
}

func (f journalFile) Read() ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

func (f journalFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
