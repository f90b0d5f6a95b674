package analyze

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// tally is what is added up for one name.
type tally struct {
	messages, bytes, sbytes, rbytes int64
	recipients, tries               int64 // recipients: success plus failure
	xdelay                          int64 // nanoseconds
}

func (t *tally) add(o *tally) {
	t.messages += o.messages
	t.bytes += o.bytes
	t.sbytes += o.sbytes
	t.rbytes += o.rbytes
	t.recipients += o.recipients
	t.tries += o.tries
	t.xdelay += o.xdelay
}

// attempt adds a delivery as the reports about recipients count it.
func (t *tally) attempt(d *Delivery) {
	t.tries++
	t.xdelay += int64(d.Done - d.Start)
	if d.Result == Success {
		t.sbytes += d.Bytes
	}
	if d.Result != Deferral {
		t.recipients++
	}
}

// groups is tallies by name. Where there would be more than MaxNames of them, the
// half with the least attempts and messages is put together in others: all rows
// together are exact, and a name that is met again after that lacks what it had.
type groups struct {
	by     map[string]*tally
	others tally
	folded int64
	most   int // 0: MaxNames
}

func (g *groups) at(name string) *tally {
	if t := g.by[name]; t != nil {
		return t
	}
	if g.by == nil {
		g.by = map[string]*tally{}
	}
	most := g.most
	if most == 0 {
		most = MaxNames
	}
	if len(g.by) >= most {
		g.fold()
	}
	t := &tally{}
	g.by[strings.Clone(name)] = t
	return t
}

func (t *tally) weight() int64 { return t.tries + t.messages }

func (g *groups) fold() {
	weights := make([]int64, 0, len(g.by))
	for _, t := range g.by {
		weights = append(weights, t.weight())
	}
	slices.Sort(weights)
	limit, room := weights[len(weights)/2], len(weights)/2+1
	for name, t := range g.by {
		if room > 0 && t.weight() <= limit {
			room--
			g.others.add(t)
			g.folded++
			delete(g.by, name)
		}
	}
}

// order is how the rows of a report are sorted: as sort does by the text from a column
// on, or by the number in it, and then by the whole line.
type order struct {
	column int
	number bool
}

// sorted is a row with what it is sorted by.
type sorted struct {
	row    []any
	number float64
	line   string
	from   int // where the column begins in line
}

