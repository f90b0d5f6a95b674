package queue

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/postern-mta/postern/core/message"
)

// The key ranges of the store, by their first byte.
const (
	recordRange  = 'm' // m ID → record: envelope, facts, recipients
	bodyRange    = 'b' // b ID → body, or what is known of its file
	dueRange     = 'd' // d time ID → nothing; big-endian, so that keys sort by time
	damagedRange = 'x' // x key → value of a key that was set aside
)

var formatKey = []byte("format")

// noDue stands for "not due at all" in a record's head.
const noDue = math.MaxInt64

func recordKey(id string) []byte { return idKey(recordRange, id) }

func bodyKey(id string) []byte { return idKey(bodyRange, id) }

func idKey(kind byte, id string) []byte {
	return appendIDKey(make([]byte, 0, 1+len(id)), kind, id)
}

func appendIDKey(b []byte, kind byte, id string) []byte { return append(append(b, kind), id...) }

func dueKey(at int64, id string) []byte { return appendDueKey(make([]byte, 0, 9+len(id)), at, id) }

func appendDueKey(b []byte, at int64, id string) []byte {
	b = append(b, dueRange)
	b = binary.BigEndian.AppendUint64(b, uint64(at)^1<<63)
	return append(b, id...)
}

func parseDueKey(k []byte) (at int64, id string, ok bool) {
	if len(k) < 9 || k[0] != dueRange || !message.ValidID(string(k[9:])) {
		return 0, "", false
	}
	return int64(binary.BigEndian.Uint64(k[1:]) ^ 1<<63), string(k[9:]), true
}

func damagedKey(key []byte) []byte {
	b := make([]byte, 0, 1+len(key))
	return append(append(b, damagedRange), key...)
}

// castagnoli is the polynomial for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealLen is what a checksum adds to a value.
const sealLen = 4

// checksum is taken over the key, too, so that a value under a wrong key is found.
func checksum(key []byte, parts ...[]byte) uint32 {
	c := crc32.Update(0, castagnoli, key)
	for _, p := range parts {
		c = crc32.Update(c, castagnoli, p)
	}
	return c
}

// seal is value with its checksum in front.
func seal(key, value []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, sealLen+len(value)), checksum(key, value))
	return append(b, value...)
}

// unseal checks a stored value and returns what seal was given.
func unseal(key, stored []byte) ([]byte, error) {
	if len(stored) < sealLen || binary.LittleEndian.Uint32(stored) != checksum(key, stored[sealLen:]) {
		return nil, fmt.Errorf("wrong checksum: %w", ErrDamaged)
	}
	return stored[sealLen:], nil
}
