package record

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// minFree is the room on the disk that the recorder leaves to others, in bytes:
// stories are dropped before mail gets short of it.
const minFree = 64 << 20

// Somebody else's question may hold the store's lock for a moment.
const (
	lockTries = 20
	lockPause = 100 * time.Millisecond
)

// openReading opens the store for a question, and waits for another one to end.
func openReading(dir string, o Options, log *storeLog) (db *pebble.DB, err error) {
	for range lockTries {
		db, err = openStore(dir, o, log)
		if !errors.Is(err, syscall.EAGAIN) {
			return db, err
		}
		time.Sleep(lockPause)
	}
	return db, err
}

// openStore opens Pebble with little memory: it is written in order of its keys
// and seldom read. Files are small beside MaxSize, so that it can be kept.
func openStore(dir string, o Options, log *storeLog) (*pebble.DB, error) {
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	file := min(max(o.MaxSize/64, 256<<10), 4<<20)
	options := &pebble.Options{
		FS:                 lazy{vfs.Default},
		Cache:              cache,
		MemTableSize:       uint64(min(max(o.MaxSize/32, 256<<10), 8<<20)),
		TargetFileSizes:    [7]int64{file, file, file, file, file, file, file},
		MaxOpenFiles:       200,
		ReadOnly:           o.ReadOnly,
		ErrorIfNotExists:   o.ReadOnly,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             log,
	}
	options.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone }) // pages are packed
	return pebble.Open(dir, options)
}

// room tells whether the disk has enough left for stories.
func (r *Recorder) room() bool {
	usage, err := vfs.Default.GetDiskUsage(r.dir)
	return err != nil || usage.AvailBytes >= minFree
}

// storeLog brings what Pebble says into our log. Its notes of every flush and
// recovery are for debugging.
type storeLog struct {
	log    *slog.Logger
	broken atomic.Bool
}

// Infof implements pebble.Logger.
func (l *storeLog) Infof(format string, args ...any) {
	l.log.Debug("recorder: store", "said", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l *storeLog) Errorf(format string, args ...any) {
	l.log.Error("recorder: store", "error", fmt.Sprintf(format, args...))
}

// Fatalf is called where Pebble can't go on, as after a failed write of its own
// log, and must not return. It ends the goroutine and with it the recording:
// mail goes on without.
func (l *storeLog) Fatalf(format string, args ...any) {
	l.fail(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (l *storeLog) fail(what string) {
	if !l.broken.Swap(true) {
		l.log.Error("recorder: the store failed, nothing more is recorded until a restart", "error", what)
	}
}
