package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/queue/pebble"
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

func TestEnvelopeComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	want := envelope("whole0001", 3)
	want.Double, want.EightBit, want.Notified = true, true, true
	want.Ret, want.EnvID, want.Reason = "HDRS", "env+3D", "because"
	want.Sender = message.Address{}
	want.Recipients[0] = queue.Recipient{
		Address:  message.Address{Local: `a"b`, Domain: "[192.0.2.1]"},
		Original: "rfc822;x@y", Notify: "NEVER", Route: "smtp://h:25", Held: true, State: queue.Deferred, Attempts: 7,
		Next: birth.Add(time.Hour), Tried: birth.Add(time.Minute), Last: message.NewReply(451, "4.7.1", "later\nmore"), Peer: "mx [192.0.2.9]:25",
	}
	mustAdd(t, q, want, 100)
	mustClose(t, q)
	q = open(t, dir, queue.Options{})
	got, err := q.Load(want.ID)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := q.Load("nothing01"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("no such message: %v", err)
	}
}

func TestSettleMovesAndRemovesInOneStep(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	for i := range 3 {
		mustAdd(t, q, envelope(id(i), 2), 10+400_000*i)
	}
	one, _ := q.Load(id(0))
	one.Recipients[0].State = queue.Delivered
	one.Recipients[1].State, one.Recipients[1].Attempts, one.Recipients[1].Next = queue.Deferred, 1, birth.Add(time.Hour)
	two, _ := q.Load(id(1))
	if err := q.Settle(t.Context(), queue.Change{Message: one}, queue.Change{Message: two, Remove: true}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if got := q.Totals(); got != (queue.Totals{Messages: 2, Recipients: 3}) {
			t.Errorf("totals %+v", got)
		}
		if got := due(t, q, birth); !slices.Equal(got, []string{id(2)}) {
			t.Errorf("due at birth: %v", got)
		}
		if got := due(t, q, birth.Add(time.Hour)); !slices.Equal(got, []string{id(2), id(0)}) {
			t.Errorf("due an hour later: %v", got)
		}
		if got, err := q.Load(id(0)); err != nil || !reflect.DeepEqual(got, one) {
			t.Errorf("%+v, %v", got, err)
		}
		if _, _, err := q.Body(id(1)); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("body of the removed one: %v", err)
		}
		if got := files(t, dir); !slices.Equal(got, []string{id(2)}) {
			t.Errorf("files %v", got)
		}
	}
	check()
	mustClose(t, q)
	q = open(t, dir, queue.Options{})
	check()
	// Everything final: no due entry, but the message stays until it is removed.
	one.Recipients[1].State = queue.Failed
	if err := q.Settle(t.Context(), queue.Change{Message: one}); err != nil {
		t.Fatal(err)
	}
	if got := due(t, q, birth.Add(24*time.Hour)); !slices.Equal(got, []string{id(2)}) {
		t.Errorf("due %v", got)
	}
	// A message that is gone is not brought back.
	if err := q.Settle(t.Context(), queue.Change{Message: two}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Load(id(1)); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("came back: %v", err)
	}
	if err := q.Settle(t.Context(), queue.Change{Message: one}, queue.Change{Message: one}); err == nil {
		t.Error("one message twice in a step was taken")
	}
}

