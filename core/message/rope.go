package message

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// Rope is a Body made of pieces of others, so that a large message can be edited
// without being copied. The zero value is empty. It must not be added to while it
// is read.
type Rope struct {
	pieces []ropePiece
	ends   []int64 // offset behind each piece
}

type ropePiece struct {
	body Body
	from int64
}

// Add appends n bytes of b from from on; what b has not got is left out.
func (r *Rope) Add(b Body, from, n int64) {
	n = min(n, b.Size()-from)
	if n <= 0 {
		return
	}
	r.pieces = append(r.pieces, ropePiece{b, from})
	r.ends = append(r.ends, r.Size()+n)
}

// AddBytes appends b, which must not change afterwards.
func (r *Rope) AddBytes(b []byte) { r.Add(Bytes(b), 0, int64(len(b))) }

// Size is the length in bytes.
func (r *Rope) Size() int64 {
	if len(r.ends) == 0 {
		return 0
	}
	return r.ends[len(r.ends)-1]
}

// ReadAt implements io.ReaderAt.
func (r *Rope) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= r.Size() {
		return 0, io.EOF
	}
	for i := sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > off }); n < len(p) && i < len(r.pieces); i++ {
		start := int64(0)
		if i > 0 {
			start = r.ends[i-1]
		}
		piece := p[n:]
		piece = piece[:min(int64(len(piece)), r.ends[i]-off)]
		k, err := r.pieces[i].body.ReadAt(piece, r.pieces[i].from+off-start)
		n, off = n+k, off+int64(k)
		if k < len(piece) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Retain keeps what the pieces refer to alive, see Retainer.
func (r *Rope) Retain() {
	for _, p := range r.pieces {
		if b, ok := p.body.(Retainer); ok {
			b.Retain()
		}
	}
}

// Release ends a Retain.
func (r *Rope) Release() {
	for _, p := range r.pieces {
		if b, ok := p.body.(Retainer); ok {
			b.Release()
		}
	}
}

// maxContentStart bounds the header section that ContentStart looks through.
const maxContentStart = 16 << 20

// ContentStart is where in a message the content begins: behind the header
// section and the empty line that ends it. A message that does not begin with a
// field is all content; one without an empty line has none.
func ContentStart(b Body) (int64, error) {
	buf := make([]byte, min(b.Size(), 32<<10))
	for at := int64(0); at < min(b.Size(), maxContentStart); {
		n, err := b.ReadAt(buf, at)
		if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
			return 0, fmt.Errorf("read the header section: %w", err)
		}
		if at == 0 && !StartsHeader(buf[:n]) && (n < 2 || string(buf[:2]) != "\r\n") {
			return 0, nil
		}
		if end, ok := HeaderLen(buf[:n]); ok && (end > 0 || at == 0) {
			return at + int64(end) + 2, nil
		}
		if at+int64(n) >= b.Size() {
			break
		}
		at += int64(n) - 3 // the empty line may lie across the border
	}
	return b.Size(), nil
}

// splice is a piece of a body and what stands in its place.
type splice struct {
	from, to int64
	with     []byte
}

// spliced is the rest of b from from on, with the splices made; they are in order
// and do not overlap.
func spliced(b Body, from int64, list []splice) *Rope {
	r := &Rope{}
	for _, s := range list {
		r.Add(b, from, s.from-from)
		r.AddBytes(s.with)
		from = s.to
	}
	r.Add(b, from, b.Size()-from)
	return r
}
