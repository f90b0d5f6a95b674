package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/disk"
)

// Pebble's share of memory. Memtables, one or two and four at most, are
// reserved out of the cache, so that this is the sum of both; a cache of their
// size would cache nothing.
const (
	cacheSize    = 24 << 20
	memtableSize = 4 << 20
	memtables    = 4       // full ones at most: writes are refused before there are more to flush
	lookAfter    = 1 << 20 // octets between two looks at their size
	openFiles    = 100
)

const (
	housekeeping = time.Second      // between two syncs and sweeps
	troubleTime  = time.Second      // how long writes are refused after an error in the background
	complainTime = 10 * time.Second // between two log lines about such errors
	flushTime    = time.Second      // how long a write waits for a flush
	flushLook    = 5 * time.Millisecond
)

// Options configures Open.
type Options struct {
	// ReadOnly opens a store that exists, and changes nothing: writes fail with ErrReadOnly.
	ReadOnly bool
	// Size is how many octets it may have on disk; beyond, what would expire first goes.
	// Less than 16 MiB counts as that. 0: any number.
	Size int64
	// Now is the clock that times to live are measured by. Nil: time.Now.
	Now func() time.Time
	// Log gets what goes wrong in the background. Nil: nobody does.
	Log *slog.Logger

	files vfs.FS // for tests: nil is the disk
}

// Open opens the store in dir, which it makes if need be. One process at a time
// can have it open, for reading only too: ErrLocked says that another has.
// ErrDamaged says that dir holds something that can't be read.
func Open(dir string, o Options) (*Embedded, error) {
	e := newEmbedded(nil, o.Now)
	t := &pebbleTable{dir: dir, files: o.files, now: e.now, log: o.Log, readOnly: o.ReadOnly, size: o.Size}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.files == nil {
		t.files = vfs.Default
	}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, explain(err, o.ReadOnly))
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	if !o.ReadOnly {
		t.running.Go(t.keepHouse)
		if t.size > 0 {
			t.size = max(t.size, leastSize)
			t.running.Go(func() { t.keepSize(t.ctx) })
		}
	}
	e.table = t
	return e, nil
}

// open locks the directory and opens the database in it.
func (t *pebbleTable) open() (err error) {
	if !t.readOnly {
		if err := t.files.MkdirAll(t.dir, 0o700); err != nil { // it knows who writes to whom
			return err
		}
	}
	if t.lock, err = disk.Lock(t.files, t.dir); err != nil {
		return err
	}
	if t.db, err = disk.Open(t.dir, t.options()); err != nil {
		return errors.Join(err, t.lock.Close())
	}
	return nil
}

// explain adds to Pebble's reason what an administrator has to know.
func explain(err error, readOnly bool) error {
	switch {
	case errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), "lock held by current process"):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	// A store that isn't there is made, so a missing file is one that was there.
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist) && !readOnly:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// pebbleTable is a table in a Pebble database. Beside the records it keeps, for
// those that expire, an index key: indexSpace, the second in which the expiry
// lies rounded up, the record's key. The sweep reads the index from its start.
type pebbleTable struct {
	dir      string
	files    vfs.FS
	lock     io.Closer
	now      func() time.Time
	log      *slog.Logger
	readOnly bool
	size     int64 // octets on disk, 0: any number

	ctx     context.Context // ends with close
	stop    context.CancelFunc
	running sync.WaitGroup

	writing sync.Mutex // held while a write is made up and given to Pebble; guards the next four
	dirty   bool       // there are writes that no sync has covered
	from    uint64     // no index key is of a second before this one
	through uint64     // index keys up to this second may have been swept
	written int        // octets since hasRoom last looked

	using sync.RWMutex // held for reading while db is used; never asked for writing but behind t.writing
	db    *disk.DB     // nil: it can't even be read at present

	mender  disk.Mender
	trouble atomic.Pointer[trouble]
	spoke   atomic.Int64 // when the log last heard of trouble
}

