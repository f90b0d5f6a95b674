package queue_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
)

// inEngine changes the store behind a closed queue's back.
func inEngine(tb testing.TB, dir string, change func(e queue.Engine)) {
	tb.Helper()
	e, err := pebble.Open(filepath.Join(dir, "db"), queue.EngineOptions{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	change(e)
	if err := e.Close(); err != nil {
		tb.Fatal(err)
	}
}

// flip changes one bit of the value under key.
func flip(tb testing.TB, e queue.Engine, key string, at int) {
	tb.Helper()
	v, done, err := e.Get([]byte(key))
	if err != nil {
		tb.Fatal(err)
	}
	v = bytes.Clone(v)
	done()
	v[(at+len(v))%len(v)] ^= 0x10
	if err := e.Commit([]queue.Write{{Key: []byte(key), Value: [][]byte{v}}}); err != nil {
		tb.Fatal(err)
	}
}

func TestDamagedMessagesAreSetAside(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{InlineLimit: 1000})
	for i := range 6 {
		mustAdd(t, q, envelope(id(i), 1), 500*(1+i%3))
	}
	mustClose(t, q)
	inEngine(t, dir, func(e queue.Engine) {
		flip(t, e, "m"+id(1), 0)  // the checksum itself
		flip(t, e, "m"+id(2), -1) // the last byte of a record; it has a file
		flip(t, e, "b"+id(3), 20) // a body in the store
	})
	corrupt := filepath.Join(dir, "bodies", id(5)) // a body in a file
	b, err := os.ReadFile(corrupt)
	if err != nil {
		t.Fatal(err)
	}
	b[700] ^= 1
	if err := os.WriteFile(corrupt, b, 0o600); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	q = open(t, dir, queue.Options{Log: logTo(&log)})
	if got := q.Totals(); got != (queue.Totals{Messages: 4, Recipients: 4, Damaged: 2}) {
		t.Errorf("after Open: %+v", got)
	}
	if n := strings.Count(log.String(), "was set aside"); n != 2 {
		t.Errorf("%d log lines:\n%s", n, log.String())
	}
	if got := due(t, q, birth); !slices.Equal(got, []string{id(0), id(3), id(4), id(5)}) {
		t.Errorf("due are %v", got)
	}
	for _, n := range []int{3, 5} {
		if _, _, err := q.Body(id(n)); !errors.Is(err, queue.ErrDamaged) {
			t.Errorf("damaged body %d: %v", n, err)
		}
		if _, err := q.Load(id(n)); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("after its body was found damaged, message %d: %v", n, err)
		}
	}
	want := queue.Totals{Messages: 2, Recipients: 2, Damaged: 4}
	if got := q.Totals(); got != want {
		t.Errorf("after reading: %+v", got)
	}
	for _, n := range []int{0, 4} {
		if b, err := bodyOf(t, q, id(n)); err != nil || !bytes.Equal(b, stored(500*(1+n%3))) {
			t.Errorf("message %d suffered: %v", n, err)
		}
	}
	mustClose(t, q)
	q = open(t, dir, queue.Options{})
	if got := q.Totals(); got != want {
		t.Errorf("opened again: %+v", got)
	}
	if got := files(t, dir); !slices.Contains(got, id(2)) || !slices.Contains(got, id(5)) {
		t.Errorf("the files of damaged messages are gone: %v", got)
	}
}

