package record

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// maxLabels bounds the sets of label values of one metric; what comes beyond is
// counted under "other".
const maxLabels = 1000

// metrics is the recorder's registry. Names are in the order of docs/log.md.
type metrics struct {
	registry *prometheus.Registry

	connections *prometheus.CounterVec
	verdicts    [verdictEnd]prometheus.Counter
	bytes       prometheus.Counter
	refusals    *prometheus.CounterVec

	calls     *prometheus.CounterVec
	decisions *prometheus.CounterVec
	failures  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec

	attempts [3]prometheus.Counter
	sending  [3]prometheus.Observer
	leaving  prometheus.Histogram

	dropped, written prometheus.Counter

	replies [2]atomic.Uint64 // 4xx and 5xx to clients

	scripts scripts

	mu    sync.Mutex
	cells atomic.Pointer[map[cellKey]*cell] // replaced, never changed
	sets  map[string]struct{}               // label sets of refusals and connections
}

// cellKey names a policy at a stage.
type cellKey struct {
	policy string
	stage  hooks.Stage
	shadow bool
}

// cell is that policy's metrics, looked up once.
type cell struct {
	names           []string // its labels
	calls, failures prometheus.Counter
	seconds         prometheus.Observer
	times           timing
	verbs           [hooks.Drop + 1]atomic.Pointer[prometheus.Counter] // made when they first occur
}

var outcomes = [...]string{"delivered", "deferred", "bounced"}

func newMetrics(r *Recorder) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), sets: map[string]struct{}{}}
	m.cells.Store(&map[cellKey]*cell{})
	m.scripts.names = map[string]*scriptMetric{}
	m.registry.MustRegister(&m.scripts, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.metrics = m
	r.Gauge("postern_connections", "Connections that are open now.", func() float64 { return float64(r.connections.Load()) })
	m.connections = m.counters("postern_connections_total", "Connections accepted, by listener.", "listener")
	verdicts := m.counters("postern_messages_total", "Transactions that ended, by verdict.", "verdict")
	for v := range verdictEnd {
		m.verdicts[v] = verdicts.WithLabelValues(v.String())
	}
	m.bytes = m.counter("postern_message_bytes_total", "Bytes of messages that were queued or relayed.")
	m.refusals = m.counters("postern_refusals_total", "Negative replies, by stage, policy and code; no policy is the protocol engine.", "stage", "policy", "code")
	m.calls = m.counters("postern_policy_calls_total", "Calls of policies.", "policy", "stage", "mode")
	m.decisions = m.counters("postern_policy_decisions_total", "Decisions of policies.", "policy", "stage", "mode", "decision")
	m.failures = m.counters("postern_policy_failures_total", "Calls that failed, whatever on_failure made of them.", "policy", "stage", "mode")
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "postern_policy_seconds", Help: "Time of a policy's call.",
		Buckets: []float64{.00001, .0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
	}, []string{"policy", "stage", "mode"})
	attempts := m.counters("postern_delivery_attempts_total", "Delivery attempts for a recipient, by outcome.", "outcome")
	sending := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "postern_delivery_seconds", Help: "Time of a delivery attempt.", Buckets: prometheus.ExponentialBuckets(.001, 4, 10),
	}, []string{"outcome"})
	for i, name := range outcomes {
		m.attempts[i], m.sending[i] = attempts.WithLabelValues(name), sending.WithLabelValues(name)
	}
	m.leaving = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "postern_queue_seconds", Help: "Time from a message's arrival until it left the queue.",
		Buckets: []float64{.01, .1, 1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600},
	})
	m.registry.MustRegister(m.seconds, sending, m.leaving)
	m.written = m.counter("postern_recorder_written_total", "Records that the flight recorder wrote.")
	m.dropped = m.counter("postern_recorder_dropped_total", "Records that the flight recorder lost: it could not follow, or the disk failed.")
	return m
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

