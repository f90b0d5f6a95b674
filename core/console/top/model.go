package top

import (
	"fmt"
	"time"

	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/record"
)

// Bounds of what is remembered.
const (
	keptRates = 240              // for sparklines
	window    = time.Minute      // of quantiles and of rates of single policies
	noteTime  = 30 * time.Second // how long a note stays
)

// Rates are what happens, a second.
type Rates struct {
	Accepted  float64 `json:"accepted"`
	Refused   float64 `json:"refused"`
	Deferred  float64 `json:"deferred"`
	Delivered float64 `json:"delivered"`
	PutOff    float64 `json:"put_off"`
	Failed    float64 `json:"failed"`
	Bytes     float64 `json:"bytes"`
	CPU       float64 `json:"cpu"` // processors that are busy
}

// Model is what is known of the daemon and what the person wants to see of it. It
// knows neither a clock nor a terminal.
type Model struct {
	now   time.Time // as of the last Take, Lose or Tick
	last  console.Top
	have  bool
	past  []console.Top // of the last minute, the oldest first, one configuration's life
	rates []Rates
	lost  error // the daemon does not answer
	since time.Time
	note  string
	noted time.Time

	interval time.Duration
	pane     Pane
	order    [paneEnd]int
	reverse  [paneEnd]bool
	scroll   [paneEnd]int
	page     int // rows that the chosen pane showed last
	rows     int // that it has
	filter   string
	typing   bool
	typed    string
	help     bool
	paused   bool
}

// NewModel makes a model that shows nothing yet.
func NewModel(interval time.Duration) *Model { return &Model{interval: interval} }

// Paused tells whether nothing is to be asked for now.
func (m *Model) Paused() bool { return m.paused }

// Interval is the time between two looks.
func (m *Model) Interval() time.Duration { return m.interval }

// Tick tells the time, for what is shown of it.
func (m *Model) Tick(now time.Time) { m.now = now }

// Take takes in an answer.
func (m *Model) Take(t console.Top, now time.Time) {
	m.now = now
	switch {
	case !m.have:
	case !t.Started.Equal(m.last.Started) || t.PID != m.last.PID:
		m.say(fmt.Sprintf("the daemon was started anew: process %d, before %d; counters begin at 0", t.PID, m.last.PID))
		m.past = nil
	case m.lost != nil:
		m.say("the daemon answers again")
	case t.Generation != m.last.Generation:
		m.say(fmt.Sprintf("configuration %d was loaded", t.Generation))
	}
	m.lost = nil
	if len(m.past) > 0 {
		if r, ok := ratesOf(&m.past[len(m.past)-1], &t); ok {
			m.rates = append(m.rates, r)
			m.rates = m.rates[max(len(m.rates)-keptRates, 0):]
		}
	}
	m.last, m.have = t, true
	m.past = append(m.past, t)
	for len(m.past) > 2 && t.Time.Sub(m.past[1].Time) >= window {
		m.past = m.past[1:]
	}
}

func (m *Model) say(note string) { m.note, m.noted = note, m.now }

// Lose tells that the daemon did not answer.
func (m *Model) Lose(err error, now time.Time) {
	m.now = now
	if m.lost == nil {
		m.since = now
	}
	m.lost = err
}

// ratesOf is what happened between two looks; false where they are no two looks at
// one process.
func ratesOf(a, b *console.Top) (Rates, bool) {
	d := b.Time.Sub(a.Time).Seconds()
	if d <= 0 {
		return Rates{}, false
	}
	per := func(from, to uint64) float64 { return float64(to-min(from, to)) / d }
	x, y := &a.Counters, &b.Counters
	return Rates{
		Accepted: per(x.Accepted, y.Accepted), Refused: per(x.Refused, y.Refused), Deferred: per(x.Deferred, y.Deferred),
		Delivered: per(x.Delivered, y.Delivered), PutOff: per(x.PutOff, y.PutOff), Failed: per(x.Failed, y.Failed),
		Bytes: per(x.Bytes, y.Bytes), CPU: max(b.Process.CPU-a.Process.CPU, 0) / d,
	}, true
}

// rate is the newest.
func (m *Model) rate() Rates {
	if len(m.rates) == 0 {
		return Rates{}
	}
	return m.rates[len(m.rates)-1]
}

// series is one of the rates over time.
func (m *Model) series(of func(Rates) float64) []float64 {
	list := make([]float64, len(m.rates))
	for i, r := range m.rates {
		list[i] = of(r)
	}
	return list
}

// call is a policy at a stage, as of the last minute where it was called in it.
type call struct {
	console.Calls
	rate     float64
	errors   uint64 // in the window
	p50, p99 time.Duration
	busy     float64 // calls under way, on average: an estimate from the classes
	old      bool    // it was not called in the window: the times are since the start
}

// callsNow are the rows of policies and stages.
func (m *Model) callsNow() []call {
	type key struct{ policy, stage, mode string }
	before := map[key]*console.Calls{}
	seconds := 0.0
	if len(m.past) > 1 {
		first := &m.past[0]
		seconds = m.last.Time.Sub(first.Time).Seconds()
		for i := range first.Calls {
			c := &first.Calls[i]
			before[key{c.Policy, c.Stage, c.Mode}] = c
		}
	}
	list := make([]call, 0, len(m.last.Calls))
	for _, c := range m.last.Calls {
		one := call{Calls: c}
		times := c.Times
		if b := before[key{c.Policy, c.Stage, c.Mode}]; b != nil {
			one.errors = c.Failures - min(b.Failures, c.Failures)
			times = c.Times.Since(b.Times)
		} else if seconds > 0 {
			one.errors = c.Failures
		}
		if n := times.Calls(); seconds > 0 && n > 0 {
			one.rate = float64(n) / seconds
			one.busy = busy(times) / seconds
		}
		if one.old = times.Calls() == 0; one.old {
			times = c.Times
		}
		one.p50, one.p99 = times.Quantile(.5), times.Quantile(.99)
		list = append(list, one)
	}
	return list
}

// busy is how many seconds the calls took together, about.
func busy(t record.Times) (sum float64) {
	for i := range t {
		sum += record.Times(t[i:i+1]).Quantile(.5).Seconds() * float64(t[i][1])
	}
	return sum
}

// verdictsOf is a policy at all its stages.
type verdictsOf struct {
	policy, mode    string
	rate            float64
	calls, failures uint64
	decisions       map[string]uint64
}

// policiesNow sums the calls of each policy.
func (m *Model) policiesNow() []verdictsOf {
	var list []verdictsOf
	at := map[[2]string]int{}
	for _, c := range m.callsNow() {
		k := [2]string{c.Policy, c.Mode}
		i, known := at[k]
		if !known {
			i, at[k] = len(list), len(list)
			list = append(list, verdictsOf{policy: c.Policy, mode: c.Mode, decisions: map[string]uint64{}})
		}
		p := &list[i]
		p.rate += c.rate
		p.calls += c.Calls.Calls
		p.failures += c.Failures
		for verb, n := range c.Decisions {
			p.decisions[verb] += n
		}
	}
	return list
}
