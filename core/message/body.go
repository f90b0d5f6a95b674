package message

import (
	"io"
	"sync"
)

// Body is the bytes of a message. Any number of goroutines may read it at once.
type Body interface {
	io.ReaderAt
	Size() int64
}

// Retainer is a Body whose memory or file goes away. Who hands a body to
// another goroutine calls Retain before and Release after; the last Release
// frees it. A body without these methods lives as long as it is referred to.
type Retainer interface {
	Retain()
	Release()
}

// Retain keeps b alive until the returned function is called, which must be once.
func Retain(b Body) (release func()) {
	if r, ok := b.(Retainer); ok {
		r.Retain()
		return r.Release
	}
	return func() {}
}

// Bytes is a Body in memory. It must not be changed while it is read.
type Bytes []byte

// ReadAt implements io.ReaderAt.
func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Size is the length in bytes.
func (b Bytes) Size() int64 { return int64(len(b)) }

// PieceSize is how much of a body is looked at at a time.
const PieceSize = 64 << 10

// Piece is a buffer for a piece of a body. Its bytes are not zero.
type Piece [PieceSize]byte

// pieces are those that nobody uses.
var pieces = sync.Pool{New: func() any { return new(Piece) }}

// NewPiece gives a buffer that Free takes back, after which it must not be touched.
func NewPiece() *Piece { return pieces.Get().(*Piece) }

// Free gives the buffer to others.
func (p *Piece) Free() { pieces.Put(p) }

// Edited is a message whose header section was rewritten: Head, then Rest from
// From on. It is a Body as long as Rest is one.
type Edited struct {
	Head []byte
	Rest Body
	From int64
}

// Size is the length of the whole.
func (e Edited) Size() int64 { return int64(len(e.Head)) + e.Rest.Size() - e.From }

// ReadAt implements io.ReaderAt over both parts.
func (e Edited) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, io.EOF
	}
	n := 0
	if off < int64(len(e.Head)) {
		n = copy(p, e.Head[off:])
		if n == len(p) {
			return n, nil
		}
	}
	m, err := e.Rest.ReadAt(p[n:], off+int64(n)-int64(len(e.Head))+e.From)
	return n + m, err
}

// Retain keeps the rest alive, see Retainer.
func (e Edited) Retain() {
	if r, ok := e.Rest.(Retainer); ok {
		r.Retain()
	}
}

// Release ends a Retain.
func (e Edited) Release() {
	if r, ok := e.Rest.(Retainer); ok {
		r.Release()
	}
}

// NewReader reads b from the start.
func NewReader(b Body) io.Reader { return io.NewSectionReader(b, 0, b.Size()) }
