package record

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/postern-mta/postern/core/message"
)

var errDamaged = errors.New("record: damaged record")

// reader takes a record apart. Its methods give zero values once something was
// wrong; bad then says so.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.b, r.bad = nil, true
}

func (r *reader) uint() uint64 {
	n, k := binary.Uvarint(r.b)
	if k <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[k:]
	return n
}

func (r *reader) int() int64 {
	n, k := binary.Varint(r.b)
	if k <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[k:]
	return n
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) text() string { return string(r.take(r.uint())) }

func (r *reader) time() time.Time {
	const most = int64(2000 * 366 * 86400 * 1e6) // from year 1 to 3970: JSON has four digits
	n := r.int()
	if n > most || n < -most {
		r.fail()
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func (r *reader) millis() float64 { return float64(r.int()) / 1000 }

func (r *reader) float() float64 {
	p := r.take(8)
	if p == nil {
		return 0
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(p))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0 // JSON has no word for it
	}
	return f
}

func (r *reader) bool() bool {
	p := r.take(1)
	return p != nil && p[0] == 1
}

// count reads how many things follow, each of at least one byte.
func (r *reader) count() int {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) reply() string {
	code := r.uint()
	if code == 0 || r.bad {
		return ""
	}
	m := message.Reply{Code: int(min(code, 999))}
	for i := range m.Enhanced {
		m.Enhanced[i] = int(min(r.uint(), 999))
	}
	m.Text = r.text()
	return m.String()
}

func (r *reader) step(version int) Step {
	s := Step{Stage: r.text(), Time: r.time(), Recipient: r.text(), Handlers: []Answer{}}
	for range r.count() {
		h := Answer{Policy: r.text(), Decision: r.text(), Reply: r.reply(), Reason: r.text(), Duration: r.millis(), Edits: []string{}}
		for range r.count() {
			h.Edits = append(h.Edits, r.text())
		}
		h.Shadow = r.bool()
		h.Error = r.text()
		if version > 1 {
			for range r.count() {
				h.Lookups = append(h.Lookups, Lookup{Kind: r.text(), Question: r.text(), Answer: r.text(), Error: r.text()})
			}
		}
		if r.bad {
			break
		}
		s.Handlers = append(s.Handlers, h)
	}
	return s
}

// story reads what stands behind storyRecord.
func (r *reader) story(version int) Story {
	s := Story{
		ID: r.text(), Session: r.text(), Time: r.time(), Ended: r.time(), Verdict: r.text(), Reply: r.reply(), Reason: r.text(), Policy: r.text(),
		Client: r.text(), Port: int(r.int()), Listener: r.text(), Protocol: r.text(), Helo: r.text(), TLS: r.text(), User: r.text(),
		Sender: r.text(), Recipients: []string{}, Stages: []Step{}, Attempts: []Try{},
	}
	for range r.count() {
		s.Recipients = append(s.Recipients, r.text())
	}
	s.RecipientsLeftOut = int(r.int())
	s.Size = r.int()
	s.Subject = r.text()
	for range r.count() {
		one := Symbol{Name: r.text(), Points: r.float(), Why: r.text()}
		s.Scores = append(s.Scores, one)
		s.Total += one.Points
	}
	if math.IsInf(s.Total, 0) {
		s.Total = 0
	}
	for range r.count() {
		s.Tags = append(s.Tags, r.text())
	}
	s.Route = r.text()
	for range r.count() {
		if r.bad {
			break
		}
		s.Stages = append(s.Stages, r.step(version))
	}
	for range r.count() {
		if r.bad {
			break
		}
		s.Refusals = append(s.Refusals, Refusal{Stage: r.text(), Time: r.time(), Recipient: r.text(), Policy: r.text(), Reply: r.reply()})
	}
	s.LeftOut = int(r.int())
	s.Message = string(r.take(r.uint()))
	if version == 1 {
		return s
	}
	s.Header = string(r.take(r.uint()))
	s.Local, s.Extended, s.Relaying = r.text(), r.bool(), r.bool()
	for range r.count() {
		s.Params = append(s.Params, [2]string{r.text(), r.text()})
	}
	return s
}

// try reads what stands behind the id of an attemptRecord.
func (r *reader) try() (t Try, sender string, size int64, age time.Duration) {
	t.Time = r.time()
	t.Recipient = r.text()
	sender = r.text()
	t.NextHop, t.Peer, t.TLS, t.Outcome = r.text(), r.text(), r.text(), r.text()
	t.Reply = r.reply()
	t.Duration = r.millis()
	t.Attempt = int(r.int())
	size, age = r.int(), time.Duration(r.int())*time.Microsecond
	return t, sender, size, age
}

// told is one decoded record.
type told struct {
	kind    byte
	id      string
	session string
	story   Story
	step    Step
	try     Try
	sender  string
	size    int64         // of the message that was tried
	age     time.Duration // of the same
	time    time.Time
}

// decode reads a record. It may be anything: what is not a whole record of a kind
// that we know is errDamaged.
func decode(record []byte) (told, error) {
	if len(record) == 0 {
		return told{}, errDamaged
	}
	t := told{kind: record[0]}
	version := 2
	switch t.kind {
	case storyRecord - 1, lateRecord - 1:
		t.kind, version = t.kind+1, 1
	}
	r := &reader{b: record[1:]}
	switch t.kind {
	case storyRecord:
		t.story = r.story(version)
		t.id, t.session = t.story.ID, t.story.Session
	case lateRecord:
		t.id, t.session = r.text(), r.text()
		t.step = r.step(version)
	case attemptRecord:
		t.id = r.text()
		t.try, t.sender, t.size, t.age = r.try()
	case leftRecord:
		t.id, t.time = r.text(), r.time()
	default:
		return told{}, errDamaged
	}
	if r.bad || len(r.b) > 0 || t.kind != lateRecord && t.id == "" {
		return told{}, errDamaged
	}
	return t, nil
}
