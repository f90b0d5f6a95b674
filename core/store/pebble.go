package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	t := &pebbleTable{now: e.now, log: o.Log, readOnly: o.ReadOnly}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if o.files == nil {
		o.files = vfs.Default
	}
	var err error
	if !o.ReadOnly {
		err = o.files.MkdirAll(dir, 0o700) // it knows who writes to whom
	}
	if err == nil {
		t.db, err = pebble.Open(dir, t.options(o.files))
	}
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, explain(err, o.ReadOnly))
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	if !o.ReadOnly {
		t.running.Go(t.keepHouse)
	}
	e.table = t
	return e, nil
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
	db       *pebble.DB
	now      func() time.Time
	log      *slog.Logger
	readOnly bool

	ctx     context.Context // ends with close
	stop    context.CancelFunc
	running sync.WaitGroup

	writing sync.Mutex // held while a write is made up and given to Pebble; guards the next four
	dirty   bool       // there are writes that no sync has covered
	from    uint64     // no index key is of a second before this one
	through uint64     // index keys up to this second may have been swept
	written int        // octets since hasRoom last looked

	broken  atomic.Pointer[error] // set once: the database can't be written any more
	trouble atomic.Pointer[trouble]
	spoke   atomic.Int64 // when the log last heard of trouble
}

// trouble is an error of Pebble's background work, which it tries again for ever.
type trouble struct {
	err error
	at  time.Time
}

func (t *pebbleTable) options(files vfs.FS) *pebble.Options {
	o := &pebble.Options{
		FS:               guardedFS{files, t},
		ReadOnly:         t.readOnly,
		ErrorIfNotExists: t.readOnly,
		CacheSize:        cacheSize,
		MemTableSize:     memtableSize,
		// Where Pebble has too much to flush or compact it lets writes wait until that is
		// done, on a full disk for ever: hasRoom refuses them instead.
		MemTableStopWritesThreshold: 1 << 20,
		L0StopWritesThreshold:       1 << 20,
		MaxOpenFiles:                openFiles,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLog{t},
		EventListener:               &pebble.EventListener{BackgroundError: t.troubled},
	}
	// Most keys that greylists ask for are not there.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

func (t *pebbleTable) load(dst, key []byte) ([]byte, bool, error) {
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
	if failure := t.broken.Load(); failure != nil {
		return *failure
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

// unwritable returns why a write would fail, or wait for what may never come.
func (t *pebbleTable) unwritable() error {
	if failure := t.broken.Load(); failure != nil {
		return *failure
	}
	if now := t.trouble.Load(); now != nil && time.Since(now.at) < troubleTime {
		return fmt.Errorf("store: write: %w", now.err)
	}
	return nil
}

// sync makes durable what was written before the call. It is the one place of this package that syncs.
func (t *pebbleTable) sync() error {
	t.writing.Lock()
	dirty := t.dirty
	t.dirty = false
	t.writing.Unlock()
	if failure := t.broken.Load(); failure != nil {
		return *failure
	}
	if !dirty {
		return nil
	}
	if err := t.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("store: sync: %w", err)
	}
	if failure := t.broken.Load(); failure != nil {
		return *failure
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
		}
		err := t.sync()
		if err == nil {
			_, err = t.sweep(t.ctx)
		}
		if err != nil {
			t.complain(err)
		}
	}
}

func (t *pebbleTable) close() error {
	t.stop()
	t.running.Wait()
	if t.readOnly {
		return t.db.Close()
	}
	if err := t.sync(); err != nil {
		return err // a database in this state may never finish closing; the process's end releases it
	}
	if err := t.db.Close(); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// fail ends all writing. Only the first reason counts.
func (t *pebbleTable) fail(err error) {
	err = fmt.Errorf("store: can't be written until a restart: %w", err)
	if t.broken.CompareAndSwap(nil, &err) {
		t.log.Error("policy memory failed", "err", err)
	}
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

// pebbleLog takes what Pebble says. Its notes of each flush interest nobody.
type pebbleLog struct{ t *pebbleTable }

func (l pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) { l.t.complain(fmt.Errorf(format, args...)) }

// Fatalf is called where Pebble can't go on. It would end the process; here only this memory ends.
func (l pebbleLog) Fatalf(format string, args ...any) { l.t.fail(fmt.Errorf(format, args...)) }