// trouble is an error of Pebble's background work, which it tries again for ever.
type trouble struct {
	err error
	at  time.Time
}

func (t *pebbleTable) options() disk.Options {
	return disk.Options{Files: t.files, Log: t.log, Warn: func(s string) { t.complain(errors.New(s)) }, Set: func(o *pebble.Options) {
		o.ReadOnly, o.ErrorIfNotExists = t.readOnly, t.readOnly
		o.CacheSize, o.MemTableSize, o.MaxOpenFiles = cacheSize, memtableSize, openFiles
		// Where Pebble has too much to flush or compact it lets writes wait until that is
		// done, on a full disk for ever: hasRoom refuses them instead.
		o.MemTableStopWritesThreshold, o.L0StopWritesThreshold = 1<<20, 1<<20
		o.FormatMajorVersion = pebble.FormatNewest
		o.EventListener.BackgroundError = t.troubled
		// Most keys that greylists ask for are not there.
		for i := range o.Levels {
			o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		}
	}}
}

func (t *pebbleTable) load(dst, key []byte) ([]byte, bool, error) {
	t.using.RLock()
	defer t.using.RUnlock()
	if t.db == nil {
		return dst, false, t.unreadable()
	}
	record, closer, err := t.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, fmt.Errorf("store: read: %w", explain(err, t.readOnly))
	}
	dst = append(dst, record...)
	return dst, true, closer.Close()
}

func (t *pebbleTable) save(key, record []byte, was int64) error {
	expires := int64(binary.BigEndian.Uint64(record))
	return t.change(func(b *pebble.Batch) error {
		if err := b.Set(key, record, nil); err != nil {
			return err
		}
		if at := second(expires); at == second(was) && (at == 0 || at > t.through) {
			return nil // the index key is there
		}
		return errors.Join(t.unindex(b, key, was), t.index(b, key, expires))
	})
}

func (t *pebbleTable) drop(key []byte, was int64) error {
	return t.change(func(b *pebble.Batch) error {
		return errors.Join(b.Delete(key, nil), t.unindex(b, key, was))
	})
}

// change applies what fill puts into a batch, all or nothing; t.writing is held
// meanwhile. It is visible on return and synced by the next housekeeping.
func (t *pebbleTable) change(fill func(*pebble.Batch) error) error {
	if t.readOnly {
		return ErrReadOnly
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	if err := t.unwritable(); err != nil {
		return err
	}
	if err := t.hasRoom(); err != nil {
		return err
	}
	b := t.db.NewBatch()
	if err := fill(b); err != nil {
		return fmt.Errorf("store: write: %w", errors.Join(err, b.Close()))
	}
	t.written += b.Len()
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("store: write: %w", err)
	}
	t.dirty = true
	if err := t.unwritable(); err != nil {
		return err
	}
	return b.Close()
}

// hasRoom waits where writing is faster than flushing, for a while; t.writing is held.
func (t *pebbleTable) hasRoom() error {
	if t.written < lookAfter {
		return nil
	}
	var look, end <-chan time.Time
	for t.db.Metrics().MemTable.Size > (memtables-1)*memtableSize {
		if err := t.unwritable(); err != nil {
			return err
		}
		if look == nil {
			ticker := time.NewTicker(flushLook)
			defer ticker.Stop()
			look, end = ticker.C, time.After(flushTime)
		}
		select {
		case <-look:
		case <-t.ctx.Done():
			return ErrClosed
		case <-end:
			t.troubled(errBehind)
			return fmt.Errorf("store: write: %w", errBehind)
		}
	}
	t.written = 0
	return nil
}

// errBehind is why a write is refused that the disk has no time for.
var errBehind = errors.New("the disk takes less than is written")

