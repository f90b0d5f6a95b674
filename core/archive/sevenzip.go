package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unicode/utf16"

	"github.com/ulikunitz/xz/lzma"
)

// Of 7z archives the header is read, which stands at the end and is packed itself more
// often than not, and names the files. Their content is not unpacked: it can ask for as
// much memory as it likes.

const (
	sevenMagic = "7z\xbc\xaf\x27\x1c"
	sevenStart = 32      // bytes of what stands in front
	maxSeven   = 4 << 20 // bytes of a header, packed or not
	maxPacked  = 4       // times that a header is packed
	maxCoders  = 32      // of a folder, as 7-Zip has it
)

// Kinds of parts of a header.
const (
	sevenEnd, sevenHeader, sevenMainStreams, sevenFiles = 0x00, 0x01, 0x04, 0x05
	sevenPackInfo, sevenUnpackInfo, sevenSubStreams     = 0x06, 0x07, 0x08
	sevenSize, sevenCRC, sevenFolder, sevenCodersSize   = 0x09, 0x0a, 0x0b, 0x0c
	sevenStreams, sevenEmptyStream, sevenEmptyFile      = 0x0d, 0x0e, 0x0f
	sevenNames, sevenEncodedHeader                      = 0x11, 0x17
	sevenCopy, sevenLZMA, sevenLZMA2, sevenAES          = "\x00", "\x03\x01\x01", "\x21", "\x06\xf1\x07\x01"
)

var errSevenEncrypted = errors.New("the header is encrypted")

func (w *walk) sevenZip(src *source, depth int) error {
	at, size, done, err := src.spool()
	if err != nil {
		return err
	}
	defer done()
	header, err := w.sevenZipHeader(at, size)
	switch {
	case errors.Is(err, errSevenEncrypted):
		w.listing.Encrypted = true
		return nil
	case err != nil || len(header) == 0:
		return err
	}
	f := &fields{b: header[1:]}
	var folders []folder
	if f.peek() == 0x02 { // properties of the archive
		f.number(1)
		for f.number7z() != sevenEnd && !f.broken {
			f.take(f.number7z())
		}
	}
	if f.peek() == 0x03 { // further streams
		f.number(1)
		readStreams(f)
	}
	if f.peek() == sevenMainStreams {
		f.number(1)
		_, folders = readStreams(f)
	}
	if f.broken {
		return errHeader
	}
	if f.peek() != sevenFiles {
		return nil
	}
	f.number(1)
	return w.sevenZipFiles(f, folders, depth)
}

// sevenZipHeader is the header, unpacked.
func (w *walk) sevenZipHeader(at io.ReaderAt, size int64) ([]byte, error) {
	start := make([]byte, sevenStart)
	if _, err := at.ReadAt(start, 0); err != nil || string(start[:len(sevenMagic)]) != sevenMagic {
		return nil, errCutShort
	}
	le := binary.LittleEndian
	if crc32.ChecksumIEEE(start[12:]) != le.Uint32(start[8:]) {
		return nil, errHeader
	}
	header, err := w.part(at, size, le.Uint64(start[12:]), le.Uint64(start[20:]))
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(header) != le.Uint32(start[28:]) {
		return nil, errHeader
	}
	for range maxPacked {
		if len(header) == 0 || header[0] == sevenHeader {
			return header, nil
		}
		if header[0] != sevenEncodedHeader {
			return nil, errHeader
		}
		f := &fields{b: header[1:]}
		pack, folders := readStreams(f)
		if f.broken || len(folders) != 1 || len(pack.sizes) == 0 {
			return nil, errHeader
		}
		if folders[0].encrypted() {
			return nil, errSevenEncrypted
		}
		raw, err := w.part(at, size, pack.at, pack.sizes[0])
		if err != nil {
			return nil, err
		}
		if header, err = w.unpackHeader(raw, &folders[0]); err != nil {
			return nil, err
		}
	}
	return nil, errHeader
}

// part reads from the archive's content, which begins behind its start.
func (w *walk) part(at io.ReaderAt, size int64, from, n uint64) ([]byte, error) {
	if n > maxSeven {
		w.truncate(BySize)
		return nil, errBound
	}
	if end := from + n + sevenStart; end < from || end > uint64(size) {
		return nil, errCutShort
	}
	b := make([]byte, n)
	_, err := at.ReadAt(b, int64(from)+sevenStart)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, err
}

