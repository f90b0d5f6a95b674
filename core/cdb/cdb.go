// Package cdb reads and writes constant databases, the files of keys and values in
// which qmail's world keeps its compiled tables: connection rules (tcprules), users
// (qmail-newu), domains (qmail-newmrh).
//
// A file is 256 hash tables behind the records, whose places stand in the first 2048
// bytes. What Writer makes is, byte for byte, what D. J. Bernstein's cdb_make makes of
// the same records in the same order.
package cdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const headLength = 2048

// MaxValue bounds what is read as one value, whatever the file says.
const MaxValue = 1 << 20

// ErrBroken is what a file is that is no constant database.
var ErrBroken = errors.New("it is no constant database, or a broken one")

// Reader finds records. Nothing of a file is believed: what leads out of it is an
// error, not a crash, and no table is walked further than it is long. It may be used
// from several goroutines where the underlying reader may.
type Reader struct {
	r      io.ReaderAt
	size   int64
	tables [256]struct{ at, slots uint32 }
}

// NewReader reads where the tables are. r is asked for as long as the Reader is used.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	var head [headLength]byte
	if size < headLength || size > math.MaxUint32 {
		return nil, ErrBroken
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	c := &Reader{r: r, size: size}
	for i := range c.tables {
		t := &c.tables[i]
		t.at, t.slots = pair(head[8*i:])
		if int64(t.at) < headLength || int64(t.at)+8*int64(t.slots) > size {
			return nil, ErrBroken
		}
	}
	return c, nil
}

func pair(b []byte) (uint32, uint32) {
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
}

// hash is the hash function of the format.
func hash(key string) uint32 {
	h := uint32(5381)
	for i := range len(key) {
		h = (h<<5 + h) ^ uint32(key[i])
	}
	return h
}

// Find is the value of the first record of the key.
func (c *Reader) Find(key string) (value string, ok bool, err error) {
	h := hash(key)
	t := c.tables[h&255]
	if t.slots == 0 {
		return "", false, nil
	}
	slot := (h >> 8) % t.slots
	var b [8]byte
	for range t.slots {
		if _, err := c.r.ReadAt(b[:], int64(t.at)+8*int64(slot)); err != nil {
			return "", false, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		found, at := pair(b[:])
		if at == 0 {
			return "", false, nil
		}
		if found == h {
			v, ok, err := c.record(int64(at), key)
			if ok || err != nil {
				return v, ok, err
			}
		}
		if slot++; slot == t.slots {
			slot = 0
		}
	}
	return "", false, nil
}

// record is the value of the record at a place, if its key is the one that is
// asked for.
func (c *Reader) record(at int64, key string) (string, bool, error) {
	klen, vlen, err := c.lengths(at)
	if err != nil {
		return "", false, err
	}
	if int64(klen) != int64(len(key)) {
		return "", false, nil
	}
	if vlen > MaxValue {
		return "", false, fmt.Errorf("the value has more than %d MiB", MaxValue>>20)
	}
	p := make([]byte, int(klen)+int(vlen))
	if _, err := c.r.ReadAt(p, at+8); err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if !bytes.Equal(p[:klen], []byte(key)) {
		return "", false, nil
	}
	return string(p[klen:]), true, nil
}

// lengths are those of the key and the value of the record at a place.
func (c *Reader) lengths(at int64) (klen, vlen uint32, err error) {
	var b [8]byte
	if at+8 > c.size {
		return 0, 0, ErrBroken
	}
	if _, err := c.r.ReadAt(b[:], at); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	klen, vlen = pair(b[:])
	if at+8+int64(klen)+int64(vlen) > c.size {
		return 0, 0, ErrBroken
	}
	return klen, vlen, nil
}

// All calls each with every record, in the order in which they were written, until
// it returns false.
func (c *Reader) All(each func(key, value string) bool) error {
	end := c.size
	for i := range c.tables {
		end = min(end, int64(c.tables[i].at))
	}
	for at := int64(headLength); at < end; {
		klen, vlen, err := c.lengths(at)
		if err != nil {
			return err
		}
		if klen > MaxValue || vlen > MaxValue {
			return fmt.Errorf("a record has more than %d MiB", MaxValue>>20)
		}
		p := make([]byte, int(klen)+int(vlen))
		if _, err := c.r.ReadAt(p, at+8); err != nil {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
		if !each(string(p[:klen]), string(p[klen:])) {
			return nil
		}
		at += 8 + int64(len(p))
	}
	return nil
}
