package record

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of what scripts count.
const (
	maxScriptMetrics = 200  // names
	maxScriptSets    = 2000 // sets of label values of all of them
)

// scripts is the metrics of policies' own. Their names and labels are not known
// before: it is a collector that says at each look what there is, so that a script
// that changes its labels at a reload is no conflict.
type scripts struct {
	mu    sync.Mutex
	names map[string]*scriptMetric
	sets  int
}

// scriptMetric is one counter or histogram, of all policies that use the name.
type scriptMetric struct {
	histogram bool
	sets      map[string]*scriptSet
}

// scriptSet is the value for one set of labels.
type scriptSet struct {
	names, values []string
	sum           float64
	count         uint64
	buckets       []uint64 // not cumulative
}

// scriptBounds are the upper ends of the buckets of scripts' histograms: seconds,
// points and counts alike.
var scriptBounds = [...]float64{.001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 25, 50, 100, 1000, 10000, 100000}

var errManyMetrics = errors.New("scripts have too many metrics")

// Describe implements prometheus.Collector: what will come is not known.
func (s *scripts) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *scripts) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, m := range s.names {
		for _, set := range m.sets {
			desc := prometheus.NewDesc(name, "Of policies' scripts.", set.names, nil)
			if !m.histogram {
				send(out)(prometheus.NewConstMetric(desc, prometheus.CounterValue, set.sum, set.values...))
				continue
			}
			buckets, total := map[float64]uint64{}, uint64(0)
			for i, n := range set.buckets {
				total += n
				buckets[scriptBounds[i]] = total
			}
			send(out)(prometheus.NewConstHistogram(desc, set.count, set.sum, buckets, set.values...))
		}
	}
}

// send passes on what is a metric; checkNames has seen to it that all are.
func send(out chan<- prometheus.Metric) func(prometheus.Metric, error) {
	return func(m prometheus.Metric, err error) {
		if err == nil {
			out <- m
		}
	}
}

// word is a name that can stand in the text form of metrics.
func word(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// checkNames refuses names that the text form gives a meaning of its own, so that
// no script can spoil the page for all.
func checkNames(name string, labels map[string]string) error {
	if !word(name) {
		return fmt.Errorf("%q is no name of a metric", name)
	}
	for _, end := range []string{"_bucket", "_sum", "_count", "_created", "_info"} {
		if strings.HasSuffix(name, end) {
			return fmt.Errorf("the name of a metric can't end with %s", end)
		}
	}
	for label := range labels {
		if !word(label) || strings.HasPrefix(label, "__") || label == "le" || label == "quantile" || label == "policy" {
			return fmt.Errorf("%q is no name of a label", label)
		}
	}
	return nil
}

// set finds the value to change. Beyond the bound of sets, the labels' values are
// "other".
func (s *scripts) set(name, policy string, labels map[string]string, histogram bool) (*scriptSet, error) {
	m := s.names[name]
	if m == nil {
		if len(s.names) >= maxScriptMetrics {
			return nil, errManyMetrics
		}
		m = &scriptMetric{histogram: histogram, sets: map[string]*scriptSet{}}
		s.names[name] = m
	}
	if m.histogram != histogram {
		return nil, fmt.Errorf("%s is a counter and a histogram", name)
	}
	names := slices.Sorted(maps.Keys(labels))
	values := make([]string, 0, len(names)+1)
	for _, n := range names {
		values = append(values, strings.ToValidUTF8(labels[n], "?"))
	}
	names, values = append(names, "policy"), append(values, strings.ToValidUTF8(policy, "?"))
	key := strings.Join(names, "\x00") + "\x00\x00" + strings.Join(values, "\x00")
	if found := m.sets[key]; found != nil {
		return found, nil
	}
	if s.sets >= maxScriptSets {
		for i := range values {
			values[i] = "other"
		}
		key = strings.Join(names, "\x00") + "\x00\x00" + strings.Join(values, "\x00")
		if found := m.sets[key]; found != nil {
			return found, nil
		}
		if s.sets >= 2*maxScriptSets { // names of labels, made without end
			return nil, errManyMetrics
		}
	}
	s.sets++
	m.sets[key] = &scriptSet{names: names, values: values, buckets: make([]uint64, len(scriptBounds))}
	return m.sets[key], nil
}

// Count adds n to the counter postern_script_NAME_total of a policy's script. Names
// are of letters, digits and _.
func (r *Recorder) Count(policy, name string, labels map[string]string, n float64) error {
	if err := checkNames(name, labels); err != nil {
		return err
	}
	s := &r.metrics.scripts
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.set("postern_script_"+strings.TrimSuffix(name, "_total")+"_total", policy, labels, false)
	if err == nil {
		set.sum += n
	}
	return err
}

// Observe adds a value to the histogram postern_script_NAME of a policy's script.
func (r *Recorder) Observe(policy, name string, labels map[string]string, value float64) error {
	if err := checkNames(name, labels); err != nil {
		return err
	}
	if strings.HasSuffix(name, "_total") {
		return errors.New("the name of a histogram can't end with _total")
	}
	s := &r.metrics.scripts
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.set("postern_script_"+name, policy, labels, true)
	if err != nil {
		return err
	}
	set.sum += value
	set.count++
	if i := sort.SearchFloat64s(scriptBounds[:], value); i < len(set.buckets) {
		set.buckets[i]++
	}
	return nil
}
