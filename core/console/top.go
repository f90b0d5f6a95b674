package console

import (
	"cmp"
	"context"
	"iter"
	"math"
	"net/http"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/core/send"
)

// Bounds of what a look at the running daemon shows and costs.
const (
	topRows     = 100             // of each list, where nobody asks for another number
	maxTopRows  = 1000            // whoever asks
	topPolicies = 500             // rows of policies and stages
	topText     = 300             // bytes of a text from outside
	walkAge     = 5 * time.Second // the queue is walked at most this often,
	walkShare   = 20              // and takes no more than a 20th of the time,
	walkNames   = 50_000          // with this many destinations told apart
	walkWait    = 250 * time.Millisecond
	othersName  = "(all others)"
)

// Top is all that `postern top` shows, as counters that only grow and as what is
// there now. What one costs does not depend on how much mail there is: the walk over
// the queue goes on beside it and is shown when it has ended.
type Top struct {
	Status
	Time     time.Time     `json:"time"`
	Open     []Open        `json:"open"`
	Counters Counters      `json:"counters"`
	Calls    []Calls       `json:"calls"`
	Attempts send.Channels `json:"attempts"` // of delivery: under way and allowed
	Ways     []Way         `json:"destinations"`
	WaysMore int           `json:"destinations_more,omitempty"` // beyond those listed
	Oldest   []Old         `json:"oldest"`
	Walked   Walked        `json:"walked"`
	Process  Process       `json:"process"`
}

// Open is the connections of a listener by the stage that they stand at.
type Open struct {
	Listener string         `json:"listener"`
	TLS      int            `json:"tls"`
	Stages   map[string]int `json:"stages"`
}

// Counters are what happened since the start.
type Counters struct {
	Accepted  uint64            `json:"accepted"`  // transactions that were answered 250
	Refused   uint64            `json:"refused"`   // replies 5xx to clients
	Deferred  uint64            `json:"deferred"`  // replies 4xx to clients
	Delivered uint64            `json:"delivered"` // recipients whom an attempt reached
	PutOff    uint64            `json:"put_off"`   // recipients who are to be tried again
	Failed    uint64            `json:"failed"`    // recipients who were given up
	Bytes     uint64            `json:"bytes"`     // of messages that were queued or relayed
	Lost      uint64            `json:"stories_lost,omitempty"`
	Verdicts  map[string]uint64 `json:"verdicts"`
}

// Calls is how one policy did at one stage. Times is for those who look twice: see
// record.Times.
type Calls struct {
	Policy    string            `json:"policy"`
	Stage     string            `json:"stage"`
	Mode      string            `json:"mode"`
	Calls     uint64            `json:"calls"`
	Failures  uint64            `json:"failures"`
	P50       float64           `json:"p50_seconds"`
	P99       float64           `json:"p99_seconds"`
	Decisions map[string]uint64 `json:"decisions,omitempty"`
	Times     record.Times      `json:"times,omitempty"`
}

// Way is a destination: how the scheduler sees it, and what waits for it.
type Way struct {
	Destination string    `json:"destination"`
	Ready       int       `json:"ready"`     // attempts that may start, and messages that wait for that
	InFlight    int       `json:"in_flight"` // attempts under way
	Window      int       `json:"window"`    // that may be under way; 0: nothing was tried yet
	Limit       int       `json:"limit"`
	Waiting     int       `json:"waiting"`  // recipients in the queue, see Walked
	Deferred    int       `json:"deferred"` // of those, whose next try is still to come
	Health      string    `json:"health"`   // ok, failing, down, paced, idle
	Until       time.Time `json:"until,omitzero"`
	Oldest      time.Time `json:"oldest,omitzero"`
	Next        time.Time `json:"next,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
}

// The health of a destination.
const (
	HealthOK      = "ok"
	HealthIdle    = "idle"    // nothing was tried lately
	HealthPaced   = "paced"   // its rate holds it back
	HealthFailing = "failing" // the latest attempts reached nobody
	HealthDown    = "down"    // it is left alone until Until
)

// Old is one of the messages that wait longest.
type Old struct {
	ID          string    `json:"id"`
	Arrived     time.Time `json:"arrived"`
	Sender      string    `json:"sender"`
	Recipient   string    `json:"recipient"` // the first that is not final
	Recipients  int       `json:"recipients"`
	Destination string    `json:"destination"`
	Attempts    int       `json:"attempts"`
	Next        time.Time `json:"next,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
}

// Walked says how old the look at the queue is that Waiting, Deferred, Oldest and
// Next come from; At is zero before the first has ended.
type Walked struct {
	At      time.Time `json:"at,omitzero"`
	Seconds float64   `json:"seconds"` // that it took
	Error   string    `json:"error,omitempty"`
}

