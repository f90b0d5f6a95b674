package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// bucket is the content of a bucket's record: the tokens there were at a time.
// An absent bucket is a full one, so records live only until they are full.
type bucket struct {
	tokens float64
	at     int64 // nanoseconds since 1970
}

const bucketSize = 16

func parseBucket(content []byte) (bucket, error) {
	if len(content) != bucketSize {
		return bucket{}, fmt.Errorf("store: bucket of %d bytes: %w", len(content), ErrDamaged)
	}
	return bucket{
		tokens: math.Float64frombits(binary.BigEndian.Uint64(content)),
		at:     int64(binary.BigEndian.Uint64(content[8:])),
	}, nil
}

func (b bucket) bytes() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, bucketSize), math.Float64bits(b.tokens))
	return binary.BigEndian.AppendUint64(out, uint64(b.at))
}

// refilled returns the bucket as it is now. A clock that went back adds nothing.
func (b bucket) refilled(now int64, capacity float64, per time.Duration) bucket {
	elapsed := max(0, float64(now-b.at))
	return bucket{min(capacity, b.tokens+capacity*(elapsed/float64(per))), now}
}

// Take implements Store.
func (e *Embedded) Take(ctx context.Context, key []byte, n, capacity float64, per time.Duration) (bool, time.Duration, error) {
	if !(n >= 0 && n <= capacity) || math.IsInf(capacity, 0) || capacity == 0 || per <= 0 {
		return false, 0, ErrBucket
	}
	done, err := e.change(ctx, key)
	if err != nil {
		return false, 0, err
	}
	defer done()
	now := e.now().UnixNano()
	at, err := e.read(bucketSpace, key, now)
	if err != nil {
		return false, 0, err
	}
	b := bucket{capacity, now}
	if at.live {
		if b, err = parseBucket(at.content); err != nil {
			return false, 0, err
		}
		b = b.refilled(now, capacity, per)
	}
	// Who comes back after retry must not find a billionth of a token missing.
	if b.tokens+capacity*1e-9 < n {
		wait := math.Ceil((n - b.tokens) / capacity * float64(per))
		return false, max(1, time.Duration(min(wait, float64(per)))), nil
	}
	if n == 0 {
		return true, 0, nil
	}
	b.tokens = max(0, b.tokens-n)
	// Kept until it is surely full. Twice that when the expiry has to move, so
	// that a busy bucket moves it once in a period and not with each token.
	expires := at.expires
	if full := expiry(now, per); !at.live || expires != 0 && (full == 0 || expires < full) {
		expires = expiry(now, 2*min(per, math.MaxInt64/2))
	}
	if err := e.write(at, b.bytes(), expires); err != nil {
		return false, 0, err
	}
	return true, 0, nil
}
