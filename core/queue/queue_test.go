package queue_test

import (
	"errors"
	"fmt"
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
