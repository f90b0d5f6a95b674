package cdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// ErrTooLarge is a database beyond 4 GiB, which the format can't hold.
var ErrTooLarge = errors.New("a constant database has at most 4 GiB")

// Writer makes a database. It keeps eight bytes a record in memory. Of several records
// of one key a look-up finds the one that was added first.
type Writer struct {
	w     io.WriteSeeker
	buf   *bufio.Writer
	at    int64
	slots [256][]slot
	err   error
}

type slot struct{ hash, at uint32 }

// NewWriter begins a database at the start of w, which is to be empty.
func NewWriter(w io.WriteSeeker) *Writer {
	c := &Writer{w: w, buf: bufio.NewWriterSize(w, 1<<16)}
	c.put(make([]byte, headLength))
	return c
}

func (c *Writer) put(b []byte) {
	if c.err != nil {
		return
	}
	if c.at += int64(len(b)); c.at > math.MaxUint32 {
		c.err = ErrTooLarge
		return
	}
	_, c.err = c.buf.Write(b)
}

func (c *Writer) putPair(a, b uint32) {
	var p [8]byte
	binary.LittleEndian.PutUint32(p[:], a)
	binary.LittleEndian.PutUint32(p[4:], b)
	c.put(p[:])
}

// Add appends a record. Errors of writing come from Close.
func (c *Writer) Add(key, value string) {
	if int64(len(key)) > math.MaxInt32 || int64(len(value)) > math.MaxInt32 {
		c.err = ErrTooLarge
	}
	if c.err != nil {
		return
	}
	h := hash(key)
	c.slots[h&255] = append(c.slots[h&255], slot{h, uint32(c.at)})
	c.putPair(uint32(len(key)), uint32(len(value)))
	c.put([]byte(key))
	c.put([]byte(value))
}

// Close writes the tables and returns the first error of all. It does not close what
// it writes to.
func (c *Writer) Close() error {
	head := make([]byte, headLength)
	for i, list := range c.slots {
		n := 2 * len(list)
		binary.LittleEndian.PutUint32(head[8*i:], uint32(c.at))
		binary.LittleEndian.PutUint32(head[8*i+4:], uint32(n))
		table := make([]slot, n)
		for _, s := range list {
			where := int(s.hash>>8) % n
			for table[where].at != 0 {
				where = (where + 1) % n
			}
			table[where] = s
		}
		for _, s := range table {
			c.putPair(s.hash, s.at)
		}
	}
	if c.err == nil {
		c.err = c.buf.Flush()
	}
	if c.err == nil {
		_, c.err = c.w.Seek(0, io.SeekStart)
	}
	if c.err == nil {
		_, c.err = c.w.Write(head)
	}
	return c.err
}