func TestDamageFoundInUse(t *testing.T) {
	dir := t.TempDir()
	var engine queue.Engine
	q, err := queue.Open(dir, func(dir string, o queue.EngineOptions) (queue.Engine, error) {
		e, err := pebble.Open(dir, o)
		engine = e
		return e, err
	}, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, q)
	for i := range 4 {
		mustAdd(t, q, envelope(id(i), 1), 100)
	}
	good, _ := q.Load(id(3))
	bad, _ := q.Load(id(1))
	for i := range 3 {
		flip(t, engine, "m"+id(i), 9)
	}
	if _, err := q.Load(id(0)); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("load: %v", err)
	}
	good.Recipients[0].State = queue.Delivered
	if err := q.Settle(t.Context(), queue.Change{Message: bad}, queue.Change{Message: good}); err != nil {
		t.Errorf("the good one has to be settled beside it: %v", err)
	}
	if err := engine.Commit([]queue.Write{{Key: []byte("b" + id(3)), Delete: true}}); err != nil {
		t.Fatal(err)
	}
	if err := q.Update(t.Context(), id(2), func(*queue.Message) error { return nil }); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("update: %v", err)
	}
	if got := q.Totals().Damaged; got != 3 {
		t.Errorf("%d are counted", got)
	}
	if got := due(t, q, birth); len(got) > 0 {
		t.Errorf("due are %v", got)
	}
	if got, err := q.Load(id(3)); err != nil || got.Recipients[0].State != queue.Delivered {
		t.Errorf("%+v, %v", got, err)
	}
	if _, _, err := q.Body(id(3)); !errors.Is(err, queue.ErrDamaged) || q.Totals() != (queue.Totals{Damaged: 4}) {
		t.Errorf("a body that is gone: %v, %+v", err, q.Totals())
	}
	if _, _, err := q.Body(id(3)); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("set aside: %v", err)
	}
}

func TestDueIndexIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	for i := range 5 {
		mustAdd(t, q, envelope(id(i), 1), 10)
	}
	mustClose(t, q)
	inEngine(t, dir, func(e queue.Engine) {
		c, err := e.Range([]byte("d"), []byte("e"))
		if err != nil || !c.Next() {
			t.Fatal(err)
		}
		key := bytes.Clone(c.Key())
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := e.Commit([]queue.Write{{Key: key, Delete: true}}); err != nil {
			t.Fatal(err)
		}
	})
	q = open(t, dir, queue.Options{})
	if got := due(t, q, birth); len(got) != 5 {
		t.Errorf("due are %v", got)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, open(t, dir, queue.Options{}))
	setFormat := func(version uint32, sum uint32) {
		inEngine(t, dir, func(e queue.Engine) {
			v := binary.LittleEndian.AppendUint32(nil, version)
			c := crc32.Update(crc32.Checksum([]byte("format"), crc32.MakeTable(crc32.Castagnoli)), crc32.MakeTable(crc32.Castagnoli), v)
			v = append(binary.LittleEndian.AppendUint32(nil, c^sum), v...)
			if err := e.Commit([]queue.Write{{Key: []byte("format"), Value: [][]byte{v}}}); err != nil {
				t.Fatal(err)
			}
		})
	}
	setFormat(3, 0)
	_, err := queue.Open(dir, pebble.Open, queue.Options{})
	if !errors.Is(err, queue.ErrFormat) || !strings.Contains(err.Error(), "newer Postern with format 3") {
		t.Errorf("%v", err)
	}
	setFormat(2, 1)
	if _, err := queue.Open(dir, pebble.Open, queue.Options{}); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("%v", err)
	}
	setFormat(2, 0)
	open(t, dir, queue.Options{})
}

func TestOrphansAreRemovedAndStrangersKept(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	mustAdd(t, q, envelope(id(1), 1), 300<<10)
	mustClose(t, q)
	for _, name := range []string{"orphan0001", "not-an-id"} {
		if err := os.WriteFile(filepath.Join(dir, "bodies", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, open(t, dir, queue.Options{ReadOnly: true}))
	if got := files(t, dir); len(got) != 3 {
		t.Errorf("a reader removed something: %v", got)
	}
	q = open(t, dir, queue.Options{})
	if got := files(t, dir); !slices.Equal(got, []string{id(1), "not-an-id"}) {
		t.Errorf("files %v", got)
	}
	if err := os.Remove(filepath.Join(dir, "bodies", id(1))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := q.Body(id(1)); !errors.Is(err, queue.ErrDamaged) || q.Totals().Damaged != 1 {
		t.Errorf("a missing file: %v", err)
	}
}
