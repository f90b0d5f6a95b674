package lookup

import (
	"context"
	"fmt"
	"sync"
)

// Memory is maps that stand in no file, and behind them others. The zero value has
// none. It is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	maps   map[string]entries
	behind Getter
}

// Put makes a map, or another one of that name. Values are as Get gives them.
func (m *Memory) Put(name string, values map[string]any) {
	all := entries{}
	for key, v := range values {
		all[stored(key)] = v
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.maps == nil {
		m.maps = map[string]entries{}
	}
	m.maps[name] = all
}

// Behind says who is asked for maps that m has not got; nil: nobody.
func (m *Memory) Behind(g Getter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.behind = g
}

// Get implements Getter.
func (m *Memory) Get(ctx context.Context, name, key string) (any, bool, error) {
	m.mu.Lock()
	all, behind := m.maps[name], m.behind
	m.mu.Unlock()
	switch {
	case all != nil:
		return all.get(key)
	case behind != nil:
		return behind.Get(ctx, name, key)
	}
	return nil, false, fmt.Errorf("%w: %q", ErrNoMap, name)
}
