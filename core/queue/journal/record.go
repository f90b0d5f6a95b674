package journal

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	headerLen     = 24
	sparePrefix   = "spare-"
	damagedPrefix = "damaged-"
	suffix        = ".log"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeros      [8]byte
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// salted mixes the salt into a checksum, so that only who knows it can make one.
func salted(salt [8]byte, sum uint32) uint32 {
	var b [12]byte
	copy(b[:], salt[:])
	binary.LittleEndian.PutUint32(b[8:], sum)
	return checksum(b[:])
}

func padded(n int) int { return (n + 7) &^ 7 }

func newSalt() (salt [8]byte) {
	_, _ = rand.Read(salt[:]) // it never fails
	return salt
}

func segmentName(number uint64, salt [8]byte) string {
	return fmt.Sprintf("%016x-%x%s", number, salt, suffix)
}

func parseName(name string) (number uint64, salt [8]byte, ok bool) {
	rest, found := strings.CutSuffix(name, suffix)
	if !found || len(rest) != 16+1+16 || rest[16] != '-' {
		return 0, salt, false
	}
	number, err := strconv.ParseUint(rest[:16], 16, 64)
	if err != nil {
		return 0, salt, false
	}
	if _, err := hex.Decode(salt[:], []byte(rest[17:])); err != nil {
		return 0, salt, false
	}
	return number, salt, segmentName(number, salt) == name
}

// place is where a record stands among all.
type place struct {
	write     uint64
	index, of int // in its write
}

// lowHalf is the part of a write's number that counts since the opening.
const lowHalf = 1<<32 - 1

// before tells whether next follows p with nothing between.
func (p place) before(next place) bool {
	if p.write == next.write {
		return p.index+1 == next.index
	}
	if p.write>>32 != next.write>>32 {
		return next.write&lowHalf == 1 && next.index == 0 // the opening between them looked at the end
	}
	return p.write+1 == next.write && p.index+1 == p.of && next.index == 0
}

func appendHeader(b []byte, salt [8]byte, e *Entry, at place) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Payload)))
	b = binary.LittleEndian.AppendUint64(b, at.write)
	b = binary.LittleEndian.AppendUint32(b, salted(salt, e.sum))
	b = binary.LittleEndian.AppendUint16(b, uint16(at.index))
	b = binary.LittleEndian.AppendUint16(b, uint16(at.of))
	binary.LittleEndian.PutUint32(b[start:], salted(salt, checksum(b[start+4:])))
	return b
}

// parseRecord is the record at the beginning of b.
func parseRecord(b []byte, salt [8]byte) (payload []byte, at place, size int, ok bool) {
	if len(b) < headerLen {
		return nil, at, 0, false
	}
	h := b[:headerLen]
	n := binary.LittleEndian.Uint32(h[4:])
	if n == 0 || uint64(n) > uint64(len(b)-headerLen) || binary.LittleEndian.Uint32(h) != salted(salt, checksum(h[4:])) {
		return nil, at, 0, false
	}
	payload = b[headerLen : headerLen+int(n)]
	if binary.LittleEndian.Uint32(h[16:]) != salted(salt, checksum(payload)) {
		return nil, at, 0, false
	}
	at = place{binary.LittleEndian.Uint64(h[8:]), int(binary.LittleEndian.Uint16(h[20:])), int(binary.LittleEndian.Uint16(h[22:]))}
	return payload, at, headerLen + padded(int(n)), true
}
