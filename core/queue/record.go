package queue

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// The value of a record key, behind its checksum; integers are varints where no
// size is given, strings have their length in front:
//
//	version      1 byte
//	place        1 byte
//	flags        1 byte: double, eight-bit, notified, body in a file, binary, SMTPUTF8, unicode,
//	             signed
//	due          8 bytes, nanoseconds since 1970, noDue for none
//	open         recipients that are not final
//	             …and so far the head, all that Open needs
//	arrived, size, sender (local, domain), reason, ret, envid, facts
//	unicode      of the sender's domain, where the flag is set
//	signed       where our signatures begin and end, where the flag is set
//	recipients   their number, and each: local, domain, original, notify, route,
//	             flags and state (1 byte), attempts, next, tried, code, enhanced (3), text, peer,
//	             unicode where its flag is set
const recordVersion = 1

const (
	flagDouble = 1 << iota
	flagEightBit
	flagNotified
	flagFile
	flagBinary
	flagUTF8
	flagUnicode
	flagSigned
)

const (
	stateMask       = 0x0f
	flagHeld        = 0x10
	flagRcptUnicode = 0x20
	flagRelayed     = 0x40
)

// zeroTime is how the zero time.Time is stored.
const zeroTime = math.MinInt64

// minRecipient is the shortest form of a recipient, which bounds their number by
// the record's length. Strings and small varints take a byte each, zeroTime ten.
const minRecipient = 15

// head is the front of a record.
type head struct {
	place Place
	flags byte
	due   int64
	open  int
}

// headOf is the head of m's record; file is flagFile or 0.
func headOf(m *Message, file byte) head {
	h := head{place: m.Place, flags: file, due: noDue}
	if at, ok := m.Next(); ok {
		h.due = nanos(at)
	}
	for i := range m.Recipients {
		if !m.Recipients[i].State.Final() {
			h.open++
		}
	}
	if m.Double {
		h.flags |= flagDouble
	}
	if m.EightBit {
		h.flags |= flagEightBit
	}
	if m.Notified {
		h.flags |= flagNotified
	}
	if m.Binary {
		h.flags |= flagBinary
	}
	if m.SMTPUTF8 {
		h.flags |= flagUTF8
	}
	if m.Unicode != "" {
		h.flags |= flagUnicode
	}
	if !m.Signed.Empty() {
		h.flags |= flagSigned
	}
	return h
}

