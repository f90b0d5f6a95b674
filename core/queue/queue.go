// Package queue keeps accepted mail: crash-safe storage and the states a
// message moves through. It knows no network, and of the clock only the pause
// before a failed store is opened again.
//
// # States
//
// A message is one record, its body, and at most one entry in the due index.
// Names in brackets are qmail's.
//
//	incoming     [mess]          a Draft: bytes in memory, beyond InlineLimit in bodies/ID
//	active       [todo, info]    record + body + due entry; each recipient ready or deferred
//	held         [-]             record + body, no due entry: an operator has it
//	quarantined  [-]             the same, put there by a policy
//	settled      [info]          record + body, every recipient delivered or failed, no due
//	                             entry: the bounce is owed
//	gone         [-]             nothing
//	damaged      [-]             record and body moved aside, never tried, counted
//
// # Transitions, and what is on disk if power goes
//
//	Begin, Write  nothing → incoming. Disk: nothing, or a body file no record names.
//	Abort         incoming → nothing. Disk: the same; the next Open removes the file.
//	Commit        incoming → active, held or quarantined. A large body's file is synced,
//	              then its directory, then one batch writes body, record and due entry,
//	              and its sync is awaited. Before that sync: as after Write. After it: all.
//	Settle        active → active or settled: one batch writes the record and moves the due
//	              entry. Disk: the old state or the new one.
//	Update        any → any of active, held, quarantined: the same way.
//	Settle with   any → gone: one batch removes record, body and due entry, and only then is
//	Remove        the body file unlinked. Disk: the whole message, or a file no record names.
//	Open          removes body files that no record names; sets damaged records aside; makes
//	              a due index that does not match the records anew.
//
// Several messages settled together move together. A message cannot be seen by
// Load, All or Due before its commit is durable.
//
// # Failure
//
// Whoever gets an error from Commit must answer 4xx. A failed sync or write of
// the store is final for its handle: it is unknown what the disk holds, so every
// call fails from then on, and Failed says why. The queue then opens the store
// again by itself (reopen.go), the directory locked all the while, and recovers as
// Open does; each message is found whole or absent, and one whose Commit met the
// failure is removed, since its client was told 4xx. Who has to know when that is
// done asks Watch. A body file that cannot be written fails its message alone.
//
// The store is an Engine (package queue/pebble); concurrent commits share its
// syncs. Files: lock, db/ (the engine's), bodies/.
package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// formatVersion is what Open writes and the newest it reads. 1: commits were in the
// log of the engine's store. 2: they are in a journal before it.
const formatVersion = 2

// DefaultInlineLimit is the size from which a body has a file of its own.
const DefaultInlineLimit = maxMemory

// What a caller may ask of an error with errors.Is.
var (
	ErrNotFound = errors.New("no such message in the queue")
	ErrDamaged  = errors.New("the stored message is damaged")
	ErrClosed   = errors.New("the queue is closed")
	ErrReadOnly = errors.New("the queue is open for reading only")
	ErrFull     = errors.New("too little space on the disk")
	ErrInUse    = errors.New("the queue is in use by another process")
	ErrFormat   = errors.New("the queue has a format that this version does not know")
)

// Options say how a queue is opened. The zero value is a good one.
type Options struct {
	Log         *slog.Logger // nil: nothing is logged
	ReadOnly    bool         // look only: nothing is repaired, several may look at once
	NoSync      bool         // nothing is durable; for measuring only
	InlineLimit int64        // bytes; larger bodies have a file. 0: DefaultInlineLimit, which is also the most
	Reserve     int64        // bytes of disk that Commit leaves free. 0: 64 MiB, negative: none
	Disk        Disk         // where large bodies are. nil: dir/bodies
}

// Queue is an open queue directory. Its methods are safe for concurrent use.
type Queue struct {
	dir    string
	log    *slog.Logger
	o      Options
	open   OpenEngine
	lock   *os.File
	disk   Disk
	handle atomic.Pointer[handle] // never nil after Open
	room   room
	memory memory

	condition condition
	refused   map[string]struct{} // keep's own: what the next opening removes
	keeper    sync.WaitGroup
	closing   chan struct{}
	closed    atomic.Bool
}

// Open locks dir, makes it where it is missing, recovers, and is ready. The
// errors ErrInUse and ErrFormat mean what they say; with ReadOnly a missing
// queue is fs.ErrNotExist.
func Open(dir string, engine OpenEngine, o Options) (*Queue, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.InlineLimit <= 0 || o.InlineLimit > maxMemory {
		o.InlineLimit = maxMemory
	}
	if o.Reserve == 0 {
		o.Reserve = 64 << 20
	}
	q := &Queue{dir: dir, log: o.Log, o: o, open: engine, disk: o.Disk, refused: map[string]struct{}{}, closing: make(chan struct{})}
	q.condition.changed = make(chan struct{})
	err := q.begin()
	if err != nil {
		return nil, fmt.Errorf("queue: open %s: %w", dir, errors.Join(err, q.release()))
	}
	if !o.ReadOnly {
		q.keeper.Go(q.keep)
	}
	return q, nil
}

func (q *Queue) begin() (err error) {
	if !q.o.ReadOnly {
		if err := makeDir(q.dir); err != nil {
			return err
		}
	}
	if q.lock, err = lockDir(q.dir, q.o.ReadOnly); err != nil {
		return err
	}
	if q.disk == nil {
		if q.disk, err = openBodies(filepath.Join(q.dir, "bodies"), q.o.ReadOnly); err != nil {
			return err
		}
	}
	h, err := q.openStore(false, nil, nil)
	if err != nil {
		return err
	}
	q.handle.Store(h)
	return nil
}

// Close waits for running calls of the engine and releases the directory. No
// other call may be begun after it; bodies that were handed out stay readable.
func (q *Queue) Close() error {
	if q.closed.Swap(true) {
		return nil
	}
	close(q.closing)
	q.keeper.Wait()
	if err := errors.Join(q.handle.Load().engine.Close(), q.release()); err != nil {
		return fmt.Errorf("queue: close: %w", err)
	}
	return nil
}

// release gives up the directory.
func (q *Queue) release() error {
	var errs []error
	if q.disk != nil {
		errs = append(errs, q.disk.Close())
	}
	if q.lock != nil {
		errs = append(errs, q.lock.Close())
	}
	return errors.Join(errs...)
}
