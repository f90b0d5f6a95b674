package analyze

import (
	"encoding/json"
	"strconv"
)

// Report is a Sink that gives a table in the end.
type Report interface {
	Sink
	Table() *Table
}

// Overall is zoverall.
type Overall struct {
	messages, recipients, tries, bytes, weighted int64
	queued                                       float64
	k, d, z                                      int64
	ddelay, xdelay                               float64
	first, last                                  Stamp
	seen                                         bool
}

// Message implements Sink.
func (o *Overall) Message(m *Message) error {
	o.messages++
	o.recipients += m.Successes + m.Failures
	o.tries += m.Successes + m.Failures + m.Deferrals
	o.bytes += m.Bytes
	o.weighted += m.Bytes * m.Successes
	o.queued += m.Done.Since(m.Birth)
	o.span(m.Birth, m.Done)
	return nil
}

// Delivery implements Sink.
func (o *Overall) Delivery(d *Delivery) error {
	switch d.Result {
	case Success:
		o.k++
		o.ddelay += d.Done.Since(d.Birth)
	case Failure:
		o.d++
	default:
		o.z++
	}
	o.xdelay += d.Done.Since(d.Start)
	o.span(d.Birth, d.Done)
	return nil
}

func (o *Overall) span(from, to Stamp) {
	if !o.seen || from < o.first {
		o.first = from
	}
	if !o.seen || to > o.last {
		o.last = to
	}
	o.seen = true
}

// Table implements Report.
func (o *Overall) Table() *Table {
	t := &Table{
		Name: "zoverall", Title: "Basic statistics", Columns: []string{"name", "value"}, Facts: true,
		About: []string{
			"qtime: how long a message was in the queue.",
			"",
			"ddelay: from a message's arrival until it was delivered to one recipient.",
			"",
			"xdelay: what one delivery attempt took, whatever came of it. All xdelays",
			"together, divided by the time span, are the average concurrency: how busy",
			"delivery was.",
		},
	}
	fact := func(name string, value any) { t.Rows = append(t.Rows, []any{name, value}) }
	fact("Completed messages", o.messages)
	if o.messages > 0 {
		fact("Recipients for completed messages", o.recipients)
		fact("Total delivery attempts for completed messages", o.tries)
		fact("Average delivery attempts per completed message", float64(o.tries)/float64(o.messages))
		fact("Bytes in completed messages", o.bytes)
		fact("Bytes weighted by success", o.weighted)
		fact("Average message qtime (s)", o.queued/float64(o.messages))
	}
	t.Rows = append(t.Rows, nil)
	all := o.k + o.d + o.z
	fact("Total delivery attempts", all)
	if all == 0 {
		return t
	}
	fact("  success", o.k)
	fact("  failure", o.d)
	fact("  deferral", o.z)
	fact("Total ddelay (s)", micro(o.ddelay))
	if o.k > 0 {
		fact("Average ddelay per success (s)", micro(o.ddelay/float64(o.k)))
	}
	fact("Total xdelay (s)", micro(o.xdelay))
	fact("Average xdelay per delivery attempt (s)", micro(o.xdelay/float64(all)))
	if span := o.last.Since(o.first); span > 0 {
		fact("Time span (days)", span/86400)
		fact("Average concurrency", o.xdelay/span)
	}
	return t
}

// micro is a time with its microseconds, as a number.
func micro(s float64) json.Number { return json.Number(strconv.FormatFloat(s, 'f', 6, 64)) }
