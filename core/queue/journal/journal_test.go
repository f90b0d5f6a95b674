package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-mta/postern/core/queue/journal"
)

// disk is a directory in memory.
type disk struct {
	mu    sync.Mutex
	files map[string]*file
	short bool // nothing can be prepared
}

type file struct {
	disk *disk
	b    []byte
}

func newDisk() *disk { return &disk{files: map[string]*file{}} }

func (d *disk) Names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.files)), nil
}

func (d *disk) Create(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] != nil {
		return nil, fs.ErrExist
	}
	d.files[name] = &file{disk: d}
	return d.files[name], nil
}

func (d *disk) Prepare(name string, size int64) (journal.File, error) {
	d.mu.Lock()
	short := d.short
	d.mu.Unlock()
	if short {
		return nil, errors.New("no space left on device")
	}
	f, err := d.Create(name)
	if err == nil {
		f.(*file).b = make([]byte, size)
	}
	return f, err
}

func (d *disk) Open(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		return nil, fs.ErrNotExist
	}
	return d.files[name], nil
}

func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[from] == nil || d.files[to] != nil {
		return fs.ErrNotExist
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	return nil
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(d.files, name)
	return nil
}

func (d *disk) Sync() error { return nil }

// copy is what a crash leaves.
func (d *disk) copy() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newDisk()
	for name, f := range d.files {
		c.files[name] = &file{disk: c, b: bytes.Clone(f.b)}
	}
	return c
}

