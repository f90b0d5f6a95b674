package console

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/record"
)

// Summary is the queue by destination: the JSON of `postern queue summary --json`.
type Summary struct {
	Messages     int           `json:"messages"`
	Recipients   int           `json:"recipients"` // still to be served
	Held         int           `json:"held"`       // messages
	Quarantined  int           `json:"quarantined"`
	Destinations []Destination `json:"destinations"`      // the most recipients first
	Others       *Others       `json:"others,omitempty"`  // beyond those listed; nil: there are none
	Partial      bool          `json:"partial,omitempty"` // only the oldest messages were looked at
}

// Others is what waits for the destinations that a list of the largest leaves out.
type Others struct {
	Destinations int       `json:"destinations"`
	Recipients   int       `json:"recipients"`
	Oldest       time.Time `json:"oldest"`
	Next         time.Time `json:"next,omitzero"`
}

// Top leaves the most destinations of the summary that have the most recipients, and
// sums up the rest. most 0: all stay.
func (s Summary) Top(most int) Summary {
	if most <= 0 || len(s.Destinations) <= most {
		return s
	}
	var o Others
	for _, d := range s.Destinations[most:] {
		o.Destinations++
		o.Recipients += d.Recipients
		if o.Oldest.IsZero() || d.Oldest.Before(o.Oldest) {
			o.Oldest = d.Oldest
		}
		if !d.Next.IsZero() && (o.Next.IsZero() || d.Next.Before(o.Next)) {
			o.Next = d.Next
		}
	}
	s.Destinations, s.Others = slices.Clone(s.Destinations[:most]), &o
	return s
}

// Destination is what waits for one destination.
type Destination struct {
	Destination string    `json:"destination"`
	Recipients  int       `json:"recipients"`
	Oldest      time.Time `json:"oldest"`        // arrival of its oldest message
	Next        time.Time `json:"next,omitzero"` // the next attempt; left out where all are held
	LastError   string    `json:"last_error"`    // what the latest attempt got
}

// summing is a Destination under way.
type summing struct {
	Destination
	tried time.Time
	last  message.Reply
}

// Summarize counts messages, such as queue.Scan gives, by what destination names
// for each recipient. It reads at most limit messages; 0: all.
func Summarize(messages iter.Seq2[*queue.Message, error], destination func(m *queue.Message, recipient int) string, limit int) (Summary, error) {
	s := Summary{Destinations: []Destination{}}
	all := map[string]*summing{}
	for m, err := range messages {
		if err != nil {
			return Summary{}, err
		}
		if limit > 0 && s.Messages >= limit {
			s.Partial = true
			break
		}
		s.Messages++
		switch m.Place {
		case queue.Held:
			s.Held++
		case queue.Quarantined:
			s.Quarantined++
		}
		for i := range m.Recipients {
			if m.Recipients[i].State.Final() {
				continue
			}
			s.Recipients++
			name := destination(m, i)
			one := all[name]
			if one == nil {
				one = &summing{Destination: Destination{Destination: name}}
				all[name] = one
			}
			one.add(m, &m.Recipients[i])
		}
	}
	for _, one := range all {
		if !one.last.IsZero() {
			one.LastError = one.last.String()
		}
		s.Destinations = append(s.Destinations, one.Destination)
	}
	slices.SortFunc(s.Destinations, func(a, b Destination) int {
		return cmp.Or(cmp.Compare(b.Recipients, a.Recipients), cmp.Compare(a.Destination, b.Destination))
	})
	return s, nil
}

func (d *summing) add(m *queue.Message, r *queue.Recipient) {
	d.Recipients++
	if d.Oldest.IsZero() || m.Arrived.Before(d.Oldest) {
		d.Oldest = m.Arrived
	}
	if m.Place == queue.Active && !r.Held && (d.Next.IsZero() || r.Next.Before(d.Next)) {
		d.Next = r.Next
	}
	if !r.Last.IsZero() && !r.Tried.Before(d.tried) {
		d.tried, d.last = r.Tried, r.Last
	}
}

// Print writes the summary for people; what came from outside is escaped.
func (s Summary) Print(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "%d messages for %d recipients, %d held, %d quarantined\n", s.Messages, s.Recipients, s.Held, s.Quarantined)
	if len(s.Destinations) == 0 {
		return
	}
	t := table(w)
	fmt.Fprintln(t, "\nDESTINATION\tRECIPIENTS\tOLDEST\tNEXT\tLAST ERROR")
	line := func(name string, recipients int, oldest, tried time.Time, last string) {
		next := "-"
		if !tried.IsZero() {
			next = span(max(tried.Sub(now), 0))
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", record.Clean(name), recipients, Age(oldest, now), next, record.Clean(last))
	}
	for _, d := range s.Destinations {
		line(d.Destination, d.Recipients, d.Oldest, d.Next, d.LastError)
	}
	if o := s.Others; o != nil {
		line(fmt.Sprintf("(%d others)", o.Destinations), o.Recipients, o.Oldest, o.Next, "")
	}
	_ = t.Flush() // whoever gave w will meet its error again
}