// unwritable returns why a write would fail, or wait for what may never come;
// t.writing or t.using is held.
func (t *pebbleTable) unwritable() error {
	if t.db == nil {
		return t.unreadable()
	}
	if err := t.db.Failed(); err != nil {
		return fmt.Errorf("store: can't be written until it is open again: %w", err)
	}
	if now, ok := t.mender.Trouble(); ok {
		return fmt.Errorf("store: can't be written until it is open again: %w", now.Err)
	}
	if now := t.trouble.Load(); now != nil && time.Since(now.at) < troubleTime {
		return fmt.Errorf("store: write: %w", now.err)
	}
	return nil
}

func (t *pebbleTable) unreadable() error {
	now, _ := t.mender.Trouble()
	return fmt.Errorf("store: can't be read until it is open again: %w", errors.Join(now.Err, now.Last))
}

// sync makes durable what was written before the call. It is the one place of this package that syncs.
func (t *pebbleTable) sync() error {
	t.writing.Lock()
	dirty := t.dirty
	t.dirty = false
	t.writing.Unlock()
	t.using.RLock()
	defer t.using.RUnlock()
	if t.db == nil {
		return t.unreadable()
	}
	if dirty && t.db.Failed() == nil {
		if err := t.db.LogData(nil, pebble.Sync); err != nil {
			return fmt.Errorf("store: sync: %w", err)
		}
	}
	if err := t.db.Failed(); err != nil {
		return fmt.Errorf("store: sync: %w", err)
	}
	return nil
}

// keepHouse syncs and sweeps until close.
func (t *pebbleTable) keepHouse() {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		case <-t.db.Ended(): // only this goroutine changes t.db
		}
		err := t.sync()
		if failed := t.db.Failed(); failed != nil {
			if !t.mend(failed) {
				return
			}
			continue
		}
		if err == nil {
			_, err = t.sweep(t.ctx)
		}
		if err != nil {
			t.complain(err)
		}
	}
}

// mend opens a database that failed again, until it is open or the table closes.
func (t *pebbleTable) mend(failed error) (open bool) {
	now, pause := t.mender.Failed(failed)
	t.log.Error("policy memory failed; nothing is written until it is open again", "error", failed, "next_try", pause)
	for {
		timer := time.NewTimer(pause)
		select {
		case <-t.ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
		err := t.reopen()
		if err == nil {
			now = t.mender.Mended()
			t.log.Warn("policy memory is open again", "after", time.Since(now.Since).Round(time.Millisecond), "tries", now.Tries+1)
			return true
		}
		now, pause = t.mender.Again(err)
		t.log.Error("policy memory can't be opened again yet", "error", err, "tries", now.Tries, "next_try", pause)
	}
}

// reopen puts a new handle in the place of one that failed; where it can't be
// written yet, one that can be read.
func (t *pebbleTable) reopen() (err error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.using.Lock()
	defer t.using.Unlock()
	if t.db != nil {
		_ = t.db.Close() // with the failure that is known
	}
	t.db, err = disk.Again(t.dir, t.options())
	t.dirty, t.from, t.written = false, 0, 0
	t.trouble.Store(nil)
	return err
}

func (t *pebbleTable) close() error {
	t.stop()
	t.running.Wait()
	var err error
	if !t.readOnly {
		err = t.sync()
	}
	if t.db != nil {
		err = cmp.Or(err, t.db.Close())
	}
	if err = errors.Join(err, t.lock.Close()); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// troubled is told of errors in the background. Pebble holds locks meanwhile.
func (t *pebbleTable) troubled(err error) {
	t.trouble.Store(&trouble{err, time.Now()})
	t.complain(err)
}

// complain logs an error, but not each of a thousand equal ones.
func (t *pebbleTable) complain(err error) {
	now, last := time.Now().UnixNano(), t.spoke.Load()
	if now-last < int64(complainTime) || !t.spoke.CompareAndSwap(last, now) {
		return
	}
	t.log.Warn("policy memory in trouble", "err", err)
}
