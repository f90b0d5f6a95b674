package queue_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/queue"
)

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
