// Package pebble is the queue's embedded engine: Pebble, an LSM store, behind a
// journal. It alone in the queue knows Pebble.
//
// Commits go through a journal (package journal) in the place of Pebble's own log: a
// batch is durable when it is in the journal, and is then applied to Pebble's memtable,
// in the caller's goroutine. Pebble's pipeline would hand it through three goroutines,
// and sync behind a file that grows. A segment of the journal is used again when
// Pebble has flushed what it says. Old bodies leave before that where mail is
// delivered soon: both the write and the delete are in the same memtable, so only
// what stays is ever written a second time. A log of Pebble's own, of an earlier
// version, is read at Open and goes.
//
// # What Pebble v2.1.7 does when the disk fails
//
//   - A failed write or sync of the MANIFEST calls Logger.Fatalf in a background
//     goroutine. If that returned, a later try could succeed over what the first
//     one lost, and the log would be deleted.
//   - Open panics where a directory cannot be synced.
//   - A damaged block found while reading calls Logger.Fatalf too, unless the
//     event DataCorruption is taken; the reader gets an error in either case.
//
// So no such error may come back to Pebble. Its files go through a guard (package disk): the
// first failed write, sync or creation ends the handle, for good. From then on
// nothing is changed on the disk any more, and Pebble is told that all went well, so
// that it can be closed and gives its memory, descriptors and goroutines back. Every
// commit that waits is answered with the failure, at once; who looks for the
// failure behind each of Pebble's answers can't be deceived, since it is set before
// the first wrong one. The directory may then be opened again, in this process or
// another. Where Pebble calls Fatalf for a reason of its own, that goroutine is
// parked, and the handle costs its memory until the process ends.
package pebble

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/postern-mta/postern/core/disk"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/journal"
)

const (
	memTableSize = 32 << 20
	memTables    = 4        // of them at most, then writers wait for the flush
	blockCache   = 24 << 20 // for blocks that are read
	openTables   = 500
)

// Open is a queue.OpenEngine on the real file system.
func Open(dir string, o queue.EngineOptions) (queue.Engine, error) { return On(vfs.Default)(dir, o) }

// On is Open for another file system: that of a test, which fails or loses power.
func On(files vfs.FS) queue.OpenEngine { return with(files, journal.Options{}) }

// with is On with other sizes of the journal.
func with(files vfs.FS, sizes journal.Options) queue.OpenEngine {
	return func(dir string, o queue.EngineOptions) (queue.Engine, error) {
		e := &engine{guard: disk.NewGuard(files, o.Log), sizes: sizes, readOnly: o.ReadOnly}
		e.idle.L = &e.mu
		if err := e.open(dir, o); err != nil {
			return nil, fmt.Errorf("pebble: %w", err)
		}
		return e, nil
	}
}

type engine struct {
	db       *pebble.DB
	journal  *journal.Journal // nil where nothing is written
	delta    *delta           // nil where something is written
	sizes    journal.Options
	damaged  int // files of the journal
	guard    *disk.Guard
	readOnly bool
	spare    sync.Pool // of commits that were answered

	mu     sync.Mutex
	idle   sync.Cond // users is 0
	users  int       // calls that are in Pebble, and cursors
	closed bool
}

// open runs Pebble's Open aside, since it may be parked. Pebble panics there for
// some errors of the disk, and after a failure it is of no use.
func (e *engine) open(dir string, o queue.EngineOptions) error {
	cache := pebble.NewCache(blockCache + 2*memTableSize) // Pebble takes the memtables off it
	opts := options(e, o)
	opts.Cache = cache
	err := e.guard.Aside(func() (err error) {
		defer cache.Unref()
		if o.Existing && !o.ReadOnly {
			if err := replay(dir, *opts); err != nil {
				return err
			}
		}
		if e.db, err = pebble.Open(dir, opts); err != nil {
			return err
		}
		err = e.openJournal(dir, o)
		if failed := e.Failed(); failed != nil {
			err = failed
		}
		if err != nil {
			if e.journal != nil {
				err = errors.Join(err, e.journal.Close(false))
			}
			return errors.Join(err, e.db.Close())
		}
		return nil
	})
	failed := e.Failed()
	if err == nil && failed != nil { // the failure came behind the last look
		_ = e.Close() // which has no error after a failure
	}
	return cmp.Or(failed, err)
}

// openJournal brings what the journal says into Pebble, or beside it where nothing may
// be written.
func (e *engine) openJournal(dir string, o queue.EngineOptions) error {
	if o.ReadOnly {
		e.delta = &delta{values: map[string][]byte{}}
		files := &journalFiles{guard: e.guard, path: e.guard.PathJoin(dir, journalDir), readOnly: true}
		if _, err := e.guard.Stat(files.path); err != nil {
			return nil // of an earlier version
		}
		found, err := journal.Read(files, o.Log, e.delta.add)
		e.damaged = found.Damaged
		e.delta.sort()
		return err
	}
	files, err := openFiles(e.guard, dir, o.NoSync)
	if err != nil {
		return err
	}
	its := e.sizes
	if its.Segment == 0 {
		its.Segment, its.Limit = sizesFor(e.guard.FS, dir)
	}
	its.Log, its.Flush, its.Ended, its.Failed = o.Log, e.flush, e.guard.Ended(), e.Failed
	e.journal, e.damaged, err = journal.Open(files, its, e.redo)
	return err
}