// rows makes a row of each tally and sorts them.
func (g *groups) rows(row func(name string, t *tally) []any, o order) [][]any {
	list := make([]sorted, 0, len(g.by))
	var b []byte
	for name, t := range g.by {
		one := sorted{row: row(name, t)}
		b = b[:0]
		for i, c := range one.row {
			if i == o.column {
				one.from = len(b)
			}
			b = append(appendCell(b, c), ' ')
		}
		one.line = string(b)
		if o.number {
			end := one.from + strings.IndexByte(one.line[one.from:], ' ')
			one.number, _ = strconv.ParseFloat(one.line[one.from:end], 64) // a cell is a number
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(x, y sorted) int {
		if o.number {
			return cmp.Or(cmp.Compare(x.number, y.number), strings.Compare(x.line, y.line))
		}
		return cmp.Or(strings.Compare(x.line[x.from:], y.line[y.from:]), strings.Compare(x.line, y.line))
	})
	rows := make([][]any, len(list), len(list)+1)
	for i := range list {
		rows[i] = list[i].row
	}
	if g.folded > 0 {
		rows = append(rows, row("(others)", &g.others))
	}
	return rows
}

// Reasons is zsuccesses, zfailures or zdeferrals.
type Reasons struct {
	result byte
	g      groups
}

// NewReasons makes one for a result.
func NewReasons(result byte) *Reasons { return &Reasons{result: result} }

// Message implements Sink.
func (*Reasons) Message(*Message) error { return nil }

// Delivery implements Sink.
func (r *Reasons) Delivery(d *Delivery) error {
	if d.Result == r.result {
		r.g.at(d.Reason).attempt(d)
	}
	return nil
}

// Table implements Report.
func (r *Reasons) Table() *Table {
	t := &Table{
		Name: "zsuccesses", Title: "Reasons for success", Columns: []string{"del", "xdelay", "reason"}, Most: 0, Folded: r.g.folded,
		About: []string{
			"One line per reason. Information on each line:",
			"* del is how many deliveries ended for this reason.",
			"* xdelay is their xdelay, all together.",
		},
	}
	switch r.result {
	case Failure:
		t.Name, t.Title = "zfailures", "Reasons for failure"
	case Deferral:
		t.Name, t.Title = "zdeferrals", "Reasons for deferral"
	}
	t.Rows = r.g.rows(func(name string, n *tally) []any { return []any{n.tries, seconds(n.xdelay), name} }, order{column: 1})
	for _, row := range t.Rows {
		row[2] = strings.ReplaceAll(cell(row[2]), "_", " ")
	}
	return t
}

func seconds(ns int64) Seconds { return Seconds(float64(ns) / 1e9) }

// Recipients is zrecipients, and zrxdelay, which is made of the same.
type Recipients struct{ g groups }

// Message implements Sink.
func (*Recipients) Message(*Message) error { return nil }

// Delivery implements Sink.
func (r *Recipients) Delivery(d *Delivery) error {
	r.g.at(d.Recipient).attempt(d)
	return nil
}

// Table implements Report: zrecipients.
func (r *Recipients) Table() *Table {
	return r.g.received("zrecipients", "Recipients", "recipient")
}

// Order is zrxdelay.
func (r *Recipients) Order() *Table {
	t := &Table{
		Name: "zrxdelay", Title: "Recipients in the best order for mailing lists", Columns: []string{"avg", "tries", "recipient"}, Most: firstRows, Folded: r.g.folded,
		About: []string{
			"One line per recipient, the quickest first. Information on each line:",
			"* avg is the recipient's average xdelay.",
			"* tries is how many deliveries it is the average of.",
		},
	}
	t.Rows = r.g.rows(func(name string, n *tally) []any {
		// Of the total as it is shown, as qmailanalog has it.
		total, _ := strconv.ParseFloat(cell(seconds(n.xdelay)), 64)
		return []any{Seconds(total / float64(max(n.tries, 1))), n.tries, name}
	}, order{number: true})
	return t
}

func (g *groups) received(name, title, what string) *Table {
	t := &Table{
		Name: name, Title: title, Columns: []string{"sbytes", "mess", "tries", "xdelay", what}, Most: 2, Folded: g.folded,
		About: []string{
			"One line per " + map[string]string{"recipient": "recipient", "host": "recipient host"}[what] + ". Information on each line:",
			"* sbytes is the bytes that this " + what + " got.",
			"* mess is the messages to this " + what + ": success plus failure.",
			"* tries is the delivery attempts: success, failure and deferral.",
			"* xdelay is their xdelay, all together.",
		},
	}
	t.Rows = g.rows(func(name string, n *tally) []any {
		return []any{n.sbytes, n.recipients, n.tries, seconds(n.xdelay), name}
	}, order{column: 3})
	return t
}

// Hosts is zrhosts.
type Hosts struct{ g groups }

// Message implements Sink.
func (*Hosts) Message(*Message) error { return nil }

// Delivery implements Sink.
func (h *Hosts) Delivery(d *Delivery) error {
	h.g.at(d.Recipient[strings.LastIndexByte(d.Recipient, '@')+1:]).attempt(d)
	return nil
}

// Table implements Report.
func (h *Hosts) Table() *Table { return h.g.received("zrhosts", "Recipient hosts", "host") }

// Senders is zsenders, or zsuids.
type Senders struct {
	byUID bool
	g     groups
}

// NewSenders makes zsenders; byUID: zsuids.
func NewSenders(byUID bool) *Senders { return &Senders{byUID: byUID} }

func (s *Senders) name(sender, uid string) string {
	if s.byUID {
		return uid
	}
	return sender
}

// Message implements Sink.
func (s *Senders) Message(m *Message) error {
	t := s.g.at(s.name(m.Sender, m.UID))
	t.messages++
	t.bytes += m.Bytes
	t.sbytes += m.Bytes * m.Successes
	t.rbytes += m.Bytes * (m.Successes + m.Failures)
	t.recipients += m.Successes + m.Failures
	t.tries += m.Successes + m.Failures + m.Deferrals
	return nil
}

// Delivery implements Sink.
func (s *Senders) Delivery(d *Delivery) error {
	s.g.at(s.name(d.Sender, d.UID)).xdelay += int64(d.Done - d.Start)
	return nil
}

// Table implements Report. A name of which no message is over has no row.
func (s *Senders) Table() *Table {
	what := "sender"
	t := &Table{Name: "zsenders", Title: "Senders", Most: 5, Folded: s.g.folded}
	if s.byUID {
		t.Name, t.Title, what = "zsuids", "Sender uids", "uid"
	}
	t.Columns = []string{"mess", "bytes", "sbytes", "rbytes", "recips", "tries", "xdelay", what}
	t.About = []string{
		"One line per " + map[bool]string{false: "sender", true: "sender uid"}[s.byUID] + ". Information on each line:",
		"* mess is the messages of this " + what + " that are done.",
		"* bytes is their bytes.",
		"* sbytes is the bytes that arrived: of each message, once for each success.",
		"* rbytes is the bytes once for each recipient, success or failure.",
		"* recips is the recipients: success plus failure.",
		"* tries is the delivery attempts: success, failure and deferral.",
		"* xdelay is what all attempts for this " + what + " took.",
	}
	rows := s.g.rows(func(name string, n *tally) []any {
		return []any{n.messages, n.bytes, n.sbytes, n.rbytes, n.recipients, n.tries, seconds(n.xdelay), name}
	}, order{column: 6, number: true})
	t.Rows = slices.DeleteFunc(rows, func(row []any) bool { return row[0] == int64(0) })
	return t
}
