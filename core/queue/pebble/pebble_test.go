package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/postern-mta/postern/core/disk"
	"github.com/postern-mta/postern/core/queue"
)

func openOn(t *testing.T, files vfs.FS, o queue.EngineOptions) queue.Engine {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e, err := On(files)("/db", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func put(key string, parts ...string) queue.Write {
	w := queue.Write{Key: []byte(key)}
	for _, p := range parts {
		w.Value = append(w.Value, []byte(p))
	}
	return w
}

// dump is every key and value of a range.
func dump(t *testing.T, e queue.Engine, from, to string) string {
	t.Helper()
	c, err := e.Range([]byte(from), []byte(to))
	if err != nil {
		t.Fatal(err)
	}
	return drain(t, c)
}

func drain(t *testing.T, c queue.Cursor) string {
	t.Helper()
	var b strings.Builder
	for c.Next() {
		v, err := c.Value()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s=%s ", c.Key(), v)
	}
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWritesAreOrderedAndAtomic(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		mem := vfs.NewCrashableMem()
		e := openOn(t, mem, queue.EngineOptions{NoSync: noSync})
		if err := e.Commit([]queue.Write{put("b", "x", "", "y"), put("a"), put("c", "z")}); err != nil {
			t.Fatal(err)
		}
		before, err := e.Range([]byte("a"), []byte("z"))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Commit([]queue.Write{{Key: []byte("b"), Delete: true}, put("d", "w"), {Key: []byte("never"), Delete: true}}); err != nil {
			t.Fatal(err)
		}
		if got := drain(t, before); got != "a= b=xy c=z " {
			t.Errorf("the earlier state: %q", got)
		}
		if got := dump(t, e, "a", "d"); got != "a= c=z " {
			t.Errorf("a range: %q", got)
		}
		if got := dump(t, e, "z", "a"); got != "" {
			t.Errorf("a range that is none: %q", got)
		}
		if _, _, err := e.Get([]byte("b")); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{})
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Get([]byte("a")); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if noSync {
			continue
		}
		again := openOn(t, crashed, queue.EngineOptions{ReadOnly: true})
		if got := dump(t, again, "a", "z"); got != "a= c=z d=w " {
			t.Errorf("after a power cut: %q", got)
		}
		if err := again.Commit([]queue.Write{put("e")}); !errors.Is(err, queue.ErrReadOnly) {
			t.Errorf("read-only: %v", err)
		}
	}
}

// TestFailedSyncAnswersEveryCaller: of many commits on their way when the log
// fails, each gets an answer, none an acknowledgement that does not hold.
func TestFailedSyncAnswersEveryCaller(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpOpen, errorfs.OpRename} {
		mem := vfs.NewCrashableMem()
		var count, hits atomic.Int64
		bad := errors.New("input/output error")
		files := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if count.Load() > 100 && op.Kind == kind {
				hits.Add(1)
				return bad
			}
			return nil
		}))
		e := openOn(t, files, queue.EngineOptions{})
		var mu sync.Mutex
		kept := map[string]bool{}
		var wg sync.WaitGroup
		for p := range 16 {
			wg.Go(func() {
				for i := range 200 {
					key := fmt.Sprintf("k%02d-%03d", p, i)
					count.Add(1)
					if err := e.Commit([]queue.Write{put(key, strings.Repeat("v", 2000))}); err != nil {
						if !errors.Is(err, bad) {
							t.Errorf("%s: %v", key, err)
						}
						return
					}
					mu.Lock()
					kept[key] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if hits.Load() == 0 { // that is never done here
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if _, _, err := e.Get([]byte("k00-000")); !errors.Is(err, bad) {
			t.Errorf("kind %v: read after the failure: %v", kind, err)
		}
		if err := e.Close(); err != nil { // waits for what had begun
			t.Error(err)
		}
		if !errors.Is(e.Failed(), bad) {
			t.Errorf("kind %v: %v", kind, e.Failed())
		}
		NoneLeft(t, fmt.Sprint("kind ", kind))
		for _, disk := range []*vfs.MemFS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} {
			again := openOn(t, disk, queue.EngineOptions{})
			for key := range kept {
				_, done, err := again.Get([]byte(key))
				if err != nil {
					t.Fatalf("kind %v: %s was acknowledged: %v", kind, key, err)
				}
				done()
			}
			if err := errors.Join(again.Commit([]queue.Write{put("after")}), again.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestFailuresOfOpenAreItsErrors: whatever fails while it opens, Open returns.
func TestFailuresOfOpenAreItsErrors(t *testing.T) {
	bad := errors.New("input/output error")
	for n := range int64(200) {
		mem := vfs.NewMem()
		var count atomic.Int64
		e, err := On(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && count.Add(1)-1 == n {
				return bad
			}
			return nil
		})))("/db", queue.EngineOptions{Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = e.Commit([]queue.Write{put("k")})
			if cerr := e.Close(); err == nil && cerr == nil && count.Load() <= n {
				if n < 10 {
					t.Errorf("only %d steps", n)
				}
				return
			}
		}
		again := openOn(t, mem, queue.EngineOptions{})
		if _, done, gerr := again.Get([]byte("k")); gerr == nil {
			done()
		} else if err == nil {
			t.Errorf("step %d: acknowledged, and %v", n, gerr)
		}
	}
	t.Error("no end of steps")
}

func TestFatalfEndsTheHandleAndNotTheProcess(t *testing.T) {
	g := disk.NewGuard(vfs.NewMem(), slog.New(slog.DiscardHandler))
	go logger{g, slog.New(slog.DiscardHandler)}.Fatalf("MANIFEST %s", "lost")
	<-g.Ended()
	if err := g.Failed(); err == nil || !strings.Contains(err.Error(), "MANIFEST lost") {
		t.Errorf("%v", err)
	}
}

func TestCloseWaitsForCursors(t *testing.T) {
	e := openOn(t, vfs.NewMem(), queue.EngineOptions{})
	if err := e.Commit([]queue.Write{put("k", "v")}); err != nil {
		t.Fatal(err)
	}
	c, err := e.Range([]byte("a"), []byte("z"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- e.Close() }()
	if got := drain(t, c); got != "k=v " {
		t.Errorf("%q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