func TestOperatorAndDeliveryDoNotUndoEachOther(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	mustAdd(t, q, envelope(id(1), 2), 100)
	mine, _ := q.Load(id(1)) // delivery works on this copy
	err := q.Update(t.Context(), id(1), func(m *queue.Message) error {
		m.Place, m.Reason = queue.Held, "look at it"
		m.Recipients[0].Held, m.Recipients[0].Route = true, "discard"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := due(t, q, birth); len(got) > 0 {
		t.Errorf("a held message is due: %v", got)
	}
	if got := q.Totals(); got != (queue.Totals{Messages: 1, Recipients: 2, Held: 1}) {
		t.Errorf("totals %+v", got)
	}
	mine.Recipients[1].State, mine.Recipients[1].Peer = queue.Delivered, "mx"
	if err := q.Settle(t.Context(), queue.Change{Message: mine}); err != nil {
		t.Fatal(err)
	}
	got, _ := q.Load(id(1))
	if !reflect.DeepEqual(got, mine) || got.Place != queue.Held || got.Recipients[0].Route != "discard" || got.Recipients[1].State != queue.Delivered {
		t.Errorf("stored %+v\ncopy %+v", got, mine)
	}
	no := errors.New("no")
	if err := q.Update(t.Context(), id(1), func(m *queue.Message) error { m.Place = queue.Active; return no }); !errors.Is(err, no) {
		t.Errorf("update: %v", err)
	}
	if err := q.Update(t.Context(), id(1), func(m *queue.Message) error { m.ID = "other0000"; return nil }); err == nil {
		t.Error("an id was changed")
	}
	if err := q.Update(t.Context(), "nothing01", func(*queue.Message) error { return nil }); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	if err := q.Update(t.Context(), id(1), func(m *queue.Message) error {
		m.Place, m.Recipients[0].Held = queue.Active, false
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := due(t, q, birth); !slices.Equal(got, []string{id(1)}) {
		t.Errorf("released, and due are %v", got)
	}
}

func TestDueIsInOrderAndBounded(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	var want []string
	for i := range 20 {
		m := envelope(id(i), 1)
		m.Recipients[0].Next = birth.Add(time.Duration(i*7%20) * time.Minute)
		mustAdd(t, q, m, 10)
	}
	for at := range 20 {
		want = append(want, id(at*3%20)) // 3 is the inverse of 7 modulo 20
	}
	late := birth.Add(time.Hour)
	if got := due(t, q, late); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if got := due(t, q, birth.Add(4*time.Minute+59*time.Second)); !slices.Equal(got, want[:5]) {
		t.Errorf("until a time: %v", got)
	}
	var pieces []string
	last := queue.DueEntry{}
	for range 10 {
		for e, err := range q.DueAfter(last, late, 3) {
			if err != nil {
				t.Fatal(err)
			}
			pieces, last = append(pieces, e.ID), e
		}
	}
	if !slices.Equal(pieces, want) {
		t.Errorf("in pieces %v", pieces)
	}
	// Time goes backwards: what comes in then is due before all that was seen.
	m := envelope(id(99), 1)
	m.Recipients[0].Next = birth.Add(-24 * time.Hour)
	mustAdd(t, q, m, 10)
	if got := due(t, q, birth.Add(-time.Hour)); !slices.Equal(got, []string{id(99)}) {
		t.Errorf("an early one: %v", got)
	}
	for _, gone := range append(want[:10:10], id(99)) {
		if err := q.Remove(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		due(t, q, late) // raises the floor
	}
	if got := due(t, q, late); !slices.Equal(got, want[10:]) {
		t.Errorf("after removals %v", got)
	}
}

func TestPlacesAreCountedAndListed(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	for i := range 6 {
		m := envelope(id(5-i), i+1)
		m.Place = queue.Place(i % 3)
		mustAdd(t, q, m, 10)
	}
	want := queue.Totals{Messages: 6, Recipients: 21, Held: 2, Quarantined: 2}
	if got := q.Totals(); got != want {
		t.Errorf("%+v", got)
	}
	var ids []string
	for m, err := range q.All(func(m *queue.Message) bool { return m.Place == queue.Held }) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	if !slices.Equal(ids, []string{id(1), id(4)}) {
		t.Errorf("held are %v", ids)
	}
	if got := due(t, q, birth); !slices.Equal(got, []string{id(2), id(5)}) {
		t.Errorf("due are %v", got)
	}
	mustClose(t, q)
	look := open(t, dir, queue.Options{ReadOnly: true})
	other := open(t, dir, queue.Options{ReadOnly: true})
	if look.Totals() != want || other.Totals() != want {
		t.Errorf("read-only: %+v", look.Totals())
	}
	if err := add(t, look, envelope(id(9), 1), 10); !errors.Is(err, queue.ErrReadOnly) {
		t.Errorf("read-only took a message: %v", err)
	}
	if err := look.Remove(t.Context(), id(1)); !errors.Is(err, queue.ErrReadOnly) {
		t.Errorf("read-only removed: %v", err)
	}
	if got, err := bodyOf(t, look, id(1)); err != nil || !bytes.Equal(got, stored(10)) {
		t.Errorf("read-only body: %q %v", got, err)
	}
}

func TestManyRecipients(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	m := envelope(id(1), 1000)
	mustAdd(t, q, m, 10)
	for i := range m.Recipients {
		m.Recipients[i].State = queue.Delivered
	}
	m.Recipients[999].State = queue.Ready
	if err := q.Settle(t.Context(), queue.Change{Message: m}); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Load(id(1)); err != nil || !reflect.DeepEqual(got, m) || q.Totals().Recipients != 1 {
		t.Errorf("%v, %+v", err, q.Totals())
	}
}

func TestOneOwner(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{})
	for _, readOnly := range []bool{false, true} {
		_, err := queue.Open(dir, pebble.Open, queue.Options{ReadOnly: readOnly})
		if !errors.Is(err, queue.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("in use by another process: process ", os.Getpid())) {
			t.Errorf("second owner: %v", err)
		}
	}
	mustClose(t, q)
	mustClose(t, q) // again is no error
	if err := add(t, q, envelope(id(1), 1), 10); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := q.Load(id(1)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	open(t, dir, queue.Options{})
}

func TestReadOnlyNeedsAQueue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := queue.Open(dir, pebble.Open, queue.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("looking made it")
	}
}

func TestFullDisk(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{Reserve: 1 << 60})
	for _, size := range []int{10, 1 << 20} {
		if err := add(t, q, envelope(id(size), 1), size); !errors.Is(err, queue.ErrFull) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if q.Failed() != nil {
		t.Errorf("that ends the handle: %v", q.Failed())
	}
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

func (brokenBody) Size() int64                       { return 100 }
func (brokenBody) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, queue.Options{InlineLimit: 20_000})
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for i := range 30 {
				m := envelope(id(p*100+i), 2)
				if err := add(t, q, m, 10+1000*i); err != nil {
					t.Error(err)
					return
				}
				m.Recipients[0].State, m.Recipients[1].Next = queue.Delivered, birth.Add(time.Minute)
				if err := q.Settle(t.Context(), queue.Change{Message: m, Remove: i%3 == 0}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			for e, err := range q.Due(birth.Add(time.Hour), 10) {
				if err != nil {
					t.Error(err)
				}
				if b, c, err := q.Body(e.ID); err == nil {
					_, _ = b.ReadAt(make([]byte, 10), 0)
					c.Close()
				} else if !errors.Is(err, queue.ErrNotFound) {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	want := queue.Totals{Messages: 160, Recipients: 160}
	if got := q.Totals(); got != want {
		t.Errorf("%+v", got)
	}
	mustClose(t, q)
	q = open(t, dir, queue.Options{})
	if got := q.Totals(); got != want {
		t.Errorf("after opening again %+v", got)
	}
	if got := len(due(t, q, birth.Add(time.Minute))); got != 160 {
		t.Errorf("%d are due", got)
	}
	if got := len(files(t, dir)); got != 8*7 { // i from 20 to 29, without multiples of three
		t.Errorf("%d files", got)
	}
}

// Settled tells the messages whose recipients are all final, and only those.
func TestSettledOnesAreFound(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	for i := range 4 {
		mustAdd(t, q, envelope(id(i), 2), 100)
	}
	for i, states := range [][2]queue.State{{queue.Delivered, queue.Failed}, {queue.Delivered, queue.Deferred}, {queue.Failed, queue.Failed}} {
		m, err := q.Load(id(i))
		if err != nil {
			t.Fatal(err)
		}
		for k, s := range states {
			m.Recipients[k].State = s
		}
		if err := q.Settle(t.Context(), queue.Change{Message: m}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for id, err := range q.Settled() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, id)
	}
	if want := []string{id(0), id(2)}; !slices.Equal(got, want) {
		t.Errorf("settled: %q, want %q", got, want)
	}
}

// Scan walks what All does, though it uses a message's memory again.
func TestScanIsAll(t *testing.T) {
	q := open(t, t.TempDir(), queue.Options{})
	for i := range 6 {
		mustAdd(t, q, envelope(id(i), 1+(i*2)%5), 100)
	}
	var all []*queue.Message
	for m, err := range q.All() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	i := 0
	for m, err := range q.Scan() {
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m, all[i]) {
			t.Errorf("%d: %+v, want %+v", i, m, all[i])
		}
		i++
	}
	if i != len(all) || i != 6 {
		t.Errorf("%d scanned of %d", i, len(all))
	}
}

// Scan reads ahead: it tells all of many messages in order, and ends where the caller does.
func TestScanOfMany(t *testing.T) {
	const n = 3000 // some times what is read at once
	q := open(t, t.TempDir(), queue.Options{NoSync: true})
	for i := range n {
		mustAdd(t, q, envelope(id(i), 1), 10)
	}
	for _, stop := range []int{n, 1, 1500} {
		got := 0
		for m, err := range q.Scan() {
			if err != nil {
				t.Fatal(err)
			}
			if m.ID != id(got) {
				t.Fatalf("%s at place %d", m.ID, got)
			}
			if got++; got == stop {
				break
			}
		}
		if got != stop {
			t.Errorf("%d scanned, want %d", got, stop)
		}
	}
}