// unpackHeader unpacks a header. Its dictionary is no larger than what comes out.
func (w *walk) unpackHeader(raw []byte, of *folder) ([]byte, error) {
	if len(of.coders) != 1 {
		return nil, errors.New("the header is packed in a way that can't be read")
	}
	coder, size := of.coders[0], of.size()
	if size > maxSeven || size > uint64(max(0, w.left)) {
		w.truncate(BySize)
		return nil, errBound
	}
	w.left -= int64(size)
	var r io.Reader
	var err error
	dictionary := max(int(size), lzma.MinDictCap)
	switch coder.id {
	case sevenCopy:
		r = bytes.NewReader(raw)
	case sevenLZMA:
		if len(coder.properties) != 5 {
			return nil, errHeader
		}
		head := append([]byte{coder.properties[0]}, binary.LittleEndian.AppendUint32(nil, uint32(dictionary))...)
		head = binary.LittleEndian.AppendUint64(head, size)
		r, err = lzma.ReaderConfig{DictCap: dictionary}.NewReader(io.MultiReader(bytes.NewReader(head), bytes.NewReader(raw)))
	case sevenLZMA2:
		r, err = lzma.Reader2Config{DictCap: dictionary}.NewReader2(bytes.NewReader(raw))
	default:
		return nil, fmt.Errorf("the header is packed in a way (%x) that can't be read", coder.id)
	}
	if err != nil {
		return nil, err
	}
	header := make([]byte, size)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, fmt.Errorf("the header can't be unpacked: %w", err)
	}
	return header, nil
}

// packs is where packed content stands.
type packs struct {
	at    uint64
	sizes []uint64
}

// coder is a way of packing.
type coder struct {
	id         string
	properties []byte
}

// folder is content that is packed together.
type folder struct {
	coders  []coder
	outs    int      // streams that come out of the coders
	main    int      // the one of these that is the content
	sizes   []uint64 // of these
	streams []uint64 // sizes of the files in it
}

func (d *folder) size() uint64 {
	if d.main < len(d.sizes) {
		return d.sizes[d.main]
	}
	return 0
}

func (d *folder) encrypted() bool {
	for _, one := range d.coders {
		if one.id == sevenAES {
			return true
		}
	}
	return false
}

// peek is the next byte, 0 where there is none.
func (f *fields) peek() byte {
	if len(f.b) == 0 {
		return 0
	}
	return f.b[0]
}

// readStreams reads what a header says of packed content.
func readStreams(f *fields) (pack packs, folders []folder) {
	kind := f.number7z()
	if kind == sevenPackInfo {
		pack.at = f.number7z()
		n := f.count()
		for kind = f.number7z(); kind != sevenEnd && !f.broken; kind = f.number7z() {
			switch kind {
			case sevenSize:
				pack.sizes = f.numbers(n)
			case sevenCRC:
				f.checksums(n)
			default:
				f.broken = true
			}
		}
		kind = f.number7z()
	}
	if kind == sevenUnpackInfo {
		folders = readFolders(f)
		kind = f.number7z()
	}
	for i := range folders {
		folders[i].streams = []uint64{folders[i].size()}
	}
	if kind == sevenSubStreams {
		readSubStreams(f, folders)
		kind = f.number7z()
	}
	if kind != sevenEnd {
		f.broken = true
	}
	return pack, folders
}

func (f *fields) numbers(n int) []uint64 {
	if n > len(f.b) {
		f.broken, f.b = true, nil
		return nil
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = f.number7z()
	}
	return out
}

// checksums passes over those of n things.
func (f *fields) checksums(n int) {
	_, set := f.someBits(n)
	f.take(4 * uint64(set))
}

func readFolders(f *fields) []folder {
	if f.number7z() != sevenFolder {
		f.broken = true
		return nil
	}
	n := f.count()
	if f.number(1) != 0 { // they stand elsewhere, which nobody writes
		f.broken = true
	}
	folders := make([]folder, 0, min(n, 1024))
	for i := 0; i < n && !f.broken; i++ {
		folders = append(folders, readFolder(f))
	}
	for kind := f.number7z(); kind != sevenEnd && !f.broken; kind = f.number7z() {
		switch kind {
		case sevenCodersSize:
			for i := range folders {
				folders[i].sizes = f.numbers(folders[i].outs)
			}
		case sevenCRC:
			f.checksums(len(folders))
		default:
			f.broken = true
		}
	}
	return folders
}