// segments are the names of the segments, in their order.
func (d *disk) segments() (names []string) {
	for name := range d.files {
		if strings.HasSuffix(name, ".log") && !strings.HasPrefix(name, "damaged-") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (f *file) Write(parts [][]byte, at int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	for _, p := range parts {
		if need := int(at) + len(p); need > len(f.b) {
			f.b = append(f.b, make([]byte, need-len(f.b))...)
		}
		copy(f.b[at:], p)
		at += int64(len(p))
	}
	return nil
}

func (f *file) Read() ([]byte, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return bytes.Clone(f.b), nil
}

func (f *file) Size() (int64, error) { return int64(len(f.b)), nil }
func (f *file) Close() error         { return nil }

// open is a journal whose store needs no flush, and the payloads that it read.
func open(tb testing.TB, d *disk, o journal.Options) (j *journal.Journal, read []string, damaged int) {
	tb.Helper()
	if o.Flush == nil {
		o.Flush = func() error { return nil }
	}
	o.Log, o.Ended, o.Failed = slog.New(slog.DiscardHandler), make(chan struct{}), func() error { return nil }
	j, damaged, err := journal.Open(d, o, func(p []byte) error {
		read = append(read, string(p))
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return j, read, damaged
}

func mustAppend(tb testing.TB, j *journal.Journal, payload string) *journal.Entry {
	tb.Helper()
	e := &journal.Entry{Payload: []byte(payload)}
	if err := j.Append(e); err != nil {
		tb.Fatal(err)
	}
	return e
}

func mustClose(tb testing.TB, j *journal.Journal, empty bool) {
	tb.Helper()
	if err := j.Close(empty); err != nil {
		tb.Fatal(err)
	}
}

func payload(n int) string { return fmt.Sprintf("%04d:%s", n, strings.Repeat("x", n%61)) }

func TestRecordsComeBack(t *testing.T) {
	d := newDisk()
	j, read, _ := open(t, d, journal.Options{FirstSegment: 1 << 10, Segment: 4 << 10})
	if len(read) != 0 {
		t.Errorf("an empty one says %q", read)
	}
	var wg sync.WaitGroup
	for p := range 8 {
		wg.Go(func() {
			for i := range 100 {
				j.Applied(mustAppend(t, j, payload(100*p+i)))
			}
		})
	}
	wg.Wait()
	mustAppend(t, j, strings.Repeat("y", 10_000)) // longer than a segment
	crashed := d.copy()
	mustClose(t, j, false)
	for _, disk := range []*disk{crashed, d} {
		j, read, damaged := open(t, disk, journal.Options{})
		if len(read) != 801 || damaged != 0 {
			t.Fatalf("%d records, %d damaged", len(read), damaged)
		}
		if last := read[800]; len(last) != 10_000 {
			t.Errorf("the last one is %q", last)
		}
		at := map[string]int{}
		for i, p := range read[:800] {
			at[p] = i
		}
		for i := range 800 {
			if where, ok := at[payload(i)]; !ok || i%100 > 0 && where < at[payload(i-1)] {
				t.Errorf("record %d is missing or before its predecessor", i)
			}
		}
		mustClose(t, j, true)
		if j, read, _ := open(t, disk, journal.Options{}); len(read) != 0 {
			t.Errorf("what the store has is read again: %d", len(read))
		} else {
			mustClose(t, j, true)
		}
	}
}

// Where no segment can be made ready, those that are needed grow.
func TestNothingPrepared(t *testing.T) {
	d := newDisk()
	j, _, _ := open(t, d, journal.Options{FirstSegment: 1 << 10, Segment: 1 << 10})
	d.mu.Lock()
	d.short = true
	d.mu.Unlock()
	for i := range 200 {
		j.Applied(mustAppend(t, j, payload(i)))
	}
	c := d.copy()
	mustClose(t, j, false)
	j, read, damaged := open(t, c, journal.Options{})
	if len(read) != 200 || damaged != 0 {
		t.Errorf("%d records, %d damaged", len(read), damaged)
	}
	mustClose(t, j, true)
}

// Segments are used again when the store has what is in them, and not before.
func TestSegmentsAreUsedAgain(t *testing.T) {
	d := newDisk()
	var mu sync.Mutex
	var applied, flushed int
	flushes := make(chan struct{}, 1000)
	o := journal.Options{FirstSegment: 1 << 10, Segment: 1 << 10, Limit: 3 << 10, Flush: func() error {
		mu.Lock()
		defer mu.Unlock()
		flushed = applied
		flushes <- struct{}{}
		return nil
	}}
	j, _, _ := open(t, d, o)
	for i := range 1000 {
		e := mustAppend(t, j, payload(i))
		mu.Lock()
		applied = i + 1
		mu.Unlock()
		j.Applied(e)
		if i%100 == 99 {
			<-flushes
		}
		if i%50 != 0 {
			continue
		}
		mu.Lock()
		has, c := flushed, d.copy()
		mu.Unlock()
		j, read, damaged := open(t, c, journal.Options{})
		if damaged != 0 || len(read) == 0 && has < i+1 || len(read) > 0 && (read[0] > payload(has) || read[len(read)-1] != payload(i)) {
			t.Errorf("at %d with %d flushed: %d records, %d damaged", i, has, len(read), damaged)
		}
		for k := 1; k < len(read); k++ {
			if read[k][:4] != fmt.Sprintf("%04d", atoi(read[k-1])+1) {
				t.Errorf("at %d: %s behind %s", i, read[k], read[k-1])
			}
		}
		mustClose(t, j, false)
	}
	if n := len(d.copy().files); n > 20 {
		t.Errorf("%d files", n)
	}
	// One that the store has not applied holds all that came behind it.
	held := mustAppend(t, j, "held")
	for i := range 200 {
		j.Applied(mustAppend(t, j, payload(i)))
	}
	c := d.copy()
	j2, read, _ := open(t, c, journal.Options{})
	if !slices.Contains(read, "held") || len(read) < 201 {
		t.Errorf("a record that was not applied is gone; %d are left", len(read))
	}
	mustClose(t, j2, true)
	j.Applied(held)
	mustClose(t, j, true)
}

func atoi(p string) (n int) {
	_, _ = fmt.Sscanf(p, "%04d", &n)
	return n
}

// Whatever a byte becomes, no record is made up, those of other writes are found, and
// one that was acknowledged long ago is not missed in silence.
func TestDamage(t *testing.T) {
	d := newDisk()
	j, _, _ := open(t, d, journal.Options{FirstSegment: 1 << 10, Segment: 1 << 10})
	const n = 40
	for i := range n {
		mustAppend(t, j, payload(i))
	}
	crashed := d.copy()
	mustClose(t, j, false)
	for _, name := range crashed.segments() {
		for at := 0; at < len(crashed.files[name].b); at += 3 { // 3 meets each byte of a header
			c := crashed.copy()
			c.files[name].b[at] ^= 0x10
			j, read, damaged := open(t, c, journal.Options{})
			mustClose(t, j, false)
			if len(read) < n-1 {
				t.Fatalf("%s at %d: only %d records", name, at, len(read))
			}
			lastLost := len(read) == n-1 && read[n-2] != payload(n-1)
			if lost := len(read) < n && !lastLost; lost != (damaged == 1) {
				t.Fatalf("%s at %d: %d records, %d damaged", name, at, len(read), damaged)
			}
			for i, p := range read {
				if p != payload(i) && p != payload(i+1) {
					t.Fatalf("%s at %d: record %d is %q", name, at, i, p)
				}
			}
			if damaged == 1 {
				if c.files["damaged-"+name] == nil {
					t.Fatalf("%s at %d: it is not kept", name, at)
				}
				j, read, damaged := open(t, c, journal.Options{})
				if len(read) != 0 || damaged != 1 {
					t.Fatalf("%s at %d: opened again: %d records, %d damaged", name, at, len(read), damaged)
				}
				mustClose(t, j, true)
			}
		}
	}
}

// A write of several records that a power cut tore is no damage, whichever of its
// parts are there.
func TestTornWrite(t *testing.T) {
	d := newDisk()
	j, _, _ := open(t, d, journal.Options{FirstSegment: 4 << 10})
	mustAppend(t, j, "first")
	block := make(chan struct{})
	d.mu.Lock() // the next write waits, and the others for it
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { mustAppend(t, j, fmt.Sprintf("%d:%s", i, strings.Repeat("z", 100))) })
	}
	close(block)
	d.mu.Unlock()
	wg.Wait()
	crashed := d.copy()
	mustClose(t, j, false)
	name := crashed.segments()[0]
	all := crashed.files[name].b
	j, whole, _ := open(t, crashed.copy(), journal.Options{})
	mustClose(t, j, false)
	if len(whole) != 9 {
		t.Fatalf("%d records", len(whole))
	}
	// The last record's write is torn: anything of it may be zeros.
	last := bytes.LastIndex(all, []byte(":z"))
	for from := last - 24; from < last+100; from += 8 {
		c := crashed.copy()
		clear(c.files[name].b[from:])
		j, read, damaged := open(t, c, journal.Options{})
		mustClose(t, j, false)
		if damaged != 0 || len(read) < 8 {
			t.Errorf("zeros from %d: %d records, %d damaged", from, len(read), damaged)
		}
	}
}

// What stands before a gap is old: it was used again out of turn or comes back by an
// accident, and must not be done a second time over what followed.
func TestOnlyWhatHasNoGap(t *testing.T) {
	d := newDisk()
	j, _, _ := open(t, d, journal.Options{FirstSegment: 1 << 10, Segment: 1 << 10})
	for i := range 100 {
		mustAppend(t, j, payload(i))
	}
	mustClose(t, j, false)
	names := d.segments()
	delete(d.files, names[1])
	j, read, damaged := open(t, d, journal.Options{})
	if damaged != 0 || len(read) == 0 || read[0] == payload(0) || read[len(read)-1] != payload(99) {
		t.Errorf("%d damaged; %d records", damaged, len(read))
	}
	mustClose(t, j, true)
}

// Bytes that somebody sends can't become records: they would have to know a salt that
// stands in the name of the file alone.
func TestForgedRecords(t *testing.T) {
	other := newDisk()
	j, _, _ := open(t, other, journal.Options{FirstSegment: 1 << 10})
	mustAppend(t, j, "forged")
	mustClose(t, j, false)
	bait := bytes.TrimRight(other.files[other.segments()[0]].b, "\x00")
	d := newDisk()
	j, _, _ = open(t, d, journal.Options{FirstSegment: 4 << 10})
	for pad := range 8 {
		mustAppend(t, j, strings.Repeat("p", pad)+string(bait)+"\x00\x00")
	}
	mustAppend(t, j, "last")
	mustClose(t, j, false)
	for at := 0; at < 400; at++ {
		c := d.copy()
		c.files[c.segments()[0]].b[at] ^= 1
		j, read, _ := open(t, c, journal.Options{})
		if slices.Contains(read, "forged") {
			t.Fatalf("at %d", at)
		}
		mustClose(t, j, false)
	}
}

// After a failure each caller is answered, and what was not acknowledged may be there.
func TestFailureAnswersAll(t *testing.T) {
	d := newDisk()
	bad := errors.New("input/output error")
	ended, once := make(chan struct{}), sync.Once{}
	var mu sync.Mutex
	var failed error
	o := journal.Options{Log: slog.New(slog.DiscardHandler), Ended: ended, Failed: func() error {
		mu.Lock()
		defer mu.Unlock()
		return failed
	}, Flush: func() error { return nil }}
	j, _, err := journal.Open(d, o, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var said sync.Map
	for p := range 8 {
		wg.Go(func() {
			for i := range 100 {
				e := &journal.Entry{Payload: []byte(payload(100*p + i))}
				if err := j.Append(e); err != nil {
					if !errors.Is(err, bad) {
						t.Error(err)
					}
					return
				}
				said.Store(payload(100*p+i), true)
				j.Applied(e)
				if i == 50 && p == 3 {
					mu.Lock()
					failed = bad
					mu.Unlock()
					once.Do(func() { close(ended) })
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, j, false)
	_, read, _ := open(t, d, journal.Options{})
	for p := range said.Range {
		if !slices.Contains(read, p.(string)) {
			t.Errorf("%s was acknowledged", p)
		}
	}
}

func FuzzRead(f *testing.F) {
	d := newDisk()
	j, _, _ := open(f, d, journal.Options{FirstSegment: 1 << 10})
	mustAppend(f, j, "one")
	mustAppend(f, j, "two")
	mustClose(f, j, false)
	name := d.segments()[0]
	f.Add(name, d.files[name].b)
	f.Add("spare-1", []byte("x"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		d := newDisk()
		d.files[name] = &file{disk: d, b: b}
		j, read, _ := open(t, d, journal.Options{FirstSegment: 1 << 10})
		if len(read) > len(b)/24 {
			t.Errorf("%d records in %d bytes", len(read), len(b))
		}
		mustAppend(t, j, "after")
		mustClose(t, j, false)
		_, again, _ := open(t, d, journal.Options{FirstSegment: 1 << 10})
		if len(again) != 1 || again[0] != "after" {
			t.Errorf("%q", again)
		}
	})
}