// Process is what the daemon takes of the machine.
type Process struct {
	Resident   int64   `json:"resident_bytes"` // 0: the system does not tell
	Heap       int64   `json:"heap_bytes"`
	CPU        float64 `json:"cpu_seconds"`
	Goroutines int     `json:"goroutines"`
}

// top answers GET /top: rows=N bounds the lists, wait=1 waits for a walk over the
// queue that began after the request.
func (s *Server) top(w http.ResponseWriter, r *http.Request) {
	rows := topRows
	if text := r.URL.Query().Get("rows"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			s.fail(w, http.StatusBadRequest, strconv.ErrSyntax)
			return
		}
		rows = min(n, maxTopRows)
	}
	s.reply(w, s.look(r.Context(), rows, r.URL.Query().Get("wait") != ""))
}

// look gathers a Top.
func (s *Server) look(ctx context.Context, rows int, wait bool) Top {
	t := Top{Time: time.Now(), Open: []Open{}, Calls: []Calls{}, Ways: []Way{}, Oldest: []Old{}}
	walk := s.walks.latest(ctx, s, wait)
	t.Status = s.status()
	if s.o.Open != nil {
		t.Open = append(t.Open, s.o.Open()...)
	}
	c := s.o.Record.Counts()
	t.Counters = Counters{
		Refused: c.Refused, Deferred: c.Deferred, Delivered: c.Delivered, PutOff: c.Delayed, Failed: c.Bounced, Bytes: c.Bytes, Lost: c.Dropped, Verdicts: c.Verdicts,
	}
	for _, v := range []record.Verdict{record.Queued, record.Held, record.Relayed, record.Discarded, record.Quarantined} {
		t.Counters.Accepted += c.Verdicts[v.String()]
	}
	t.Calls = calls(c.Policies)
	var views []send.View
	known := 0
	if s.o.Ways != nil {
		views, known, t.Attempts = s.o.Ways(maxTopRows)
	}
	t.Ways = ways(views, walk.sum.Destinations, walk.deferred)
	t.WaysMore = max(len(t.Ways), known) - min(len(t.Ways), rows)
	t.Ways = t.Ways[:min(len(t.Ways), rows)]
	t.Oldest = append(t.Oldest, walk.oldest[:min(len(walk.oldest), rows)]...)
	t.Walked = walk.Walked
	t.Process = process()
	return t
}

// calls are the rows of policies, those that took the most time first.
func calls(counts []record.PolicyCounts) []Calls {
	list := make([]Calls, 0, len(counts))
	for _, p := range counts {
		one := Calls{Policy: p.Policy, Stage: p.Stage.String(), Mode: "enforce", Calls: p.Calls, Failures: p.Failures, Decisions: p.Decisions, Times: p.Times}
		if p.Shadow {
			one.Mode = "shadow"
		}
		if one.Times == nil {
			one.Times = record.Times{}
		}
		one.P50, one.P99 = one.Times.Quantile(.5).Seconds(), one.Times.Quantile(.99).Seconds()
		list = append(list, one)
	}
	if len(list) > topPolicies {
		slices.SortFunc(list, func(a, b Calls) int { return cmp.Compare(b.P50*float64(b.Calls), a.P50*float64(a.Calls)) })
		list = list[:topPolicies]
	}
	return list
}

// ways joins what the scheduler knows with what the queue holds: those that are in
// trouble or have most to do first.
func ways(views []send.View, waiting []Destination, deferred map[string]int) []Way {
	list := make([]Way, 0, len(views)+len(waiting))
	at := map[string]int{}
	for i := range views {
		v := &views[i]
		one := Way{Destination: v.Name, Ready: v.Ready + v.Outside, InFlight: v.InFlight, Window: v.Window, Limit: v.Limit, Health: HealthOK, Until: v.Rest}
		switch {
		case !v.Rest.IsZero():
			one.Health = HealthDown
		case v.Failures > 0:
			one.Health = HealthFailing
		case v.Paced:
			one.Health = HealthPaced
		}
		if !v.Last.IsZero() && one.Health != HealthOK && one.Health != HealthPaced {
			one.LastError = short(v.Last.String())
		}
		at[v.Name] = len(list)
		list = append(list, one)
	}
	for _, d := range waiting {
		i, known := at[d.Destination]
		if !known {
			i = len(list)
			list = append(list, Way{Destination: d.Destination, Health: HealthIdle})
		}
		one := &list[i]
		one.Waiting, one.Deferred, one.Oldest, one.Next = d.Recipients, deferred[d.Destination], d.Oldest, d.Next
		if one.LastError == "" {
			one.LastError = short(d.LastError)
		}
	}
	slices.SortFunc(list, func(a, b Way) int {
		return cmp.Or(cmp.Compare(weight(&b), weight(&a)), cmp.Compare(a.Destination, b.Destination))
	})
	return list
}

