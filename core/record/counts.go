package record

import (
	"cmp"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-mta/postern/hooks"
)

// Counts is what happened since the start, for those who look at a running daemon:
// the same counters as the metrics, without walking over the whole registry.
type Counts struct {
	Verdicts map[string]uint64 // transactions by verdict, those that occurred
	Bytes    uint64            // of messages that were queued or relayed
	Refused  uint64            // replies 5xx to clients
	Deferred uint64            // replies 4xx to clients
	// Attempts of delivery, by recipient.
	Delivered, Delayed, Bounced uint64
	Dropped                     uint64 // stories that the recorder lost
	Policies                    []PolicyCounts
}

// PolicyCounts is how one policy did at one stage.
type PolicyCounts struct {
	Policy    string
	Stage     hooks.Stage
	Shadow    bool
	Calls     uint64
	Failures  uint64
	Decisions map[string]uint64 // by verb, those that occurred
	Times     Times
}

// Counts reads the counters. It costs some microseconds for each policy.
func (r *Recorder) Counts() Counts {
	m := r.metrics
	c := Counts{
		Verdicts: map[string]uint64{}, Bytes: read(m.bytes), Refused: m.replies[1].Load(), Deferred: m.replies[0].Load(),
		Delivered: read(m.attempts[0]), Delayed: read(m.attempts[1]), Bounced: read(m.attempts[2]), Dropped: read(m.dropped),
	}
	for v := range verdictEnd {
		if n := read(m.verdicts[v]); n > 0 {
			c.Verdicts[v.String()] = n
		}
	}
	for k, one := range *m.cells.Load() {
		p := PolicyCounts{Policy: k.policy, Stage: k.stage, Shadow: k.shadow, Calls: read(one.calls), Failures: read(one.failures), Times: one.times.load()}
		for v := range one.verbs {
			if n := one.verbs[v].Load(); n != nil {
				if p.Decisions == nil {
					p.Decisions = map[string]uint64{}
				}
				p.Decisions[hooks.Verb(v).String()] = read(*n)
			}
		}
		c.Policies = append(c.Policies, p)
	}
	slices.SortFunc(c.Policies, func(a, b PolicyCounts) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Stage, b.Stage), compareShadow(a.Shadow, b.Shadow))
	})
	return c
}

func compareShadow(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// read is a counter's value; a counter can't fail to tell it.
func read(c prometheus.Counter) uint64 {
	var v dto.Metric
	if c.Write(&v) != nil {
		return 0
	}
	return uint64(v.GetCounter().GetValue())
}

// Times is how long calls took, sorted into four classes an octave from one
// microsecond up, so that a quantile is off by a quarter at most. It is sparse: pairs
// of class and count. Of two that were taken one after the other, the difference is
// what happened between.
type Times [][2]uint64

// classes is enough for a minute; what took longer counts in the last.
const classes = 4 * 27

// timing gathers Times; a call costs it one addition.
type timing [classes]atomic.Uint64

func (t *timing) observe(d time.Duration) { t[classOf(d)].Add(1) }

func (t *timing) load() (list Times) {
	for i := range t {
		if n := t[i].Load(); n > 0 {
			list = append(list, [2]uint64{uint64(i), n})
		}
	}
	return list
}

// classOf: below 4 µs a class is a microsecond; from there on the two bits behind the
// highest one choose among the four of an octave.
func classOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 4 {
		return int(us)
	}
	octave := bits.Len64(us) // 3 for 4…7 µs
	return min((octave-2)*4+int(us>>(octave-3)&3), classes-1)
}

// upTo is the upper end of a class.
func upTo(class int) time.Duration {
	if class < 4 {
		return time.Duration(class+1) * time.Microsecond
	}
	octave, part := class/4+2, class%4
	return time.Duration(uint64(4+part+1)<<(octave-3)) * time.Microsecond
}

// Calls is how many there were.
func (t Times) Calls() (n uint64) {
	for _, one := range t {
		n += one[1]
	}
	return n
}

// Quantile is the time within which that part of the calls ended, 0 where there were
// none: the upper end of its class.
func (t Times) Quantile(part float64) time.Duration {
	all := t.Calls()
	if all == 0 {
		return 0
	}
	want, n := uint64(part*float64(all)), uint64(0)
	for _, one := range t {
		if n += one[1]; n > want || n == all {
			return upTo(int(min(one[0], classes-1)))
		}
	}
	return 0
}

// Since is what came after an earlier look.
func (t Times) Since(earlier Times) Times {
	before := map[uint64]uint64{}
	for _, one := range earlier {
		before[one[0]] = one[1]
	}
	var list Times
	for _, one := range t {
		if n := before[one[0]]; one[1] > n {
			list = append(list, [2]uint64{one[0], one[1] - n})
		}
	}
	return list
}
