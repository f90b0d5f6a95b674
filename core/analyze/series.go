package analyze

import "time"

// slots is how many parts of time a Series has at most.
const slots = 400

// Series is outcomes and volume over time. Its parts of time are a minute long at
// first, and longer where the log spans more.
type Series struct {
	Parts map[int64]*Part // by the number of the part since 1970
	width int             // index into widths
	low   int64
	high  int64
}

// Part is one part of time.
type Part struct {
	Successes, Failures, Deferrals int64
	Bytes                          int64 // of successes
	Messages                       int64 // that were over
}

// widths of a part; each is a multiple of the one before.
var widths = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour, 364 * 24 * time.Hour}

// Width is how long a part is.
func (s *Series) Width() time.Duration { return widths[s.width] }

func (s *Series) at(t Stamp) *Part {
	if t < 0 {
		t = 0
	}
	n := int64(t) / int64(s.Width())
	if s.Parts == nil {
		s.Parts, s.low, s.high = map[int64]*Part{}, n, n
	}
	low, high := min(s.low, n), max(s.high, n)
	for high-low >= slots && s.width < len(widths)-1 {
		s.coarser()
		n = int64(t) / int64(s.Width())
		low, high = min(s.low, n), max(s.high, n)
	}
	s.low, s.high = low, high
	p := s.Parts[n]
	if p == nil {
		p = &Part{}
		s.Parts[n] = p
	}
	return p
}

func (s *Series) coarser() {
	factor := int64(widths[s.width+1] / widths[s.width])
	s.width++
	parts := make(map[int64]*Part, len(s.Parts))
	for n, p := range s.Parts {
		to := parts[n/factor]
		if to == nil {
			to = &Part{}
			parts[n/factor] = to
		}
		to.Successes += p.Successes
		to.Failures += p.Failures
		to.Deferrals += p.Deferrals
		to.Bytes += p.Bytes
		to.Messages += p.Messages
	}
	s.Parts, s.low, s.high = parts, s.low/factor, s.high/factor
}

// Delivery implements Sink.
func (s *Series) Delivery(d *Delivery) error {
	p := s.at(d.Done)
	switch d.Result {
	case Success:
		p.Successes++
		p.Bytes += d.Bytes
	case Failure:
		p.Failures++
	default:
		p.Deferrals++
	}
	return nil
}

// Message implements Sink.
func (s *Series) Message(m *Message) error {
	s.at(m.Done).Messages++
	return nil
}

// Within is the parts in their order, empty ones too, brought together so that there
// are at most most.
func (s *Series) Within(most int) (start []time.Time, parts []Part) {
	if s.Parts == nil {
		return nil, nil
	}
	c := Series{Parts: s.Parts, width: s.width, low: s.low, high: s.high}
	for c.high-c.low >= int64(most) && c.width < len(widths)-1 {
		c.coarser()
	}
	for n := c.low; n <= c.high; n++ {
		start = append(start, time.Unix(0, n*int64(c.Width())).UTC())
		if p := c.Parts[n]; p != nil {
			parts = append(parts, *p)
		} else {
			parts = append(parts, Part{})
		}
	}
	return start, parts
}
