package lua

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"sync"
)

// maxCached bounds the scripts that a Cache keeps; one more, and it begins anew.
const maxCached = 1000

// Cache keeps what compiling scripts gave, so that a reload reads and analyses only
// what has changed. It is safe for concurrent use; its zero value is ready.
type Cache struct {
	mu      sync.Mutex
	scripts map[cacheKey]*compiled
	chunks  map[cacheKey]*chunk
}

// cacheKey is one state of a file.
type cacheKey struct {
	name string
	sum  [sha256.Size]byte
}

// compiled is a script that was compiled without an error.
type compiled struct {
	script   *Script
	problems []Problem
}

// recall is the script as it was compiled before with options like o, nil where it
// was not, or where a module has changed since.
func (c *Cache) recall(key cacheKey, o Options) (*Script, []Problem) {
	c.mu.Lock()
	found := c.scripts[key]
	c.mu.Unlock()
	if found == nil {
		return nil, nil
	}
	s := found.script.over(o)
	for name, m := range s.modules {
		source, _, problem := o.moduleSource(name)
		if problem != nil || sha256.Sum256(source) != m.sum {
			return nil, nil
		}
	}
	return s, slices.Clone(found.problems)
}

// over is the same script with other options.
func (s *Script) over(o Options) *Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Script{
		name: s.name, short: s.short, options: o, chunk: s.chunk, known: s.known, modules: maps.Clone(s.modules),
		about: s.about, settings: s.settings, stages: s.stages, failOpen: s.failOpen, immune: s.immune, timeout: s.timeout, denyAt: s.denyAt, every: s.every,
	}
}

// keep remembers a script. What its settings say of files must be looked at each
// time.
func (c *Cache) keep(key cacheKey, s *Script, problems []Problem) {
	for _, d := range s.settings {
		if strings.Contains(d.kind.String(), "file") {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scripts == nil || len(c.scripts) >= maxCached {
		c.scripts = map[cacheKey]*compiled{}
	}
	c.scripts[key] = &compiled{s.over(Options{}), slices.Clone(problems)}
}

// chunk is a file, compiled; one that has an error is not kept. c may be nil.
func (c *Cache) chunk(name string, source []byte, known []string, cover *Coverage) (*chunk, *Problem) {
	if c == nil || cover != nil {
		return compileChunk(name, source, known, cover)
	}
	key := cacheKey{name, sha256.Sum256(source)}
	c.mu.Lock()
	found := c.chunks[key]
	c.mu.Unlock()
	if found != nil {
		return found, nil
	}
	made, problem := compileChunk(name, source, known, nil)
	if problem != nil {
		return nil, problem
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chunks == nil || len(c.chunks) >= maxCached {
		c.chunks = map[cacheKey]*chunk{}
	}
	c.chunks[key] = made
	return made, nil
}
