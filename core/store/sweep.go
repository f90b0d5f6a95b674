package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	indexSpace = 'x'
	indexSize  = 1 + 8   // of an index key, before the record's key
	sweepBatch = 64      // records looked at while writers wait
	sweepMost  = 1 << 15 // records in one sweep; the next one is a second away
)

// second returns the second by which a record that expires is swept, rounded up; 0 for never.
func second(expires int64) uint64 {
	return (uint64(expires) + uint64(time.Second) - 1) / uint64(time.Second)
}

func indexKey(at uint64, key []byte) []byte {
	out := make([]byte, 0, indexSize+len(key))
	out = binary.BigEndian.AppendUint64(append(out, indexSpace), at)
	return append(out, key...)
}

// index notes in b when key expires. t.writing is held.
func (t *pebbleTable) index(b *pebble.Batch, key []byte, expires int64) error {
	if expires == 0 {
		return nil
	}
	// The clock may have gone back, or have gone on since expires was worked out.
	t.from = min(t.from, second(expires))
	return b.Set(indexKey(second(expires), key), nil, nil)
}

// unindex removes that note. t.writing is held.
func (t *pebbleTable) unindex(b *pebble.Batch, key []byte, expires int64) error {
	if expires == 0 {
		return nil
	}
	return b.Delete(indexKey(second(expires), key), nil)
}

// sweep removes records whose time is up, at most about sweepMost, and returns
// how many index keys it dealt with.
func (t *pebbleTable) sweep(ctx context.Context) (int, error) {
	now := uint64(max(0, t.now().Unix()))
	t.writing.Lock()
	from := t.from // starting there spares reading what was deleted before
	t.from = max(t.from, now)
	t.through = max(t.through, now)
	t.writing.Unlock()
	swept := 0
	for {
		n, err := t.sweepSome(from, now)
		swept += n
		if err == nil && n < sweepBatch {
			return swept, nil
		}
		if err != nil || swept >= sweepMost || ctx.Err() != nil {
			t.writing.Lock()
			t.from = min(t.from, from)
			t.writing.Unlock()
			return swept, err
		}
	}
}

// sweepSome removes the records of the first index keys of the seconds from to now.
func (t *pebbleTable) sweepSome(from, now uint64) (int, error) {
	keys, err := t.expired(from, now, sweepBatch)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	return len(keys), t.change(func(b *pebble.Batch) error {
		for _, k := range keys {
			if err := t.remove(b, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// expired returns the first index keys of the seconds from to now, at most as many.
func (t *pebbleTable) expired(from, now uint64, most int) ([][]byte, error) {
	t.using.RLock()
	defer t.using.RUnlock()
	if t.db == nil {
		return nil, t.unreadable()
	}
	it, err := t.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(from, nil), UpperBound: indexKey(now+1, nil)})
	if err != nil {
		return nil, fmt.Errorf("store: sweep: %w", err)
	}
	var keys [][]byte
	for ok := from <= now && it.First(); ok && len(keys) < most; ok = it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("store: sweep: %w", err)
	}
	return keys, nil
}

// remove puts into b the end of an index key, and of its record if that still
// expires when the key says. t.writing is held, so that nobody renews it meanwhile.
func (t *pebbleTable) remove(b *pebble.Batch, indexed []byte) error {
	key := indexed[indexSize:]
	record, found, err := t.load(nil, key)
	if err != nil {
		return err
	}
	if found && len(record) >= expirySize && second(int64(binary.BigEndian.Uint64(record))) == binary.BigEndian.Uint64(indexed[1:]) {
		if err := b.Delete(key, nil); err != nil {
			return err
		}
	}
	return b.Delete(indexed, nil)
}
