package top

import (
	"fmt"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/postern-mta/postern/core/console"
)

// Sizes from which on more is shown.
const (
	tall    = 34  // further panes below the chosen one
	broad   = 150 // and beside it
	roomy   = 18  // all lines of the head
	minimum = 6   // rows of a pane that is not chosen
)

// Draw makes a screen of that size.
func (m *Model) Draw(w, h int) *Frame {
	f := newFrame(w, h)
	if w < 1 || h < 1 {
		return f
	}
	m.bar(f)
	if !m.have {
		f.put(1, 1, w-1, m.trouble(), Warn)
		return f
	}
	if m.help {
		m.drawHelp(f)
		return f
	}
	y := m.head(f, 1)
	if text := m.trouble(); text != "" {
		style := Warn
		if m.lost != nil {
			style = Bad
		}
		f.put(0, y, w, text, style)
		y++
	}
	m.body(f, y, h-1-y)
	m.foot(f)
	return f
}

// trouble is what the daemon's absence, or a change, has to say.
func (m *Model) trouble() string {
	switch {
	case m.lost != nil:
		since := ""
		if m.have {
			since = " since " + m.since.Local().Format("15:04:05")
		}
		return "NOT ANSWERING" + since + ", trying again: " + clean(m.lost.Error())
	case !m.have:
		return "asking the daemon…"
	case m.last.Queue.Failure != "":
		return "THE QUEUE FAILED: " + clean(m.last.Queue.Failure)
	case m.note != "" && m.now.Sub(m.noted) < noteTime:
		return m.noted.Local().Format("15:04:05") + " " + clean(m.note)
	}
	return ""
}

// bar is the first line.
func (m *Model) bar(f *Frame) {
	f.fill(0, 0, f.W, Bar)
	right := m.now.Local().Format("15:04:05")
	if m.paused {
		right = "PAUSED " + m.last.Time.Local().Format("15:04:05")
	}
	left := " postern"
	if m.have {
		s := &m.last.Status
		left += fmt.Sprintf(" %s  up %s  process %d  configuration %d", clean(s.Version), console.Age(s.Started, m.last.Time), s.PID, s.Generation)
	}
	room := f.W - displaywidth.String(right) - 3
	f.put(0, 0, room, left, Bar)
	f.right(0, 0, f.W-1, right, Bar)
}

// head is the numbers above the tables; it returns the line below them.
func (m *Model) head(f *Frame, y int) int {
	if f.H < roomy {
		return m.short(f, y)
	}
	pairs(f, y, m.openCounts())
	pairs(f, y+1, m.queueCounts())
	pairs(f, y+2, m.processCounts())
	y += 3
	r := m.rate()
	half := max(f.W/2, 30)
	m.rateLine(f, 0, y, half-2, "accepted", r.Accepted, func(r Rates) float64 { return r.Accepted }, Good)
	m.rateLine(f, 0, y+1, half-2, "refused", r.Refused, func(r Rates) float64 { return r.Refused }, Bad)
	m.rateLine(f, 0, y+2, half-2, "deferred", r.Deferred, func(r Rates) float64 { return r.Deferred }, Warn)
	m.rateLine(f, half, y, f.W-half, "delivered", r.Delivered, func(r Rates) float64 { return r.Delivered }, Good)
	m.rateLine(f, half, y+1, f.W-half, "failed", r.Failed, func(r Rates) float64 { return r.Failed }, Bad)
	m.rateLine(f, half, y+2, f.W-half, "put off", r.PutOff, func(r Rates) float64 { return r.PutOff }, Warn)
	y += 3
	if f.H >= tall {
		pairs(f, y, m.verdicts())
		y++
	}
	return y
}

// short is the head of a small screen.
func (m *Model) short(f *Frame, y int) int {
	r, q := m.rate(), m.last.Queue
	pairs(f, y, []pair{
		{"open", number(m.last.Connections), Bold},
		{"queue", number(q.Messages), Bold},
		{"flight", number(m.last.Attempts.Local + m.last.Attempts.Remote), Plain},
		{"held", number(q.Held + q.Quarantined), Plain},
	})
	pairs(f, y+1, []pair{
		{"in/s", perSecond(r.Accepted), Good},
		{"no", perSecond(r.Refused), Bad},
		{"later", perSecond(r.Deferred), Warn},
		{"out", perSecond(r.Delivered), Good},
		{"fail", perSecond(r.Failed), Bad},
	})
	return y + 2
}