// sizesFor is how long segments are, and how much may be in full ones: less where the
// disk is small, so that the journal of an empty queue leaves room for mail.
func sizesFor(files vfs.FS, dir string) (segment, limit int64) {
	segment = 16 << 20
	if usage, err := files.GetDiskUsage(dir); err == nil {
		for segment > 1<<20 && uint64(segment) > usage.AvailBytes/64 {
			segment /= 2
		}
	}
	return segment, 4 * segment
}

// replay has Pebble put what is in a log of its own into tables, and no more. Where its Open
// fails behind that, as for want of a descriptor, the goroutine that gathers what is
// new in tables runs on without what Open has taken away, and ends the process; so
// where this process is to live on, nothing is gathered before the log is empty.
func replay(dir string, opts pebble.Options) error {
	opts.DisableTableStats = true
	db, err := pebble.Open(dir, &opts)
	if err != nil {
		return err
	}
	return db.Close()
}

func options(e *engine, from queue.EngineOptions) *pebble.Options {
	log := from.Log
	o := &pebble.Options{
		FS:                          e.guard,
		ReadOnly:                    e.readOnly,
		DisableWAL:                  true,
		ErrorIfNotExists:            e.readOnly || from.Existing,
		FormatMajorVersion:          pebble.FormatValueSeparation, // fixed: a newer Pebble must not upgrade unasked
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		MaxOpenFiles:                openTables,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      logger{e.guard, log},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { log.Error("queue: the store's background work failed", "error", err) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				if !e.readOnly {
					e.guard.Fail(fmt.Errorf("%w: %s: %s", queue.ErrUnreadable, i.Path, i.Details.Error()))
				}
			},
			WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
				log.Warn("queue: the store has to catch up before more mail is taken", "reason", i.Reason)
			},
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// enter counts a call in; leave must follow.
func (e *engine) enter() error {
	if err := e.Failed(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return queue.ErrClosed
	}
	e.users++
	return nil
}

func (e *engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users--; e.users == 0 {
		e.idle.Broadcast()
	}
}

// Failed implements queue.Engine.
func (e *engine) Failed() error {
	if err := e.guard.Failed(); err != nil {
		return fmt.Errorf("the store failed: %w", err)
	}
	return nil
}

// Ended implements queue.Engine.
func (e *engine) Ended() <-chan struct{} { return e.guard.Ended() }

// Damaged implements queue.Engine.
func (e *engine) Damaged() int { return e.damaged }

// Fail implements queue.Engine.
func (e *engine) Fail(err error) { e.guard.Fail(err) }

// Close implements queue.Engine. After a failure the disk has what it will ever
// have from this handle when Close returns.
func (e *engine) Close() error {
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	if again {
		return nil
	}
	err := e.guard.Aside(e.finish)
	if e.Failed() != nil {
		return nil // of errors that follow from the failure nobody wants to hear
	}
	return err
}

// finish closes Pebble when the last call has left it.
func (e *engine) finish() error {
	e.mu.Lock()
	for e.users > 0 {
		e.idle.Wait()
	}
	e.mu.Unlock()
	if e.journal == nil {
		return e.db.Close()
	}
	err := e.Failed() // after it Pebble is only to be closed
	if err == nil {
		err = e.flush()
	}
	return errors.Join(err, e.journal.Close(err == nil), e.db.Close())
}

// Get implements queue.Engine.
func (e *engine) Get(key []byte) (value []byte, done func(), err error) {
	if err := e.enter(); err != nil {
		return nil, nil, err
	}
	if e.delta != nil {
		if v, ok := e.delta.values[string(key)]; ok {
			e.leave()
			if v == nil {
				return nil, nil, queue.ErrNotFound
			}
			return v, func() {}, nil
		}
	}
	v, closer, err := e.db.Get(key)
	if err != nil {
		e.leave()
		return nil, nil, e.translate(err)
	}
	return v, func() {
		_ = closer.Close() // gives memory back, no more
		e.leave()
	}, nil
}

// translate gives Pebble's errors the queue's names.
func (e *engine) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return queue.ErrNotFound
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %s", queue.ErrUnreadable, err.Error()) // it would print its stack, too
	}
	return err
}

// Range implements queue.Engine.
func (e *engine) Range(from, to []byte) (queue.Cursor, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	if bytes.Compare(from, to) > 0 {
		from = to
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		e.leave()
		return nil, e.translate(err)
	}
	if c := (&cursor{e: e, it: it}); e.delta == nil {
		return c, nil
	} else {
		return e.delta.over(c, from, to), nil
	}
}

type cursor struct {
	e     *engine
	it    *pebble.Iterator
	begun bool
}

func (c *cursor) Next() bool {
	if c.e.Failed() != nil {
		return false
	}
	if !c.begun {
		c.begun = true
		return c.it.First()
	}
	return c.it.Next()
}

func (c *cursor) Key() []byte { return c.it.Key() }

func (c *cursor) Value() ([]byte, error) {
	v, err := c.it.ValueAndErr()
	return v, c.e.translate(err)
}

func (c *cursor) Err() error {
	if err := c.e.Failed(); err != nil {
		return err
	}
	return c.e.translate(c.it.Error())
}

func (c *cursor) Close() error {
	defer c.e.leave()
	return c.e.translate(c.it.Close())
}
