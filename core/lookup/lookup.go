// Package lookup holds named maps: keys and values that stand in files, or that a
// database or another service has, which policies ask and the site edits while the
// server runs.
//
//   - lookup.go: the maps by name.
//   - file.go: maps of files, and when one is read again.
//   - text.go: lists of lines, and TOML.
//   - cdb.go: constant databases.
//   - service.go: what all services share: deadline, bound, cache, failures.
//   - cache.go: answers that are remembered.
//   - template.go: places for the key in a query, and how it is kept from being more.
//   - http.go, sql.go, redis.go, ldap.go: one kind of service each.
//   - ask.go: questions that try several keys, for domains, addresses, recipients and networks.
//   - memory.go: maps that stand nowhere, for tests of policies.
package lookup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Types of maps.
const (
	Text       = "text" // "key value…" on each line; blank lines and those that begin with # do not count
	TOML       = "toml" // keys and values, which may be tables and lists
	CDB        = "cdb"  // a constant database, in D. J. Bernstein's format
	SQLite     = "sqlite"
	PostgreSQL = "postgresql"
	Redis      = "redis"
	LDAP       = "ldap"
	HTTP       = "http"
)

// Source says where a map comes from. Sources are compared with ==.
type Source struct {
	Name string
	Type string
	Path string // of a file, or of an SQLite database
	URL  string // of another service, without a password

	// What services are asked. {key} stands for the key, {user} and {domain} for its
	// parts before and behind the last @ (without one: all of it, and nothing).
	Query        string // SQL: a SELECT; Redis: a command that reads; LDAP: a filter
	Base         string // LDAP: where the search begins
	Scope        string // LDAP: "sub", "one" or "base"
	Attributes   string // LDAP: names, parted by blanks; "": the entry's name is the value
	StartTLS     bool   // LDAP
	User         string
	PasswordFile string // whose first line is the password, read for each connection

	Timeout     time.Duration // of one question, all in all
	Concurrency int           // questions, and connections, at a time
	Positive    time.Duration // how long an answer counts
	Negative    time.Duration // how long it counts that there is none
	Entries     int           // answers that are remembered
	Stale       bool          // where a question fails, an older answer counts
}

// Service tells whether the map is one that is asked for each key.
func (s *Source) Service() bool {
	switch s.Type {
	case SQLite, PostgreSQL, Redis, LDAP, HTTP:
		return true
	}
	return false
}

// Options of Open.
type Options struct {
	// Log is told of files that can't be read again, and of services that fail; nil:
	// nobody is.
	Log *slog.Logger
	// Now is the clock of files and caches; nil: time.Now.
	Now func() time.Time
	// Roots are the authorities that certificates of services must come from; nil:
	// the system's.
	Roots *x509.CertPool
}

// Set is some maps by name. It is safe for concurrent use, and never changes; what
// its maps hold follows their files and services.
type Set struct {
	maps  map[string]one
	names []string
}

// one is one map.
type one interface {
	get(ctx context.Context, key string) (value any, found bool, err error)
	of() Source
}

// Getter answers questions to maps, as Set does.
type Getter interface {
	Get(ctx context.Context, name, key string) (value any, found bool, err error)
}

// Failure is a map that can't be opened.
type Failure struct {
	Index int    // in the list of sources
	Key   string // of its [[lookup]] entry: "source", "query"…
	Err   error
}

// fault is an error that belongs to one key of an entry.
type fault struct {
	key string
	error
}

func (f fault) Unwrap() error { return f.error }

// Open opens the maps: it reads files, and connects to no service. Of old, which
// may be nil, it takes over those that have the same source, so that only what is
// new or has changed is read, and answers stay remembered. A map that can't be
// opened is among the failures, and not in the Set. What is not used any more is
// closed with the last reference to it.
func Open(sources []Source, old *Set, o Options) (*Set, []Failure) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{maps: map[string]one{}}
	var failures []Failure
	for i, source := range sources {
		m, err := openOne(source, old, o)
		if err != nil {
			f := Failure{i, "source", err}
			if at, ok := errors.AsType[fault](err); ok {
				f.Key, f.Err = at.key, at.error
			}
			failures = append(failures, f)
			continue
		}
		s.maps[source.Name] = m
		s.names = append(s.names, source.Name)
	}
	return s, failures
}

func openOne(source Source, old *Set, o Options) (one, error) {
	var before one
	if old != nil && old.maps[source.Name] != nil && old.maps[source.Name].of() == source {
		before = old.maps[source.Name]
	}
	if source.Service() {
		// Other authorities make another connection.
		if s, ok := before.(*service); ok && s.options.Roots.Equal(o.Roots) {
			return s, nil
		}
		return newService(source, o)
	}
	f, ok := before.(*file)
	if !ok {
		f = &file{source: source, options: o}
	}
	return f, f.renew()
}

// Reach asks each service whether it is there and takes the question, for a
// configuration's check. It returns those that failed, by name.
func (s *Set) Reach(ctx context.Context) map[string]error {
	failed := map[string]error{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for name, m := range s.maps {
		m, ok := m.(*service)
		if !ok {
			continue
		}
		asking.Go(func() {
			if err := m.reach(ctx); err != nil {
				mu.Lock()
				failed[name] = err
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	return failed
}

// Names lists the maps in the order in which they were given.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// Has tells whether there is a map of that name.
func (s *Set) Has(name string) bool { return s.maps[name] != nil }

// ErrNoMap is the error of a question to a map that there is not.
var ErrNoMap = errors.New("there is no such map")

// Get is the value of a key: a string, float64, bool, []any or map[string]any,
// which the caller does not change; and whether there is one. In text and TOML,
// letter case of ASCII in keys does not count; of a constant database the key is
// asked as it is, and then in lower case; services are asked in lower case. An
// error is temporary, ErrNoMap aside; a file never has one. It may wait for a
// service as long as ctx and the map's own bound allow.
func (s *Set) Get(ctx context.Context, name, key string) (value any, found bool, err error) {
	m := s.maps[name]
	if m == nil {
		return nil, false, fmt.Errorf("%w: %q", ErrNoMap, name)
	}
	return m.get(ctx, key)
}