func readFolder(f *fields) (d folder) {
	n := f.count()
	if n == 0 || n > maxCoders {
		f.broken = true
		return d
	}
	ins := 0
	for i := 0; i < n && !f.broken; i++ {
		flags := f.number(1)
		one := coder{id: string(f.take(flags & 0xf))}
		in, out := 1, 1
		if flags&0x10 != 0 {
			in, out = f.count(), f.count()
		}
		if flags&0x20 != 0 {
			one.properties = f.take(f.number7z())
		}
		if flags&0xc0 != 0 || in > maxCoders || out > maxCoders {
			f.broken = true
		}
		d.coders = append(d.coders, one)
		ins, d.outs = ins+in, d.outs+out
	}
	if f.broken || d.outs == 0 || ins < d.outs-1 {
		f.broken = true
		return d
	}
	bound := make([]bool, d.outs) // outputs that are the input of another coder
	for range d.outs - 1 {
		f.number7z()
		if out := f.number7z(); out < uint64(len(bound)) {
			bound[out] = true
		}
	}
	for i := range bound {
		if !bound[i] {
			d.main = i
		}
	}
	if packed := ins - (d.outs - 1); packed > 1 {
		f.numbers(packed)
	}
	return d
}

// readSubStreams reads which files are in each folder.
func readSubStreams(f *fields, folders []folder) {
	kind := f.number7z()
	counts := make([]int, len(folders))
	total := 0
	for i := range counts {
		counts[i] = 1
	}
	if kind == sevenStreams {
		for i := range counts {
			counts[i] = f.count()
		}
		kind = f.number7z()
	}
	for i := range folders {
		d := &folders[i]
		d.streams = nil
		left := d.size()
		for j := range counts[i] {
			size := left
			if j < counts[i]-1 {
				if kind != sevenSize || f.broken {
					f.broken = true
					return
				}
				size = f.number7z()
			}
			left -= min(left, size)
			d.streams = append(d.streams, size)
		}
		total += counts[i]
	}
	if kind == sevenSize {
		kind = f.number7z()
	}
	for ; kind != sevenEnd && !f.broken; kind = f.number7z() {
		if kind != sevenCRC {
			f.broken = true
			return
		}
		f.subChecksums(folders, total)
	}
}

// subChecksums passes over the checksums of files. Whether those that are alone in their
// folder have theirs there already is not known here: what fits is right.
func (f *fields) subChecksums(folders []folder, total int) {
	alone := 0
	for i := range folders {
		if len(folders[i].streams) == 1 {
			alone++
		}
	}
	for _, n := range []int{total, total - alone} {
		try := *f
		if try.checksums(n); !try.broken && try.peek() == sevenEnd {
			*f = try
			return
		}
	}
	f.broken = true
}

// sevenZipFiles lists what a header calls its files.
func (w *walk) sevenZipFiles(f *fields, folders []folder, depth int) error {
	n := f.count()
	var names []byte
	var empty, emptyFile []bool
	for kind := f.number7z(); kind != sevenEnd && !f.broken; kind = f.number7z() {
		one := &fields{b: f.take(f.number7z())}
		switch kind {
		case sevenEmptyStream:
			empty = one.bits(n)
		case sevenEmptyFile:
			count := 0
			for _, is := range empty {
				if is {
					count++
				}
			}
			emptyFile = one.bits(count)
		case sevenNames:
			if one.number(1) != 0 {
				return errHeader
			}
			names = one.b
		}
		f.broken = f.broken || one.broken
	}
	if f.broken {
		return errHeader
	}
	folderAt, streamAt, emptyAt := 0, 0, 0
	for i := range n {
		name, rest, ok := wideName(names)
		if !ok {
			return errHeader
		}
		names = rest
		e := Entry{Name: name, Depth: depth}
		if i < len(empty) && empty[i] {
			emptyAt++
			if emptyAt > len(emptyFile) || !emptyFile[emptyAt-1] {
				continue // a folder
			}
		} else {
			for folderAt < len(folders) && streamAt >= len(folders[folderAt].streams) {
				folderAt, streamAt = folderAt+1, 0
			}
			if folderAt >= len(folders) {
				return errHeader
			}
			d := &folders[folderAt]
			e.Size, e.Encrypted = int64(min(d.streams[streamAt], math.MaxInt64)), d.encrypted()
			streamAt++
		}
		if !w.name(e) {
			return errBound
		}
	}
	return nil
}

// wideName is the first name of some in UTF-16, each with a zero behind it.
func wideName(b []byte) (name string, rest []byte, ok bool) {
	var units []uint16
	for len(b) >= 2 {
		u := binary.LittleEndian.Uint16(b)
		b = b[2:]
		if u == 0 {
			return string(utf16.Decode(units)), b, true
		}
		units = append(units, u)
	}
	return "", nil, false
}
