package remote

import (
	"sync"
	"time"
)

// maxMarks bounds a memory of hosts; beyond it they start anew.
const maxMarks = 10_000

// marks remembers hosts for a while, by their place. The zero value with a life is ready.
type marks struct {
	life time.Duration

	mu    sync.Mutex
	until map[host]time.Time
}

func (m *marks) set(a host) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.until == nil {
		m.until = map[host]time.Time{}
	}
	if len(m.until) >= maxMarks {
		for k, t := range m.until {
			if t.Before(now) {
				delete(m.until, k)
			}
		}
	}
	if len(m.until) >= maxMarks {
		clear(m.until)
	}
	m.until[a] = now.Add(m.life)
}

func (m *marks) has(a host) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.until[a]
	return ok && time.Now().Before(t)
}

func (m *marks) drop(a host) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.until, a)
}

func (m *marks) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.until)
}

// each calls f with each host that is marked, and when that began.
func (m *marks) each(f func(h host, since time.Time)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for h, until := range m.until {
		if now.Before(until) {
			f(h, until.Add(-m.life))
		}
	}
}
