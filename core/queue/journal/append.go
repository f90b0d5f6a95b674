package journal

import (
	"errors"
	"fmt"
)

// groupBytes is how much is written at once, about.
const groupBytes = 1 << 20

// groupRecords is how many records are written at once. A record has two parts, and
// the system takes 1024.
const groupRecords = 500

// Append makes the entry's payload durable. When it returns nil, Applied must follow
// as soon as the store has it.
func (j *Journal) Append(e *Entry) error {
	if e.done == nil {
		e.done = make(chan error, 1)
	}
	e.sum = checksum(e.Payload)
	j.mu.Lock()
	j.waiting = append(j.waiting, e)
	if j.writing {
		j.mu.Unlock()
		select {
		case err := <-e.done:
			return err
		case <-j.o.Ended:
			return j.o.Failed()
		}
	}
	j.writing = true
	j.mu.Unlock()
	j.writeGroup()
	j.mu.Lock()
	if len(j.waiting) > 0 {
		j.work <- struct{}{} // it is empty: writing is set as long as it is not
	} else {
		j.writing = false
	}
	j.mu.Unlock()
	return <-e.done // it was the first of the group
}

// Applied tells that the store has what the entry says.
func (j *Journal) Applied(e *Entry) { j.release(e.in) }

// release gives up a hold on a segment. With the last one it may be retired.
func (j *Journal) release(s *segment) {
	if s.open.Add(-1) == 0 {
		poke(j.retire)
	}
}

// serve writes for those who came while somebody wrote.
func (j *Journal) serve() {
	for {
		select {
		case <-j.work:
		case <-j.closing:
			return
		}
		for more := true; more; {
			j.writeGroup()
			j.mu.Lock()
			more = len(j.waiting) > 0
			j.writing = more
			j.mu.Unlock()
		}
	}
}

// writeGroup writes those who wait, as many as fit, and answers them.
func (j *Journal) writeGroup() {
	err := j.o.Failed()
	j.take()
	if err == nil {
		err = j.writeRecords()
	}
	for i, e := range j.group {
		e.done <- err
		j.group[i] = nil
	}
	j.group = j.group[:0]
}

// take moves those who wait into the group.
func (j *Journal) take() {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, bytes := 0, 0
	for n < len(j.waiting) && n < groupRecords && (n == 0 || bytes+len(j.waiting[n].Payload) <= groupBytes) {
		bytes += len(j.waiting[n].Payload)
		n++
	}
	j.group = append(j.group[:0], j.waiting[:n]...)
	rest := copy(j.waiting, j.waiting[n:])
	clear(j.waiting[rest:])
	j.waiting = j.waiting[:rest]
}

// writeRecords writes the group into the current segment, or the next one.
func (j *Journal) writeRecords() error {
	size := int64(0)
	for _, e := range j.group {
		size += headerLen + int64(padded(len(e.Payload)))
	}
	if j.current.used+size > j.current.size {
		if err := j.advance(size); err != nil {
			return err
		}
	}
	s := j.current
	j.write++
	if need := len(j.group) * (headerLen + 8); cap(j.headers) < need {
		j.headers = make([]byte, 0, 2*need) // what is in parts must not move
	}
	h, parts, from := j.headers[:0], j.parts[:0], 0
	for i, e := range j.group {
		h = appendHeader(h, s.salt, e, place{j.write, i, len(j.group)})
		parts = append(parts, h[from:], e.Payload)
		from = len(h)
		h = append(h, zeros[:padded(len(e.Payload))-len(e.Payload)]...) // goes with the next header
		e.in = s
	}
	if from < len(h) {
		parts = append(parts, h[from:])
	}
	s.open.Add(int64(len(j.group)))
	err := s.file.Write(parts, s.used)
	clear(parts)
	j.headers, j.parts = h[:0], parts[:0]
	if err == nil {
		err = j.o.Failed()
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	s.used += size
	return nil
}

// advance seals the current segment, and makes a spare or a new one of at least that
// many bytes the current one.
func (j *Journal) advance(size int64) error {
	j.mu.Lock()
	var s spare
	if len(j.spares) > 0 && j.spares[0].size >= size {
		s = j.spares[0]
		j.spares = j.spares[:copy(j.spares, j.spares[1:])]
	}
	few := len(j.spares) == 0
	j.mu.Unlock()
	if few {
		defer poke(j.prepare)
	}
	if s.file == nil {
		s.name = j.spareName()
		var err error
		if j.current == nil {
			s.size = j.o.FirstSegment
			s.file, err = j.files.Prepare(s.name, s.size)
		} else { // without zeros, since somebody waits
			s.size = max(size, j.current.size)
			s.file, err = j.files.Create(s.name)
		}
		if err != nil {
			return fmt.Errorf("make a segment of the journal: %w", err)
		}
	}
	next := &segment{file: s.file, salt: newSalt(), size: s.size}
	next.name = segmentName(j.number+1, next.salt)
	next.open.Store(1)
	err := j.files.Rename(s.name, next.name)
	if err == nil {
		err = j.files.Sync()
	}
	if err != nil {
		return fmt.Errorf("begin a segment of the journal: %w", errors.Join(err, s.file.Close()))
	}
	j.number++
	if last := j.current; last != nil {
		j.mu.Lock()
		j.sealed = append(j.sealed, last)
		j.mu.Unlock()
		j.release(last)
	}
	j.current = next
	return nil
}
