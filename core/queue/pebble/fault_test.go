package pebble_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
)

// A world is a queue on a file system in memory that knows what was synced. Every
// change of that disk, by the engine or of a body file, passes before a hook.
type world struct {
	tb     testing.TB
	dir    string // of the lock
	mem    *vfs.MemFS
	q      *queue.Queue
	opened atomic.Int32                              // how often the engine was
	hook   atomic.Pointer[func(op errorfs.Op) error] // nil: nothing happens

	mu      sync.Mutex
	offered map[string]int  // id → size of the body, when its commit begins
	taken   map[string]bool // its commit returned nil
	going   map[string]bool // its removal begins
	gone    map[string]bool // its removal returned nil
}

func newWorld(tb testing.TB, mem *vfs.MemFS, on func(vfs.FS) queue.OpenEngine) (*world, error) {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), mem: mem, offered: map[string]int{}, taken: map[string]bool{}, going: map[string]bool{}, gone: map[string]bool{}}
	changes := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hook := w.hook.Load(); hook != nil && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return (*hook)(op)
		}
		return nil
	})
	files := errorfs.Wrap(mem, changes)
	disk, err := newMemDisk(files)
	if err != nil {
		return nil, err
	}
	// The lock is a real one; the rest of the directory is in memory.
	w.q, err = queue.Open(w.dir, func(_ string, o queue.EngineOptions) (queue.Engine, error) {
		w.opened.Add(1)
		return on(files)("/queue/db", o)
	}, queue.Options{Disk: disk, InlineLimit: 100_000})
	return w, err
}

// memDisk is a queue.Disk on Pebble's file system.
type memDisk struct {
	fs  vfs.FS
	dir vfs.File
}

const bodyDir = "/queue/bodies"

func newMemDisk(files vfs.FS) (*memDisk, error) {
	for _, dir := range []string{"/queue", bodyDir} {
		if err := files.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	for _, parent := range []string{"/", "/queue"} {
		d, err := files.OpenDir(parent)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return nil, err
		}
	}
	dir, err := files.OpenDir(bodyDir)
	return &memDisk{files, dir}, err
}

func (d *memDisk) path(name string) string { return bodyDir + "/" + name }

func (d *memDisk) Create(name string) (queue.BodyFile, error) {
	if _, err := d.fs.Stat(d.path(name)); err == nil {
		return nil, fs.ErrExist
	}
	f, err := d.fs.Create(d.path(name), "body")
	if err != nil {
		return nil, err
	}
	return memFile{f}, nil
}

func (d *memDisk) Open(name string) (queue.BodyFile, error) {
	f, err := d.fs.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return memFile{f}, nil
}

func (d *memDisk) Remove(name string) error { return d.fs.Remove(d.path(name)) }
func (d *memDisk) Sync() error              { return d.dir.Sync() }
func (d *memDisk) Free() (int64, error)     { return 1 << 40, nil }
func (d *memDisk) Close() error             { return d.dir.Close() }

func (d *memDisk) Names() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := d.fs.List(bodyDir)
		if err != nil {
			yield("", err)
		}
		for _, n := range names {
			if !yield(n, nil) {
				return
			}
		}
	}
}

type memFile struct{ vfs.File }

