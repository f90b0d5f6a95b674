// Package lookup holds named maps: keys and values that stand in files, which
// policies ask and the site edits while the server runs.
//
//   - lookup.go: the maps by name, and when a file is read again.
//   - text.go: lists of lines, and TOML.
//   - cdb.go: constant databases.
//   - ask.go: questions that try several keys, for domains, addresses and networks.
//   - memory.go: maps that stand nowhere, for tests of policies.
package lookup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The types of files.
const (
	Text = "text" // "key value…" on each line; blank lines and those that begin with # do not count
	TOML = "toml" // keys and values, which may be tables and lists
	CDB  = "cdb"  // a constant database, in D. J. Bernstein's format
)

// Bounds of a file.
const (
	maxText  = 256 << 20
	maxTOML  = 16 << 20
	maxValue = 1 << 20 // bytes of one value of a constant database
)

// look is how often a file is looked at again, at most.
const look = time.Second

// Source says where a map comes from.
type Source struct {
	Name string
	Type string // Text, TOML or CDB
	Path string
}

// Options of Open.
type Options struct {
	// Log is told of files that can't be read again; nil: nobody is.
	Log *slog.Logger
	// Now is the clock that tells when a file is looked at again; nil: time.Now.
	Now func() time.Time
}

// Set is some maps by name. It is safe for concurrent use, and never changes; what
// its maps hold follows their files.
type Set struct {
	maps  map[string]*file
	names []string
}

// Getter answers questions to maps, as Set does.
type Getter interface {
	Get(name, key string) (value any, found bool, err error)
}

// Failure is a map that can't be opened.
type Failure struct {
	Index int // in the list of sources
	Err   error
}

// Open reads the maps. Of old, which may be nil, it takes over those that have the
// same source, so that only what is new or has changed is read. A map that can't be
// opened is among the failures, and not in the Set.
func Open(sources []Source, old *Set, o Options) (*Set, []Failure) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{maps: map[string]*file{}}
	var failures []Failure
	for i, source := range sources {
		f := &file{source: source, options: o}
		if old != nil && old.maps[source.Name] != nil && old.maps[source.Name].source == source {
			f = old.maps[source.Name]
		}
		if err := f.renew(); err != nil {
			failures = append(failures, Failure{i, err})
			continue
		}
		s.maps[source.Name] = f
		s.names = append(s.names, source.Name)
	}
	return s, failures
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
// asked as it is, and then in lower case.
func (s *Set) Get(name, key string) (value any, found bool, err error) {
	f := s.maps[name]
	if f == nil {
		return nil, false, fmt.Errorf("%w: %q", ErrNoMap, name)
	}
	return f.now().get(key)
}

// table is the content of a file at one time. It is safe for concurrent use.
type table interface {
	get(key string) (any, bool, error)
}

// stamp tells one state of a file from another.
type stamp struct {
	size, inode int64
	modified    time.Time
}

func stampOf(info os.FileInfo) stamp {
	return stamp{info.Size(), inode(info), info.ModTime()}
}

// file is a map and its file.
type file struct {
	source  Source
	options Options
	content atomic.Pointer[table]
	due     atomic.Int64 // when it is to be looked at again, in nanoseconds since 1970

	mu     sync.Mutex // held while it is looked at
	stamp  stamp      // of content
	failed stamp      // of a state that could not be read, and was told of
}

// now is the content, read again where the file has changed. While one caller
// reads, the others are answered with what was there before.
func (f *file) now() table {
	if at := f.options.Now().UnixNano(); at >= f.due.Load() && f.mu.TryLock() {
		defer f.mu.Unlock()
		if err := f.read(); err != nil {
			f.options.Log.Warn("a map can't be read again: what it held before goes on to count", "lookup", f.source.Name, "path", f.source.Path, "error", err.Error())
		}
	}
	return *f.content.Load()
}

// renew reads the file where it has changed.
func (f *file) renew() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = stamp{}
	if err := f.read(); err != nil {
		return err
	}
	return nil
}

// errChanged is a file that was written while it was read: the next look reads it.
var errChanged = errors.New("the file was changed while it was read; write a new one and rename it")

// read looks at the file. Of each state that can't be read it gives one error.
func (f *file) read() error {
	f.due.Store(f.options.Now().Add(look).UnixNano())
	in, err := os.Open(f.source.Path)
	if err != nil {
		return f.fail(stamp{size: -1}, err)
	}
	kept := false
	defer func() {
		if !kept {
			_ = in.Close()
		}
	}()
	info, err := in.Stat()
	if err != nil {
		return f.fail(stamp{size: -1}, err)
	}
	now := stampOf(info)
	if f.content.Load() != nil && now == f.stamp {
		return nil
	}
	if !info.Mode().IsRegular() {
		return f.fail(now, errors.New("it is no plain file"))
	}
	var t table
	switch f.source.Type {
	case CDB:
		t, err = openCDB(in, info.Size())
		kept = err == nil // closed with the last reference to it
	case TOML:
		t, err = readTOML(in, info.Size())
	default:
		t, err = readText(in, info.Size())
	}
	if err != nil {
		return f.fail(now, err)
	}
	if again, err := os.Stat(f.source.Path); f.content.Load() != nil && err == nil && stampOf(again) != now {
		return f.fail(now, errChanged)
	}
	f.content.Store(&t)
	f.stamp, f.failed = now, stamp{}
	return nil
}

// fail is an error that is told once of each state.
func (f *file) fail(at stamp, err error) error {
	if f.failed == at {
		return nil
	}
	f.failed = at
	return err
}
