package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Load returns the message as it is stored. A damaged one is set aside, and the
// error is ErrDamaged; ErrNotFound is possible, too.
func (q *Queue) Load(id string) (*Message, error) {
	h := q.handle.Load()
	m, err := h.load(id)
	if err = h.explain(err); err != nil {
		return nil, fmt.Errorf("queue: load %s: %w", id, err)
	}
	return m, nil
}

func (h *handle) load(id string) (*Message, error) {
	if err := h.readable(); err != nil {
		return nil, err
	}
	if h.pending.has(id) {
		return nil, ErrNotFound
	}
	m, _, err := h.get(id)
	if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnreadable) {
		h.setAside(id, err)
	}
	return m, err
}

// get reads and checks a record.
func (h *handle) get(id string) (*Message, head, error) {
	key := recordKey(id)
	v, done, err := h.engine.Get(key)
	if err != nil {
		return nil, head{}, err
	}
	defer done()
	return decodeRecord(key, v)
}

// head is get for those who need no more.
func (h *handle) head(id string) (head, error) {
	key := recordKey(id)
	v, done, err := h.engine.Get(key)
	if err != nil {
		return head{}, err
	}
	defer done()
	b, err := unseal(key, v)
	if err != nil {
		return head{}, err
	}
	return parseHead(b)
}

// Body opens the stored message, a message.Retainer. Closing it ends the
// caller's use; who retained it may go on reading. Every byte was checked
// against its checksum: where that is wrong, or the file is gone, the message is
// set aside and the error is ErrDamaged. ErrNotFound is possible, too.
func (q *Queue) Body(id string) (message.Body, io.Closer, error) {
	h := q.handle.Load()
	body, closer, err := h.body(id)
	if err = h.explain(err); err != nil {
		return nil, nil, fmt.Errorf("queue: body of %s: %w", id, err)
	}
	return body, closer, nil
}

func (h *handle) body(id string) (message.Body, io.Closer, error) {
	if err := h.readable(); err != nil {
		return nil, nil, err
	}
	if h.pending.has(id) {
		return nil, nil, ErrNotFound
	}
	body, closer, err := h.openBody(id)
	if err == nil {
		return body, closer, nil
	}
	// A message that is removed loses record and body at once, so with a record
	// this is damage, and without one it is gone.
	if errors.Is(err, ErrUnreadable) {
		return nil, nil, err // the store is made anew
	}
	_, recordErr := h.head(id)
	switch {
	case errors.Is(recordErr, ErrNotFound):
		return nil, nil, ErrNotFound
	case errors.Is(err, ErrNotFound) && recordErr == nil:
		err = fmt.Errorf("its body is gone: %w", ErrDamaged)
	}
	if errors.Is(err, ErrDamaged) {
		h.setAside(id, err)
	}
	return nil, nil, err
}

func (h *handle) openBody(id string) (message.Body, io.Closer, error) {
	key := bodyKey(id)
	v, done, err := h.engine.Get(key)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	b, err := unseal(key, v)
	switch {
	case err != nil:
		return nil, nil, err
	case len(b) < 2 || b[0] != bodyVersion:
	case b[1] == bodyInline:
		body := h.copied(b[2:])
		return body, body.(io.Closer), nil
	case b[1] == bodyInFile && len(b) >= 2+bodyPlaceLen:
		return h.openFile(id, b[2:])
	}
	return nil, nil, fmt.Errorf("a body that makes no sense: %w", ErrDamaged)
}

// copied is a body of its own, so that a slow reader does not hold the engine's
// memory.
func (h *handle) copied(b []byte) message.Body {
	if len(b) > maxMemory { // only the head of an edited message makes it so long
		return kept{append(message.Bytes(nil), b...)}
	}
	s := newSource(&h.q.memory)
	s.append(b, maxMemory)
	return &view{s, s.inside, s.inside}
}

// kept is a body that the garbage collector releases.
type kept struct{ message.Bytes }

func (kept) Close() error { return nil }

func (h *handle) openFile(id string, b []byte) (message.Body, io.Closer, error) {
	size, sum, from := int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:]), int64(binary.LittleEndian.Uint64(b[12:]))
	head := append([]byte(nil), b[bodyPlaceLen:]...)
	f, err := h.q.disk.Open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("its file is gone: %w", ErrDamaged)
	}
	if err != nil {
		return nil, nil, err
	}
	s := newSource(&h.q.memory)
	s.file = f
	got, err := h.sum(f, size)
	if err == nil && (got != sum || from < 0 || from > size) {
		err = fmt.Errorf("wrong checksum or size of its file: %w", ErrDamaged)
	}
	if err != nil {
		s.release()
		return nil, nil, err
	}
	v := &view{s, 0, size}
	return message.Edited{Head: head, Rest: v, From: from}, v, nil
}

// sum is the checksum of a file that ought to have that size; of another one it
// is any.
func (h *handle) sum(f BodyFile, size int64) (sum uint32, err error) {
	buf := take(&h.q.memory.spools, spoolSize)
	defer h.q.memory.spools.Put(buf)
	r := io.NewSectionReader(f, 0, math.MaxInt64)
	for n := int64(0); ; {
		k, err := r.Read(*buf)
		sum = crc32.Update(sum, castagnoli, (*buf)[:k])
		n += int64(k)
		switch {
		case err == io.EOF && n == size:
			return sum, nil
		case err == io.EOF, n > size:
			return 0, fmt.Errorf("%d bytes and not %d in its file: %w", n, size, ErrDamaged)
		case err != nil:
			return 0, err
		}
	}
}

