package journal

import (
	"errors"
	"fmt"
)

// keepSpares has a segment ready before it is wanted.
func (j *Journal) keepSpares() {
	size := j.o.FirstSegment
	for {
		select {
		case <-j.prepare:
		case <-j.closing:
			return
		case <-j.o.Ended:
			return
		}
		j.mu.Lock()
		enough := len(j.spares) > 0
		j.mu.Unlock()
		if enough {
			continue
		}
		size = min(2*size, j.o.Segment)
		name := j.spareName()
		f, err := j.files.Prepare(name, size)
		if err != nil {
			if j.o.Failed() == nil {
				j.o.Log.Warn("queue: no segment could be made ready for the journal; the next one grows", "error", err)
			}
			continue
		}
		j.mu.Lock()
		j.spares = append(j.spares, spare{f, name, size})
		j.mu.Unlock()
	}
}

// keepRetiring has the store flushed when there is much in full segments, and makes
// those spare.
func (j *Journal) keepRetiring() {
	for {
		select {
		case <-j.retire:
		case <-j.closing:
			return
		case <-j.o.Ended:
			return
		}
		old := j.ripe()
		if len(old) == 0 {
			continue
		}
		err := j.o.Flush()
		if err == nil {
			err = j.o.Failed()
		}
		// The lowest number goes first: a crash between two leaves no gap behind which
		// there is something old.
		for _, s := range old {
			if err != nil {
				break
			}
			j.mu.Lock()
			j.sealed = j.sealed[1:]
			j.mu.Unlock()
			err = j.reuse(s.file, s.name, s.size)
		}
		if err != nil && j.o.Failed() == nil {
			j.o.Log.Error("queue: segments of the journal could not be used again", "error", err)
		}
	}
}

// ripe is the oldest sealed segments, all that the store has applied, if it is time.
func (j *Journal) ripe() (old []*segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	bytes := int64(0)
	for _, s := range j.sealed {
		bytes += s.size
	}
	if bytes < j.o.Limit {
		return nil
	}
	for _, s := range j.sealed {
		if s.open.Load() > 0 {
			break
		}
		old = append(old, s)
	}
	return old
}

// reuse makes a spare of a segment, or removes it.
func (j *Journal) reuse(f File, name string, size int64) error {
	j.mu.Lock()
	keep := size == j.o.Segment && len(j.spares) < mostSpares
	j.mu.Unlock()
	if !keep {
		return errors.Join(f.Close(), j.files.Remove(name))
	}
	spareName := j.spareName()
	if err := j.files.Rename(name, spareName); err != nil {
		return errors.Join(err, f.Close())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spares = append(j.spares, spare{f, spareName, size})
	return nil
}

// spareName is one that was never used. Those of earlier openings are there while
// theirs are given out, hence the random part.
func (j *Journal) spareName() string {
	return fmt.Sprintf("%s%x", sparePrefix, newSalt())
}
