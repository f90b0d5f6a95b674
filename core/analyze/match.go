package analyze

import "bytes"

// Matcher pairs what began with what ended. Messages and deliveries that began and
// did not end are its state. It is not safe for concurrent use.
type Matcher struct {
	sink       Sink
	messages   held[*open]
	deliveries held[*started]
	left       recent
	forgotten  int64
}

// open is a message in the queue.
type open struct {
	birth   Stamp
	bytes   int64
	sender  string
	qp, uid string
	k, d, z int64
}

// started is a delivery under way.
type started struct {
	at      Stamp
	message string
	to      string // with its channel in front
}

// NewMatcher makes one that tells sink.
func NewMatcher(sink Sink) *Matcher {
	m := &Matcher{sink: sink}
	m.messages.most, m.deliveries.most = MaxOpen, MaxOpen
	return m
}

// Open is how many messages and deliveries began and did not end.
func (m *Matcher) Open() (messages, deliveries int) {
	return len(m.messages.by), len(m.deliveries.by)
}

func (m *Matcher) open(id []byte, o *open) {
	if m.messages.put(string(id), o) {
		m.forgotten++
	}
}

func (m *Matcher) start(n []byte, s *started) {
	if m.deliveries.put(string(n), s) {
		m.forgotten++
	}
}

// forget drops what is known of a message whose number is used again.
func (m *Matcher) forget(id []byte) { m.messages.remove(id) }

// clear drops the deliveries under way: qmail-send began anew.
func (m *Matcher) clear() { m.deliveries = held[*started]{most: m.deliveries.most} }

// end is a delivery's: its result and reason are those words of the line.
func (m *Matcher) end(at Stamp, n, word, reason []byte) (known bool, err error) {
	var result byte
	switch {
	case bytes.HasPrefix(word, []byte("succ")):
		result = Success
	case bytes.HasPrefix(word, []byte("fail")):
		result = Failure
	case bytes.HasPrefix(word, []byte("defer")):
		result = Deferral
	case bytes.HasPrefix(word, []byte("report")):
		result, reason = Deferral, []byte("report_mangled")
	default:
		return false, nil
	}
	s := m.deliveries.find(n)
	if s == nil {
		return true, nil
	}
	m.deliveries.remove(n)
	d := Delivery{Result: result, Birth: s.at, Start: s.at, Done: at, Sender: "?", Recipient: s.to, QP: "?", UID: "?", Reason: string(reason)}
	if o := m.messages.find([]byte(s.message)); o != nil {
		o.count(result)
		d.Birth, d.Bytes, d.Sender, d.QP, d.UID = o.birth, o.bytes, o.sender, o.qp, o.uid
	}
	return true, m.sink.Delivery(&d)
}

func (o *open) count(result byte) {
	switch result {
	case Success:
		o.k++
	case Failure:
		o.d++
	default:
		o.z++
	}
}

// over is a message's end.
func (m *Matcher) over(at Stamp, id []byte) error {
	o := m.messages.find(id)
	if o == nil {
		return nil
	}
	m.messages.remove(id)
	return m.sink.Message(&Message{Birth: o.birth, Done: at, Bytes: o.bytes, Successes: o.k, Failures: o.d, Deferrals: o.z, Sender: o.sender, QP: o.qp, UID: o.uid})
}

// held is things by name, the oldest of which are dropped beyond a number.
type held[T any] struct {
	by    map[string]kept[T]
	order []name // in the order of coming; those whose serial is not in by are gone
	next  uint64
	most  int
}

type kept[T any] struct {
	value  T
	serial uint64
}

type name struct {
	key    string
	serial uint64
}

// put reports whether it had to drop another one.
func (h *held[T]) put(key string, value T) (dropped bool) {
	if h.by == nil {
		h.by = map[string]kept[T]{}
	}
	if _, ok := h.by[key]; !ok && len(h.by) >= h.most {
		dropped = h.dropOldest()
	}
	h.next++
	h.by[key] = kept[T]{value, h.next}
	h.order = append(h.order, name{key, h.next})
	if len(h.order) > 2*len(h.by)+1024 {
		h.compact()
	}
	return dropped
}

func (h *held[T]) dropOldest() bool {
	for len(h.order) > 0 {
		n := h.order[0]
		h.order = h.order[1:]
		if k, ok := h.by[n.key]; ok && k.serial == n.serial {
			delete(h.by, n.key)
			return true
		}
	}
	return false
}

func (h *held[T]) compact() {
	list := make([]name, 0, 2*len(h.by)+1024)
	for _, n := range h.order {
		if k, ok := h.by[n.key]; ok && k.serial == n.serial {
			list = append(list, n)
		}
	}
	h.order = list
}

func (h *held[T]) find(key []byte) (value T) { return h.by[string(key)].value }
func (h *held[T]) remove(key []byte)         { delete(h.by, string(key)) }

// all walks them in the order of coming.
func (h *held[T]) all(yield func(string, T) bool) {
	for _, n := range h.order {
		if k, ok := h.by[n.key]; ok && k.serial == n.serial && !yield(n.key, k.value) {
			return
		}
	}
}

// recent remembers the last names of many.
type recent struct {
	ring [4096]string
	has  map[string]struct{}
	at   int
}

func (r *recent) add(s string) {
	if r.has == nil {
		r.has = map[string]struct{}{}
	}
	delete(r.has, r.ring[r.at])
	r.ring[r.at] = s
	r.has[s] = struct{}{}
	r.at = (r.at + 1) % len(r.ring)
}

func (r *recent) holds(s string) bool {
	_, ok := r.has[s]
	return ok
}
