package record

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

const (
	// maxWeight bounds the list of what is still to be written: about one unit for
	// each stage run, some 300 bytes.
	maxWeight = 64 << 10
	// pageSize is where a page is full; a single large story may exceed it.
	pageSize = 64 << 10
	// gather is how long the writer waits for company after the first entry.
	gather = 50 * time.Millisecond
)

// entry is something to be written.
type entry interface {
	// encode appends the entry's record to b.
	encode(b []byte) []byte
	// words calls f with everything it is to be found by, after encode.
	words(f func(kind byte, word string))
	// weight is its part of maxWeight.
	weight() int
}

// draft is a story on its way to the writer. What it refers to does not change
// any more.
type draft struct {
	id, session    string
	started, ended time.Time
	verdict        Verdict
	reply          message.Reply
	reason         string
	by             string
	at             hooks.Stage
	decided        decided
	facts          facts
	sender         message.Address
	from           string   // sender, from encode on
	to             []string // allRecipients, from encode on
	recipients     []message.Address
	seen           []string
	size           int64
	subject        string
	scores         []hooks.Score
	tags           []string
	route          string
	sessionRuns    []hooks.StageRun
	runs           []hooks.StageRun
	refusals       []refusal
	leftOut        int
	unkept         int
	header         []byte // as it came, where message is not kept
	params         []hooks.Param
	message        []byte
}

func (d *draft) weight() int {
	return 2 + len(d.sessionRuns) + len(d.runs) + len(d.refusals) + (len(d.recipients)+len(d.seen))/4 + len(d.message)/512
}

// late is a stage that was reported outside what is under way.
type late struct {
	id, session string
	run         hooks.StageRun
}

func (*late) weight() int { return 1 }

// attempted is a delivery attempt.
type attempted struct {
	id string
	a  Attempt
}

func (*attempted) weight() int { return 1 }

// left is the end of a message's life in the queue.
type left struct {
	id   string
	time time.Time
}

func (*left) weight() int { return 1 }

// list is what is still to be written.
type list struct {
	mu     sync.Mutex
	items  []entry
	weight int
	closed bool

	wake  chan struct{} // something is there
	full  chan struct{} // half of the room is taken
	flush chan chan struct{}
}

// add hands an entry to the writer, or drops and counts it where there is no
// room. It never blocks.
func (l *list) add(e entry, r *Recorder) {
	w := e.weight()
	l.mu.Lock()
	if l.closed || l.weight+w > maxWeight {
		l.mu.Unlock()
		r.metrics.dropped.Inc()
		return
	}
	first := len(l.items) == 0
	l.items = append(l.items, e)
	half := l.weight < maxWeight/2 && l.weight+w >= maxWeight/2
	l.weight += w
	l.mu.Unlock()
	if first {
		poke(l.wake)
	}
	if half {
		poke(l.full)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take empties the list into the slice that it gets in exchange.
func (l *list) take(empty []entry, last bool) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	items := l.items
	l.items, l.weight, l.closed = empty, 0, last
	return items
}

// write is the writer: it owns r.last and all writing of pages.
func (r *Recorder) write() {
	defer close(r.ended)
	var p page
	var spare []entry
	empty := func(last bool) {
		items := r.list.take(spare[:0], last)
		r.writeAll(&p, items)
		clear(items)
		spare = items
	}
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		var ack chan struct{}
		var ended <-chan struct{}
		again, stop := r.mendTime()
		if again == nil {
			ended = r.db.Ended()
		}
		select {
		case <-ended:
			r.failed()
			continue
		case <-again:
			r.mend()
			continue
		case <-r.list.wake:
			timer.Reset(gather)
			select {
			case <-timer.C:
			case <-r.list.full:
			case ack = <-r.list.flush:
			case <-r.closing:
			}
		case ack = <-r.list.flush:
		case <-r.closing:
			stop()
			empty(true)
			return
		}
		stop()
		empty(false)
		if ack != nil {
			close(ack)
		}
	}
}

// Flush returns when everything told so far can be found by Why.
func (r *Recorder) Flush() {
	if r.o.ReadOnly {
		return
	}
	ack := make(chan struct{})
	select {
	case r.list.flush <- ack:
		select {
		case <-ack:
		case <-r.ended:
		}
	case <-r.ended:
	}
}

func (r *Recorder) writeAll(p *page, items []entry) {
	for i, e := range items {
		p.add(e)
		if len(p.records) < pageSize && i < len(items)-1 {
			continue
		}
		if err := r.writePage(p); err != nil {
			r.metrics.dropped.Add(float64(p.count))
			if !r.failing {
				r.log.Error("recorder: stories are lost", "error", err)
			}
			r.failing = true
		} else {
			r.metrics.written.Add(float64(p.count))
			r.failing = false
		}
		p.reset()
	}
}

// writePage puts the page under the next moment. Nothing reaches the disk for
// sure: what was handed to the system survives our death, and losing it costs an
// explanation, never mail.
func (r *Recorder) writePage(p *page) error {
	if now, ok := r.mender.Trouble(); ok {
		return now.Err
	}
	if !r.room() {
		return fmt.Errorf("less than %d MiB are free on the disk", minFree>>20)
	}
	value := p.value()
	if !r.bound(len(value) + 4*len(p.hashes)) {
		return errors.New("max_size is reached, and a question that takes long keeps what is too old")
	}
	r.last = max(uint64(time.Now().UnixNano()), r.last+1)
	b := r.db.NewBatchWithSize(len(value) + 8*len(p.hashes) + 64)
	if err := b.Set(pageKey(pagePrefix, r.last), value, nil); err != nil {
		return err
	}
	if err := b.Set(pageKey(indexPrefix, r.last), p.index(), nil); err != nil {
		return err
	}
	// See lazy: the system has it, the disk not yet.
	if err := r.db.Apply(b, pebble.Sync); err != nil {
		return err
	}
	return r.db.Failed()
}
