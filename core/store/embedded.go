package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/disk"
)

// stripes is how many keys can be changed at the same time.
const stripes = 256

// Spaces keep values and buckets of one key apart in the table.
const (
	valueSpace  = 'v'
	bucketSpace = 'b'
)

// expirySize is the length of what each record begins with: when its time is
// up, in nanoseconds since 1970, big endian; 0 is never.
const expirySize = 8

// table holds records by key. Its methods are safe for concurrent use, but two
// changes of one key must not overlap. It keeps no argument.
type table interface {
	// load appends the record of key to dst.
	load(dst, key []byte) (record []byte, found bool, err error)
	// save sets the record of key. was is the expiry of the record it replaces, 0 if that has none.
	save(key, record []byte, was int64) error
	// drop removes the record of key, whose expiry was was.
	drop(key []byte, was int64) error
	close() error
}

// Embedded is the Store of one process. Open keeps it on disk, Memory doesn't.
type Embedded struct {
	table   table
	now     func() time.Time
	seed    maphash.Seed
	changes [stripes]sync.Mutex

	open   sync.RWMutex // held for reading by each operation, for writing by Close
	closed bool
}

func newEmbedded(t table, now func() time.Time) *Embedded {
	if now == nil {
		now = time.Now
	}
	return &Embedded{table: t, now: now, seed: maphash.MakeSeed()}
}

// Close implements Store. A second call returns ErrClosed.
func (e *Embedded) Close() error {
	e.open.Lock()
	defer e.open.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.closed = true
	return e.table.close()
}

// begin admits an operation on key; e.open.RUnlock ends it.
func (e *Embedded) begin(ctx context.Context, key []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if len(key) == 0 || len(key) > MaxKey {
		return ErrKey
	}
	e.open.RLock()
	if e.closed {
		e.open.RUnlock()
		return ErrClosed
	}
	return nil
}

// change admits an operation that changes key and keeps others from key until the function returned is called.
func (e *Embedded) change(ctx context.Context, key []byte) (done func(), err error) {
	if err := e.begin(ctx, key); err != nil {
		return nil, err
	}
	lock := &e.changes[maphash.Bytes(e.seed, key)%stripes]
	lock.Lock()
	return func() {
		lock.Unlock()
		e.open.RUnlock()
	}, nil
}

// entry is what the table has at a key.
type entry struct {
	key     []byte // with its space
	content []byte // after the expiry
	expires int64  // of the record in the table, 0 where there is none
	live    bool   // there is a record and its time is not up
}

// read returns the entry of key in space.
func (e *Embedded) read(space byte, key []byte, now int64) (entry, error) {
	at := entry{key: append(append(make([]byte, 0, 1+len(key)), space), key...)}
	record, found, err := e.table.load(nil, at.key)
	if err != nil || !found {
		return at, err
	}
	if len(record) < expirySize {
		return at, fmt.Errorf("store: record of %d bytes: %w", len(record), ErrDamaged)
	}
	at.expires = int64(binary.BigEndian.Uint64(record))
	at.content = record[expirySize:]
	at.live = at.expires == 0 || now < at.expires
	return at, nil
}

// write replaces at's record by one with content that lives until expires.
func (e *Embedded) write(at entry, content []byte, expires int64) error {
	record := binary.BigEndian.AppendUint64(make([]byte, 0, expirySize+len(content)), uint64(expires))
	return e.table.save(at.key, append(record, content...), at.expires)
}

// expiry returns when a ttl that begins now ends, 0 for never.
func expiry(now int64, ttl time.Duration) int64 {
	if ttl == 0 || now > math.MaxInt64-int64(ttl) {
		return 0
	}
	return now + int64(ttl)
}

// Get implements Store.
func (e *Embedded) Get(ctx context.Context, key []byte) ([]byte, bool, error) {
	if err := e.begin(ctx, key); err != nil {
		return nil, false, err
	}
	defer e.open.RUnlock()
	at, err := e.read(valueSpace, key, e.now().UnixNano())
	if err != nil || !at.live {
		return nil, false, err
	}
	return at.content, true, nil
}

// Put implements Store.
func (e *Embedded) Put(ctx context.Context, key, value []byte, ttl time.Duration) error {
	if err := check(value, ttl); err != nil {
		return err
	}
	done, err := e.change(ctx, key)
	if err != nil {
		return err
	}
	defer done()
	now := e.now().UnixNano()
	at, err := e.read(valueSpace, key, now)
	if err != nil {
		return err
	}
	return e.write(at, value, expiry(now, ttl))
}

func check(value []byte, ttl time.Duration) error {
	switch {
	case len(value) > MaxValue:
		return ErrValue
	case ttl < 0:
		return ErrTTL
	}
	return nil
}

// Delete implements Store.
func (e *Embedded) Delete(ctx context.Context, key []byte) error {
	done, err := e.change(ctx, key)
	if err != nil {
		return err
	}
	defer done()
	for _, space := range []byte{valueSpace, bucketSpace} {
		at, err := e.read(space, key, 0)
		if err == nil && at.content != nil {
			err = e.table.drop(at.key, at.expires)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Incr implements Store.
func (e *Embedded) Incr(ctx context.Context, key []byte, by int64, ttl time.Duration) (int64, error) {
	if err := check(nil, ttl); err != nil {
		return 0, err
	}
	done, err := e.change(ctx, key)
	if err != nil {
		return 0, err
	}
	defer done()
	now := e.now().UnixNano()
	at, err := e.read(valueSpace, key, now)
	if err != nil {
		return 0, err
	}
	var count int64
	expires := expiry(now, ttl)
	if at.live {
		expires = at.expires
		if count, err = strconv.ParseInt(string(at.content), 10, 64); err != nil {
			return 0, ErrNotCounter
		}
	}
	sum := count + by
	if (sum > count) != (by > 0) && by != 0 {
		return 0, ErrOverflow
	}
	if err := e.write(at, strconv.AppendInt(nil, sum, 10), expires); err != nil {
		return 0, err
	}
	return sum, nil
}

// Swap implements Store.
func (e *Embedded) Swap(ctx context.Context, key, old, value []byte, ttl time.Duration) (bool, error) {
	if err := check(value, ttl); err != nil {
		return false, err
	}
	done, err := e.change(ctx, key)
	if err != nil {
		return false, err
	}
	defer done()
	now := e.now().UnixNano()
	at, err := e.read(valueSpace, key, now)
	if err != nil {
		return false, err
	}
	if at.live != (old != nil) || at.live && !bytes.Equal(at.content, old) {
		return false, nil
	}
	if value != nil {
		err = e.write(at, value, expiry(now, ttl))
	} else if at.content != nil {
		err = e.table.drop(at.key, at.expires)
	}
	return err == nil, err
}

// Trouble is why nothing can be written at present, and when that is tried again;
// ok is false where all is well.
func (e *Embedded) Trouble() (t disk.Trouble, ok bool) {
	if p, is := e.table.(*pebbleTable); is {
		return p.mender.Trouble()
	}
	return t, false
}

// Failures is how often the disk failed since Open.
func (e *Embedded) Failures() int {
	if p, is := e.table.(*pebbleTable); is {
		return p.mender.Failures()
	}
	return 0
}
