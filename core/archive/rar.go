package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Of RAR archives, of versions 4 and 5, the headers of files are read, and what is packed
// is passed over. Nothing is unpacked: a few bytes of a header can ask for a dictionary of
// gigabytes, and for that of each file anew.

const (
	rarMagic4  = "Rar!\x1a\x07\x00"
	rarMagic5  = "Rar!\x1a\x07\x01\x00"
	maxRarHead = 1 << 20 // bytes of a header; names are far shorter
)

var (
	errHeader   = errors.New("a header is broken")
	errCutShort = errors.New("it ends too early")
)

func (w *walk) rar(src *source, depth int) error {
	magic := make([]byte, len(rarMagic5))
	if _, err := io.ReadFull(src, magic[:len(rarMagic4)]); err != nil {
		return errCutShort
	}
	next := nextRar4
	if string(magic[:len(rarMagic4)]) != rarMagic4 {
		if _, err := io.ReadFull(src, magic[len(rarMagic4):]); err != nil || string(magic) != rarMagic5 {
			return errors.New("it is of a version that is not known")
		}
		next = nextRar5
	}
	for first := true; ; first = false {
		b, err := next(src)
		if errors.Is(err, io.EOF) && !first {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return errCutShort
		}
		if err != nil {
			return err
		}
		switch {
		case b.encrypted && b.name == "": // all that follows
			w.listing.Encrypted = true
			return nil
		case b.file && !b.folder:
			if !w.name(Entry{Name: b.name, Size: b.size, Depth: depth, Encrypted: b.encrypted}) {
				return errBound
			}
		}
		if err := src.skip(b.packed); err != nil {
			return err
		}
	}
}

// skip passes over content.
func (s *source) skip(n int64) error {
	if n < 0 {
		return errHeader
	}
	_, err := io.CopyN(io.Discard, s, n)
	if errors.Is(err, io.EOF) {
		return errCutShort
	}
	return err
}

// rarBlock is a header, and what it says of the content behind it.
type rarBlock struct {
	file, folder bool
	name         string
	size         int64 // unpacked; -1: it does not say
	packed       int64 // behind the header
	encrypted    bool  // of no file: the headers that follow
}

// nextRar5 reads a header of version 5; io.EOF where the archive ends.
func nextRar5(src *source) (b rarBlock, err error) {
	var sum [4]byte
	if _, err := io.ReadFull(src, sum[:]); err != nil {
		return b, ends(err)
	}
	crc := crc32.NewIEEE()
	var size uint64
	for shift := 0; ; shift += 7 {
		var one [1]byte
		if _, err := io.ReadFull(src, one[:]); err != nil || shift > 14 {
			return b, errHeader
		}
		_, _ = crc.Write(one[:])
		size |= uint64(one[0]&0x7f) << shift
		if one[0] < 0x80 {
			break
		}
	}
	if size == 0 || size > maxRarHead {
		return b, errHeader
	}
	head := make([]byte, size)
	if _, err := io.ReadFull(src, head); err != nil {
		return b, errCutShort
	}
	_, _ = crc.Write(head)
	if crc.Sum32() != binary.LittleEndian.Uint32(sum[:]) {
		return b, errHeader
	}
	return readRar5(&fields{b: head})
}

func readRar5(f *fields) (b rarBlock, err error) {
	kind, flags := f.varint(), f.varint()
	var extra, data uint64
	if flags&1 != 0 {
		extra = f.varint()
	}
	if flags&2 != 0 {
		data = f.varint()
	}
	if f.broken || data > math.MaxInt64 || extra > uint64(len(f.b)) {
		return b, errHeader
	}
	b.packed = int64(data)
	switch kind {
	case 4:
		b.encrypted = true
		return b, nil
	case 5:
		return b, io.EOF
	case 2:
	default:
		return b, nil
	}
	more := fields{b: f.b[uint64(len(f.b))-extra:]}
	f.b = f.b[:uint64(len(f.b))-extra]
	b.file = true
	of := f.varint()
	b.folder = of&1 != 0
	b.size = int64(min(f.varint(), math.MaxInt64))
	if of&8 != 0 {
		b.size = -1
	}
	f.varint() // attributes
	if of&2 != 0 {
		f.take(4) // time
	}
	if of&4 != 0 {
		f.take(4) // checksum
	}
	f.varint() // how it is packed
	f.varint() // system
	b.name = string(f.take(f.varint()))
	for len(more.b) > 0 && !more.broken {
		record := fields{b: more.take(more.varint())}
		b.encrypted = b.encrypted || record.varint() == 1
	}
	if f.broken || more.broken || b.name == "" {
		return b, errHeader
	}
	return b, nil
}

