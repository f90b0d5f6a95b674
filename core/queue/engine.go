package queue

import "log/slog"

// OpenEngine opens the engine whose files are in dir, which need not exist.
type OpenEngine func(dir string, o EngineOptions) (Engine, error)

// EngineOptions are what the queue tells its engine.
type EngineOptions struct {
	Log      *slog.Logger // never nil
	ReadOnly bool         // the engine writes nothing at all
	NoSync   bool         // Commit need not wait for the disk; for measuring only
	Existing bool         // a store that is not there is an error, and not made
}

// Engine is an ordered map of bytes with atomic durable writes. Its methods are
// safe for concurrent use, except that nothing may be called after Close.
type Engine interface {
	// Commit makes the writes durable, all or none. When it returns nil, they
	// survive a power cut. Concurrent calls share the disk's syncs. The writes and
	// what they refer to are read only before Commit returns. After an error it is
	// unknown whether they are stored, and Failed is set where nothing more can be.
	Commit(writes []Write) error
	// Get returns the value, which is valid until done is called, or ErrNotFound.
	Get(key []byte) (value []byte, done func(), err error)
	// Range is a cursor over the keys from ≤ k < to, ascending, on the state at the
	// time of the call. Long-lived cursors keep old data on the disk.
	Range(from, to []byte) (Cursor, error)
	// Failed is the failed write or sync that ended the handle, or nil; or, unless it is
	// ReadOnly, that a part of its files can't be read (ErrUnreadable). Once it is
	// set, every call that waits is answered with it, and nothing more is written; but
	// a call that is in the system's hands waits until the system gives it back.
	Failed() error
	// Ended is closed when Failed is set.
	Ended() <-chan struct{}
	// Fail ends the handle as a failed sync does.
	Fail(err error)
	// Flush has everything that was committed where versions look that know nothing
	// of how this one makes commits durable.
	Flush() error
	// Damaged is how many files the engine has kept aside since parts of them
	// can't be read.
	Damaged() int
	// Close releases everything. After a failure it returns when nothing that was
	// begun can reach the disk any more.
	Close() error
}

// Cursor walks a range. It is for one goroutine.
type Cursor interface {
	Next() bool             // moves to the next key, at first to the first one; false at the end or on an error
	Key() []byte            // valid until Next
	Value() ([]byte, error) // valid until Next
	Err() error
	Close() error
}

// Write is one change of a commit: Key gets the parts of Value, put together, or
// is deleted where Delete is set.
type Write struct {
	Key    []byte
	Value  [][]byte
	Delete bool
}

func put(key []byte, value ...[]byte) Write { return Write{Key: key, Value: value} }

func del(key []byte) Write { return Write{Key: key, Delete: true} }
