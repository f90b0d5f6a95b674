package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"sync"

	"github.com/postern-mta/postern/core/message"
)

// Draft is a message on its way in: nothing of it is ours before Commit. It is
// for one goroutine; the bodies it gives out are for any.
type Draft struct {
	q      *Queue
	id     string
	source *source // nil after Commit or Abort
	size   int64
	err    error // the first failure to write

	// Beyond InlineLimit everything is in the file, too.
	file    BodyFile
	handle  *handle // with which the file was begun; a failure since then ends the draft
	spool   *[]byte
	waiting int    // bytes in spool
	written int64  // bytes in the file
	sum     uint32 // of those

	// What Commit hands to the engine, here to be allocated once.
	front  [bodyFrontLen + bodyPlaceLen]byte
	parts  [2 + len(chunkSizes)][]byte
	record [1][]byte
	writes [3]Write
	keys   [3*(1+maxID) + 8]byte
}

// maxID is the length of the longest message id.
const maxID = 32

// Begin starts a message. Nothing touches the disk until it outgrows InlineLimit.
// A draft must end with Commit or Abort.
func (q *Queue) Begin(id string) *Draft {
	return &Draft{q: q, id: id, source: newSource(&q.memory)}
}

// Write adds to the body. After an error all further writes fail, and Commit.
func (d *Draft) Write(p []byte) (int, error) {
	if d.source == nil {
		return 0, errors.New("queue: write to a draft that has ended")
	}
	if d.err != nil {
		return 0, d.err
	}
	n := len(p)
	if d.file == nil && d.size+int64(n) <= d.q.o.InlineLimit {
		d.source.append(p, d.q.o.InlineLimit)
		d.size += int64(n)
		return n, nil
	}
	if d.file == nil {
		p = p[d.source.append(p, d.q.o.InlineLimit):]
		if d.err = d.spill(); d.err != nil {
			return 0, d.err
		}
	}
	for len(p) > 0 {
		k := copy((*d.spool)[d.waiting:], p)
		d.waiting, p = d.waiting+k, p[k:]
		if d.waiting == len(*d.spool) {
			if d.err = d.flush(); d.err != nil {
				return 0, d.err
			}
		}
	}
	d.size += int64(n)
	return n, nil
}

// spill begins the file with what is in memory. The memory stays: readers may
// be in it.
func (d *Draft) spill() error {
	if !message.ValidID(d.id) {
		return fmt.Errorf("queue: %q is no message id", d.id)
	}
	d.handle = d.q.handle.Load()
	if err := d.handle.writable(); err != nil {
		return fmt.Errorf("queue: %w", d.handle.explain(err))
	}
	f, err := d.q.disk.Create(d.id)
	if err != nil {
		return fmt.Errorf("queue: begin a body file: %w", err)
	}
	d.file, d.source.file = f, f
	d.spool = take(&d.q.memory.spools, spoolSize)
	var pieces [len(chunkSizes)][]byte
	for _, p := range d.source.parts(pieces[:0], 0, d.source.inside) {
		if err := d.toFile(p); err != nil {
			return err
		}
	}
	return nil
}

func (d *Draft) flush() error {
	if d.waiting == 0 {
		return nil
	}
	err := d.toFile((*d.spool)[:d.waiting])
	d.waiting = 0
	return err
}

func (d *Draft) toFile(p []byte) error {
	if err := d.q.checkRoom(int64(len(p))); err != nil {
		return fmt.Errorf("queue: write a body file: %w", err)
	}
	if _, err := d.file.Write(p); err != nil {
		return fmt.Errorf("queue: write a body file: %w", err)
	}
	d.written += int64(len(p))
	d.sum = crc32.Update(d.sum, castagnoli, p)
	return nil
}

// Size is how many bytes were written.
func (d *Draft) Size() int64 { return d.size }

// Body is what was written so far, a message.Retainer. It is readable until
// Commit or Abort, and after them as long as it is retained. What could not be
// written to the disk is missing from it; Commit will fail then.
func (d *Draft) Body() message.Body {
	if d.source == nil {
		return message.Bytes(nil)
	}
	if d.file == nil {
		return &view{d.source, d.source.inside, d.source.inside}
	}
	if d.err == nil {
		d.err = d.flush()
	}
	return &view{d.source, min(d.source.inside, d.written), d.written}
}