// nanos is t for storing. Times before 1678 and after 2262 become the nearest
// that can be stored; noDue and zeroTime are never made of a real time.
func nanos(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch s := t.Unix(); {
	case t.IsZero():
		return zeroTime
	case s >= limit:
		return noDue - 1
	case s <= -limit:
		return zeroTime + 1
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time {
	if n == zeroTime {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// appendRecord adds the sealed value of m's record to dst, which must be empty.
func appendRecord(dst, key []byte, m *Message, h head) []byte {
	dst = append(dst, 0, 0, 0, 0, recordVersion, byte(h.place), h.flags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.due))
	dst = binary.AppendUvarint(dst, uint64(h.open))
	dst = binary.AppendVarint(dst, nanos(m.Arrived))
	dst = binary.AppendVarint(dst, m.Size)
	dst = appendString(dst, m.Sender.Local)
	dst = appendString(dst, m.Sender.Domain)
	dst = appendString(dst, m.Reason)
	dst = appendString(dst, m.Ret)
	dst = appendString(dst, m.EnvID)
	dst = appendString(dst, m.Facts)
	if m.Unicode != "" {
		dst = appendString(dst, m.Unicode)
	}
	if !m.Signed.Empty() {
		dst = binary.AppendVarint(dst, m.Signed.From)
		dst = binary.AppendVarint(dst, m.Signed.To)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Recipients)))
	for i := range m.Recipients {
		dst = appendRecipient(dst, &m.Recipients[i])
	}
	binary.LittleEndian.PutUint32(dst, checksum(key, dst[sealLen:]))
	return dst
}

func appendRecipient(dst []byte, r *Recipient) []byte {
	dst = appendString(dst, r.Address.Local)
	dst = appendString(dst, r.Address.Domain)
	dst = appendString(dst, r.Original)
	dst = appendString(dst, r.Notify)
	dst = appendString(dst, r.Route)
	state := byte(r.State)
	if r.Held {
		state |= flagHeld
	}
	if r.Relayed {
		state |= flagRelayed
	}
	if r.Unicode != "" {
		state |= flagRcptUnicode
	}
	dst = append(dst, state)
	dst = binary.AppendVarint(dst, int64(r.Attempts))
	dst = binary.AppendVarint(dst, nanos(r.Next))
	dst = binary.AppendVarint(dst, nanos(r.Tried))
	dst = binary.AppendVarint(dst, int64(r.Last.Code))
	for _, n := range r.Last.Enhanced {
		dst = binary.AppendVarint(dst, int64(n))
	}
	dst = appendString(dst, r.Last.Text)
	dst = appendString(dst, r.Peer)
	if r.Unicode != "" {
		dst = appendString(dst, r.Unicode)
	}
	return dst
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// decodeRecord checks and reads a stored record. What it returns shares nothing
// with stored.
func decodeRecord(key, stored []byte) (*Message, head, error) {
	b, err := unseal(key, stored)
	if err != nil {
		return nil, head{}, err
	}
	return parseRecord(string(key[1:]), b)
}

func parseRecord(id string, b []byte) (*Message, head, error) {
	m := &Message{}
	h, err := m.parse(id, b)
	if err != nil {
		return nil, head{}, err
	}
	if m.Facts != nil {
		m.Facts = append([]byte(nil), m.Facts...)
	}
	return m, h, nil
}

// parse makes m what b says. Facts are a part of b; the memory of the recipients
// that m had is used again.
func (m *Message) parse(id string, b []byte) (head, error) {
	// The strings are parts of one: a walk over a long queue decodes every record.
	r := reader{b: b, text: string(b)}
	h, recipients := r.head(), m.Recipients[:0]
	*m = Message{
		ID: id, Place: h.place,
		Double: h.flags&flagDouble != 0, EightBit: h.flags&flagEightBit != 0, Notified: h.flags&flagNotified != 0,
		Binary: h.flags&flagBinary != 0, SMTPUTF8: h.flags&flagUTF8 != 0,
	}
	m.Arrived = timeOf(r.varint())
	m.Size = r.varint()
	m.Sender = r.address()
	m.Reason = r.string()
	m.Ret = r.string()
	m.EnvID = r.string()
	if f := r.bytes(); len(f) > 0 {
		m.Facts = f
	}
	if h.flags&flagUnicode != 0 {
		m.Unicode = r.string()
	}
	if h.flags&flagSigned != 0 {
		m.Signed.From, m.Signed.To = r.varint(), r.varint()
		r.bad = r.bad || m.Signed.From < 0 || m.Signed.To > m.Size
	}
	n := r.uvarint()
	if n > uint64(len(r.b)/minRecipient) {
		r.bad = true
	}
	if !r.bad && n > 0 {
		m.Recipients = append(recipients, make([]Recipient, n)...)
	}
	for i := range m.Recipients {
		r.recipient(&m.Recipients[i])
	}
	if r.bad || len(r.b) > 0 || m.Size < 0 || headOf(m, h.flags&flagFile) != h {
		return head{}, fmt.Errorf("a record that makes no sense: %w", ErrDamaged)
	}
	return h, nil
}

// parseHead reads what Open counts, without the rest.
func parseHead(b []byte) (head, error) {
	r := reader{b: b}
	h := r.head()
	if r.bad {
		return head{}, fmt.Errorf("a record that makes no sense: %w", ErrDamaged)
	}
	return h, nil
}

// reader takes values off the front of b. After a value that is not there, bad
// is set and the rest is zero.
type reader struct {
	b    []byte
	text string // all that b was, where strings are read
	bad  bool
}

func (r *reader) head() (h head) {
	version := r.byte()
	h.place, h.flags = Place(r.byte()), r.byte()
	if len(r.b) < 8 {
		r.bad = true
		return head{}
	}
	h.due = int64(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	open := r.uvarint()
	if version != recordVersion || h.place > Quarantined || open > math.MaxInt32 {
		r.bad = true
	}
	h.open = int(open)
	return h
}

func (r *reader) recipient(to *Recipient) {
	to.Address = r.address()
	to.Original = r.string()
	to.Notify = r.string()
	to.Route = r.string()
	state := r.byte()
	to.State, to.Held, to.Relayed = State(state&stateMask), state&flagHeld != 0, state&flagRelayed != 0
	if to.State > Failed || state&^(stateMask|flagHeld|flagRcptUnicode|flagRelayed) != 0 {
		r.bad = true
	}
	to.Attempts = r.int()
	to.Next = timeOf(r.varint())
	to.Tried = timeOf(r.varint())
	to.Last.Code = r.int()
	for i := range to.Last.Enhanced {
		to.Last.Enhanced[i] = r.int()
	}
	to.Last.Text = r.string()
	to.Peer = r.string()
	if state&flagRcptUnicode != 0 {
		to.Unicode = r.string()
		r.bad = r.bad || to.Unicode == ""
	}
}

func (r *reader) address() message.Address {
	local := r.string()
	return message.Address{Local: local, Domain: r.string()}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// int is a varint that fits 32 bits.
func (r *reader) int() int {
	n := r.varint()
	if n != int64(int32(n)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

// string is a part of text.
func (r *reader) string() string {
	n := len(r.bytes())
	end := len(r.text) - len(r.b)
	return r.text[end-n : end]
}
