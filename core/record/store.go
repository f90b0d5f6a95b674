package record

import (
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/disk"
)

// minFree is the room on the disk that the recorder leaves to others, in bytes:
// stories are dropped before mail gets short of it.
const minFree = 64 << 20

// Somebody else's question may hold the store's lock for a moment.
const (
	lockTries = 20
	lockPause = 100 * time.Millisecond
)

// lockStore locks the store. A question waits for another one to end.
func lockStore(dir string, o Options) (lock io.Closer, err error) {
	for range lockTries {
		lock, err = disk.Lock(vfs.Default, dir)
		if !o.ReadOnly || !errors.Is(err, syscall.EAGAIN) {
			break
		}
		time.Sleep(lockPause)
	}
	return lock, err
}

// storeOptions open Pebble with little memory: it is written in order of its keys
// and seldom read. Files are small beside MaxSize, so that it can be kept.
func storeOptions(o Options) disk.Options {
	say := func(s string) { o.Log.Debug("recorder: store", "said", s) }
	warn := func(s string) { o.Log.Error("recorder: store", "error", s) }
	return disk.Options{Files: o.files, Wrap: func(files vfs.FS) vfs.FS { return lazy{files} }, Log: o.Log, Info: say, Warn: warn, Set: func(p *pebble.Options) {
		p.CacheSize = 8 << 20
		file := min(max(o.MaxSize/64, 256<<10), 4<<20)
		p.MemTableSize = uint64(min(max(o.MaxSize/32, 256<<10), 8<<20))
		p.TargetFileSizes = [7]int64{file, file, file, file, file, file, file}
		p.MaxOpenFiles = 200
		p.ReadOnly, p.ErrorIfNotExists = o.ReadOnly, o.ReadOnly
		p.FormatMajorVersion = pebble.FormatNewest
		p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone }) // pages are packed
	}}
}

// room tells whether the disk has enough left for stories.
func (r *Recorder) room() bool {
	usage, err := vfs.Default.GetDiskUsage(r.dir)
	return err != nil || usage.AvailBytes >= minFree
}
