package send

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// Bounds of a destination.
const (
	firstWindow  = 5                // attempts at once before anything is known
	deadAfter    = 3                // attempts in a row that reached nobody
	firstRest    = time.Minute      // how long a destination that is down is left alone
	maxRest      = 15 * time.Minute // the rest doubles up to this
	idleLife     = 10 * time.Minute // what is known of an idle destination is kept so long
	readyShare   = 4                // one destination may hold this part of the window (a quarter)
	outsideShare = 20               // windows full of messages whose ids alone are in memory
	crowdedMin   = time.Minute      // the least and the most that a message waits on disk which
	crowdedMax   = 30 * time.Minute // found no place even so
)

// key tells destinations apart.
type key struct {
	name   string // the next hop as written, or the domain for mx
	tls    string
	auth   Login
	source netip.Addr
}

// keyOf is the destination of mail to the domain by way of h.
func keyOf(h Way, domain string) key {
	if h.Scheme == SchemeMX {
		return key{domain, h.TLS, h.Auth, h.Source}
	}
	return key{h.NextHop.String(), h.TLS, h.Auth, h.Source}
}

// job is one attempt to be made. Its fields but dropped don't change.
type job struct {
	e     *entry
	d     *destination
	hop   Way
	rcpts []int        // indices into the message's recipients
	edits []hooks.Edit // of their copy

	priority int // jobs of a higher one start first

	dropped bool // withdrawn while it waited; guarded by Sender.mu
}

// destination is what is known of one place that mail goes to. All of it is
// guarded by Sender.mu.
type destination struct {
	key     key
	hop     Way
	channel *channel

	lanes map[string]*lane // waiting jobs by sender
	turn  fifo[*lane]      // lanes with jobs, in the order of their turns
	ahead []*level         // of other priorities than 0, the highest first
	ready int              // waiting jobs
	lined bool             // stands in the channel's line
	queue fifo[string]     // ids of messages that wait on disk because enough are ready
	eager bool             // wants some of them now: stands in Sender.hungry

	running int
	window  int // attempts at once; follows how the destination does
	limit   int // the most that window may be
	rate    *rate.Limiter
	wakeAt  time.Time // when rate or rest lets it go on; zero: not waiting for a time

	failures int           // attempts in a row that reached nobody
	rest     time.Duration // the present rest, doubled each time; 0: it is not down
	restTill time.Time
	last     message.Reply // why it is down
	used     time.Time
	left     map[string]time.Time // ids of messages that it keeps waiting, and since when
}

// level is the jobs of one priority, in the order of their coming. Who sets
// priorities has an order in mind, so there are no turns.
type level struct {
	priority int
	jobs     fifo[*job]
}

// lane is one sender's jobs for a destination.
type lane struct {
	sender string
	jobs   fifo[*job]
}

// configure takes over limits.
func (d *destination) configure(c *Config) {
	d.limit = c.PerDestination
	if d.channel.name == local {
		d.limit = max(c.ConcurrencyLocal, 1)
	}
	var found DestinationRule
	for _, r := range c.Rules {
		if d.named(r.Destination) {
			found = r
			break
		}
	}
	if found.Concurrency > 0 {
		d.limit = found.Concurrency
	}
	switch {
	case found.Count <= 0 || found.Per <= 0:
		d.rate = nil
	case d.rate == nil:
		d.rate = rate.NewLimiter(everyOf(found), 1)
	default:
		d.rate.SetLimit(everyOf(found))
	}
	if d.window == 0 {
		d.window = d.first()
	}
	d.window = min(d.window, d.limit)
}

// everyOf spreads a rate evenly: a burst at the start of each minute is what
// the other side wanted to be spared.
func everyOf(r DestinationRule) rate.Limit { return rate.Every(r.Per / time.Duration(r.Count)) }

func (d *destination) first() int {
	if d.channel.name == local {
		return d.limit
	}
	return min(firstWindow, d.limit)
}

// named tells whether one of the patterns names the destination.
func (d *destination) named(patterns []string) bool {
	if slices.Contains(patterns, d.key.name) {
		return true
	}
	name := d.key.name
	if d.hop.Server() && d.hop.Path == "" {
		name = strings.ToLower(d.hop.Host)
		if d.hop.Port != "" && slices.Contains(patterns, name+":"+d.hop.Port) {
			return true
		}
	}
	return hooks.MatchDomain(patterns, name)
}

// push adds a waiting job.
func (d *destination) push(j *job) {
	if j.priority != 0 {
		d.rank(j)
		return
	}
	sender := j.e.sender
	l := d.lanes[sender]
	if l == nil {
		l = &lane{sender: sender}
		if d.lanes == nil {
			d.lanes = map[string]*lane{}
		}
		d.lanes[sender] = l
	}
	if l.jobs.empty() {
		d.turn.push(l)
	}
	l.jobs.push(j)
	d.ready++
}

