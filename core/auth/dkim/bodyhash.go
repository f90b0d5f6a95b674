package dkim

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/postern-mta/postern/core/message"
)

// wanted is one hash of a content: of a canonical form, of its first limit bytes,
// or of all of it where limit is -1.
type wanted struct {
	canon Canon
	limit int64
}

// bodyHash hashes one canonical form, once for all limits.
type bodyHash struct {
	form   bodyWriter
	sum    hash.Hash
	limits []int64 // rising, those that are still to come
	all    int64   // bytes so far
	found  map[int64][]byte
}

func newBodyHash(c Canon) *bodyHash {
	b := &bodyHash{sum: sha256.New(), found: map[int64][]byte{}}
	b.form = bodyWriter{canon: c, out: b.take}
	return b
}

func (b *bodyHash) take(p []byte) {
	for len(b.limits) > 0 && b.limits[0] <= b.all+int64(len(p)) {
		n := b.limits[0] - b.all
		b.sum.Write(p[:n])
		b.all += n
		p = p[n:]
		b.found[b.limits[0]] = b.sum.Sum(nil)
		b.limits = b.limits[1:]
	}
	b.sum.Write(p)
	b.all += int64(len(p))
}

// hashContent finds the hashes that are wanted and not known yet. The content is
// read once, and hashed once for each canonical form among them.
func (m *Message) hashContent(list []wanted) error {
	var forms []*bodyHash
	for _, c := range [...]Canon{Simple, Relaxed} {
		var b *bodyHash
		for _, w := range list {
			if _, known := m.hashes[w]; known || w.canon != c {
				continue
			}
			if b == nil {
				b = newBodyHash(c)
			}
			if w.limit >= 0 && !slices.Contains(b.limits, w.limit) {
				b.limits = append(b.limits, w.limit)
			}
		}
		if b != nil {
			slices.Sort(b.limits)
			b.take(nil) // l=0
			forms = append(forms, b)
		}
	}
	if len(forms) == 0 {
		return nil
	}
	if err := m.readContent(forms); err != nil {
		return err
	}
	if m.hashes == nil {
		m.hashes, m.totals = map[wanted][]byte{}, map[Canon]int64{}
	}
	for _, b := range forms {
		m.hashed(b)
	}
	return nil
}

// hashed takes over what a hash of the whole content found.
func (m *Message) hashed(b *bodyHash) {
	b.form.end()
	c := b.form.canon
	m.totals[c] = b.all
	m.hashes[wanted{c, -1}] = b.sum.Sum(nil)
	for limit, sum := range b.found {
		m.hashes[wanted{c, limit}] = sum
	}
}

func (m *Message) readContent(forms []*bodyHash) error {
	if m.body == nil {
		return errors.New("the content was read for its relaxed form alone")
	}
	if m.start >= m.body.Size() {
		return nil
	}
	piece := message.NewPiece()
	defer piece.Free()
	buf := piece[:]
	for at := m.start; at < m.body.Size(); {
		n, err := m.body.ReadAt(buf, at)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read the content: %w", err)
		}
		at += int64(n)
		for _, b := range forms {
			b.form.write(buf[:n])
		}
	}
	return nil
}

// BodyHash is the hash of the content in a canonical form, of limit bytes of it, or of
// all where limit is -1, and how long that form is in all. It is nil where the content
// is shorter than limit.
func (m *Message) BodyHash(c Canon, limit int64) (sum []byte, total int64, err error) {
	if err := m.hashContent([]wanted{{c, limit}}); err != nil {
		return nil, 0, err
	}
	return m.hashes[wanted{c, limit}], m.totals[c], nil
}
