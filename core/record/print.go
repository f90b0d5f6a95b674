package record

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// shownRecipients is how many recipients the head of a story names.
const shownRecipients = 10

// Print writes the story for people, in colour or plain; what came from outside
// is escaped, see Clean. Times of stages count from the first one.
func (s Story) Print(w io.Writer, colour bool) {
	p := &printer{b: bufio.NewWriter(w), paint: paint(colour)}
	p.head(&s)
	p.stages(&s)
	p.refusals(&s)
	p.attempts(&s)
	if s.Message != "" {
		p.line("")
		p.line("%s", p.bold("Message"))
		for line := range strings.Lines(s.Message) {
			p.line("  %s", Clean(strings.TrimRight(line, "\r\n")))
		}
	}
	_ = p.b.Flush() // whoever gave w will meet its error again
}

type printer struct {
	b *bufio.Writer
	paint
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p.b, format+"\n", args...)
}

func (p *printer) fact(name, format string, args ...any) {
	p.line("  %s%s", p.dim(pad(name, 11)), fmt.Sprintf(format, args...))
}

func (p *printer) text(name, value string) {
	if value != "" {
		p.fact(name, "%s", Clean(value))
	}
}

func (p *printer) head(s *Story) {
	verdict := s.Verdict
	if verdict == "" {
		verdict = "(the beginning is not on record)"
	}
	p.line("%s  %s", p.bold(Clean(s.ID)), p.verdict(s.Verdict, Clean(verdict)))
	if s.ID != s.Session || len(s.Recipients) > 0 {
		p.fact("from", "<%s>", Clean(s.Sender))
		for i, one := range s.Recipients {
			if i == shownRecipients {
				p.fact("", "and %d more", len(s.Recipients)-i+s.RecipientsLeftOut)
				break
			}
			name := ""
			if i == 0 {
				name = "to"
			}
			p.fact(name, "<%s>", Clean(one))
		}
	}
	p.text("subject", s.Subject)
	if client := clientText(s); client != "" {
		p.fact("client", "%s", client)
	}
	if s.Session != "" && s.Session != s.ID {
		p.text("session", s.Session)
	}
	when := clock(s.Time)
	if !s.Ended.IsZero() {
		when += ", took " + duration(s.Ended.Sub(s.Time))
	}
	if s.Size > 0 {
		when += fmt.Sprintf(", %d bytes", s.Size)
	}
	p.fact("at", "%s", when)
	p.text("answer", s.Reply)
	p.text("decided by", s.Policy)
	p.text("reason", s.Reason)
	p.text("route", s.Route)
	p.text("tags", strings.Join(s.Tags, " "))
	for i, one := range s.Scores {
		name := ""
		if i == 0 {
			name = "score"
		}
		p.fact(name, "%+g %s %s", one.Points, Clean(one.Name), Clean(one.Why))
	}
	if len(s.Scores) > 1 {
		p.fact("", "%+g in all", s.Total)
	}
	if s.LeftOut > 0 {
		p.fact("left out", "%d more stages or attempts than are kept", s.LeftOut)
	}
}

func clientText(s *Story) string {
	if s.Client == "" {
		return ""
	}
	t := Clean(s.Client)
	if s.Port > 0 {
		t += " port " + strconv.Itoa(s.Port)
	}
	for _, one := range [...][2]string{{"helo", s.Helo}, {"", s.TLS}, {"user", s.User}, {"listener", s.Listener}} {
		if one[1] != "" {
			t += ", " + strings.TrimSpace(one[0]+" "+Clean(one[1]))
		}
	}
	return t
}

