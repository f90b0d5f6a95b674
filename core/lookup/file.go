package lookup

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a file.
const (
	maxText  = 256 << 20
	maxTOML  = 16 << 20
	maxValue = 1 << 20 // bytes of one value of a constant database, or of a service
)

// look is how often a file is looked at again, at most.
const look = time.Second

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

// file is a map and its file. It implements one.
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

func (f *file) get(_ context.Context, key string) (any, bool, error) { return f.now().get(key) }

func (f *file) of() Source { return f.source }

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
