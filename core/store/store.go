// Package store is the memory that policies share: greylists, counters, rate
// limits, marks. Small values by key, each with an optional time to live.
//
// The map:
//
//	store.go     Store, the interface policies see, and its errors
//	plain.go     keys of parts and plain values, as policies write them
//	prefix.go    Prefixed: a part of a store, by a name before each key
//	embedded.go  Embedded: the rules of Store over a table of records
//	bucket.go    Take: token buckets
//	pebble.go    the table on disk: one Pebble database
//	sweep.go     what expired leaves the disk
//	bound.go     what goes where the memory is too large
//	memory.go    the table of tests and dry runs: a map
//	redis.go     Remote: a Store of a Redis server, shared by several nodes
//
// Policy memory is not mail. A write is visible at once and synced to disk
// within about a second, and by Close; a crash may lose what was written in
// that last second, never older entries. Nothing a lost entry can do is worse
// than a sender being asked to try again.
//
// An entry is invisible from the moment its time is up, by Options.Now, and
// removed soon afterwards. Operations on one key are atomic and in order.
//
// When the disk fails or fills, writes fail with an error rather than wait,
// reading goes on, and each policy does what it says for failures. The memory is
// opened again by itself, after a second at first and a minute at most; what was not
// synced by then is forgotten.
package store

import (
	"context"
	"errors"
	"time"
)

// Bounds on what may be stored.
const (
	MaxKey   = 4 << 10 // bytes of a key, prefixes included
	MaxValue = 1 << 20 // bytes of a value
)

// Errors that callers may test for with errors.Is.
var (
	ErrClosed     = errors.New("store: closed")
	ErrReadOnly   = errors.New("store: opened for reading only")
	ErrLocked     = errors.New("in use by another process")
	ErrDamaged    = errors.New("damaged; move it away to start with an empty memory")
	ErrKey        = errors.New("store: a key has 1 to 4096 bytes")
	ErrValue      = errors.New("store: a value has at most 1 MiB")
	ErrTTL        = errors.New("store: a time to live can't be negative")
	ErrNotCounter = errors.New("store: the value is not a decimal integer")
	ErrOverflow   = errors.New("store: the counter leaves 64 bits")
	ErrBucket     = errors.New("store: a bucket needs a finite capacity and a period above zero, and at most its capacity can be taken")
)

// Store is shared policy memory. All methods are safe for concurrent use and
// atomic per key. Keys and values are copied: the caller may change its slices
// afterwards, and owns those returned. A ttl of 0 means for ever. ctx ending
// stops an operation that has not begun.
type Store interface {
	// Get returns the value of key; ok is false where there is none or its time is up.
	Get(ctx context.Context, key []byte) (value []byte, ok bool, err error)
	// Put sets the value of key, and its time to live anew.
	Put(ctx context.Context, key, value []byte, ttl time.Duration) error
	// Delete removes the value and the bucket of key. Without them it does nothing.
	Delete(ctx context.Context, key []byte) error
	// Incr adds by to the integer at key, 0 where there is none, and returns
	// the sum. ttl counts from the Incr that creates the value; later ones leave
	// it. Counters are values in decimal: Get and Put can be used on them.
	Incr(ctx context.Context, key []byte, by int64, ttl time.Duration) (int64, error)
	// Take takes n tokens from the bucket of key, which holds at most capacity
	// and is refilled evenly, from empty to full in per. New buckets are full.
	// Where there are fewer than n, nothing is taken, and retry is how long until
	// there are enough. A bucket is no value: Get doesn't see it.
	Take(ctx context.Context, key []byte, n, capacity float64, per time.Duration) (allowed bool, retry time.Duration, err error)
	// Swap sets key to value if its value now is old; a nil old means that there
	// must be none, a nil value removes it. It returns whether it did.
	Swap(ctx context.Context, key, old, value []byte, ttl time.Duration) (swapped bool, err error)
	// Close makes all that was written durable and releases the store. Later calls fail with ErrClosed.
	Close() error
}
