package archive

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// A zip file is read by its directory, entry by entry, so that one with a million of
// them costs no more than one with as many as are wanted. What unpackers could see
// otherwise is a fault: entries whose own header has another name.

const (
	zipEnd    = 22       // bytes of the end record
	zipTail   = 64 << 10 // of its comment, at most
	zipRecord = 46       // of a record of the directory
	zipLocal  = 30       // of an entry's own header
	max32     = 1<<32 - 1
)

var (
	errNoDirectory = errors.New("there is no directory")
	errDirectory   = errors.New("the directory is broken")
)

// zipEntry is a record of the directory.
type zipEntry struct {
	name         string
	raw          []byte
	method       uint16
	encrypted    bool
	packed, size int64
	at           int64 // of its own header, counted from the archive's beginning
}

func (w *walk) zip(src *source, depth int) error {
	at, size, done, err := src.spool()
	if err != nil {
		return err
	}
	defer done()
	directory, base, err := zipDirectory(at, size)
	if err != nil {
		return err
	}
	for {
		e, err := nextZip(directory)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(e.name) > 0 && e.name[len(e.name)-1] == '/' && e.size == 0 {
			continue
		}
		entry := Entry{Name: e.name, Size: e.size, Depth: depth, Encrypted: e.encrypted}
		if !w.enter(entry, func() int64 { return e.packed }, func() (io.Reader, error) { return w.unzip(at, base, e) }) {
			return errBound
		}
	}
}

// zipDirectory finds the directory; base is where the archive begins, behind a
// program for one.
func zipDirectory(at io.ReaderAt, size int64) (directory *bufio.Reader, base int64, err error) {
	tail := make([]byte, min(size, zipEnd+zipTail))
	from := size - int64(len(tail))
	if _, err := at.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	i := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if i < 0 || len(tail)-i < zipEnd {
		return nil, 0, errNoDirectory
	}
	end := tail[i:]
	length, start := int64(binary.LittleEndian.Uint32(end[12:])), int64(binary.LittleEndian.Uint32(end[16:]))
	place := from + int64(i)
	if length == max32 || start == max32 || binary.LittleEndian.Uint16(end[10:]) == 1<<16-1 {
		if place, length, start, err = zip64End(at, place, length, start); err != nil {
			return nil, 0, err
		}
	}
	base = place - length - start
	if length < 0 || start < 0 || base < 0 || place-length < 0 {
		return nil, 0, errDirectory
	}
	return bufio.NewReader(io.NewSectionReader(at, place-length, length)), base, nil
}

// zip64End reads the end record of archives that are too large for the usual one.
func zip64End(at io.ReaderAt, place, length, start int64) (int64, int64, int64, error) {
	locator := make([]byte, 20)
	if place < 20 {
		return place, length, start, nil
	}
	if _, err := at.ReadAt(locator, place-20); err != nil {
		return 0, 0, 0, err
	}
	if !bytes.HasPrefix(locator, []byte("PK\x06\x07")) {
		return place, length, start, nil // 65535 entries by chance
	}
	end := make([]byte, 56)
	where := int64(binary.LittleEndian.Uint64(locator[8:]))
	if where < 0 || where > place {
		return 0, 0, 0, errDirectory
	}
	if _, err := at.ReadAt(end, where); err != nil || !bytes.HasPrefix(end, []byte("PK\x06\x06")) {
		return 0, 0, 0, errDirectory
	}
	return where, int64(binary.LittleEndian.Uint64(end[40:])), int64(binary.LittleEndian.Uint64(end[48:])), nil
}

// nextZip reads the next record of the directory; io.EOF where it ends.
func nextZip(directory *bufio.Reader) (*zipEntry, error) {
	record := make([]byte, zipRecord)
	if _, err := io.ReadFull(directory, record); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, errDirectory
	}
	le := binary.LittleEndian
	if !bytes.HasPrefix(record, []byte("PK\x01\x02")) {
		return nil, errDirectory
	}
	flags := le.Uint16(record[8:])
	e := &zipEntry{
		method: le.Uint16(record[10:]), encrypted: flags&(1|1<<13) != 0,
		packed: int64(le.Uint32(record[20:])), size: int64(le.Uint32(record[24:])), at: int64(le.Uint32(record[42:])),
	}
	rest := make([]byte, int(le.Uint16(record[28:]))+int(le.Uint16(record[30:]))+int(le.Uint16(record[32:])))
	if _, err := io.ReadFull(directory, rest); err != nil {
		return nil, errDirectory
	}
	n := int(le.Uint16(record[28:]))
	e.raw = rest[:n]
	e.name = zipName(e.raw, flags)
	e.extra(rest[n : n+int(le.Uint16(record[30:]))])
	return e, nil
}

// zipName is a name in UTF-8, which is said, or guessed, or else the charset of DOS.
func zipName(raw []byte, flags uint16) string {
	if flags&(1<<11) != 0 || utf8.Valid(raw) {
		return string(raw)
	}
	name, _ := charmap.CodePage437.NewDecoder().Bytes(raw)
	return string(name)
}

// extra reads the numbers that have no room in 32 bits.
func (e *zipEntry) extra(b []byte) {
	le := binary.LittleEndian
	for len(b) >= 4 {
		id, n := le.Uint16(b), int(le.Uint16(b[2:]))
		if b = b[4:]; n > len(b) {
			return
		}
		field := b[:n]
		b = b[n:]
		if id != 1 {
			continue
		}
		for _, to := range [...]*int64{&e.size, &e.packed, &e.at} {
			if *to == max32 && len(field) >= 8 {
				*to = max(0, int64(le.Uint64(field)))
				field = field[8:]
			}
		}
	}
}

// unzip is the content of an entry.
func (w *walk) unzip(at io.ReaderAt, base int64, e *zipEntry) (io.Reader, error) {
	local := make([]byte, zipLocal+len(e.raw))
	if _, err := at.ReadAt(local, base+e.at); err != nil || !bytes.HasPrefix(local, []byte("PK\x03\x04")) {
		return nil, fmt.Errorf("zip: the entry %q is not where the directory says", e.name)
	}
	name, extra := int64(binary.LittleEndian.Uint16(local[26:])), int64(binary.LittleEndian.Uint16(local[28:]))
	if name != int64(len(e.raw)) || !bytes.Equal(local[zipLocal:], e.raw) {
		w.fault(fmt.Sprintf("zip: the entry %q has another name in its own header", e.name))
	}
	content := io.NewSectionReader(at, base+e.at+zipLocal+name+extra, e.packed)
	switch e.method {
	case 0:
		return content, nil
	case 8:
		return flate.NewReader(content), nil
	}
	return nil, fmt.Errorf("zip: the entry %q is packed in a way (%d) that can't be read", e.name, e.method)
}