// Registry is where all metrics stand; others may add theirs.
func (r *Recorder) Registry() *prometheus.Registry { return r.metrics.registry }

// Metrics serves the metrics in Prometheus' form.
func (r *Recorder) Metrics() http.Handler {
	return promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Gauge adds a metric whose value is asked for when somebody looks, such as the
// number of queued messages. f may be called from several goroutines at once. A
// name that is there already is a mistake of the program and panics.
func (r *Recorder) Gauge(name, help string, f func() float64) {
	r.metrics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// bounded tells whether one more set of labels may be made for what.
func (m *metrics) bounded(what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.sets[what]; ok {
		return true
	}
	if len(m.sets) >= maxLabels {
		return false
	}
	m.sets[what] = struct{}{}
	return true
}

func (m *metrics) connected(listener string) {
	if !m.bounded("l" + listener) {
		listener = "other"
	}
	m.connections.WithLabelValues(listener).Inc()
}

func (m *metrics) refused(at hooks.Stage, by string, reply message.Reply) {
	stage, code := "", "other"
	by = strings.ToValidUTF8(by, "?")
	if at != 0 {
		stage = at.String()
	}
	if reply.Code >= 400 && reply.Code < 600 {
		code = strconv.Itoa(reply.Code)
		m.replies[reply.Code/100-4].Add(1)
	}
	if !m.bounded("r" + stage + " " + code + " " + by) {
		by = "other"
	}
	m.refusals.WithLabelValues(stage, by, code).Inc()
}

func (m *metrics) verdict(v Verdict) { m.verdicts[min(v, Abandoned)].Inc() }

func (m *metrics) accepted(d *draft) {
	if d.verdict.Good() {
		m.bytes.Add(float64(max(d.size, 0)))
	}
}

func (m *metrics) stage(run *hooks.StageRun) {
	for i := range run.Handlers {
		h := &run.Handlers[i]
		c := m.cell(cellKey{h.Policy, run.Stage, h.Shadow})
		c.calls.Inc()
		if h.Verb <= hooks.Drop {
			m.verb(c, h.Verb).Inc()
		}
		if h.Err != nil {
			c.failures.Inc()
		}
		c.seconds.Observe(h.Duration.Seconds())
		c.times.observe(h.Duration)
	}
}

func (m *metrics) cell(k cellKey) *cell {
	if c := (*m.cells.Load())[k]; c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.cells.Load()
	if c := old[k]; c != nil {
		return c
	}
	if len(old) >= maxLabels {
		k.policy = "other"
		if c := old[k]; c != nil {
			return c
		}
	}
	next := make(map[cellKey]*cell, len(old)+1)
	for k, c := range old {
		next[k] = c
	}
	next[k] = m.newCell(k)
	m.cells.Store(&next)
	return next[k]
}

func (m *metrics) newCell(k cellKey) *cell {
	mode := hooks.Enforce
	if k.shadow {
		mode = hooks.Shadow
	}
	names := []string{strings.ToValidUTF8(k.policy, "?"), k.stage.String(), mode.String()}
	c := &cell{
		names: names, calls: m.calls.WithLabelValues(names...), failures: m.failures.WithLabelValues(names...),
		seconds: m.seconds.WithLabelValues(names...),
	}
	return c
}

// verb is the counter of a decision.
func (m *metrics) verb(c *cell, v hooks.Verb) prometheus.Counter {
	if p := c.verbs[v].Load(); p != nil {
		return *p
	}
	one := m.decisions.WithLabelValues(append(slices.Clone(c.names), v.String())...)
	c.verbs[v].Store(&one)
	return one
}

func (m *metrics) attempt(a *Attempt) {
	i := 1 // what is not clear is temporary
	for j, name := range outcomes {
		if name == a.Outcome {
			i = j
		}
	}
	m.attempts[i].Inc()
	m.sending[i].Observe(a.Duration.Seconds())
}

func (m *metrics) left(age time.Duration) { m.leaving.Observe(age.Seconds()) }
