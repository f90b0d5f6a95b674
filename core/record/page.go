package record

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/golang/snappy"
)

// The store has two kinds of keys, each followed by the page's number, eight
// bytes in big-endian order: the nanosecond when it was written, made unique.
// A page's value is records one behind the other, each with its length in front,
// all of it packed;
// its index is the sorted 32-bit hashes of all words that lead to one of them.
// Looking for a word reads the indexes, 4 bytes a word, and then the few pages
// that have it; writing costs two keys a page instead of five a message.
const (
	pagePrefix  = 'p'
	indexPrefix = 'x'
)

// Kinds of words. A message's id and a session's are different words.
const (
	byMessage = 'm'
	bySession = 's' // of a story
	byLate    = 'l' // the session of a late stage that belongs to no message
	byAddress = 'a'
	byClient  = 'c'
	byDomain  = 'd' // of an address
	byNetwork = 'n' // of a client, see networkBits
	byVerdict = 'v'
	byPolicy  = 'p' // one that said more than pass
	byVersion = 'i'
)

// marked is the hash that an index has which knows the words from byDomain on.
var marked = [...]uint32{hash(byVersion, "2")}

func pageKey(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

func pageNumber(key []byte) (uint64, bool) {
	if len(key) != 9 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// hash is FNV-1a. A collision costs reading a page in vain.
func hash(kind byte, word string) uint32 {
	const prime = 16777619
	h := uint32(2166136261)
	h = (h ^ uint32(kind)) * prime
	for i := range len(word) {
		h = (h ^ uint32(word[i])) * prime
	}
	return h
}

// page is one being filled.
type page struct {
	records []byte
	one     []byte
	hashes  []uint32
	encoded []byte
	packed  []byte
	count   int
}

func (p *page) add(e entry) {
	p.one = e.encode(p.one[:0])
	p.records = binary.AppendUvarint(p.records, uint64(len(p.one)))
	p.records = append(p.records, p.one...)
	p.count++
	e.words(func(kind byte, word string) {
		if word != "" {
			p.hashes = append(p.hashes, hash(kind, word))
		}
	})
}

// packing is the first byte of a page that Snappy packed; others begin with the
// length of a record, which is never 0.
const packing = 0

// maxUnpacked bounds what a page is unpacked to, in bytes.
const maxUnpacked = 64 << 20

// value is the records as they are stored. They are packed here, once, so that
// everything below, the log to begin with, handles a third.
func (p *page) value() []byte {
	if n := snappy.MaxEncodedLen(len(p.records)) + 1; cap(p.packed) < n {
		p.packed = make([]byte, n)
	}
	p.packed = p.packed[:cap(p.packed)]
	p.packed[0] = packing
	return p.packed[:1+len(snappy.Encode(p.packed[1:], p.records))]
}

// unpack is the inverse of value; of what is damaged nothing is left.
func unpack(pageValue []byte) []byte {
	if len(pageValue) == 0 || pageValue[0] != packing {
		return pageValue
	}
	if n, err := snappy.DecodedLen(pageValue[1:]); err != nil || n > maxUnpacked {
		return nil
	}
	out, err := snappy.Decode(nil, pageValue[1:])
	if err != nil {
		return nil
	}
	return out
}

// index is the hashes as they are stored.
func (p *page) index() []byte {
	p.hashes = append(p.hashes, marked[:]...)
	slices.Sort(p.hashes)
	p.hashes = slices.Compact(p.hashes)
	p.encoded = p.encoded[:0]
	for _, h := range p.hashes {
		p.encoded = binary.BigEndian.AppendUint32(p.encoded, h)
	}
	return p.encoded
}

func (p *page) reset() {
	p.records, p.hashes, p.count = p.records[:0], p.hashes[:0], 0
	if cap(p.records) > 8*pageSize {
		p.records = nil
	}
	if cap(p.one) > 8*pageSize {
		p.one = nil
	}
	if cap(p.packed) > 8*pageSize {
		p.packed = nil
	}
}

// indexHas tells whether a stored index has one of the hashes, which are sorted.
func indexHas(index []byte, hashes []uint32) bool {
	for i := 0; i+4 <= len(index) && len(hashes) > 0; {
		switch h := binary.BigEndian.Uint32(index[i:]); {
		case h == hashes[0]:
			return true
		case h < hashes[0]:
			i += 4
		default:
			hashes = hashes[1:]
		}
	}
	return false
}

// records calls f with each record of a page until it returns false. What is cut
// off or damaged ends it.
func records(pageValue []byte, f func(record []byte) bool) {
	pageValue = unpack(pageValue)
	for len(pageValue) > 0 {
		n, k := binary.Uvarint(pageValue)
		if k <= 0 || n > uint64(len(pageValue)-k) {
			return
		}
		if !f(pageValue[k : k+int(n)]) {
			return
		}
		pageValue = pageValue[k+int(n):]
	}
}

// newestPage is the number of the newest page, 0 where there is none.
func newestPage(db *pebble.DB) (n uint64, err error) {
	it, err := pages(db, indexPrefix)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.Last() {
		n, _ = pageNumber(it.Key())
	}
	return n, it.Error()
}

func pages(db *pebble.DB, prefix byte) (*pebble.Iterator, error) {
	return db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
}
