package queue_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postern-mta/postern/core/queue"
)

const inTables = 400

// tables makes a queue whose messages are in the store's tables, not in its log.
func tables(tb testing.TB) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	q := open(tb, dir, queue.Options{InlineLimit: 4000, NoSync: true})
	for i := range inTables {
		size := 1000
		if i%40 == 7 {
			size = 5000 // has a file
		}
		mustAdd(tb, q, envelope(id(i), 1), size)
	}
	mustClose(tb, q)
	mustClose(tb, open(tb, dir, queue.Options{})) // the log becomes a table
	return dir
}

// rot flips a bit of the largest table, at so many thousandths of it.
func rot(tb testing.TB, dir string, at int) {
	tb.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "db", "*.sst"))
	if err != nil {
		tb.Fatal(err)
	}
	var name string
	var b []byte
	for _, file := range list {
		if one, err := os.ReadFile(file); err == nil && len(one) > len(b) {
			name, b = file, one
		}
	}
	if len(b) < 10_000 {
		tb.Fatalf("no table: %v", list)
	}
	b[len(b)*at/1000] ^= 4
	if err := os.WriteFile(name, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// whole counts the messages that are there byte for byte; any other has to be
// reported damaged or missing.
func whole(tb testing.TB, q *queue.Queue) (n int) {
	tb.Helper()
	for i := range inTables {
		size := 1000
		if i%40 == 7 {
			size = 5000
		}
		b, err := bodyOf(tb, q, id(i))
		switch {
		case err == nil && bytes.Equal(b, stored(size)):
			n++
		case err == nil:
			tb.Errorf("message %d is another one", i)
		case !errors.Is(err, queue.ErrDamaged) && !errors.Is(err, queue.ErrNotFound):
			tb.Errorf("message %d: %v", i, err)
		}
	}
	return n
}

// A bit flips in each part of a table: the queue opens, what can be read is served,
// what can't is set aside, and the old store is kept.
func TestUnreadableParts(t *testing.T) {
	good, few, rebuilt := tables(t), 0, 0
	for _, at := range []int{3, 300, 600, 850, 880, 910, 940, 970, 995} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		rot(t, dir, at)
		var log bytes.Buffer
		q := open(t, dir, queue.Options{Log: logTo(&log)})
		kept, err := filepath.Glob(filepath.Join(dir, "db.damaged-*"))
		if err != nil {
			t.Fatal(err)
		}
		// Damage of a body is met in use: see the next test.
		if len(kept) == 1 {
			n := whole(t, q)
			rebuilt++
			if n < inTables*9/10 {
				few++ // the index of a table, or a table's last block
			}
			if got := q.Totals(); got.Messages != n || got.Damaged > inTables-n {
				t.Errorf("at %d: %d are whole, totals %+v", at, n, got)
			}
			if got := due(t, q, birth); len(got) != n {
				t.Errorf("at %d: %d are whole, %d are due", at, n, len(got))
			}
			if got := len(files(t, dir)); got != inTables/40 {
				t.Errorf("at %d: %d body files", at, got)
			}
		}
		mustClose(t, q)
		if kept2, _ := filepath.Glob(filepath.Join(dir, "db.damaged-*")); len(kept2) != len(kept) {
			t.Errorf("at %d: it is damaged again: %v", at, kept2)
		}
	}
	if rebuilt < 3 || few > 3 {
		t.Errorf("%d stores were made anew, %d of them lost much", rebuilt, few)
	}
}

// A part that can't be read is met while the queue is in use: it is opened again, and
// the rest goes on.
func TestUnreadableInUse(t *testing.T) {
	dir := tables(t)
	rot(t, dir, 200) // bodies, which no opening reads
	synctest.Test(t, func(t *testing.T) {
		q := open(t, dir, queue.Options{})
		defer mustClose(t, q)
		changed, failed := q.Watch()
		if failed != nil {
			t.Fatal(failed)
		}
		met := 0
		for i := range inTables {
			if _, err := bodyOf(t, q, id(i)); errors.Is(err, queue.ErrFailed) && errors.Is(err, queue.ErrUnreadable) {
				met++
			}
		}
		if met == 0 || !errors.Is(q.Failed(), queue.ErrUnreadable) {
			t.Fatalf("%d failed; %v", met, q.Failed())
		}
		<-changed
		changed, _ = q.Watch()
		<-changed
		n := whole(t, q)
		if n < inTables*9/10 || n == inTables {
			t.Errorf("%d of %d are whole", n, inTables)
		}
		if got := q.Totals(); got.Messages != n || got.Damaged != inTables-n {
			t.Errorf("%d are whole, totals %+v", n, got)
		}
		mustAdd(t, q, envelope("afterwards", 1), 100)
	})
}

// The process ends in each part of a rebuilding.
func TestRebuildingInterrupted(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(db string) error
	}{
		{"while it copied", func(db string) error {
			return errors.Join(os.Mkdir(db+".new", 0o700), os.WriteFile(db+".new/MANIFEST-000001", []byte("half"), 0o600))
		}},
		{"between the renamings", func(db string) error { return os.Rename(db, db+".new") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tables(t)
			if err := c.change(filepath.Join(dir, "db")); err != nil {
				t.Fatal(err)
			}
			if c.name == "while it copied" {
				rot(t, dir, 880)
			}
			q := open(t, dir, queue.Options{})
			if n := whole(t, q); n < inTables/2 {
				t.Errorf("%d are whole", n)
			}
			mustClose(t, q)
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".new") {
					t.Errorf("%s was left", e.Name())
				}
			}
		})
	}
}
