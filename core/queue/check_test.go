package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/queue"
)

func checked(t *testing.T, q *queue.Queue) (queue.Checked, []queue.Fault) {
	t.Helper()
	var faults []queue.Fault
	steps := 0
	c, err := q.Check(t.Context(), func(f queue.Fault) { faults = append(faults, f) }, func(int) { steps++ })
	if err != nil {
		t.Fatal(err)
	}
	if steps != c.Messages || c.Faults != len(faults) {
		t.Errorf("%d steps and %d faults: %+v", steps, len(faults), c)
	}
	return c, faults
}

func TestCheckOfASoundQueue(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{InlineLimit: 1000})
	for i := range 6 {
		m := envelope(id(i), 2)
		if i == 5 {
			m.Place = queue.Quarantined
		}
		mustAdd(t, q, m, 500*(1+i%3))
	}
	draft := q.Begin(id(9))
	defer draft.Abort()
	if err := write(t, draft, text(3000)); err != nil {
		t.Fatal(err)
	}
	got, faults := checked(t, q)
	if len(faults) != 0 {
		t.Errorf("%v", faults)
	}
	want := queue.Checked{Messages: 6, Bytes: 2 * (501 + 1001 + 1501), Due: 5, Unnamed: 1, InFiles: 2, Recipients: 12}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCheckFindsEachFault(t *testing.T) {
	dueKey := func(n int) string {
		return "d" + string([]byte{0x98, 0xa8, 0, 0, 0, 0, 0, 0}) + id(n)
	}
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string, e queue.Engine)
		id   string
		what string
	}{
		"record": {func(t *testing.T, _ string, e queue.Engine) { flip(t, e, "m"+id(1), -1) }, id(1), "wrong checksum"},
		"body":   {func(t *testing.T, _ string, e queue.Engine) { flip(t, e, "b"+id(1), 20) }, id(1), "its body: wrong checksum"},
		"body gone": {func(t *testing.T, _ string, e queue.Engine) {
			commit(t, e, queue.Write{Key: []byte("b" + id(1)), Delete: true})
		}, id(1), "its body is gone"},
		"body alone": {func(t *testing.T, _ string, e queue.Engine) {
			commit(t, e, queue.Write{Key: []byte("b" + id(7)), Value: [][]byte{{0}}})
		}, id(7), "a body whose message is gone"},
		"due alone":      {func(t *testing.T, _ string, e queue.Engine) { commit(t, e, queue.Write{Key: []byte(dueKey(7))}) }, id(7), "an entry of the due index"},
		"due twice":      {func(t *testing.T, _ string, e queue.Engine) { commit(t, e, queue.Write{Key: []byte(dueKey(1))}) }, id(1), "an entry of the due index"},
		"due key":        {func(t *testing.T, _ string, e queue.Engine) { commit(t, e, queue.Write{Key: []byte("dx")}) }, "6478", "makes no sense"},
		"file":           {func(t *testing.T, dir string, _ queue.Engine) { spoil(t, filepath.Join(dir, "bodies", id(2))) }, id(2), "wrong checksum or size of its file"},
		"file gone":      {func(t *testing.T, dir string, _ queue.Engine) { remove(t, filepath.Join(dir, "bodies", id(2))) }, id(2), "its file is gone"},
		"a strange file": {func(t *testing.T, dir string, _ queue.Engine) { touch(t, filepath.Join(dir, "bodies", "x.y")) }, "x.y", "not the queue's"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := open(t, dir, queue.Options{InlineLimit: 1000})
			for i := range 3 {
				mustAdd(t, q, envelope(id(i), 1), 500*(1+i))
			}
			mustClose(t, q)
			inEngine(t, dir, func(e queue.Engine) { c.harm(t, dir, e) })
			q = open(t, dir, queue.Options{ReadOnly: true}) // Open of a writer would mend it
			_, faults := checked(t, q)
			if len(faults) != 1 || faults[0].ID != c.id || !strings.Contains(faults[0].What, c.what) {
				t.Errorf("%v", faults)
			}
		})
	}
}

func TestCheckFindsAMissingDueEntry(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	mustAdd(t, q, envelope(id(1), 1), 100)
	mustClose(t, q)
	inEngine(t, dir, func(e queue.Engine) {
		c, err := e.Range([]byte("d"), []byte("e"))
		if err != nil || !c.Next() {
			t.Fatal("no due entry", err)
		}
		key := slices.Clone(c.Key())
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		commit(t, e, queue.Write{Key: key, Delete: true})
	})
	q = open(t, dir, queue.Options{ReadOnly: true})
	if _, faults := checked(t, q); len(faults) != 1 || !strings.Contains(faults[0].What, "nobody would try it") {
		t.Errorf("%v", faults)
	}
}

// A queue in use has no faults: what is on its way in, on and out is none.
func TestCheckBesideChanges(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{NoSync: true, InlineLimit: 600})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for n := 0; n < 400 && ctx.Err() == nil; n++ {
				m := envelope(id(w*1000+n), 1)
				if err := add(t, q, m, 500+n); err != nil {
					t.Error(err)
					return
				}
				m.Recipients[0].State, m.Recipients[0].Next = queue.Deferred, birth.Add(time.Duration(n)*time.Second)
				if err := q.Settle(ctx, queue.Change{Message: m, Remove: n%3 == 0}); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if _, faults := checked(t, q); len(faults) != 0 {
			t.Errorf("%v", faults)
		}
	}
	stop()
	work.Wait()
}

func TestCheckStops(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	mustAdd(t, q, envelope(id(1), 1), 100)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := q.Check(ctx, func(queue.Fault) {}, func(int) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func commit(t *testing.T, e queue.Engine, w queue.Write) {
	t.Helper()
	if err := e.Commit([]queue.Write{w}); err != nil {
		t.Fatal(err)
	}
}

func spoil(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	touch(t, path, b...)
}

func touch(t *testing.T, path string, b ...byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
