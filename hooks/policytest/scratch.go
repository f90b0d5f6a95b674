package policytest

import (
	"context"
	"errors"
	"time"

	"github.com/postern-mta/postern/core/store"
)

// scratch is the store of a test, which fails where the test wants it to.
type scratch struct {
	store.Store
	h *harness
}

var errDown = errors.New("the store is down (t:store)")

// setStore is t:store "down": every call of the store fails, until t:store "up".
func (h *harness) setStore(args []any) (any, error) {
	how, err := text(args, 0)
	if err != nil || how != "down" && how != "up" {
		return nil, errors.New(`write t:store "down", or t:store "up"`)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = how == "down"
	return nil, nil
}

// setLookup is t:lookup(name, values): the map of that name, from now on, or with
// "down" that it does not answer.
func (h *harness) setLookup(args []any) (any, error) {
	name, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	down := len(args) == 2 && args[1] == "down"
	h.mu.Lock()
	h.mapsDown[name] = down
	h.mu.Unlock()
	if down {
		return nil, nil
	}
	values, err := table(args, 1)
	if err != nil {
		return nil, err
	}
	h.maps.Put(name, values)
	return nil, nil
}

// mapped are the maps of a test.
type mapped harness

// Get implements lookup.Getter.
func (m *mapped) Get(ctx context.Context, name, key string) (any, bool, error) {
	m.mu.Lock()
	down := m.mapsDown[name]
	m.mu.Unlock()
	if down {
		return nil, false, errors.New("the map is down (t:lookup)")
	}
	return m.maps.Get(ctx, name, key)
}

func (s scratch) fails() error {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.down {
		return errDown
	}
	return nil
}

// Get implements store.Store.
func (s scratch) Get(ctx context.Context, key []byte) (value []byte, ok bool, err error) {
	if err := s.fails(); err != nil {
		return nil, false, err
	}
	return s.Store.Get(ctx, key)
}

// Put implements store.Store.
func (s scratch) Put(ctx context.Context, key, value []byte, ttl time.Duration) error {
	if err := s.fails(); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, value, ttl)
}

// Delete implements store.Store.
func (s scratch) Delete(ctx context.Context, key []byte) error {
	if err := s.fails(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// Incr implements store.Store.
func (s scratch) Incr(ctx context.Context, key []byte, by int64, ttl time.Duration) (int64, error) {
	if err := s.fails(); err != nil {
		return 0, err
	}
	return s.Store.Incr(ctx, key, by, ttl)
}

// Take implements store.Store.
func (s scratch) Take(ctx context.Context, key []byte, n, capacity float64, per time.Duration) (allowed bool, retry time.Duration, err error) {
	if err := s.fails(); err != nil {
		return false, 0, err
	}
	return s.Store.Take(ctx, key, n, capacity, per)
}

// Swap implements store.Store.
func (s scratch) Swap(ctx context.Context, key, old, value []byte, ttl time.Duration) (swapped bool, err error) {
	if err := s.fails(); err != nil {
		return false, err
	}
	return s.Store.Swap(ctx, key, old, value, ttl)
}