func (p *printer) stages(s *Story) {
	if len(s.Stages) == 0 {
		return
	}
	width := 0
	for _, step := range s.Stages {
		for _, h := range step.Handlers {
			width = max(width, utf8.RuneCountInString(Clean(h.Policy)))
		}
	}
	width = min(width, 24)
	p.line("")
	for _, step := range s.Stages {
		name := Clean(step.Stage)
		if step.Recipient != "" {
			name += " <" + Clean(step.Recipient) + ">"
		}
		p.line("  %s %s", p.dim(pad(since(s.Time, step.Time), 9)), p.bold(name))
		for i := range step.Handlers {
			p.answer(&step.Handlers[i], width)
		}
	}
}

func (p *printer) answer(h *Answer, width int) {
	what := p.verdict(h.Decision, pad(Clean(h.Decision), 10))
	rest := fmt.Sprintf("%9s", milliText(h.Duration))
	if h.Shadow {
		rest += "  " + p.dim("(shadow: no effect)")
	}
	for _, t := range [...]string{h.Reply, h.Reason} {
		if t != "" {
			rest += "  " + Clean(t)
		}
	}
	p.line("            %s  %s%s", pad(Clean(h.Policy), width), what, rest)
	if h.Error != "" {
		p.line("              %s", p.wrap("31", "failed: "+Clean(h.Error)))
	}
	for i := range h.Lookups {
		l := &h.Lookups[i]
		found := l.Error
		if found == "" {
			found = strings.ReplaceAll(l.Answer, "\n", ", ")
		}
		p.line("              %s %s %s: %s", p.dim("asked"), Clean(l.Kind), Clean(l.Question), Clean(clip(found, 200)))
	}
	for _, e := range h.Edits {
		p.line("              %s %s", p.dim("edit"), Clean(e))
	}
}

// refusals shows those that no handler shown above has said.
func (p *printer) refusals(s *Story) {
	list := slices.DeleteFunc(slices.Clone(s.Refusals), s.shows)
	if len(list) == 0 {
		return
	}
	p.line("")
	p.line("  %s", p.bold("Refused on the way"))
	for _, f := range list {
		about := Clean(f.Stage)
		if f.Recipient != "" {
			about += " <" + Clean(f.Recipient) + ">"
		}
		by := "protocol"
		if f.Policy != "" {
			by = Clean(f.Policy)
		}
		p.line("  %s %s  %s: %s", p.dim(pad(since(s.Time, f.Time), 9)), about, by, Clean(f.Reply))
	}
}

// shows tells whether the refusal stands among the stages.
func (s *Story) shows(f Refusal) bool {
	return slices.ContainsFunc(s.Stages, func(step Step) bool {
		return step.Stage == f.Stage && step.Recipient == f.Recipient &&
			slices.ContainsFunc(step.Handlers, func(h Answer) bool { return h.Policy == f.Policy && h.Reply == f.Reply && !h.Shadow })
	})
}

func (p *printer) attempts(s *Story) {
	if len(s.Attempts) > 0 {
		p.line("")
		p.line("  %s", p.bold("Delivery"))
	}
	for _, t := range s.Attempts {
		p.line("  %s  %s <%s> via %s  %s", p.dim(clock(t.Time)), p.verdict(t.Outcome, pad(Clean(t.Outcome), 9)),
			Clean(t.Recipient), Clean(t.NextHop), p.dim(milliText(t.Duration)))
		if by := strings.TrimSpace(t.Peer + " " + t.TLS); by != "" {
			p.line("              %s", Clean(by))
		}
		if t.Reply != "" {
			p.line("              %s", Clean(t.Reply))
		}
	}
	if s.Left != nil {
		p.line("  %s  left the queue", p.dim(clock(*s.Left)))
	}
}

// clock is a moment in local time.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }

// since is how long after the start something was.
func since(start, t time.Time) string {
	d := t.Sub(start)
	if start.IsZero() || d.Abs() > 24*time.Hour {
		return clock(t)
	}
	if d < 0 {
		return "-" + duration(-d)
	}
	return "+" + duration(d)
}

func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return milliText(millis(d))
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + " s"
	}
	return d.Round(time.Second).String()
}

func milliText(ms float64) string {
	if math.Abs(ms) < 10 {
		return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
}
