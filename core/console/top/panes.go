package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/console"
)

// Pane is one of the tables.
type Pane int

// The panes, in the order of their keys.
const (
	Destinations Pane = iota
	Policies
	Slow
	Oldest
	Connections
	paneEnd
)

var paneNames = [paneEnd]string{"destinations", "policies", "slow", "oldest mail", "connections"}

// shortNames are for narrow screens.
var shortNames = [paneEnd]string{"dest", "pol", "slow", "old", "conn"}

// table makes what a pane shows, in the order and with the filter that are chosen.
func (m *Model) table(p Pane) *table {
	var t *table
	switch p {
	case Destinations:
		t = m.destinations()
	case Policies:
		t = m.policies()
	case Slow:
		t = m.slow()
	case Oldest:
		t = m.oldest()
	default:
		t = m.connections()
	}
	t.arrange(m.order[p], m.reverse[p], m.filter)
	if m.filter != "" && len(t.rows) == 0 {
		t.empty = "nothing here has “" + clean(m.filter) + "” in it"
	}
	return t
}

func plain(s string) value { return value{s, Plain} }

// some is a number, in a quiet colour where it is none.
func some[N int | uint64](n N, style Style) value {
	if n == 0 {
		return value{"0", Dim}
	}
	return value{number(n), style}
}

func joined(values ...string) string { return strings.Join(values, " ") }

var healthStyles = map[string]Style{
	console.HealthOK: Good, console.HealthIdle: Dim, console.HealthPaced: Warn, console.HealthFailing: Warn, console.HealthDown: Bad,
}

func (m *Model) destinations() *table {
	list, now := m.last.Ways, m.last.Time
	t := &table{
		columns: []column{
			{title: "DESTINATION", wide: true, least: 20},
			{title: "READY", right: true},
			{title: "DEFERRED", right: true, rank: 1},
			{title: "FLIGHT", right: true, rank: 3},
			{title: "LIMIT", right: true, rank: 7},
			{title: "HEALTH"},
			{title: "OLDEST", right: true, rank: 4},
			{title: "NEXT", right: true, rank: 6},
			{title: "LAST ERROR", wide: true, least: 12, rank: 2},
		},
		empty: "no destination has mail, and none had lately",
		more:  m.walked(),
	}
	if n := m.last.WaysMore; n > 0 {
		t.more = strings.TrimSuffix(fmt.Sprintf("and %s more; %s", number(n), t.more), "; ")
	}
	for i := range list {
		w := &list[i]
		health := value{w.Health, healthStyles[w.Health]}
		if !w.Until.IsZero() && w.Until.After(m.now) {
			health.text += " " + ahead(w.Until, m.now)
		}
		flight, limit := value{fmt.Sprintf("%d/%d", w.InFlight, w.Window), Plain}, some(w.Limit, Plain)
		switch {
		case w.Limit == 0:
			flight, limit = value{"-", Dim}, value{"-", Dim}
		case w.InFlight > 0:
			flight.style = Good
		}
		next := value{"-", Dim}
		switch {
		case w.Waiting == 0:
		case w.Next.IsZero():
			next = plain("held")
		case w.Next.After(now):
			next = plain(ahead(w.Next, now))
		default:
			next = plain("now")
		}
		t.rows = append(t.rows, row{
			values: []value{
				plain(clean(w.Destination)), some(w.Ready, Plain), some(w.Deferred, Warn), flight, limit, health,
				{console.Age(w.Oldest, now), Plain},
				next,
				{clean(w.LastError), Dim},
			},
			find: joined(w.Destination, w.Health, w.LastError),
		})
	}
	worst := []string{console.HealthDown, console.HealthFailing, console.HealthPaced, console.HealthOK, console.HealthIdle}
	t.orders = []sorting{
		{"most mail", "READY", func(i, j int) int {
			return cmp.Compare(max(list[j].Waiting, list[j].Ready+list[j].InFlight), max(list[i].Waiting, list[i].Ready+list[i].InFlight))
		}},
		{"deferred", "DEFERRED", func(i, j int) int { return cmp.Compare(list[j].Deferred, list[i].Deferred) }},
		{"in flight", "FLIGHT", func(i, j int) int { return cmp.Compare(list[j].InFlight, list[i].InFlight) }},
		{"trouble", "HEALTH", func(i, j int) int {
			return cmp.Compare(slices.Index(worst, list[i].Health), slices.Index(worst, list[j].Health))
		}},
		{"oldest", "OLDEST", func(i, j int) int { return compareTimes(list[i].Oldest, list[j].Oldest) }},
		{"name", "DESTINATION", func(i, j int) int { return cmp.Compare(list[i].Destination, list[j].Destination) }},
	}
	return t
}

// compareTimes puts the earlier one first, and one that is none last.
func compareTimes(a, b time.Time) int {
	if a.IsZero() || b.IsZero() {
		return -cmp.Compare(a.Unix(), b.Unix())
	}
	return a.Compare(b)
}