// Replace makes the bytes of b the draft's, in the place of what was written. b
// may be made of Body's. After an error Commit will fail with it.
func (d *Draft) Replace(b message.Body) error {
	if d.source == nil {
		return errors.New("queue: replace in a draft that has ended")
	}
	old := d.Body() // what waits is in the file now
	if d.err != nil {
		return d.err
	}
	old.(message.Retainer).Retain()
	defer old.(message.Retainer).Release()
	if d.file != nil {
		// Its bytes stay readable; the name is wanted for the new ones. Neither is
		// ours before Commit.
		d.q.unlink(d.id)
	}
	d.end()
	d.source, d.file, d.size, d.waiting, d.written, d.sum = newSource(&d.q.memory), nil, 0, 0, 0, 0
	buf := take(&d.q.memory.spools, spoolSize)
	defer d.q.memory.spools.Put(buf)
	for at, size := int64(0), b.Size(); at < size; {
		n, err := b.ReadAt((*buf)[:min(size-at, int64(len(*buf)))], at)
		if n == 0 && err == nil || err != nil && (!errors.Is(err, io.EOF) || at+int64(n) < size) {
			d.err = fmt.Errorf("queue: read the new body: %w", errors.Join(err, io.ErrUnexpectedEOF))
			return d.err
		}
		if _, err := d.Write((*buf)[:n]); err != nil {
			d.err = err
			return err
		}
		at += int64(n)
	}
	return nil
}

// Abort throws the message away. It may be called at any time and repeatedly;
// after a Commit it does nothing.
func (d *Draft) Abort() {
	if d.source == nil {
		return
	}
	d.end()
	if d.file != nil {
		d.q.unlink(d.id)
	}
}

// end gives up the draft's memory and its reference to the body.
func (d *Draft) end() {
	if d.spool != nil {
		d.q.memory.spools.Put(d.spool)
		d.spool = nil
	}
	d.source.release()
	d.source = nil
}

// Commit makes the message durable, as head followed by what was written from
// offset from on, with m as its envelope; m.Size is set, and m.ID must be the
// draft's. On nil the message is on stable storage and ours: answer 250. stored
// is its body for the first attempt, without a way over the disk's index; the
// caller releases it once (message.Retainer). head must not be changed any more.
//
// On an error answer 4xx, and nothing is kept, except that where the process ends
// between a failed sync (ErrFailed) and the next opening of the store, that may find
// the message whole. The draft has ended either way. Once the write has begun, ctx no longer stops it.
func (d *Draft) Commit(ctx context.Context, m *Message, head []byte, from int64) (stored message.Body, err error) {
	if d.source == nil {
		return nil, errors.New("queue: commit: the draft has ended")
	}
	h := d.q.handle.Load()
	if d.file != nil {
		h = d.handle
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case d.err != nil:
		err = d.err
	case m.ID != d.id || !message.ValidID(d.id):
		err = fmt.Errorf("%q is not the id of this draft", m.ID)
	case len(m.Recipients) == 0:
		err = errors.New("a message needs a recipient")
	case from < 0 || from > d.size:
		err = fmt.Errorf("there is no offset %d in a body of %d bytes", from, d.size)
	default:
		err = h.writable()
	}
	if err == nil {
		m.Size = int64(len(head)) + d.size - from
		err = d.q.checkRoom(m.Size)
	}
	if err != nil {
		d.Abort()
		return nil, fmt.Errorf("queue: commit: %w", h.explain(err))
	}
	if d.file != nil {
		stored, err = d.commitFile(h, m, head, from)
	} else {
		stored, err = d.commitInline(h, m, head, from)
	}
	if err != nil {
		return nil, fmt.Errorf("queue: commit: %w", h.explain(err))
	}
	return stored, nil
}

// A body value, behind its checksum: version, kind, and then either the stored
// message itself, or where it is: bytes in the file (8), their checksum (4),
// from (8), and the head that precedes them.
const (
	bodyVersion  = 1
	bodyInline   = 0
	bodyInFile   = 1
	bodyFrontLen = sealLen + 2
	bodyPlaceLen = 8 + 4 + 8
)

func (d *Draft) commitInline(h *handle, m *Message, head []byte, from int64) (message.Body, error) {
	front := append(d.front[:sealLen], bodyVersion, bodyInline)
	parts := append(d.parts[:0], front, head)
	parts = d.source.parts(parts, from, d.size)
	if err := d.insert(h, m, 0, parts); err != nil {
		d.end()
		return nil, err
	}
	rest := &view{d.source, d.size, d.size}
	d.source = nil // its reference is the caller's now
	return message.Edited{Head: head, Rest: rest, From: from}, nil
}

