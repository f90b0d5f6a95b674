package pebble_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
)

var errDisk = errors.New("input/output error")

// failing is a world of which the changes of the disk fail at will, in a bubble.
func failing(t *testing.T, test func(w *world, fail func(func(op errorfs.Op) bool))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(t, vfs.NewCrashableMem(), pebble.On)
		if err != nil {
			t.Fatal(err)
		}
		test(w, func(which func(op errorfs.Op) bool) {
			hook := func(op errorfs.Op) error {
				if which != nil && which(op) {
					return errDisk
				}
				return nil
			}
			w.hook.Store(&hook)
		})
		mustClose(t, w.q)
		pebble.NoneLeft(t, "after Close")
	})
}

// failure is syncs until the store has failed: that of a segment that is made ready
// ends nothing.
func (w *world) failure() func(op errorfs.Op) bool {
	var done atomic.Bool
	return func(op errorfs.Op) bool {
		if w.q.Failed() != nil {
			done.Store(true)
		}
		return (op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync) && !done.Load()
	}
}

func always(errorfs.Op) bool { return true }

// TestQueueOpensAgain: a sync fails once. Until the queue is open again everybody
// is told so; then it goes on, with what was accepted and nothing else.
func TestQueueOpensAgain(t *testing.T) {
	failing(t, func(w *world, fail func(func(errorfs.Op) bool)) {
		t := w.tb
		mustAdd(t, w.q, envelope(id(1), 2), 100)
		inline, large := w.q.Begin(id(2)), w.q.Begin(id(3))
		defer inline.Abort()
		defer large.Abort()
		if err := errors.Join(write(t, inline, text(500)), write(t, large, text(150_000))); err != nil {
			t.Fatal(err)
		}
		changed, open := w.q.Watch()
		if open != nil {
			t.Fatal(open)
		}
		fail(w.failure())
		for n := range 3 {
			if err := add(t, w.q, envelope(id(4+n), 1), 100+n*120_000); !errors.Is(err, queue.ErrFailed) || !errors.Is(err, errDisk) {
				t.Errorf("the failed sync, and what comes behind it: %v", err)
			}
		}
		<-changed
		changed, err := w.q.Watch()
		if !errors.Is(err, errDisk) || !errors.Is(w.q.Failed(), errDisk) {
			t.Errorf("watch: %v, failed: %v", err, w.q.Failed())
		}
		if _, err := w.q.Load(id(1)); !errors.Is(err, queue.ErrFailed) {
			t.Errorf("read: %v", err)
		}
		if err := w.q.Settle(t.Context(), queue.Change{Message: envelope(id(1), 2)}); !errors.Is(err, queue.ErrFailed) {
			t.Errorf("settle: %v", err)
		}
		if got, ok := w.q.Trouble(); !ok || !errors.Is(got.Err, errDisk) || got.Next != time.Now().Add(time.Second) || !strings.Contains(got.String(), "opened again") {
			t.Errorf("trouble: %v, %v", got, ok)
		}
		if got := w.q.Totals().Messages; got != 1 {
			t.Errorf("%d messages are counted", got)
		}
		if _, err := queue.Open(w.dir, pebble.On(w.mem), queue.Options{}); !errors.Is(err, queue.ErrInUse) {
			t.Errorf("the directory is not locked any more: %v", err)
		}
		began := time.Now()
		<-changed
		if got := time.Since(began); got != time.Second {
			t.Errorf("open again after %v", got)
		}
		if got, ok := w.q.Trouble(); ok || w.q.Failed() != nil || w.q.Failures() != 1 {
			t.Errorf("after it: %v, %v, %d", got, w.q.Failed(), w.q.Failures())
		}
		body, err := inline.Commit(t.Context(), envelope(id(2), 1), []byte("HEAD\r\n"), from)
		if err != nil {
			t.Errorf("a message that was coming meanwhile: %v", err)
		} else {
			body.(message.Retainer).Release()
		}
		if _, err := large.Commit(t.Context(), envelope(id(3), 1), []byte("HEAD\r\n"), from); !errors.Is(err, queue.ErrFailed) {
			t.Errorf("its file was removed as an orphan, and the commit says %v", err)
		}
		mustAdd(t, w.q, envelope(id(4), 1), 150_000) // the same id is another message now
		if got := due(t, w.q, birth); !slices.Equal(got, []string{id(1), id(2), id(4)}) {
			t.Errorf("due are %v", got)
		}
		for n, size := range map[int]int{1: 100, 2: 500, 4: 150_000} {
			if b, err := bodyOf(t, w.q, id(n)); err != nil || !bytes.Equal(b, stored(size)) {
				t.Errorf("message %d: %d bytes, %v", n, len(b), err)
			}
		}
		if got := w.q.Totals(); got.Messages != 3 || got.Recipients != 4 || got.Damaged != 0 {
			t.Errorf("totals %+v", got)
		}
		if got, err := w.mem.List(bodyDir); err != nil || !slices.Equal(got, []string{id(4)}) {
			t.Errorf("files %v, %v", got, err)
		}
	})
}

