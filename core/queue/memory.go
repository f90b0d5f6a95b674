package queue

import (
	"io"
	"sync"
	"sync/atomic"
)

// chunkSizes are the pieces a body in memory is made of. They never move while
// the body grows, so that readers need no lock, and a small message takes
// little: 8, 32, 128, then 256 KiB in all.
var chunkSizes = [...]int{8 << 10, 24 << 10, 96 << 10, 128 << 10}

// maxMemory is the sum of chunkSizes.
const maxMemory = 256 << 10

// spoolSize is the write buffer of a body that goes to a file.
const spoolSize = 64 << 10

// memory is the pools of a queue.
type memory struct {
	chunks  [len(chunkSizes)]sync.Pool
	spools  sync.Pool
	records sync.Pool
}

func (m *memory) chunk(i int) *[]byte {
	if c, ok := m.chunks[i].Get().(*[]byte); ok {
		return c
	}
	return new(make([]byte, chunkSizes[i]))
}

// take is a buffer of size bytes, or with room for as many where it comes from
// another use of the pool.
func take(pool *sync.Pool, size int) *[]byte {
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	return new(make([]byte, size))
}

// source is the bytes of one body, in memory, in a file or in both: the chunks
// hold what came first. Its owner has the first reference; with the last one the
// chunks go back to their pools and the file is closed.
type source struct {
	refs   atomic.Int32
	memory *memory
	chunks [len(chunkSizes)]*[]byte
	inside int64 // bytes in chunks, maxMemory at most
	file   BodyFile
}

func newSource(m *memory) *source {
	s := &source{memory: m}
	s.refs.Store(1)
	return s
}

// append takes bytes into memory, as many as there is room for below limit.
func (s *source) append(p []byte, limit int64) (n int) {
	start := int64(0)
	for i, size := range chunkSizes {
		end := start + int64(size)
		if s.inside < end && len(p) > 0 && s.inside < limit {
			if s.chunks[i] == nil {
				s.chunks[i] = s.memory.chunk(i)
			}
			room := (*s.chunks[i])[s.inside-start : min(end, limit)-start]
			k := copy(room, p)
			p, n = p[k:], n+k
			s.inside += int64(k)
		}
		start = end
	}
	return n
}

// parts appends to dst the pieces of memory that hold the bytes from ≤ i < to.
func (s *source) parts(dst [][]byte, from, to int64) [][]byte {
	start := int64(0)
	for i, size := range chunkSizes {
		end := start + int64(size)
		if lo, hi := max(from, start), min(to, end); lo < hi {
			dst = append(dst, (*s.chunks[i])[lo-start:hi-start])
		}
		start = end
	}
	return dst
}

// readAt reads in the first size bytes. memory is how many of them are in chunks.
func (s *source) readAt(p []byte, off, inside, size int64) (n int, err error) {
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	if int64(len(p)) > size-off {
		p, err = p[:size-off], io.EOF
	}
	var pieces [len(chunkSizes)][]byte
	for _, piece := range s.parts(pieces[:0], off, min(off+int64(len(p)), inside)) {
		n += copy(p[n:], piece)
	}
	if n == len(p) {
		return n, err
	}
	m, ferr := s.file.ReadAt(p[n:], off+int64(n))
	if n += m; n < len(p) {
		if ferr == nil || ferr == io.EOF {
			ferr = io.ErrUnexpectedEOF
		}
		return n, ferr
	}
	return n, err
}

func (s *source) retain() {
	if s.refs.Add(1) <= 1 {
		panic("queue: a body was retained after its last release")
	}
}

func (s *source) release() {
	switch n := s.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("queue: a body was released too often")
	}
	for i, c := range s.chunks {
		if c != nil {
			s.memory.chunks[i].Put(c)
			s.chunks[i] = nil
		}
	}
	if s.file != nil {
		_ = s.file.Close() // nothing that matters is unwritten: Commit synced it, or it is thrown away
	}
}

// view is the first bytes of a source as they were when it was made: a
// message.Body and a message.Retainer.
type view struct {
	source       *source
	inside, size int64
}

func (v *view) ReadAt(p []byte, off int64) (int, error) {
	return v.source.readAt(p, off, v.inside, v.size)
}
func (v *view) Size() int64 { return v.size }
func (v *view) Retain()     { v.source.retain() }
func (v *view) Release()    { v.source.release() }

// Close is the io.Closer that Queue.Body gives out.
func (v *view) Close() error {
	v.Release()
	return nil
}
