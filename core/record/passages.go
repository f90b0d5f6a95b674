package record

import (
	"context"
	"iter"
	"time"
)

// Passage is one point on a message's way: that it was taken, that its delivery was
// tried, or that it left the queue. Statistics are made of them.
type Passage struct {
	Event     string    `json:"event"` // a verdict's name, an attempt's outcome, or "left"
	ID        string    `json:"id"`
	Time      time.Time `json:"time"` // of an attempt, its end
	Sender    string    `json:"sender,omitempty"`
	Size      int64     `json:"size,omitempty"`
	By        string    `json:"by,omitempty"` // who handed it over: the login, or how it came: smtp, qmail-queue, …
	Recipient string    `json:"recipient,omitempty"`
	NextHop   string    `json:"next_hop,omitempty"` // of an attempt; "" of all others
	Reply     string    `json:"reply,omitempty"`
	// Duration is an attempt's, or a transaction's; Age an attempt's, since the
	// message came. Both in nanoseconds.
	Duration time.Duration `json:"duration,omitempty"`
	Age      time.Duration `json:"age,omitempty"`
}

// Passages walks what was written from since to until, in the order of writing; zero
// times are no bound. Meanwhile Close waits.
func (r *Recorder) Passages(ctx context.Context, since, until time.Time) iter.Seq2[Passage, error] {
	return func(yield func(Passage, error) bool) {
		err := r.walkRecords(ctx, since, func(record []byte) bool {
			if len(record) > 0 && record[0] == lateRecord {
				return true
			}
			t, err := decode(record)
			if err != nil {
				return true
			}
			p, ok := t.passage()
			if !ok || p.Time.Before(since) || !until.IsZero() && !p.Time.Before(until) {
				return true
			}
			return yield(p, nil)
		})
		if err != nil {
			yield(Passage{}, err)
		}
	}
}

func (t *told) passage() (p Passage, ok bool) {
	switch t.kind {
	case storyRecord:
		s := &t.story
		p = Passage{Event: s.Verdict, ID: s.ID, Time: s.Ended, Sender: s.Sender, Size: s.Size, By: s.User, Reply: s.Reply, Duration: s.Ended.Sub(s.Time)}
		if p.By == "" {
			p.By = s.Protocol
		}
		return p, s.ID != s.Session
	case attemptRecord:
		took := time.Duration(t.try.Duration * float64(time.Millisecond))
		return Passage{
			Event: t.try.Outcome, ID: t.id, Time: t.try.Time.Add(took), Sender: t.sender, Size: t.size, Recipient: t.try.Recipient,
			NextHop: t.try.NextHop, Reply: t.try.Reply, Duration: took, Age: t.age,
		}, true
	case leftRecord:
		return Passage{Event: "left", ID: t.id, Time: t.time}, true
	}
	return p, false
}