// TestPausesGrow: as long as the disk fails, the store is opened after 1, 2, 4
// seconds and so on to a minute; one that fails at once again is not opened each
// second, and one that held begins anew. Close does not wait for the next time.
func TestPausesGrow(t *testing.T) {
	failing(t, func(w *world, fail func(func(errorfs.Op) bool)) {
		t := w.tb
		fail(always)
		_ = add(t, w.q, envelope(id(1), 1), 100)
		began, tries := time.Now(), w.opened.Load()
		var at []time.Duration
		for range 500 {
			time.Sleep(time.Second)
			synctest.Wait()
			if n := w.opened.Load(); n != tries {
				tries = n
				at = append(at, time.Since(began))
			}
		}
		want := []time.Duration{1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363, 423, 483}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("opened at %v", at)
		}
		if got, _ := w.q.Trouble(); got.Tries != len(want) || !errors.Is(got.Last, errDisk) || w.q.Failures() != 1 {
			t.Errorf("%+v, %d failures", got, w.q.Failures())
		}
		fail(nil)
		changed, _ := w.q.Watch()
		<-changed
		pauses := func() (list []time.Duration) {
			for range 3 {
				fail(w.failure())
				if err := add(t, w.q, envelope(id(2), 1), 100); err == nil {
					t.Fatal("the sync did not fail")
				}
				began := time.Now()
				for {
					changed, failed := w.q.Watch()
					if failed == nil {
						break
					}
					<-changed
				}
				list = append(list, time.Since(began))
			}
			return list
		}
		if got := pauses(); !slices.Equal(got, []time.Duration{time.Minute, time.Minute, time.Minute}) {
			t.Errorf("a store that does not hold: pauses %v", got)
		}
		time.Sleep(time.Minute)
		if got := pauses(); !slices.Equal(got, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}) {
			t.Errorf("a store that held: pauses %v", got)
		}
		fail(always)
		_ = add(t, w.q, envelope(id(3), 1), 100)
		synctest.Wait()
	})
}

// TestEveryFailureWhileOpeningAgain fails, after a failed sync, each change of the
// disk of the opening in turn.
func TestEveryFailureWhileOpeningAgain(t *testing.T) {
	for n := range 200 {
		ended := false
		failing(t, func(w *world, fail func(func(errorfs.Op) bool)) {
			t := w.tb
			w.add(t, id(1), 100)
			w.add(t, id(2), 120_000)
			changed, _ := w.q.Watch()
			fail(w.failure())
			w.add(t, id(3), 100)
			<-changed
			var mu sync.Mutex
			count, where := 0, ""
			fail(func(op errorfs.Op) bool {
				mu.Lock()
				defer mu.Unlock()
				if count++; count-1 == n {
					where = fmt.Sprint("opening again, ", op.Kind, " ", op.Path, " fails")
				}
				return count-1 == n
			})
			changed, _ = w.q.Watch()
			<-changed
			fail(nil)
			if w.q.Failed() != nil { // soon after it was open
				changed, _ = w.q.Watch()
				<-changed
			}
			mu.Lock()
			at := where
			mu.Unlock()
			w.add(t, id(4), 100)
			known := w.facts()
			if len(known.taken) != 3 {
				t.Errorf("%s: taken %v", at, known.taken)
			}
			got := due(t, w.q, birth)
			if want := []string{id(1), id(2), id(4)}; !slices.Equal(got, want) {
				t.Errorf("%s: due are %v", at, got)
			}
			check(t, at, w.mem.CrashClone(vfs.CrashCloneCfg{}), pebble.On, known, known)
			ended = at == ""
		})
		if ended {
			if n < 10 {
				t.Errorf("only %d steps", n)
			}
			return
		}
	}
	t.Error("no end of steps")
}

// TestAnotherDirectoryIsNotTaken: where the file system is gone from its place, no
// new and empty queue is made there.
func TestAnotherDirectoryIsNotTaken(t *testing.T) {
	failing(t, func(w *world, fail func(func(errorfs.Op) bool)) {
		t := w.tb
		if err := os.Rename(w.dir, w.dir+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(w.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		fail(w.failure())
		_ = add(t, w.q, envelope(id(1), 1), 100)
		time.Sleep(10 * time.Second)
		if got, _ := w.q.Trouble(); got.Tries != 3 || !errors.Is(got.Last, os.ErrNotExist) {
			t.Errorf("a directory without a lock: %v", got)
		}
		if err := os.WriteFile(filepath.Join(w.dir, "lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got, _ := w.q.Trouble(); got.Tries != 4 || !strings.Contains(got.String(), "another directory") {
			t.Errorf("another directory: %v", got)
		}
		if err := errors.Join(os.RemoveAll(w.dir), os.Rename(w.dir+".away", w.dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if err := w.q.Failed(); err != nil {
			t.Errorf("back in its place: %v", err)
		}
	})
}
