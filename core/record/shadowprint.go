package record

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Print writes the report for people, in colour or plain.
func (s *ShadowReport) Print(w io.Writer, colour bool) error {
	b, p := bufio.NewWriter(w), paint(colour)
	fmt.Fprintf(b, "%s, %s to %s\n", counted(s.Messages, "message"), s.Since.Local().Format("2006-01-02 15:04"), s.Until.Local().Format("2006-01-02 15:04"))
	for i := range s.Policies {
		s.Policies[i].print(b, p)
	}
	if s.Orphans > 0 {
		fmt.Fprintf(b, "\n%s about messages that are not on record\n", counted(s.Orphans, "answer"))
	}
	return b.Flush()
}

func (s *ShadowPolicy) print(w io.Writer, p paint) {
	fmt.Fprintf(w, "\n%s  judged %s", p.bold(Clean(s.Policy)), counted(s.Judged, "message"))
	if s.Failed > 0 {
		fmt.Fprint(w, p.wrap("31", fmt.Sprintf(", failed %d times", s.Failed)))
	}
	fmt.Fprintln(w)
	if len(s.Decisions) == 0 {
		fmt.Fprintln(w, "  would have let all of it pass")
	}
	for i := range s.Decisions {
		s.Decisions[i].print(w, p)
	}
}

func (d *ShadowDecision) print(w io.Writer, p paint) {
	what := "would have said " + p.verdict(d.Decision, Clean(d.Decision)) + " to"
	if d.Decision == Edit {
		what = "would have edited"
	}
	fmt.Fprintf(w, "  %s %s: ", what, counted(d.Messages, "message"))
	names := slices.SortedFunc(maps.Keys(d.Verdicts), func(a, b string) int {
		return cmp.Or(d.Verdicts[b]-d.Verdicts[a], strings.Compare(a, b))
	})
	became := make([]string, len(names))
	for i, name := range names {
		became[i] = fmt.Sprintf("%d %s", d.Verdicts[name], Clean(name))
	}
	fmt.Fprintln(w, strings.Join(became, ", "))
	if d.Refused > 0 {
		fmt.Fprintf(w, "    %d of them others refused anyway\n", d.Refused)
	}
	if d.Doubtful > 0 {
		var why []string
		for _, one := range [...]struct {
			n    int
			text string
		}{{d.Authenticated, "of users who had logged in"}, {d.Relaying, "of clients that may relay"}, {d.Correspondent, "of senders that our users wrote to"}} {
			if one.n > 0 {
				why = append(why, fmt.Sprintf("%d %s", one.n, one.text))
			}
		}
		fmt.Fprintln(w, p.wrap("31", fmt.Sprintf("    %d of them look wanted: %s", d.Doubtful, strings.Join(why, ", "))))
	}
	for _, e := range d.Examples {
		doubt := ""
		if e.Doubt != "" {
			doubt = "  " + p.wrap("31", e.Doubt)
		}
		fmt.Fprintf(w, "    %s  %s  <%s> → <%s> [%s]  %s%s\n", p.dim(e.Time.Local().Format("01-02 15:04")), p.bold(Clean(e.ID)), Clean(e.Sender), Clean(e.Recipient), Clean(e.Client), Clean(clip(e.Subject, 80)), doubt)
		if e.Said != "" {
			fmt.Fprintf(w, "      %s %s\n", p.dim("at "+Clean(e.Stage)+":"), Clean(clip(e.Said, 200)))
		}
	}
}

// counted is a number of things, in words.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
