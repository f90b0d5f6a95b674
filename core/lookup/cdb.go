package lookup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// constant is a constant database: 256 hash tables behind the records, whose places
// stand in the first 2048 bytes. Nothing of a file is believed: what leads out of it
// is an error, not a crash, and no table is walked further than it is long.
type constant struct {
	r      io.ReaderAt
	size   int64
	tables [256]struct{ at, slots uint32 }
}

const headLength = 2048

var errCDB = errors.New("it is no constant database, or a broken one")

// openCDB reads where the tables are. r is asked for as long as the table is used.
func openCDB(r io.ReaderAt, size int64) (table, error) {
	var head [headLength]byte
	if size < headLength || size > math.MaxUint32 {
		return nil, errCDB
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, err
	}
	c := &constant{r: r, size: size}
	for i := range c.tables {
		t := &c.tables[i]
		t.at, t.slots = pair(head[8*i:])
		if int64(t.at) < headLength || int64(t.at)+8*int64(t.slots) > size {
			return nil, errCDB
		}
	}
	return c, nil
}

func pair(b []byte) (uint32, uint32) {
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
}

// cdbHash is the hash function of the format.
func cdbHash(key string) uint32 {
	h := uint32(5381)
	for i := range len(key) {
		h = (h<<5 + h) ^ uint32(key[i])
	}
	return h
}

func (c *constant) get(key string) (any, bool, error) {
	v, ok, err := c.find(key)
	if lower := fold(key); err == nil && !ok && lower != key {
		v, ok, err = c.find(lower)
	}
	return v, ok, err
}

// find is the value of the first record of the key.
func (c *constant) find(key string) (string, bool, error) {
	h := cdbHash(key)
	t := c.tables[h&255]
	if t.slots == 0 {
		return "", false, nil
	}
	slot := (h >> 8) % t.slots
	var b [8]byte
	for range t.slots {
		if _, err := c.r.ReadAt(b[:], int64(t.at)+8*int64(slot)); err != nil {
			return "", false, fmt.Errorf("%w: %w", errCDB, err)
		}
		hash, at := pair(b[:])
		if at == 0 {
			return "", false, nil
		}
		if hash == h {
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
func (c *constant) record(at int64, key string) (string, bool, error) {
	var b [8]byte
	if at+8 > c.size {
		return "", false, errCDB
	}
	if _, err := c.r.ReadAt(b[:], at); err != nil {
		return "", false, fmt.Errorf("%w: %w", errCDB, err)
	}
	klen, vlen := pair(b[:])
	if at+8+int64(klen)+int64(vlen) > c.size {
		return "", false, errCDB
	}
	if int(klen) != len(key) {
		return "", false, nil
	}
	if vlen > maxValue {
		return "", false, fmt.Errorf("the value has more than %d MiB", maxValue>>20)
	}
	p := make([]byte, int(klen)+int(vlen))
	if _, err := c.r.ReadAt(p, at+8); err != nil {
		return "", false, fmt.Errorf("%w: %w", errCDB, err)
	}
	if !bytes.Equal(p[:klen], []byte(key)) {
		return "", false, nil
	}
	return string(p[klen:]), true, nil
}
