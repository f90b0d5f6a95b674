package record

import (
	"fmt"
	"io"
)

// PrintLine writes the story in one line: when, id, verdict, who to whom, and who
// decided or what it is about.
func (s Story) PrintLine(w io.Writer, colour bool) error {
	p := paint(colour)
	verdict := s.Verdict
	if verdict == "" {
		verdict = "?"
	}
	to := "-"
	if len(s.Recipients) > 0 {
		to = "<" + s.Recipients[0] + ">"
	}
	if more := len(s.Recipients) - 1 + s.RecipientsLeftOut; more > 0 {
		to += fmt.Sprintf(" +%d", more)
	}
	client := ""
	if s.Client != "" {
		client = " [" + Clean(s.Client) + "]"
	}
	about := s.Subject
	if s.Policy != "" {
		about = s.Policy + ": " + s.Reply
		if s.Reason != "" {
			about = s.Policy + ": " + s.Reason
		}
	}
	_, err := fmt.Fprintf(w, "%s  %s  %s  <%s> → %s%s  %s\n", p.dim(s.Time.Local().Format("2006-01-02 15:04:05")), p.bold(pad(Clean(s.ID), 15)),
		p.verdict(s.Verdict, pad(Clean(verdict), 11)), Clean(s.Sender), Clean(to), client, Clean(clip(about, 120)))
	return err
}
