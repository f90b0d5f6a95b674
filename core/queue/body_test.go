package queue_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

// sizes are on both sides of every border that a body can cross.
var sizes = []int{from, 100, 8 << 10, 8<<10 + 1, 32 << 10, 32<<10 + 1, 128<<10 - 1, 128<<10 + 1, 256 << 10, 256<<10 + 1, 320 << 10, 3 << 20}

func TestBodyOfEverySizeComesBack(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	for i, size := range sizes {
		m := envelope(id(i), 1)
		d := q.Begin(m.ID)
		if err := write(t, d, text(size)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, d.Body()); !bytes.Equal(got, text(size)) {
			t.Errorf("%d bytes: the draft reads back %d", size, len(got))
		}
		s, err := d.Commit(t.Context(), m, []byte("HEAD\r\n"), from)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, s); !bytes.Equal(got, stored(size)) || m.Size != int64(len(got)) || s.Size() != m.Size {
			t.Errorf("%d bytes: what Commit returns differs", size)
		}
		s.(message.Retainer).Release()
		d.Abort() // after a Commit it does nothing
	}
	check := func() {
		t.Helper()
		for i, size := range sizes {
			if got, err := bodyOf(t, q, id(i)); err != nil || !bytes.Equal(got, stored(size)) {
				t.Errorf("%d bytes: %d come back, %v", size, len(got), err)
			}
		}
	}
	check()
	mustClose(t, q)
	q = open(t, dir, queue.Options{})
	check()
	for i := range sizes {
		if err := q.Remove(t.Context(), id(i)); err != nil {
			t.Fatal(err)
		}
	}
	if names := files(t, dir); len(names) > 0 {
		t.Errorf("files left: %v", names)
	}
	if got := q.Totals(); got != (queue.Totals{}) {
		t.Errorf("totals of an empty queue: %+v", got)
	}
}

func read(tb testing.TB, b message.Body) []byte {
	tb.Helper()
	out := make([]byte, b.Size())
	if n, err := b.ReadAt(out, 0); n != len(out) {
		tb.Fatalf("%d of %d bytes: %v", n, len(out), err)
	}
	return out
}

func files(tb testing.TB, dir string) (names []string) {
	tb.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "bodies"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRefusedCommits(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{InlineLimit: 1000})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		m    *queue.Message
		from int64
	}{
		"other id":      {t.Context(), envelope("other0001", 1), 0},
		"no recipient":  {t.Context(), envelope("draft0001", 0), 0},
		"beyond end":    {t.Context(), envelope("draft0001", 1), 5001},
		"cancelled":     {gone, envelope("draft0001", 1), 0},
		"negative from": {t.Context(), envelope("draft0001", 1), -1},
	} {
		d := q.Begin("draft0001")
		if err := write(t, d, text(5000)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit(c.ctx, c.m, nil, c.from); err == nil {
			t.Errorf("%s: committed", name)
		}
		if _, err := d.Write([]byte("x")); err == nil {
			t.Errorf("%s: written after the end", name)
		}
		d.Abort()
	}
	if names := files(t, dir); len(names) > 0 {
		t.Errorf("files left: %v", names)
	}
	d := q.Begin("../escape1")
	if err := write(t, d, text(5000)); err == nil {
		t.Error("an id that is a path was taken")
	}
	d.Abort()
}

func TestRetainedBodyOutlivesTheDraft(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	for _, size := range []int{100, 300 << 10} {
		d := q.Begin(id(size))
		if err := write(t, d, text(size)); err != nil {
			t.Fatal(err)
		}
		early := d.Body()
		release := message.Retain(early)
		if err := write(t, d, text(100)); err != nil {
			t.Fatal(err)
		}
		d.Abort()
		for i := range 10 { // others use the pools meanwhile
			other := q.Begin(id(i))
			if err := write(t, other, bytes.Repeat([]byte("x"), 300<<10)); err != nil {
				t.Fatal(err)
			}
			other.Abort()
		}
		if !bytes.Equal(read(t, early), text(size)) {
			t.Errorf("%d bytes: changed under its reader", size)
		}
		release()
	}
}

// A draft's bytes can be replaced by others that are made of them, in memory and
// in files, and what is committed is those.
func TestReplaceInADraft(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{InlineLimit: 20_000})
	for i, size := range []int{100, 19_900, 300 << 10} {
		for j, extra := range []int{0, 200, 40_000} {
			name := id(10*i + j)
			d := q.Begin(name)
			if err := write(t, d, text(size)); err != nil {
				t.Fatal(err)
			}
			want := append(bytes.Repeat([]byte("+"), extra), text(size)[size/2:]...)
			r := &message.Rope{}
			r.AddBytes(want[:extra])
			r.Add(d.Body(), int64(size/2), int64(size))
			if err := d.Replace(r); err != nil {
				t.Fatal(err)
			}
			b, err := d.Commit(t.Context(), envelope(name, 1), []byte("HEAD\r\n"), 0)
			if err != nil {
				t.Fatal(err)
			}
			want = append([]byte("HEAD\r\n"), want...)
			if got := read(t, b); !bytes.Equal(got, want) {
				t.Errorf("%d bytes and %d more: %d bytes arrived", size, extra, len(got))
			}
			b.(message.Retainer).Release()
		}
	}
	d := q.Begin(id(99))
	if err := write(t, d, text(100)); err != nil {
		t.Fatal(err)
	}
	if d.Replace(brokenBody{}) == nil {
		t.Error("a body that can't be read was taken")
	}
	if _, err := d.Commit(t.Context(), envelope(id(99), 1), nil, 0); err == nil {
		t.Error("a draft without its new body was committed")
	}
}

// brokenBody ends before its size.
type brokenBody struct{}

func (brokenBody) Size() int64 { return 100 }

func (brokenBody) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
