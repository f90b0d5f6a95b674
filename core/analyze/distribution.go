package analyze

import (
	"math"
	"slices"
)

// Distribution is zddist: within what time which part of the successes was done. Up
// to MaxDelays of them are kept one by one; of more, each counts in a class that is at
// most a hundredth wide.
type Distribution struct {
	delays  []float64
	classes map[int]*class
	count   int64
}

type class struct {
	n        int64
	sum, top float64
}

// Message implements Sink.
func (*Distribution) Message(*Message) error { return nil }

// Delivery implements Sink.
func (s *Distribution) Delivery(d *Delivery) error {
	if d.Result != Success {
		return nil
	}
	s.count++
	delay := d.Done.Since(d.Birth)
	if s.classes == nil && len(s.delays) < MaxDelays {
		s.delays = append(s.delays, delay)
		return nil
	}
	if s.classes == nil {
		s.classes = map[int]*class{}
		for _, one := range s.delays {
			s.classify(one)
		}
		s.delays = nil
	}
	s.classify(delay)
	return nil
}

func (s *Distribution) classify(delay float64) {
	n := math.MinInt32
	if delay > 1e-6 {
		n = int(math.Ceil(math.Log(delay) / math.Log(1.01)))
	}
	c := s.classes[n]
	if c == nil {
		c = &class{}
		s.classes[n] = c
	}
	c.n++
	c.sum += delay
	c.top = max(c.top, delay)
}

// each walks the delays from the shortest one.
func (s *Distribution) each(f func(top, sum float64, n int64)) {
	if s.classes != nil {
		keys := make([]int, 0, len(s.classes))
		for k := range s.classes {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			f(s.classes[k].top, s.classes[k].sum, s.classes[k].n)
		}
		return
	}
	slices.Sort(s.delays)
	for i := 0; i < len(s.delays); {
		k := i + 1
		for k < len(s.delays) && s.delays[k] == s.delays[i] {
			k++
		}
		f(s.delays[i], s.delays[i]*float64(k-i), int64(k-i))
		i = k
	}
}

// Table implements Report.
func (s *Distribution) Table() *Table {
	t := &Table{
		Name: "zddist", Title: "Distribution of ddelays for successful deliveries", Columns: []string{"doneby", "avg", "pct"}, Most: spreadRows,
		About: []string{
			"One line per percentage that was reached. Information on each line:",
			"* doneby is the time, in seconds, within which pct% of the successful deliveries were over.",
			"* avg is the average ddelay of these.",
		},
	}
	var n int64
	var sum float64
	var doneby [101]float64
	var avg [101]float64
	var reached [101]bool
	s.each(func(top, part float64, k int64) {
		n, sum = n+k, sum+part
		p := int(n * 100 / s.count)
		if !reached[p] {
			doneby[p], reached[p] = top, true
		}
		avg[p] = sum / float64(n)
	})
	for p := 10; p <= 100; p++ {
		if reached[p] {
			t.Rows = append(t.Rows, []any{Seconds(doneby[p]), Seconds(avg[p]), int64(p)})
		}
	}
	return t
}

// Bands of the chart of delays, in seconds, and their names.
var (
	bandEnds  = []float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86400, math.Inf(1)}
	bandNames = []string{"up to 1 s", "up to 5 s", "up to 15 s", "up to 1 min", "up to 5 min", "up to 15 min", "up to 1 h", "up to 4 h", "up to 1 d", "longer"}
)

// Bands counts the successes by how long they took, for the chart.
func (s *Distribution) Bands() []int64 {
	list := make([]int64, len(bandEnds))
	s.each(func(top, _ float64, n int64) {
		for i, end := range bandEnds {
			if top <= end {
				list[i] += n
				return
			}
		}
	})
	return list
}
