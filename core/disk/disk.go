// Package disk opens Pebble databases so that a disk that fails ends a handle, not
// the process: those of the flight recorder and of the policies' memory, which mail
// does not depend on. (The queue's own engine, which opens its database by itself, is
// queue/pebble; it takes the guard from here.)
//
//   - Pebble's files go through a guard (guard.go). The first change of the disk that
//     fails is the last that is tried; from then on Pebble is told that all went well,
//     since it answers a failed write with panics that no recover survives, and the
//     disk stays as if the power had gone.
//   - DB.Failed tells of that failure. It is set before the first wrong answer, so
//     that who looks behind each of Pebble's answers is not deceived.
//   - A DB that failed can be closed, and the directory opened again, by the same
//     process, which keeps the directory locked all the while (Lock).
//   - Mender (mend.go) is when to try that, and what to say meanwhile.
package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DB is an open database.
type DB struct {
	*pebble.DB
	guard *Guard
	once  sync.Once
}

// Options of Open, beside Pebble's.
type Options struct {
	Files vfs.FS                // the disk
	Wrap  func(vfs.FS) vfs.FS   // what stands between Pebble and the guarded disk; nil: nothing
	Info  func(string)          // what Pebble says for those who search for mistakes in it; nil: nobody hears it
	Warn  func(string)          // what it complains about; nil: nobody hears it
	Log   *slog.Logger          // a handle that can't be released is told here; nil: nobody hears it
	Set   func(*pebble.Options) // more options
}

// Lock keeps other processes, and other callers in this one, from the database in
// dir until it is closed.
func Lock(files vfs.FS, dir string) (io.Closer, error) {
	return files.Lock(files.PathJoin(dir, "LOCK"))
}

// Open opens the database in dir, which the caller has locked.
func Open(dir string, o Options) (*DB, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := NewGuard(o.Files, o.Log)
	options := &pebble.Options{
		Logger: logger{g, o}, FS: g,
		// Without a listener Pebble would end the process; who reads gets an error.
		EventListener: &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) {
			logger{g, o}.Errorf("damaged: %s: %v", i.Path, i.Details)
		}},
	}
	if o.Wrap != nil {
		options.FS = o.Wrap(g)
	}
	o.Set(options)
	var db *pebble.DB
	err := g.Aside(func() (err error) {
		if db, err = pebble.Open(dir, options); err != nil {
			return err
		}
		if failed := g.Failed(); failed != nil {
			return errors.Join(failed, db.Close())
		}
		return nil
	})
	if err = cmp.Or(g.Failed(), err); err != nil {
		return nil, err
	}
	return &DB{DB: db, guard: g}, nil
}

// Again opens the database in dir anew after a failure, its old handle closed. Where
// it can't be written yet, db is one for reading, and err says why; where it can't be
// read either, db is nil.
func Again(dir string, o Options) (db *DB, err error) {
	if db, err = Open(dir, o); err == nil {
		return db, nil
	}
	set := o.Set
	o.Set = func(p *pebble.Options) {
		set(p)
		p.ReadOnly, p.ErrorIfNotExists = true, true
	}
	db, reading := Open(dir, o)
	if reading != nil {
		return nil, err
	}
	return db, err
}

// Failed is why nothing is written any more; nil as long as all is well.
func (d *DB) Failed() error { return d.guard.Failed() }

// Ended is closed when Failed is no longer nil.
func (d *DB) Ended() <-chan struct{} { return d.guard.Ended() }

// Fail ends the handle for a reason of the caller's.
func (d *DB) Fail(err error) { d.guard.Fail(err) }

// Close closes it. The caller has seen to it that nobody uses it. After a failure
// it returns when the disk has what it will ever have from this handle, with the
// failure. A second call does nothing.
func (d *DB) Close() (err error) {
	d.once.Do(func() {
		err = d.guard.Aside(d.DB.Close)
		err = cmp.Or(d.guard.Failed(), err)
	})
	return err
}

// logger is what Pebble writes to.
type logger struct {
	guard *Guard
	o     Options
}

func (l logger) Infof(format string, args ...any) {
	if l.o.Info != nil {
		l.o.Info(fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	if l.o.Warn != nil {
		l.o.Warn(fmt.Sprintf(format, args...))
	}
}

// Fatalf is called where Pebble can't go on. What it does when this returns reaches
// the disk no more.
func (l logger) Fatalf(format string, args ...any) { l.guard.Fail(fmt.Errorf(format, args...)) }