// DueEntry is a message of the due index.
type DueEntry struct {
	At time.Time
	ID string
}

// Due walks the messages that are due at until or before, in order of time,
// limit at most. A message stays due until Settle or Update moves it. Only
// keys are read; the walk is on one state of the queue and should be short.
func (q *Queue) Due(until time.Time, limit int) iter.Seq2[DueEntry, error] {
	return q.DueAfter(DueEntry{}, until, limit)
}

// DueAfter is Due behind an entry that was got before, for those who walk in
// pieces; the zero entry is the beginning.
func (q *Queue) DueAfter(after DueEntry, until time.Time, limit int) iter.Seq2[DueEntry, error] {
	return func(yield func(DueEntry, error) bool) {
		h := q.handle.Load()
		if err := h.explain(h.walkDue(after, until, limit, func(e DueEntry) bool { return yield(e, nil) })); err != nil {
			yield(DueEntry{}, fmt.Errorf("queue: due: %w", err))
		}
	}
}

func (h *handle) walkDue(after DueEntry, until time.Time, limit int, yield func(DueEntry) bool) error {
	if err := h.readable(); err != nil {
		return err
	}
	if limit <= 0 {
		return nil
	}
	first := after == DueEntry{}
	var from []byte
	if first {
		at, raise := h.floor.begin()
		from = dueKey(at, "")
		found := min(nanos(until), noDue-1)
		defer func() { raise(found) }()
		inner := yield
		yield = func(e DueEntry) bool {
			found = min(found, nanos(e.At))
			return inner(e)
		}
	} else {
		from = append(dueKey(nanos(after.At), after.ID), 0)
	}
	c, err := h.engine.Range(from, dueKey(nanos(until)+1, ""))
	if err != nil {
		return err
	}
	defer c.Close()
	for n := 0; n < limit && c.Next(); {
		at, id, ok := parseDueKey(c.Key())
		if !ok {
			continue
		}
		e := DueEntry{timeOf(at), id}
		if h.pending.has(id) {
			continue
		}
		n++
		if !yield(e) {
			return nil
		}
	}
	return c.Err()
}

// floor is a time before which nothing is due, so that a walk need not wade
// through what the engine has not yet forgotten of the messages that left.
type floor struct {
	mu      sync.Mutex
	at      int64
	walking bool
	lowest  int64 // of the entries that came during the walk
}

// lower tells of an entry that was made durable.
func (f *floor) lower(at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.lowest = min(f.at, at), min(f.lowest, at)
}

// begin is called before a walk's snapshot is taken. raise is told the first
// entry found. Of walks that overlap only the first one raises the floor.
func (f *floor) begin() (at int64, raise func(int64)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.walking {
		return f.at, func(int64) {}
	}
	f.walking, f.lowest = true, math.MaxInt64
	return f.at, func(found int64) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.walking = false
		f.at = max(f.at, min(found, f.lowest))
	}
}

// Settled walks the ids of the messages whose recipients are all final: their bounce
// is owed, or their removal. Only the fronts of records are decoded.
func (q *Queue) Settled() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		h := q.handle.Load()
		err := h.explain(h.records(func(key, stored []byte) bool {
			if len(stored) < sealLen {
				return true // damaged: Load sets it aside
			}
			if front, err := parseHead(stored[sealLen:]); err != nil || front.open > 0 {
				return true
			}
			id := string(key[1:])
			return h.pending.has(id) || yield(id, nil)
		}))
		if err != nil {
			yield("", fmt.Errorf("queue: list what is settled: %w", err))
		}
	}
}

// All walks the messages by age, those for which every filter is true, on the
// state at its beginning. Damaged ones are left out. While the walk lasts, the
// disk keeps what is removed meanwhile.
func (q *Queue) All(filters ...func(*Message) bool) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		h := q.handle.Load()
		if err := h.explain(h.walk(filters, func(m *Message) bool { return yield(m, nil) })); err != nil {
			yield(nil, fmt.Errorf("queue: list: %w", err))
		}
	}
}

// Scan is All for those who keep no message: each is valid until the next one, but
// for its strings, and its memory is used again.
func (q *Queue) Scan() iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		h := q.handle.Load()
		var m Message
		err := h.explain(h.recordsAhead(func(key, stored []byte) bool {
			b, err := unseal(key, stored)
			if err == nil {
				_, err = m.parse(string(key[1:]), b)
			}
			return err != nil || h.pending.has(m.ID) || yield(&m, nil)
		}))
		if err != nil {
			yield(nil, fmt.Errorf("queue: scan: %w", err))
		}
	}
}

func (h *handle) walk(filters []func(*Message) bool, yield func(*Message) bool) error {
	return h.records(func(key, stored []byte) bool {
		m, _, err := decodeRecord(key, stored)
		if err != nil || h.pending.has(m.ID) {
			return true
		}
		for _, keep := range filters {
			if !keep(m) {
				return true
			}
		}
		return yield(m)
	})
}

// records walks the stored records until one is refused.
func (h *handle) records(yield func(key, stored []byte) bool) error {
	if err := h.readable(); err != nil {
		return err
	}
	c, err := h.engine.Range([]byte{recordRange}, []byte{recordRange + 1})
	if err != nil {
		return err
	}
	defer c.Close()
	for c.Next() {
		v, err := c.Value()
		if err != nil {
			return err
		}
		if !yield(c.Key(), v) {
			return nil
		}
	}
	return c.Err()
}