// pair is a word and its number.
type pair struct {
	name, text string
	style      Style
}

// pairs writes as many of them as fit into a line whole.
func pairs(f *Frame, y int, list []pair) {
	x := 0
	for i, p := range list {
		need := displaywidth.String(p.name) + 1 + displaywidth.String(p.text)
		if i > 0 && x+need > f.W {
			return
		}
		if p.name != "" {
			x += f.put(x, y, f.W-x, p.name+" ", Dim)
		}
		x += f.put(x, y, f.W-x, p.text, p.style) + 2
	}
}

func (m *Model) openCounts() []pair {
	list := []pair{{"connections", number(m.last.Connections), Bold}}
	stages := map[string]int{}
	tls := 0
	for _, o := range m.last.Open {
		n := 0
		for at, k := range o.Stages {
			stages[at] += k
			n += k
		}
		tls += o.TLS
		list = append(list, pair{clean(o.Listener), number(n), Plain})
	}
	list = append(list, pair{"tls", number(tls), Plain}, pair{"", "|", Dim})
	for _, name := range stagesShown {
		if n := stages[name]; n > 0 {
			list = append(list, pair{name, number(n), Plain})
		}
	}
	return list
}

func (m *Model) queueCounts() []pair {
	q, a := m.last.Queue, m.last.Attempts
	list := []pair{
		{"queue", number(q.Messages), Bold},
		{"for", number(q.Recipients) + " recipients", Plain},
		{"held", number(q.Held), warnIf(q.Held > 0)},
		{"quarantined", number(q.Quarantined), warnIf(q.Quarantined > 0)},
	}
	if q.Damaged > 0 {
		list = append(list, pair{"DAMAGED", number(q.Damaged), Bad})
	}
	return append(list, pair{"", "|", Dim}, pair{"in flight", fmt.Sprintf("%d of %d", a.Remote, a.RemoteLimit), Plain}, pair{"local", fmt.Sprintf("%d of %d", a.Local, a.LocalLimit), Plain})
}

func warnIf(b bool) Style {
	if b {
		return Warn
	}
	return Plain
}

func (m *Model) processCounts() []pair {
	p := m.last.Process
	list := []pair{{"memory", size(p.Resident), Plain}, {"heap", size(p.Heap), Plain}, {"cpu", fmt.Sprintf("%.0f%%", m.rate().CPU*100), Plain}, {"goroutines", number(p.Goroutines), Plain}}
	if p.Resident == 0 {
		list = list[1:]
	}
	if n := m.last.Counters.Lost; n > 0 {
		list = append(list, pair{"stories lost", number(n), Warn})
	}
	return append(list, pair{"mail", size(int64(m.rate().Bytes)) + "/s", Plain})
}

// verdicts are what became of messages since the start.
func (m *Model) verdicts() []pair {
	list := []pair{{"", "messages since the start:", Dim}}
	styles := map[string]Style{"queued": Good, "relayed": Good, "rejected": Bad, "deferred": Warn, "held": Warn, "quarantined": Warn}
	for _, name := range []string{"queued", "relayed", "held", "quarantined", "discarded", "rejected", "deferred", "abandoned"} {
		if n := m.last.Counters.Verdicts[name]; n > 0 {
			list = append(list, pair{name, number(n), styles[name]})
		}
	}
	if len(list) == 1 {
		list = append(list, pair{"", "none", Dim})
	}
	return list
}

// rateLine is a rate with how it went before.
func (m *Model) rateLine(f *Frame, x, y, w int, name string, rate float64, of func(Rates) float64, style Style) {
	f.put(x, y, 10, name, Dim)
	number := style
	if rate <= 0 {
		number = Dim
	}
	f.right(x+10, y, 6, perSecond(rate), number)
	f.put(x+16, y, 2, "/s", Dim)
	f.put(x+19, y, w-19, spark(m.series(of), w-19), style)
}

// body is the tables.
func (m *Model) body(f *Frame, y, h int) {
	switch {
	case h < 2:
	case f.H < tall:
		m.tabs(f, y)
		m.drawPane(f, m.pane, 0, y+1, f.W, h-1, false)
	case f.W < broad:
		others := m.others(3)
		each := max(minimum, h/6)
		first := h - each*len(others)
		m.drawPane(f, m.pane, 0, y, f.W, first, true)
		for i, p := range others {
			m.drawPane(f, p, 0, y+first+i*each, f.W, each, true)
		}
	default:
		others := m.others(3)
		half := f.W / 2
		m.drawPane(f, m.pane, 0, y, half-1, h, true)
		each := h / len(others)
		for i, p := range others {
			m.drawPane(f, p, half+1, y+i*each, f.W-half-1, each, true)
		}
	}
}

