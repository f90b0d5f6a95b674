// Package journal is the log in front of a store: records that are durable when
// Append returns, and that are read again at the next opening until the store has
// them in files of its own. It knows nothing of what they say.
//
// # Files
//
// A segment is a file NUMBER-SALT.log, both in hexadecimal, of a fixed size that is
// filled with zeros before it is used, and used again when the store has what is in
// it: to write over bytes that exist costs the disk no change of its own books, so a
// sync is about half as long as behind a file that grows. A spare segment is spare-N.
// A segment gets its number and a new salt when its turn comes, by a rename that is
// made durable before the first record. Numbers have no gaps; spares are taken from
// the lowest number up, so that what stands before a gap is old.
//
// A record is a header and a payload, at a multiple of eight bytes:
//
//	4  CRC-32C of the salt and the 20 bytes that follow
//	4  bytes of payload
//	8  number of the write that it was part of; of an opening's first one the lower
//	   half is zero
//	4  CRC-32C of the salt and the payload
//	2  which record of its write it is, from zero
//	2  how many that write has
//
// The salt is random and stands only in the name, so that neither the bytes of an
// earlier use nor those of a mail that somebody wrote for it are taken for a record.
//
// # Writing
//
// A caller that finds nobody writing writes and syncs by itself, in one system call:
// no goroutine has to be woken for a client alone. Who comes meanwhile waits, and a
// goroutine of the journal writes them all at once when the sync before is done. There is
// no timer.
//
// # Reading
//
// What can't be read is passed over, and the search goes on behind it. The numbers of
// the records tell whether one is missing. Where it belonged to the last write, that
// write may never have ended, and whoever waited for it was not answered. Else it is
// damage: it is logged, and the file is kept aside.
package journal

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Files is the journal's directory. It is an interface so that a test can fail or
// cut off every step. After an error, but for one of Prepare, nothing is written any
// more.
type Files interface {
	Names() ([]string, error)
	Create(name string) (File, error)
	// Prepare is Create for a file that is size bytes long, with zeros that are durable.
	// Its failure does not end anything; then there is no such file.
	Prepare(name string, size int64) (File, error)
	Open(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	Sync() error // makes names durable
}

// File is an open segment.
type File interface {
	// Write puts the parts one behind the other at that place, and is done when they
	// are durable.
	Write(parts [][]byte, at int64) error
	Read() ([]byte, error) // all of it
	Size() (int64, error)
	Close() error
}

// Options are what a journal is told. All but the sizes must be set.
type Options struct {
	Log *slog.Logger
	// Flush has the store put everything that was applied into files of its own,
	// durably.
	Flush func() error
	// Ended is closed when nothing can be written any more, and Failed says why.
	Ended  <-chan struct{}
	Failed func() error

	FirstSegment int64 // bytes; each further segment is twice as long, up to Segment. 0: 256 KiB
	Segment      int64 // bytes. 0: 16 MiB
	Limit        int64 // bytes of full segments from which the store is flushed. 0: 64 MiB
}

// Journal is an open journal. Append may be called by any number of goroutines.
type Journal struct {
	files Files
	o     Options

	mu      sync.Mutex
	waiting []*Entry // for the next write
	writing bool     // somebody writes, or the goroutine was told to
	spares  []spare
	sealed  []*segment // full, the oldest first

	// Of whoever writes.
	current *segment
	number  uint64 // the current segment's
	write   uint64 // the number of the last write
	group   []*Entry
	headers []byte
	parts   [][]byte

	work    chan struct{} // somebody waits, and nobody writes
	prepare chan struct{} // there is no spare
	retire  chan struct{} // something may be retired
	closing chan struct{}
	running sync.WaitGroup
}

// segment is a file with records.
type segment struct {
	file File
	name string
	salt [8]byte
	size int64
	used int64
	open atomic.Int64 // records that the store has not applied yet, and 1 until it is sealed
}

// spare is a file for a segment, filled with something.
type spare struct {
	file File
	name string
	size int64
}

// Entry is a record on its way. It may be used again when Append has returned nil.
type Entry struct {
	Payload []byte // not empty, not changed before Append returns; after a failure, never
	sum     uint32 // of Payload alone
	in      *segment
	done    chan error
}

const (
	firstSegment = 256 << 10
	fullSegment  = 16 << 20
	flushLimit   = 64 << 20
	mostSpares   = 4 // of full size
)

// Open reads what is in the directory, gives each record to apply in the order of
// their writing, flushes, and is ready. What apply is given is valid until it returns. It
// returns how many files are damaged and kept aside, those of earlier openings too.
func Open(files Files, o Options, apply func(payload []byte) error) (j *Journal, damaged int, err error) {
	if o.FirstSegment == 0 {
		o.FirstSegment = firstSegment
	}
	if o.Segment == 0 {
		o.Segment = fullSegment
	}
	if o.Limit == 0 {
		o.Limit = flushLimit
	}
	j = &Journal{
		files: files, o: o,
		work: make(chan struct{}, 1), prepare: make(chan struct{}, 1), retire: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	found, err := Read(files, o.Log, apply)
	if err != nil {
		return nil, 0, err
	}
	if found.Records > 0 {
		if err := o.Flush(); err != nil {
			return nil, 0, err
		}
	}
	j.number, j.write = found.number, (found.write|lowHalf)+1
	if err := j.takeOver(found); err != nil {
		return nil, 0, err
	}
	if err := j.advance(0); err != nil {
		return nil, 0, err
	}
	j.running.Go(j.serve)
	j.running.Go(j.keepSpares)
	j.running.Go(j.keepRetiring)
	return j, found.Damaged, nil
}

// takeOver makes spares of what was read, since the store has it.
func (j *Journal) takeOver(found Found) error {
	for _, name := range found.damaged {
		if err := j.files.Rename(name, damagedPrefix+name); err != nil {
			return err
		}
	}
	for _, name := range found.old {
		f, err := j.files.Open(name)
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		if err := j.reuse(f, name, size); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the journal when no Append runs any more. Where the store has flushed
// everything, empty is set, and there is nothing to read at the next opening.
func (j *Journal) Close(empty bool) error {
	close(j.closing)
	j.running.Wait()
	var errs []error
	for _, s := range append(j.sealed, j.current) {
		errs = append(errs, s.file.Close())
		if empty {
			errs = append(errs, j.files.Remove(s.name))
		}
	}
	for _, s := range j.spares {
		errs = append(errs, s.file.Close())
		if s.size != j.o.Segment {
			errs = append(errs, j.files.Remove(s.name))
		}
	}
	return errors.Join(errs...)
}

// poke leaves a note that need not be left twice.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
