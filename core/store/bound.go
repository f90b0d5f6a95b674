package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// The memory has a bound, since strangers make entries of it. Beyond the bound a part of
// the entries goes, those first whose time would be up first: first attempts that a
// greylist waits for go long before what is known for a month. What is kept for ever
// stays.

const (
	leastSize  = 16 << 20         // below it Pebble would compact all the time
	lookSize   = 10 * time.Second // between two looks at the size
	evicted    = 5                // of the bound, one part in so many goes at once
	evictBatch = 512              // records that go while writers wait
)

// errFull is what nobody can make room for.
var errFull = errors.New("the memory is larger than [store] max_size allows, and nothing more in it expires")

// used is how many octets the tables on disk have that are in use. What Pebble writes
// besides, its log and tables that are about to go, is of the size of some memtables.
func (t *pebbleTable) used() int64 {
	t.using.RLock()
	defer t.using.RUnlock()
	if t.db == nil {
		return 0
	}
	return int64(t.db.Metrics().Table.Local.LiveSize)
}

// keepSize makes room where the memory is beyond its bound, until the context ends.
func (t *pebbleTable) keepSize(ctx context.Context) {
	tick := time.NewTicker(lookSize)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := t.bound(ctx, t.size); err != nil && ctx.Err() == nil {
			t.complain(err)
		}
	}
}

// bound evicts a part of the records where more octets are used than size says.
func (t *pebbleTable) bound(ctx context.Context, size int64) error {
	if size <= 0 || t.used() <= size {
		return nil
	}
	freed, records, from := int64(0), 0, uint64(0)
	for freed < size/evicted {
		n, octets, last, err := t.evictSome(from)
		from = last // starting there spares reading what was deleted before
		freed += octets
		records += n
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if records == 0 {
		return errFull
	}
	t.log.Warn("the memory of policies was larger than [store] max_size; what would expire first is gone", "entries", records, "octets", freed)
	return t.compact(ctx)
}

// evictSome removes the records that expire first, from a second on, and tells how many
// keys that dealt with, their size, and the second of the last one.
func (t *pebbleTable) evictSome(from uint64) (n int, octets int64, last uint64, err error) {
	const never = 1<<63 - 1
	keys, err := t.expired(from, never, evictBatch)
	if err != nil || len(keys) == 0 {
		return 0, 0, from, err
	}
	err = t.change(func(b *pebble.Batch) error {
		for _, k := range keys {
			record, found, err := t.load(nil, k[indexSize:])
			if err != nil {
				return err
			}
			if found && len(record) >= expirySize && second(int64(binary.BigEndian.Uint64(record))) == binary.BigEndian.Uint64(k[1:]) {
				octets += int64(len(record) + len(k))
			}
			if err := t.remove(b, k); err != nil {
				return err
			}
		}
		return nil
	})
	return len(keys), octets, binary.BigEndian.Uint64(keys[len(keys)-1][1:]), err
}

// compact gives the room of what was removed back to the disk.
func (t *pebbleTable) compact(ctx context.Context) error {
	t.using.RLock()
	defer t.using.RUnlock()
	if t.db == nil {
		return t.unreadable()
	}
	if err := t.db.Compact(ctx, []byte{0}, []byte{0xff}, false); err != nil {
		return fmt.Errorf("store: compact: %w", err)
	}
	return nil
}
