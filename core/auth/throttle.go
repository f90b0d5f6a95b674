package auth

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// throttle counts the failures of each client: an IPv4 address or an IPv6 /64.
// Its zero value is ready. A failure is forgotten after forgetAfter, one at a
// time; a login that succeeds forgets nothing, since whoever has one account
// could else guess at the others.
type throttle struct {
	mu      sync.Mutex
	clients map[netip.Prefix]*strikes
}

type strikes struct {
	count   float64 // failures not forgotten at the time at
	at      time.Time
	pending int // logins under way: each counts as if it had failed
}

const (
	maxStrikes  = 20              // a client with that many is turned away
	forgetAfter = 3 * time.Minute // one failure
	maxClients  = 1 << 16
	firstWait   = 250 * time.Millisecond // doubles with each failure
	maxWait     = 8 * time.Second
)

// throttleKey is what counts as one client; ok is false for one without an
// address, which is never turned away.
func throttleKey(client netip.Addr) (_ netip.Prefix, ok bool) {
	client = client.Unmap()
	bits := 64
	if client.Is4() {
		bits = 32
	}
	p, err := client.Prefix(bits)
	return p, err == nil && client.IsValid()
}

// enter tells whether a client may try.
func (t *throttle) enter(client netip.Addr) bool {
	key, ok := throttleKey(client)
	if !ok {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	s := t.clients[key]
	if s == nil {
		s = &strikes{at: now}
		t.add(key, s, now)
	}
	s.forget(now)
	if s.count+float64(s.pending) >= maxStrikes {
		return false
	}
	s.pending++
	return true
}

// leave ends what enter allowed and tells how long a failure waits.
func (t *throttle) leave(client netip.Addr, failed bool) time.Duration {
	key, ok := throttleKey(client)
	if !ok {
		return firstWait
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	s := t.clients[key]
	if s == nil { // pushed out by others
		return maxWait
	}
	s.pending = max(0, s.pending-1)
	s.forget(now)
	if failed {
		s.count++
	}
	if s.count == 0 && s.pending == 0 {
		delete(t.clients, key)
	}
	doublings := math.Min(s.count-1, 10)
	return min(maxWait, time.Duration(float64(firstWait)*math.Pow(2, max(0, doublings))))
}

func (s *strikes) forget(now time.Time) {
	if d := now.Sub(s.at); d > 0 {
		s.count = max(0, s.count-float64(d)/float64(forgetAfter))
	}
	s.at = now
}

// add makes room where there is none: for those whose failures are forgotten,
// else at the cost of any.
func (t *throttle) add(key netip.Prefix, s *strikes, now time.Time) {
	if t.clients == nil {
		t.clients = map[netip.Prefix]*strikes{}
	}
	if len(t.clients) >= maxClients {
		for k, old := range t.clients {
			if old.forget(now); old.count == 0 && old.pending == 0 {
				delete(t.clients, k)
			}
		}
		for k := range t.clients {
			if len(t.clients) < maxClients*15/16 {
				break
			}
			delete(t.clients, k)
		}
	}
	t.clients[key] = s
}
