package queue

// slab is some records, one behind the other: the ends of each one's key and value.
type slab struct {
	b    []byte
	ends []int
}

// slabSize is how much of it is handed over at once, in bytes.
const slabSize = 128 << 10

func (s *slab) add(key, stored []byte) {
	s.b = append(s.b, key...)
	s.ends = append(s.ends, len(s.b))
	s.b = append(s.b, stored...)
	s.ends = append(s.ends, len(s.b))
}

// each gives the records to yield until one is refused.
func (s *slab) each(yield func(key, stored []byte) bool) bool {
	at := 0
	for i := 0; i < len(s.ends); i += 2 {
		if !yield(s.b[at:s.ends[i]], s.b[s.ends[i]:s.ends[i+1]]) {
			return false
		}
		at = s.ends[i+1]
	}
	return true
}

// recordsAhead is records with the reading beside what is done with it: for walks
// over everything that somebody waits for.
func (h *handle) recordsAhead(yield func(key, stored []byte) bool) error {
	full, empty, stop := make(chan *slab, 2), make(chan *slab, 4), make(chan struct{})
	for range cap(empty) { // as many as can be in full, with yield and with the reader
		empty <- &slab{}
	}
	defer func() { // in a panic of yield, too
		close(stop)
		for range full { // its end is the reader's
		}
	}()
	var err error
	go func() {
		defer close(full)
		s := <-empty
		hand := func() bool {
			select {
			case full <- s:
			case <-stop:
				return false
			}
			select {
			case s = <-empty:
			case <-stop:
				return false
			}
			s.b, s.ends = s.b[:0], s.ends[:0]
			return true
		}
		err = h.records(func(key, stored []byte) bool {
			s.add(key, stored)
			return len(s.b) < slabSize || hand()
		})
		hand()
	}()
	for s := range full {
		if !s.each(yield) {
			return nil
		}
		empty <- s
	}
	return err
}