// ahead is how far away a time to come is.
func ahead(t, now time.Time) string { return console.Age(now, t) }

// walked says how old what is told of the queue is, where that matters.
func (m *Model) walked() string {
	w := m.last.Walked
	switch {
	case w.Error != "":
		return "the queue can't be read: " + clean(w.Error)
	case w.At.IsZero():
		return "the queue is being read…"
	case m.last.Time.Sub(w.At) >= 10*time.Second:
		return "the queue as of " + console.Age(w.At, m.last.Time) + " ago"
	}
	return ""
}

// verdict columns of the pane of policies; what has no column is under OTHER.
var verbs = []struct {
	name  string
	style Style
}{{"pass", Dim}, {"accept", Good}, {"reject", Bad}, {"defer", Warn}}

func (m *Model) policies() *table {
	list := m.policiesNow()
	t := &table{
		columns: []column{
			{title: "POLICY", wide: true, least: 14},
			{title: "MODE", rank: 5},
			{title: "CALLS/S", right: true, rank: 2},
			{title: "CALLS", right: true, rank: 1},
			{title: "PASS", right: true, rank: 4},
			{title: "ACCEPT", right: true, rank: 3},
			{title: "REJECT", right: true},
			{title: "DEFER", right: true},
			{title: "ERRORS", right: true, rank: 1},
			{title: "OTHER", wide: true, least: 10, rank: 6},
		},
		empty: "no policy was asked yet",
		more:  "since the daemon's start",
	}
	for i := range list {
		p := &list[i]
		mode := value{p.mode, Dim}
		if p.mode != "enforce" {
			mode.style = Warn
		}
		r := row{values: []value{plain(clean(p.policy)), mode, rated(p.rate), some(p.calls, Plain)}, find: joined(p.policy, p.mode)}
		var others []string
		for _, v := range verbs {
			r.values = append(r.values, some(p.decisions[v.name], v.style))
		}
		for _, verb := range slices.Sorted(maps.Keys(p.decisions)) {
			if n := p.decisions[verb]; n > 0 {
				r.find = joined(r.find, verb)
				if !slices.ContainsFunc(verbs, func(v struct {
					name  string
					style Style
				},
				) bool {
					return v.name == verb
				}) {
					others = append(others, clean(verb)+" "+number(n))
				}
			}
		}
		r.values = append(r.values, some(p.failures, Bad), plain(strings.Join(others, ", ")))
		t.rows = append(t.rows, r)
	}
	by := func(of func(*verdictsOf) uint64) func(i, j int) int {
		return func(i, j int) int {
			return cmp.Or(cmp.Compare(of(&list[j]), of(&list[i])), cmp.Compare(list[i].policy, list[j].policy))
		}
	}
	t.orders = []sorting{
		{"calls", "CALLS", by(func(p *verdictsOf) uint64 { return p.calls })},
		{"calls a second", "CALLS/S", func(i, j int) int { return cmp.Compare(list[j].rate, list[i].rate) }},
		{"refusals", "REJECT", by(func(p *verdictsOf) uint64 { return p.decisions["reject"] })},
		{"deferrals", "DEFER", by(func(p *verdictsOf) uint64 { return p.decisions["defer"] })},
		{"errors", "ERRORS", by(func(p *verdictsOf) uint64 { return p.failures })},
		{"name", "POLICY", func(i, j int) int { return cmp.Compare(list[i].policy, list[j].policy) }},
	}
	return t
}

func rated(f float64) value {
	if f <= 0 {
		return value{"0", Dim}
	}
	return plain(perSecond(f))
}

func (m *Model) slow() *table {
	list := m.callsNow()
	t := &table{
		columns: []column{
			{title: "POLICY", wide: true, least: 14},
			{title: "STAGE", rank: 1},
			{title: "P50", right: true},
			{title: "P99", right: true},
			{title: "CALLS/S", right: true, rank: 2},
			{title: "BUSY", right: true, rank: 4},
			{title: "CALLS", right: true, rank: 3},
			{title: "ERRORS", right: true, rank: 1},
			{title: "MODE", rank: 5},
		},
		empty: "no policy was asked yet",
		more:  "times of the last minute; dim: since the start",
	}
	for i := range list {
		c := &list[i]
		style := Plain
		switch {
		case c.old:
			style = Dim
		case c.p99 >= time.Second:
			style = Bad
		case c.p99 >= 100*time.Millisecond:
			style = Warn
		}
		half := min(style, Dim)
		if style > Dim {
			half = Plain
		}
		busy := value{"0", Dim}
		if c.busy >= .005 {
			busy = plain(fmt.Sprintf("%.2f", c.busy))
		}
		t.rows = append(t.rows, row{
			values: []value{
				plain(clean(c.Policy)), plain(clean(c.Stage)),
				{took(c.p50), half},
				{took(c.p99), style},
				rated(c.rate), busy, some(c.Calls.Calls, Plain), some(c.Failures, Bad),
				{c.Mode, Dim},
			},
			find: joined(c.Policy, c.Stage, c.Mode),
		})
	}
	name := func(i, j int) int {
		return cmp.Or(cmp.Compare(list[i].Policy, list[j].Policy), cmp.Compare(list[i].Stage, list[j].Stage))
	}
	t.orders = []sorting{
		{"p99", "P99", func(i, j int) int { return cmp.Or(cmp.Compare(list[j].p99, list[i].p99), name(i, j)) }},
		{"p50", "P50", func(i, j int) int { return cmp.Or(cmp.Compare(list[j].p50, list[i].p50), name(i, j)) }},
		{"time taken", "BUSY", func(i, j int) int { return cmp.Or(cmp.Compare(list[j].busy, list[i].busy), name(i, j)) }},
		{"errors", "ERRORS", func(i, j int) int { return cmp.Or(cmp.Compare(list[j].Failures, list[i].Failures), name(i, j)) }},
		{"calls a second", "CALLS/S", func(i, j int) int { return cmp.Or(cmp.Compare(list[j].rate, list[i].rate), name(i, j)) }},
		{"name", "POLICY", name},
	}
	return t
}