// nextRar4 reads a header of version 4; io.EOF where the archive ends.
func nextRar4(src *source) (b rarBlock, err error) {
	le := binary.LittleEndian
	head := make([]byte, 7)
	if _, err := io.ReadFull(src, head); err != nil {
		return b, ends(err)
	}
	kind, flags, size := head[2], le.Uint16(head[3:]), int(le.Uint16(head[5:]))
	if size < 7 {
		return b, errHeader
	}
	head = append(head, make([]byte, size-7)...)
	if _, err := io.ReadFull(src, head[7:]); err != nil {
		return b, errCutShort
	}
	f := &fields{b: head[7:]}
	if flags&0x8000 != 0 || kind == 0x74 {
		b.packed = int64(f.number(4))
	}
	switch kind {
	case 0x73: // the archive
		b.encrypted = flags&0x80 != 0
	case 0x7b:
		return b, io.EOF
	case 0x7a: // of a service
		if flags&0x100 != 0 && len(f.b) >= 25 {
			b.packed += int64(le.Uint32(f.b[21:])) << 32
		}
	case 0x74:
		err = b.readRar4(f, flags)
		if err == nil && uint16(crc32.ChecksumIEEE(head[2:])) != le.Uint16(head) {
			err = errHeader
		}
	}
	if f.broken || b.packed < 0 {
		err = errHeader
	}
	return b, err
}

func (b *rarBlock) readRar4(f *fields, flags uint16) error {
	b.file, b.folder, b.encrypted = true, flags&0xe0 == 0xe0, flags&4 != 0
	b.size = int64(f.number(4))
	f.take(11) // system, checksum, time, version, method
	n := f.number(2)
	f.take(4) // attributes
	if flags&0x100 != 0 {
		b.packed += int64(f.number(4)) << 32
		high := f.number(4)
		b.size += int64(high) << 32
		if high == math.MaxUint32 {
			b.size = -1
		}
	}
	raw := f.take(n)
	if f.broken || len(raw) == 0 {
		return errHeader
	}
	b.name = strings.ReplaceAll(rar4Name(raw, flags&0x200 != 0), `\`, "/")
	return nil
}

// rar4Name is a name in UTF-8: two names stand behind each other, the second packed.
func rar4Name(raw []byte, wide bool) string {
	plain, packed, two := bytes.Cut(raw, []byte{0})
	if !wide || !two || len(packed) == 0 {
		if utf8.Valid(plain) {
			return string(plain)
		}
		name, _ := charmap.CodePage437.NewDecoder().Bytes(plain)
		return string(name)
	}
	f := &fields{b: packed}
	high := uint16(f.number(1)) << 8
	var out []uint16
	var flags byte
	for left := 0; len(f.b) > 0 && !f.broken && len(out) < len(raw); left -= 2 {
		if left == 0 {
			flags, left = byte(f.number(1)), 8
		}
		switch flags >> 6 {
		case 0:
			out = append(out, uint16(f.number(1)))
		case 1:
			out = append(out, high|uint16(f.number(1)))
		case 2:
			out = append(out, uint16(f.number(2)))
		case 3: // a run of the plain name
			n, add, top := f.number(1), byte(0), uint16(0)
			if n&0x80 != 0 {
				add, top = byte(f.number(1)), high
			}
			for n = n&0x7f + 2; n > 0 && len(out) < len(plain); n-- {
				out = append(out, top|uint16(plain[len(out)]+add))
			}
		}
		flags <<= 2
	}
	return string(utf16.Decode(out))
}

// ends is the error where a header should begin: an archive may end without saying so.
func ends(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutShort
	}
	return err
}
