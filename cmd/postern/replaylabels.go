package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/postern-mta/postern/core/record"
	"github.com/postern-mta/postern/hooks"
)

// This file is what a replay tells of labelled mail: how much of the spam is caught,
// how much wanted mail is not let through, by whom, and for which points.

// Labels of messages in files.
const (
	labelHam  = "ham"
	labelSpam = "spam"
)

// labelled is what became of the messages of one label.
type labelled struct {
	Label       string         `json:"label"`
	Messages    int            `json:"messages"`
	Refused     int            `json:"refused"` // rejected or discarded
	Quarantined int            `json:"quarantined"`
	Tagged      int            `json:"tagged"`
	Deferred    int            `json:"deferred"`
	Passed      int            `json:"passed"`
	Decided     []replayChange `json:"decided"` // what was not let through, the most frequent first; From is empty
	Symbols     []symbolCount  `json:"symbols"` // of mail that was judged to its end, the most frequent first
}

// symbolCount is how often a symbol of the score was given.
type symbolCount struct {
	Name     string  `json:"name"`
	Messages int     `json:"messages"`
	Points   float64 `json:"points"` // all together
}

func (r *replayReport) label(name string) *labelled {
	for _, l := range r.Labels {
		if l.Label == name {
			return l
		}
	}
	l := &labelled{Label: name, Decided: []replayChange{}, Symbols: []symbolCount{}}
	r.Labels = append(r.Labels, l)
	return l
}

func (l *labelled) add(p *pastMail, is *judgement, examples int) {
	l.Messages++
	for n, s := range is.scores {
		i := slices.IndexFunc(l.Symbols, func(c symbolCount) bool { return c.Name == s.Name })
		if i < 0 {
			i, l.Symbols = len(l.Symbols), append(l.Symbols, symbolCount{Name: s.Name})
		}
		if !slices.ContainsFunc(is.scores[:n], func(o hooks.Score) bool { return o.Name == s.Name }) {
			l.Symbols[i].Messages++
		}
		l.Symbols[i].Points += s.Points
	}
	switch {
	case is.tagged:
		l.Tagged++
		return
	case passes(is.Verdict):
		l.Passed++
		return
	case is.Verdict == record.Quarantined.String(), is.Verdict == record.Held.String():
		l.Quarantined++
	case is.Verdict == record.Deferred.String():
		l.Deferred++
	default:
		l.Refused++
	}
	i := slices.IndexFunc(l.Decided, func(c replayChange) bool {
		return c.To.Verdict == is.Verdict && c.To.Policy == is.Policy && c.To.Stage == is.Stage
	})
	if i < 0 {
		i, l.Decided = len(l.Decided), append(l.Decided, replayChange{To: judgement{Verdict: is.Verdict, Policy: is.Policy, Stage: is.Stage}, Examples: []replayExample{}})
	}
	one := &l.Decided[i]
	if one.Count++; len(one.Examples) < examples {
		one.Examples = append(one.Examples, p.example(&judgement{}, is))
	}
}

func (l *labelled) sort() {
	slices.SortFunc(l.Decided, func(a, b replayChange) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.To.String(), b.To.String()))
	})
	slices.SortFunc(l.Symbols, func(a, b symbolCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), strings.Compare(a.Name, b.Name))
	})
}

// printLabels prints the tables of labelled mail.
func (r *replayReport) printLabels(w io.Writer) {
	if len(r.Labels) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%-6s %9s %9s %12s %9s %9s %9s\n", "", "messages", "refused", "quarantined", "tagged", "deferred", "passed")
	for _, l := range r.Labels {
		fmt.Fprintf(w, "%-6s %9d %9d %12d %9d %9d %9d\n", l.Label, l.Messages, l.Refused, l.Quarantined, l.Tagged, l.Deferred, l.Passed)
	}
	for _, l := range r.Labels {
		if len(l.Decided) > 0 {
			fmt.Fprintf(w, "\n%s that is not let through:\n", l.Label)
		}
		for _, one := range l.Decided {
			fmt.Fprintf(w, "%6d  %s\n", one.Count, one.To)
			for _, e := range one.Examples {
				fmt.Fprintf(w, "        %s  <%s>  %s  %q\n          %s\n", record.Clean(e.ID), record.Clean(e.Sender), e.Client, record.Clean(e.Subject), record.Clean(e.Now))
			}
		}
	}
	r.printSymbols(w)
}

// printSymbols prints how often each symbol was given, in parts of each label.
func (r *replayReport) printSymbols(w io.Writer) {
	var names []string
	for _, l := range r.Labels {
		for _, s := range l.Symbols {
			if !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\npoints, and the messages that got them\n%-32s %7s", "", "mean")
	for _, l := range r.Labels {
		fmt.Fprintf(w, " %8s", l.Label)
	}
	fmt.Fprintln(w)
	for _, name := range names {
		points, messages, row := 0.0, 0, ""
		for _, l := range r.Labels {
			part := 0.0
			for _, s := range l.Symbols {
				if s.Name == name {
					points, messages, part = points+s.Points, messages+s.Messages, 100*float64(s.Messages)/float64(l.Messages)
				}
			}
			row += fmt.Sprintf(" %6.2f %%", part)
		}
		fmt.Fprintf(w, "%-32s %7.2f%s\n", record.Clean(name), points/float64(messages), row)
	}
}
