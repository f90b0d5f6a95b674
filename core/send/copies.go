package send

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// transactions parts recipients of one destination into those that one transaction
// can serve: they have the same copy of the message and one sender, and are not too many.
func (x *extra) transactions(rcpts []int) iter.Seq2[[]int, []hooks.Edit] {
	return func(yield func([]int, []hooks.Edit) bool) {
		facts, most := x.Rcpts, maxPerJob
		if x.apart {
			most = 1
		}
		for len(rcpts) > 0 {
			edits := facts[rcpts[0]].Edits
			same, others := rcpts, []int(nil)
			if facts != nil {
				same = nil
				for _, i := range rcpts {
					if slices.EqualFunc(facts[i].Edits, edits, intake.SameCopy) {
						same = append(same, i)
					} else {
						others = append(others, i)
					}
				}
			}
			rcpts = others
			for part := range slices.Chunk(same, most) {
				if !yield(part, edits) {
					return
				}
			}
		}
	}
}

// extra is what hooks.Facts has beyond what every message has.
type extra struct {
	Rcpts    map[int]hooks.RcptFacts `json:"rcpts"`
	Priority int                     `json:"priority"`
	apart    bool                    // each recipient has a sender of its own
}

// What begins the parts of extra in Facts.
var (
	rcptsKey    = []byte(`"rcpts":`)
	priorityKey = []byte(`"priority":`)
)

// extra is mostly empty: few messages have any, and the others are not worth a look
// into their facts.
func (e *entry) extra() (x extra) {
	if bytes.Contains(e.m.Facts, rcptsKey) || bytes.Contains(e.m.Facts, priorityKey) {
		_ = json.Unmarshal(e.m.Facts, &x) // damaged ones were complained of
	}
	x.apart = e.m.Sender.IsVERP()
	return x
}

// copyFor is the message and the body that a job's recipients get at a time.
func (s *Sender) copyFor(j *job, conf *Config, m *queue.Message, body message.Body, now time.Time) (*queue.Message, message.Body, error) {
	sender := m.Sender.For(m.Recipients[j.rcpts[0]].Address)
	if conf.ReturnPath != nil {
		var err error
		if sender, err = conf.ReturnPath(j.hop, sender, now); err != nil {
			s.o.Log.Warn("a sender can't be rewritten", "id", m.ID, "sender", sender.String(), "error", err)
		}
	}
	if sender != m.Sender {
		c := *m
		if c.Sender = sender; sender.Domain != m.Sender.Domain {
			c.Unicode = ""
		}
		m = &c
	}
	return intake.CopySigned(m, body, j.edits, conf.Again, now)
}
