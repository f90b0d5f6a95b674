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
	Partial      bool          `json:"partial,omitempty"` // only the oldest messages were looked at
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
	for _, d := range s.Destinations {
		next := "-"
		if !d.Next.IsZero() {
			next = span(max(d.Next.Sub(now), 0))
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", record.Clean(d.Destination), d.Recipients, Age(d.Oldest, now), next, record.Clean(d.LastError))
	}
	_ = t.Flush() // whoever gave w will meet its error again
}