func weight(w *Way) int { return max(w.Waiting, w.Ready+w.InFlight) }

func short(s string) string {
	if len(s) > topText {
		return strings.ToValidUTF8(s[:topText], "") + "…"
	}
	return s
}

// walks is the walk over the queue beside the answers: none while nobody looks.
type walks struct {
	mu    sync.Mutex
	last  walk
	next  time.Time     // not before
	doing chan struct{} // closed when the one under way has ended; nil: there is none
	all   sync.WaitGroup
	stop  context.Context // ends walks
	end   context.CancelFunc
}

// walk is what one found.
type walk struct {
	Walked
	sum      Summary
	deferred map[string]int
	oldest   []Old
}

// latest is the newest walk. It starts another where that is old, and waits for it,
// but only a moment where nobody says wait.
func (w *walks) latest(ctx context.Context, s *Server, wait bool) walk {
	w.mu.Lock()
	under := w.doing
	if wait && under != nil { // it may have begun before the request
		w.mu.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
		}
		w.mu.Lock()
	}
	if w.doing == nil && (wait || !time.Now().Before(w.next)) && w.stop.Err() == nil {
		w.doing = make(chan struct{})
		w.all.Go(func() { w.run(s) })
	}
	doing, last := w.doing, w.last
	w.mu.Unlock()
	if doing == nil || !wait && !last.At.IsZero() {
		return last
	}
	limit := time.NewTimer(walkWait)
	defer limit.Stop()
	if wait {
		limit.Stop()
	}
	select {
	case <-doing:
	case <-limit.C:
	case <-ctx.Done():
	case <-w.stop.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// run walks once.
func (w *walks) run(s *Server) {
	began := time.Now()
	found := walk{deferred: map[string]int{}}
	names := map[string]struct{}{}
	name := func(m *queue.Message, i int) string {
		n := s.destination(m, i)
		if _, known := names[n]; !known {
			if len(names) >= walkNames {
				n = othersName
			}
			names[n] = struct{}{}
		}
		if r := &m.Recipients[i]; m.Place == queue.Active && !r.Held && r.Next.After(began) {
			found.deferred[n]++
		}
		return n
	}
	sum, err := Summarize(w.watched(s, &found), name, 0)
	if err != nil {
		found.Error = err.Error()
	}
	found.sum, found.At = sum, time.Now()
	took := found.At.Sub(began)
	found.Seconds = took.Seconds()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop.Err() == nil {
		w.last = found
	}
	w.next = found.At.Add(max(walkAge, walkShare*took))
	close(w.doing)
	w.doing = nil
}

// watched is the whole queue until the end of the server; the oldest messages that
// wait for a try are noted.
func (w *walks) watched(s *Server, found *walk) iter.Seq2[*queue.Message, error] {
	return func(yield func(*queue.Message, error) bool) {
		for m, err := range s.o.Queue.All() {
			if w.stop.Err() != nil {
				return
			}
			if err == nil && len(found.oldest) < maxTopRows && m.Place == queue.Active {
				if one, ok := s.oldOf(m); ok {
					found.oldest = append(found.oldest, one)
				}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// oldOf is a message with a recipient who is still to be served.
func (s *Server) oldOf(m *queue.Message) (Old, bool) {
	one := Old{ID: m.ID, Arrived: m.Arrived, Sender: short(m.Sender.String())}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.State.Final() {
			continue
		}
		if one.Recipients++; one.Recipients > 1 {
			continue
		}
		one.Recipient, one.Destination, one.Attempts = short(r.Address.String()), short(s.destination(m, i)), r.Attempts
		if !r.Held {
			one.Next = r.Next
		}
		if !r.Last.IsZero() {
			one.LastError = short(r.Last.String())
		}
	}
	return one, one.Recipients > 0
}

// process reads what the system and the runtime tell.
func process() Process {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	p := Process{Heap: count(samples[0]), Goroutines: int(count(samples[1]))}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64) // 0 is "not told"
			p.Resident = pages * int64(os.Getpagesize())
		}
	}
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		p.CPU = math.Round(float64(use.Utime.Nano()+use.Stime.Nano())/1e6) / 1e3
	}
	return p
}

func count(s metrics.Sample) int64 {
	if s.Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(min(s.Value.Uint64(), math.MaxInt64))
}
