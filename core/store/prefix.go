package store

import (
	"context"
	"encoding/binary"
	"time"
)

// Prefixed returns the part of s that belongs to name: no key of one name is a
// key of another, whatever the names and keys. It shares all else with s;
// closing it does nothing, as s belongs to its opener.
func Prefixed(s Store, name string) Store {
	// The length keeps "a"+"bc" and "ab"+"c" apart.
	prefix := binary.AppendUvarint(nil, uint64(len(name)))
	return &prefixed{s, append(prefix, name...)}
}

type prefixed struct {
	all    Store
	prefix []byte
}

func (p *prefixed) key(key []byte) []byte {
	if len(key) == 0 {
		return nil // as wrong as without a prefix
	}
	out := make([]byte, 0, len(p.prefix)+len(key))
	return append(append(out, p.prefix...), key...)
}

// Get implements Store.
func (p *prefixed) Get(ctx context.Context, key []byte) ([]byte, bool, error) {
	return p.all.Get(ctx, p.key(key))
}

// Put implements Store.
func (p *prefixed) Put(ctx context.Context, key, value []byte, ttl time.Duration) error {
	return p.all.Put(ctx, p.key(key), value, ttl)
}

// Delete implements Store.
func (p *prefixed) Delete(ctx context.Context, key []byte) error {
	return p.all.Delete(ctx, p.key(key))
}

// Incr implements Store.
func (p *prefixed) Incr(ctx context.Context, key []byte, by int64, ttl time.Duration) (int64, error) {
	return p.all.Incr(ctx, p.key(key), by, ttl)
}

// Take implements Store.
func (p *prefixed) Take(ctx context.Context, key []byte, n, capacity float64, per time.Duration) (bool, time.Duration, error) {
	return p.all.Take(ctx, p.key(key), n, capacity, per)
}

// Swap implements Store.
func (p *prefixed) Swap(ctx context.Context, key, old, value []byte, ttl time.Duration) (bool, error) {
	return p.all.Swap(ctx, p.key(key), old, value, ttl)
}

// Close implements Store and does nothing.
func (p *prefixed) Close() error { return nil }
