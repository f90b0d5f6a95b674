package record

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lazy is a file system on which the store's log is handed to the system at each
// write and synced when it is closed only. Pebble knows either a sync for each
// write, which is for mail, or none, by which it keeps up to 32 KiB to itself: a
// killed daemon would take the last stories with it.
type lazy struct{ vfs.FS }

// Create implements vfs.FS.
func (fs lazy) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return lazyLog(name, f), err
}

// ReuseForWrite implements vfs.FS.
func (fs lazy) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, category)
	return lazyLog(name, f), err
}

func lazyLog(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return lazyFile{f}
}

// lazyFile is a file whose syncs wait for Close, so that a log which the store
// thinks complete is so after a loss of power too.
type lazyFile struct{ vfs.File }

// Sync does nothing yet.
func (lazyFile) Sync() error { return nil }

// SyncData does nothing yet.
func (lazyFile) SyncData() error { return nil }

// SyncTo does nothing yet.
func (lazyFile) SyncTo(int64) (fullSync bool, err error) { return false, nil }

// Close syncs and closes.
func (f lazyFile) Close() error {
	err := f.File.Sync()
	if closing := f.File.Close(); err == nil {
		err = closing
	}
	return err
}