func (d *Draft) commitFile(h *handle, m *Message, head []byte, from int64) (message.Body, error) {
	err := d.flush()
	if err == nil {
		if err = d.file.Sync(); err != nil {
			err = fmt.Errorf("sync a body file: %w", err)
		}
	}
	var f BodyFile
	if err == nil {
		f, err = d.q.disk.Open(d.id)
	}
	if err != nil {
		d.Abort()
		return nil, err
	}
	if err := d.q.disk.Sync(); err != nil {
		// The directory is shared: a later sync of it that succeeds would not
		// prove that this name, or one beside it, is there.
		err = fmt.Errorf("sync the directory of bodies: %w", err)
		h.engine.Fail(err)
		_ = f.Close() // only read
		d.end()
		return nil, err
	}
	front := append(d.front[:sealLen], bodyVersion, bodyInFile)
	front = binary.LittleEndian.AppendUint64(front, uint64(d.written))
	front = binary.LittleEndian.AppendUint32(front, d.sum)
	front = binary.LittleEndian.AppendUint64(front, uint64(from))
	err = d.insert(h, m, flagFile, append(d.parts[:0], front, head))
	d.end()
	if err != nil {
		// The record may be on the disk in spite of the error, so the file stays
		// until an Open has looked.
		_ = f.Close() // only read
		return nil, err
	}
	// The first attempt reads the file, so that large messages that wait for it
	// do not fill the memory.
	rest := newSource(&d.q.memory)
	rest.file = f
	return message.Edited{Head: head, Rest: &view{rest, 0, d.size}, From: from}, nil
}

// insert is the durable step of a new message. The first part of the body
// begins with room for the checksum.
func (d *Draft) insert(h *handle, m *Message, file byte, body [][]byte) error {
	q, its := d.q, headOf(m, file)
	keys := appendIDKey(d.keys[:0], recordRange, m.ID)
	key := keys[:len(keys):len(keys)]
	keys = appendIDKey(keys, bodyRange, m.ID)
	bkey := keys[len(key):len(keys):len(keys)]
	sum := crc32.Update(checksum(bkey), castagnoli, body[0][sealLen:])
	for _, p := range body[1:] {
		sum = crc32.Update(sum, castagnoli, p)
	}
	binary.LittleEndian.PutUint32(body[0], sum)
	buf := take(&q.memory.records, 1024)
	record := appendRecord((*buf)[:0], key, m, its)
	d.record[0] = record
	writes := append(d.writes[:0], Write{Key: key, Value: d.record[:]}, Write{Key: bkey, Value: body})
	if its.due != noDue {
		writes = append(writes, Write{Key: appendDueKey(keys, its.due, m.ID)[len(keys):]})
	}
	h.pending.add(m.ID)
	err := h.engine.Commit(writes)
	h.pending.remove(m.ID, err == nil)
	*buf = record
	if cap(record) <= 64<<10 {
		q.memory.records.Put(buf)
	}
	if err != nil {
		return err
	}
	h.totals.add(its.totals())
	h.floor.lower(its.due)
	return nil
}

// pending is the ids whose commit has not returned. The engine shows writes to
// readers before they are durable; nobody is to act on those.
type pending struct {
	mu      sync.Mutex
	ids     map[string]struct{}
	refused map[string]struct{} // those whose commit failed
	empty   chan struct{}       // somebody waits until there are none; closed then
}

func (p *pending) add(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids == nil {
		p.ids = map[string]struct{}{}
	}
	p.ids[id] = struct{}{}
}

// remove tells of a commit's end, and whether the message is ours.
func (p *pending) remove(id string, accepted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ids, id)
	if accepted {
		delete(p.refused, id) // a drop file's id may come again
	} else {
		if p.refused == nil {
			p.refused = map[string]struct{}{}
		}
		p.refused[id] = struct{}{}
	}
	if p.empty != nil && len(p.ids) == 0 {
		close(p.empty)
		p.empty = nil
	}
}

func (p *pending) has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.ids[id]
	return ok
}

// refuse adds to set the messages whose commit failed. It waits for the commits
// that are under way, which a failed engine answers at once.
func (p *pending) refuse(set map[string]struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) > 0 {
		wait := make(chan struct{})
		p.empty = wait
		p.mu.Unlock()
		<-wait
		p.mu.Lock()
	}
	maps.Copy(set, p.refused)
	p.refused = nil
}