func (f memFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Write copies: a vfs.File may scribble on what it is given.
func (f memFile) Write(p []byte) (int, error) { return f.File.Write(bytes.Clone(p)) }

func (w *world) note(set map[string]bool, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set[id] = true
}

func (w *world) add(tb testing.TB, id string, size int) {
	w.mu.Lock()
	w.offered[id] = size
	w.mu.Unlock()
	if add(tb, w.q, envelope(id, 2), size) == nil {
		w.note(w.taken, id)
	}
}

func (w *world) remove(tb testing.TB, id string) {
	w.note(w.going, id)
	if w.q.Settle(tb.Context(), queue.Change{Message: envelope(id, 2), Remove: true}) == nil && w.taken[id] {
		w.note(w.gone, id)
	}
}

// story is every kind of step: small, large and very large messages, so many of
// them that the log is rotated and a memtable flushed; removals and a deferral.
func (w *world) story(tb testing.TB) {
	w.add(tb, id(1), 100)
	w.add(tb, id(2), 120_000)
	w.add(tb, id(3), 90_000)
	w.add(tb, id(4), 90_000)
	w.remove(tb, id(2))
	m := envelope(id(1), 2)
	m.Recipients[0].State = queue.Delivered
	_ = w.q.Settle(tb.Context(), queue.Change{Message: m}) // either state is right
	w.add(tb, id(5), 250_000)
	w.remove(tb, id(3))
	for i := range 4 {
		w.add(tb, id(10+i), 90_000)
	}
}

// facts is what the world knew at one moment.
type facts struct {
	offered            map[string]int
	taken, going, gone map[string]bool
}

func (w *world) facts() facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := facts{map[string]int{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for k, v := range w.offered {
		f.offered[k] = v
	}
	for k := range w.taken {
		f.taken[k] = true
	}
	for k := range w.going {
		f.going[k] = true
	}
	for k := range w.gone {
		f.gone[k] = true
	}
	return f
}

// check opens what a crash left and holds it against what was known before
// (promises to be kept) and after it (what may have happened).
func check(tb testing.TB, where string, disk *vfs.MemFS, on func(vfs.FS) queue.OpenEngine, before, after facts) {
	tb.Helper()
	w, err := newWorld(tb, disk, on)
	if err != nil {
		tb.Errorf("%s: does not open again: %v", where, err)
		return
	}
	defer mustClose(tb, w.q)
	found := map[string]bool{}
	for m, err := range w.q.All() {
		if err != nil {
			tb.Fatalf("%s: %v", where, err)
		}
		found[m.ID] = true
		size, ok := after.offered[m.ID]
		if !ok || len(m.Recipients) != 2 {
			tb.Errorf("%s: message %s was never there", where, m.ID)
		}
		if b, err := bodyOf(tb, w.q, m.ID); err != nil || !bytes.Equal(b, stored(size)) {
			tb.Errorf("%s: message %s is half there: %d bytes, %v", where, m.ID, len(b), err)
		}
		if before.gone[m.ID] {
			tb.Errorf("%s: message %s came back", where, m.ID)
		}
	}
	for id := range before.taken {
		if !found[id] && !after.going[id] {
			tb.Errorf("%s: message %s was accepted and is lost", where, id)
		}
	}
	if got := w.q.Totals(); got.Messages != len(found) || got.Damaged != 0 {
		tb.Errorf("%s: %d messages, and totals %+v", where, len(found), got)
	}
	if got := due(tb, w.q, birth); len(got) != len(found) {
		tb.Errorf("%s: %d messages, due are %v", where, len(found), got)
	}
	names, err := disk.List(bodyDir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		if !found[name] {
			tb.Errorf("%s: the file %s was left behind", where, name)
		}
	}
	mustAdd(tb, w.q, envelope("afterwards", 1), 500)
}

// TestPowerCutAtEveryStep cuts the power before each change of the disk, keeping
// only what was synced, and now and then half of the rest, too.
func TestPowerCutAtEveryStep(t *testing.T) { eachJournal(t, testPowerCutAtEveryStep) }

// eachJournal runs a test with the journal as it is, and with one that is soon full.
func eachJournal(t *testing.T, test func(*testing.T, func(vfs.FS) queue.OpenEngine)) {
	t.Run("journal=usual", func(t *testing.T) { test(t, pebble.On) })
	t.Run("journal=small", func(t *testing.T) { test(t, pebble.OnSmall) })
}

func testPowerCutAtEveryStep(t *testing.T, on func(vfs.FS) queue.OpenEngine) {
	type cut struct {
		where string
		disk  *vfs.MemFS
		known facts
	}
	var mu sync.Mutex
	var cuts []cut
	n := 0
	mem := vfs.NewCrashableMem()
	w, err := newWorld(t, mem, on)
	if err != nil {
		t.Fatal(err)
	}
	hook := func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		known := w.facts()
		where := fmt.Sprint("before ", op.Kind, " ", op.Path)
		cuts = append(cuts, cut{where, mem.CrashClone(vfs.CrashCloneCfg{}), known})
		if n++; n%3 == 0 {
			some := vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, uint64(n)))}
			cuts = append(cuts, cut{where + ", half kept", mem.CrashClone(some), known})
		}
		return nil
	}
	w.hook.Store(&hook)
	w.story(t)
	mustClose(t, w.q)
	if w.q.Failed() != nil || len(w.taken) != 9 {
		t.Fatalf("the story went wrong: %v, %v", w.q.Failed(), w.taken)
	}
	if n < 40 {
		t.Errorf("only %d cuts", n)
	}
	all := w.facts()
	t.Log(len(cuts), "cuts")
	for _, c := range cuts {
		check(t, c.where, c.disk, on, c.known, all)
	}
}

// TestEveryFailureOfTheDisk fails each change of the disk in turn: that one
// alone, as with a bad sector, or all from then on, as with a dead disk.
func TestEveryFailureOfTheDisk(t *testing.T) { eachJournal(t, testEveryFailureOfTheDisk) }

func testEveryFailureOfTheDisk(t *testing.T, on func(vfs.FS) queue.OpenEngine) {
	bad := errors.New("input/output error")
	for _, dead := range []bool{false, true} {
		failedHandles := 0
		for n := range 1000 {
			mem := vfs.NewCrashableMem()
			w, err := newWorld(t, mem, on)
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			count, where := 0, ""
			hook := func(op errorfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				count++
				if count-1 == n || dead && count-1 > n {
					if where == "" {
						where = fmt.Sprint(op.Kind, " ", op.Path, " fails")
					}
					return bad
				}
				return nil
			}
			w.hook.Store(&hook)
			w.story(t)
			known := w.facts()
			if w.q.Failed() != nil {
				failedHandles++
				if err := add(t, w.q, envelope("toolate01", 1), 10); !errors.Is(err, queue.ErrFailed) {
					t.Errorf("%s: a message for a failed queue: %v", where, err)
				}
			}
			if err := w.q.Close(); err != nil && where == "" {
				t.Error(err)
			}
			mu.Lock()
			at := where
			mu.Unlock()
			pebble.NoneLeft(t, at)
			if at == "" {
				if n < 40 {
					t.Errorf("only %d steps", n)
				}
				break
			}
			check(t, at, mem.CrashClone(vfs.CrashCloneCfg{}), on, known, known)
			check(t, at+", no crash", mem, on, known, known)
		}
		t.Log(failedHandles, "handles failed")
		if failedHandles < 20 {
			t.Errorf("only %d failures ended the handle", failedHandles)
		}
	}
}
