package lua

import (
	"fmt"

	lua "github.com/yuin/gopher-lua"
)

// Bounds of metric; those of the registry behind it come on top.
const (
	maxLabelNames = 5
	maxLabelValue = 100 // bytes
	maxMetricName = 60
)

// Metrics takes what scripts count. It must be safe for concurrent use.
type Metrics interface {
	// Count adds n, which is not negative, to a policy's counter.
	Count(policy, name string, labels map[string]string, n float64) error
	// Observe adds a value to a policy's histogram.
	Observe(policy, name string, labels map[string]string, value float64) error
}

func (st *state) openMetric(g *lua.LTable) {
	g.RawSetString("metric", st.library(map[string]lua.LGFunction{"counter": st.metricCounter, "histogram": st.metricHistogram}))
}

// metricName is the argument at position 1.
func metricName(L *lua.LState) string {
	name := L.CheckString(1)
	if !isName(name) || len(name) > maxMetricName {
		L.ArgError(1, fmt.Sprintf("the name of a metric is made of letters, digits and _, at most %d", maxMetricName))
	}
	return name
}

// labels are { list = "bl.example" } at position n.
func (st *state) labels(L *lua.LState, n int) map[string]string {
	if L.Get(n) == lua.LNil {
		return nil
	}
	t := L.CheckTable(n)
	out := map[string]string{}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		name, isText := k.(lua.LString)
		value, ok := joinable(v)
		if b, isBool := v.(lua.LBool); isBool {
			value, ok = b.String(), true
		}
		switch {
		case !isText || !isName(string(name)) || name == "policy" || len(name) > maxMetricName:
			L.ArgError(n, "the name of a label is made of letters, digits and _, and not policy")
		case !ok:
			L.ArgError(n, fmt.Sprintf("label %s must be a text, not %s", name, kindOf(v)))
		case len(out) == maxLabelNames:
			L.ArgError(n, fmt.Sprintf("a metric has at most %d labels", maxLabelNames))
		}
		out[string(name)] = oneLine(value[:min(len(value), maxLabelValue)])
	}
	st.b.spend(L, 8*len(out))
	return out
}

// metricCounter is metric.counter(name, labels, n).
func (st *state) metricCounter(L *lua.LState) int {
	name, labels, n := metricName(L), st.labels(L, 2), float64(L.OptNumber(3, 1))
	if !(n >= 0) || n-n != 0 {
		L.ArgError(3, "a counter only grows")
	}
	return st.metric(L, func(m Metrics) error { return m.Count(st.script.short, name, labels, n) })
}

// metricHistogram is metric.histogram(name, value, labels).
func (st *state) metricHistogram(L *lua.LState) int {
	name, value, labels := metricName(L), float64(L.CheckNumber(2)), st.labels(L, 3)
	if value-value != 0 {
		L.ArgError(2, "the value must be finite")
	}
	return st.metric(L, func(m Metrics) error { return m.Observe(st.script.short, name, labels, value) })
}

func (st *state) metric(L *lua.LState, f func(m Metrics) error) int {
	m := st.script.options.Library.Metrics
	if st.loading && st.policed {
		L.RaiseError("metrics belong in a handler: the file itself runs when the configuration is loaded")
	}
	st.b.spend(L, 32)
	if m != nil {
		if err := f(m); err != nil {
			return fail(L, "bad", err.Error())
		}
	}
	L.Push(lua.LTrue)
	return 1
}