func (m *Model) oldest() *table {
	list, now := m.last.Oldest, m.last.Time
	t := &table{
		columns: []column{
			{title: "AGE", right: true},
			{title: "ID", rank: 1},
			{title: "SENDER", wide: true, least: 16, rank: 3},
			{title: "RECIPIENT", wide: true, least: 16},
			{title: "TRIES", right: true, rank: 2},
			{title: "NEXT", right: true, rank: 2},
			{title: "LAST ERROR", wide: true, least: 12, rank: 4},
		},
		empty: "no mail waits",
		more:  m.walked(),
	}
	for i := range list {
		o := &list[i]
		to := "<" + clean(o.Recipient) + ">"
		if o.Recipients > 1 {
			to += fmt.Sprintf(" +%d", o.Recipients-1)
		}
		next := "held"
		switch {
		case o.Next.IsZero():
		case o.Next.After(now):
			next = ahead(o.Next, now)
		default:
			next = "now"
		}
		t.rows = append(t.rows, row{
			values: []value{
				plain(console.Age(o.Arrived, now)),
				{clean(o.ID), Dim},
				plain("<" + clean(o.Sender) + ">"), plain(to),
				some(o.Attempts, Plain), plain(next),
				{clean(o.LastError), Dim},
			},
			find: joined(o.ID, o.Sender, o.Recipient, o.Destination, o.LastError),
		})
	}
	t.orders = []sorting{
		{"age", "AGE", func(i, j int) int { return list[i].Arrived.Compare(list[j].Arrived) }},
		{"tries", "TRIES", func(i, j int) int { return cmp.Compare(list[j].Attempts, list[i].Attempts) }},
		{"next try", "NEXT", func(i, j int) int { return compareTimes(list[i].Next, list[j].Next) }},
		{"recipient", "RECIPIENT", func(i, j int) int { return cmp.Compare(list[i].Recipient, list[j].Recipient) }},
	}
	return t
}

// stagesShown are the stages at which connections stand.
var stagesShown = []string{"connect", "tls", "helo", "auth", "mail", "rcpt", "data", "message"}

func (m *Model) connections() *table {
	t := &table{
		columns: []column{{title: "LISTENER", wide: true, least: 10}, {title: "ADDRESS", rank: 8}, {title: "OPEN", right: true}, {title: "TLS", right: true, rank: 1}},
		empty:   "nobody has connected yet",
	}
	for i, name := range stagesShown {
		t.columns = append(t.columns, column{title: strings.ToUpper(name), right: true, rank: 2 + i/3})
	}
	address := map[string]string{}
	for _, l := range m.last.Listeners {
		address[l.Name] = l.Address
	}
	list := slices.Clone(m.last.Open)
	for _, l := range m.last.Listeners {
		if !slices.ContainsFunc(list, func(o console.Open) bool { return o.Listener == l.Name }) {
			list = append(list, console.Open{Listener: l.Name})
		}
	}
	open := make([]int, len(list))
	for i, o := range list {
		for _, n := range o.Stages {
			open[i] += n
		}
		r := row{values: []value{plain(clean(o.Listener)), {clean(address[o.Listener]), Dim}, some(open[i], Bold), some(o.TLS, Good)}, find: joined(o.Listener, address[o.Listener])}
		for _, name := range stagesShown {
			r.values = append(r.values, some(o.Stages[name], Plain))
		}
		t.rows = append(t.rows, r)
	}
	t.orders = []sorting{
		{"open", "OPEN", func(i, j int) int {
			return cmp.Or(cmp.Compare(open[j], open[i]), cmp.Compare(list[i].Listener, list[j].Listener))
		}},
		{"name", "LISTENER", func(i, j int) int { return cmp.Compare(list[i].Listener, list[j].Listener) }},
	}
	return t
}
