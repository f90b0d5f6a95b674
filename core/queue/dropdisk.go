package queue

import (
	"io"
	"io/fs"
	"os"
)

// dropDisk is what drop files are made of. Beside the real one stands that of the
// tests, each operation of which can fail, stop half-way, or be the last one.
type dropDisk interface {
	// MakeDir makes a directory, durably, where it is missing.
	MakeDir(path string) error
	ReadDir(path string) ([]fs.DirEntry, error)
	// Create makes a file that must not be there.
	Create(path string) (dropFile, error)
	Open(path string) (dropFile, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
}

// dropFile is an open file of a dropDisk.
type dropFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
}

type realDisk struct{}

func (realDisk) MakeDir(path string) error                  { return makeDir(path) }
func (realDisk) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
func (realDisk) Rename(from, to string) error               { return os.Rename(from, to) }
func (realDisk) Remove(path string) error                   { return os.Remove(path) }
func (realDisk) SyncDir(path string) error                  { return syncDir(path) }

func (realDisk) Create(path string) (dropFile, error) {
	return openDrop(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (realDisk) Open(path string) (dropFile, error) { return openDrop(path, os.O_RDONLY) }

// openDrop keeps a nil file from becoming a dropFile that is not nil.
func openDrop(path string, flags int) (dropFile, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}
