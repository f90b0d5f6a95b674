package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disk is the directory of large bodies, a file each, named by message ids. It
// is an interface so that a test can fail or cut off every step. Safe for
// concurrent use.
type Disk interface {
	Create(name string) (BodyFile, error) // a new file; fs.ErrExist where there is one
	Open(name string) (BodyFile, error)   // for reading
	Remove(name string) error
	Sync() error                     // makes names durable: created ones stay
	Names() iter.Seq2[string, error] // every file, in any order
	Free() (int64, error)            // bytes that may be written
	Close() error
}

// BodyFile is an open file of a Disk. ReadAt may run beside everything else.
type BodyFile interface {
	io.Writer
	io.ReaderAt
	Size() (int64, error)
	Sync() error // makes the bytes durable
	Close() error
}

// bodies is the Disk of a real directory. Names can't lead out of it.
type bodies struct {
	root *os.Root
	dir  *os.File
}

func openBodies(path string, readOnly bool) (Disk, error) {
	if readOnly {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("it was never used: %w", err)
		}
	} else if err := makeDir(path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	dir, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &bodies{root, dir}, nil
}

type bodyFile struct{ *os.File }

func (f bodyFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (b *bodies) Create(name string) (BodyFile, error) {
	f, err := b.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return bodyFile{f}, nil
}

func (b *bodies) Open(name string) (BodyFile, error) {
	f, err := b.root.Open(name)
	if err != nil {
		return nil, err
	}
	return bodyFile{f}, nil
}

func (b *bodies) Remove(name string) error { return b.root.Remove(name) }
func (b *bodies) Sync() error              { return b.dir.Sync() }
func (b *bodies) Close() error             { return errors.Join(b.dir.Close(), b.root.Close()) }

func (b *bodies) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(b.dir.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: b.root.Name(), Err: err}
	}
	if free := uint64(st.Bavail) * uint64(st.Bsize); free < math.MaxInt64 {
		return int64(free), nil
	}
	return math.MaxInt64, nil
}

// Names reads the directory in pieces: it may hold a million files.
func (b *bodies) Names() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		dir, err := b.root.Open(".")
		if err != nil {
			yield("", err)
			return
		}
		defer dir.Close()
		for {
			names, err := dir.Readdirnames(1024)
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if err != nil {
				if err != io.EOF {
					yield("", err)
				}
				return
			}
		}
	}
}

// makeDir makes a directory for this user alone, and its name durable.
func makeDir(path string) error {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