// rank puts a job of a priority of its own into its level.
func (d *destination) rank(j *job) {
	i, found := slices.BinarySearchFunc(d.ahead, j.priority, func(l *level, n int) int { return cmp.Compare(n, l.priority) })
	if !found {
		d.ahead = slices.Insert(d.ahead, i, &level{priority: j.priority})
	}
	d.ahead[i].jobs.push(j)
	d.ready++
}

// pop takes the next waiting job, nil where there is none: those of a priority above
// 0 first, and those below it last.
func (d *destination) pop() *job {
	if len(d.ahead) == 0 {
		return d.popTurn()
	}
	if j := d.popLevel(func(priority int) bool { return priority > 0 }); j != nil {
		return j
	}
	if j := d.popTurn(); j != nil {
		return j
	}
	return d.popLevel(func(int) bool { return true })
}

// popLevel takes the first job of the levels that are wanted.
func (d *destination) popLevel(wanted func(priority int) bool) *job {
	for len(d.ahead) > 0 && wanted(d.ahead[0].priority) {
		l := d.ahead[0]
		if l.jobs.empty() {
			d.ahead = slices.Delete(d.ahead, 0, 1)
			continue
		}
		if j := l.jobs.pop(); !j.dropped {
			d.ready--
			return j
		}
	}
	return nil
}

// popTurn takes one of each sender in turn, so that a long list does not keep back a
// single mail.
func (d *destination) popTurn() *job {
	for !d.turn.empty() {
		l := d.turn.pop()
		j := l.jobs.pop()
		if l.jobs.empty() {
			delete(d.lanes, l.sender)
		} else {
			d.turn.push(l)
		}
		if !j.dropped {
			d.ready--
			return j
		}
	}
	return nil
}

// may tells whether a waiting job can start now; where it can't, and only time
// is in the way, wait is how much.
func (d *destination) may(now time.Time) (ok bool, wait time.Duration) {
	if d.ready == 0 || d.running >= min(d.window, d.limit) {
		return false, 0
	}
	if d.rest > 0 && now.Before(d.restTill) {
		return false, d.restTill.Sub(now)
	}
	if d.rate == nil {
		return true, 0
	}
	r := d.rate.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return false, wait
	}
	return true, 0
}

// learn takes in how an attempt went: unreached, where it led to nobody, and down,
// where the destination has just been found to be.
func (d *destination) learn(now time.Time, outcomes []Outcome) (unreached, down bool) {
	d.used, unreached = now, len(outcomes) > 0
	slow := false
	for i := range outcomes {
		o := &outcomes[i]
		unreached = unreached && o.Unreached
		slow = slow || o.Unreached || o.Result == Deferred && o.Reply.Code == 421
	}
	switch {
	case unreached:
		d.failures++
		d.window = max(d.window/2, 1)
		d.last = outcomes[0].Reply
		if d.failures < deadAfter || d.rest > 0 && now.Before(d.restTill) {
			return true, false
		}
		d.rest = min(max(2*d.rest, firstRest), maxRest)
		d.restTill = now.Add(d.rest)
		d.window = 1
		return true, true
	case slow:
		d.window = max(d.window/2, 1)
	default:
		d.window = min(d.window+1, d.limit)
	}
	if d.rest > 0 {
		d.window = d.first()
	}
	d.failures, d.rest = 0, 0
	return false, false
}

// revive forgets that the destination is down.
func (d *destination) revive() {
	if d.rest > 0 || d.failures > 0 {
		d.failures, d.rest, d.window = 0, 0, d.first()
	}
}

// resting tells whether nothing is to be tried before restTill.
func (d *destination) resting(now time.Time) bool { return d.rest > 0 && now.Before(d.restTill) }

// forgettable tells whether nothing is lost when the destination is.
func (d *destination) forgettable(now time.Time) bool {
	life := idleLife
	if len(d.left) > 0 {
		life = leftLife
	}
	return d.ready == 0 && d.running == 0 && d.queue.empty() && !d.resting(now) && now.Sub(d.used) > life
}

// notTried is what a recipient gets that is not tried because its destination is down.
func (d *destination) notTried() message.Reply {
	return message.NewReply(451, "4.4.1", "Not tried now: the destination is down: %s", d.last.Text)
}

// fifo is a queue that reuses its memory.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) empty() bool { return f.head == len(f.items) }

func (f *fifo[T]) push(x T) {
	if f.head > 32 && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, x)
}

func (f *fifo[T]) pop() T {
	var zero T
	x := f.items[f.head]
	f.items[f.head] = zero
	if f.head++; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return x
}

// senderKey is the lane of a message.
func senderKey(m *queue.Message) string {
	if m.Double {
		return "#@[]"
	}
	return m.Sender.String()
}
