package remote

import (
	"crypto/x509"
	"sync"
	"time"
)

// Bounds of connection reuse.
const (
	maxUses = 100 // messages over one connection
	maxIdle = 400 // idle connections in all
	// maxIdleKey is of them to one host. No more are there than were busy at once, which
	// the destination's window bounds; with fewer kept, each burst of endings closes
	// connections that the next messages open again.
	maxIdleKey = 100
)

// poolKey is what an idle connection is good for.
type poolKey struct {
	host  host
	way   way
	roots *x509.CertPool // those that its certificate was verified against
}

// pool keeps sessions for the next message to the same host. The zero value with
// a life is ready.
type pool struct {
	life time.Duration

	mu     sync.Mutex
	idle   map[poolKey][]*conn // the one used last at the end
	count  int
	closed bool
	owned  sync.WaitGroup // expiries
}

// take is an idle connection, nil where there is none.
func (p *pool) take(k poolKey) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[k]
	if len(list) == 0 {
		return nil
	}
	cn := list[len(list)-1]
	p.remove(k, cn)
	return cn
}

// put keeps cn for a while, or ends it where there is no room.
func (p *pool) put(cn *conn) {
	p.mu.Lock()
	if p.closed || cn.sent >= maxUses || p.count >= maxIdle || len(p.idle[cn.key()]) >= maxIdleKey {
		p.mu.Unlock()
		cn.leave()
		return
	}
	defer p.mu.Unlock()
	if p.idle == nil {
		p.idle = map[poolKey][]*conn{}
	}
	p.idle[cn.key()] = append(p.idle[cn.key()], cn)
	p.count++
	p.owned.Add(1)
	cn.timer = time.AfterFunc(p.life, func() {
		defer p.owned.Done()
		if p.expire(cn) {
			cn.quit()
		}
	})
}

// expire takes cn out. It reports false where somebody else took it.
func (p *pool) expire(cn *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remove(cn.key(), cn)
}

// remove takes cn off the idle list, if it is there; p.mu is held.
func (p *pool) remove(k poolKey, cn *conn) bool {
	list := p.idle[k]
	for i := range list {
		if list[i] != cn {
			continue
		}
		copy(list[i:], list[i+1:])
		list[len(list)-1] = nil
		if p.idle[k] = list[:len(list)-1]; len(p.idle[k]) == 0 {
			delete(p.idle, k)
		}
		p.count--
		if cn.timer.Stop() {
			p.owned.Done()
		}
		return true
	}
	return false
}

// close ends all idle connections and keeps no new ones.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*conn
	for k, list := range p.idle {
		for len(list) > 0 {
			cn := list[len(list)-1]
			p.remove(k, cn)
			all = append(all, cn)
			list = p.idle[k]
		}
	}
	p.mu.Unlock()
	for _, cn := range all {
		cn.leave()
	}
	p.owned.Wait()
}