// others are the panes that are shown beside the chosen one.
func (m *Model) others(n int) (list []Pane) {
	for p := Destinations; p < paneEnd && len(list) < n; p++ {
		if p != m.pane {
			list = append(list, p)
		}
	}
	return list
}

// tabs is the line that names the panes.
func (m *Model) tabs(f *Frame, y int) {
	x := 0
	for p := Destinations; p < paneEnd; p++ {
		style := Title
		if p == m.pane {
			style = Chosen
		}
		name := paneNames[p]
		if f.W < 66 {
			name = shortNames[p]
		}
		x += f.put(x, y, f.W-x, fmt.Sprintf(" %d %s ", p+1, name), style)
	}
}

// drawPane draws a table, with a line of its name where titled.
func (m *Model) drawPane(f *Frame, p Pane, x, y, w, h int, titled bool) {
	t := m.table(p)
	if titled {
		style := Title
		if p == m.pane {
			style = Chosen
		}
		n := f.put(x, y, w, fmt.Sprintf(" %d %s ", p+1, paneNames[p]), style)
		f.put(x+n+1, y, w-n-1, t.more, Dim)
		y, h = y+1, h-1
		if h > 2 && p != m.pane { // a line between this and the next
			h--
		}
	}
	from := 0
	if p == m.pane {
		m.rows = len(t.rows)
		m.page = max(h-1, 0)
		m.scroll[p] = max(min(m.scroll[p], m.rows-m.page), 0)
		from = m.scroll[p]
	}
	t.draw(f, x, y, w, h, from, t.marked(m.order[p]), !m.reverse[p])
}

// foot is the last line: the keys, or the filter that is being written.
func (m *Model) foot(f *Frame) {
	y := f.H - 1
	f.fill(0, y, f.W, Bar)
	if m.typing {
		n := f.put(0, y, f.W, " filter: "+clean(m.typed), Bar)
		f.put(n, y, f.W-n, "▏  Enter takes it, Esc leaves it", Bar)
		return
	}
	t := m.table(m.pane)
	right := ""
	if m.rows > m.page && m.page > 0 {
		from := m.scroll[m.pane]
		right = fmt.Sprintf("%d-%d of %d ", from+1, min(from+m.page, m.rows), m.rows)
	}
	if m.filter != "" {
		right = "filter “" + clean(m.filter) + "”  " + right
	} else if f.H < tall && t.more != "" && f.W >= 100 {
		right = t.more + "  " + right
	}
	left := " q quit  p pause  s sort: " + t.orders[m.order[m.pane]%len(t.orders)].name + "  Tab pane  / filter  ? help"
	if m.paused {
		left = strings.Replace(left, "p pause", "p go on", 1)
	}
	if f.W < 60 {
		left = " q p s Tab / ?"
	}
	n := displaywidth.String(right)
	f.put(0, y, f.W-n-1, left, Bar)
	f.right(0, y, f.W, right, Bar)
}

// helpLines explain the keys and the words.
var helpLines = []string{
	"q            quit",
	"p, Space     pause: the screen stays, nothing is asked",
	"Tab, 1 to 5  choose a pane",
	"s, r         sort by something else; the other way round",
	"/            only rows with a text in them; Esc clears that",
	"up, down, PgUp, PgDn, Home, End   scroll (also j, k)",
	"+, -         look more often, less often",
	"",
	"accepted     messages answered 250, whatever became of them",
	"refused      replies 5xx to clients; deferred: replies 4xx",
	"delivered    recipients reached; failed: given up; put off: tried again",
	"READY        attempts that may start now",
	"DEFERRED     recipients whose next try is still to come",
	"FLIGHT       attempts under way, and how many may be; LIMIT: at most",
	"HEALTH       ok; failing: nobody was reached lately; down: left alone;",
	"             paced: its rate holds it back; idle: not tried lately",
	"BUSY         calls of a policy under way at once, on average",
	"",
	"postern why ID tells a message's story. Any key leaves this page.",
}

func (m *Model) drawHelp(f *Frame) {
	for i, line := range helpLines {
		f.put(1, 1+i, f.W-2, line, Plain)
	}
}
