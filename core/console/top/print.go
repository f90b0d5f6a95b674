package top

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/console"
)

// Text is everything as plain text, for people behind a pipe: as Draw, without
// leaving anything out.
func (m *Model) Text() string {
	var b strings.Builder
	s := &m.last.Status
	fmt.Fprintf(&b, "postern %s  up %s  process %d  configuration %d  %s\n", clean(s.Version), console.Age(s.Started, m.last.Time), s.PID, s.Generation, m.last.Time.Local().Format(time.RFC3339))
	if text := m.trouble(); text != "" {
		b.WriteString(text + "\n")
	}
	for _, list := range [][]pair{m.openCounts(), m.queueCounts(), m.processCounts(), m.verdicts()} {
		for i, p := range list {
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(strings.TrimSpace(p.name + " " + p.text))
		}
		b.WriteByte('\n')
	}
	r := m.rate()
	fmt.Fprintf(&b, "accepted %s/s  refused %s/s  deferred %s/s  |  delivered %s/s  failed %s/s  put off %s/s\n", perSecond(r.Accepted), perSecond(r.Refused), perSecond(r.Deferred),
		perSecond(r.Delivered), perSecond(r.Failed), perSecond(r.PutOff))
	for p := Destinations; p < paneEnd; p++ {
		t := m.table(p)
		fmt.Fprintf(&b, "\n%s", strings.ToUpper(paneNames[p][:1])+paneNames[p][1:])
		if t.more != "" && p != Slow {
			fmt.Fprintf(&b, " (%s)", t.more)
		}
		b.WriteByte('\n')
		t.print(&b)
	}
	return b.String()
}

// report is one line of `postern top --json`: what is there, and what happened a
// second since the line before.
type report struct {
	console.Top
	Rates Rates `json:"rates"`
}

// missing is the line where the daemon does not answer.
type missing struct {
	Time  time.Time `json:"time"`
	Error string    `json:"error"`
}

// JSON is one line for programs, of the state that was taken last.
func (m *Model) JSON() ([]byte, error) {
	if m.lost != nil {
		return json.Marshal(missing{m.now, m.lost.Error()})
	}
	r := report{Top: m.last, Rates: m.rate()}
	r.Calls = make([]console.Calls, 0, len(m.last.Calls))
	for _, c := range m.callsNow() {
		one := c.Calls
		one.P50, one.P99, one.Times = c.p50.Seconds(), c.p99.Seconds(), nil
		r.Calls = append(r.Calls, one)
	}
	return json.Marshal(r)
}

// Print writes a snapshot each interval: JSON lines, or plain text. The first comes
// when an interval has passed, since rates want two looks. count 0 is any number. An
// error is one of the first look, or of w; a daemon that goes away later is told of
// and waited for.
func Print(ctx context.Context, w io.Writer, m *Model, look Look, asJSON bool, count int) error {
	for shown := -1; count == 0 || shown < count; shown++ {
		if shown >= 0 {
			wait := time.NewTimer(m.Interval())
			select {
			case <-ctx.Done():
				wait.Stop()
				return nil
			case <-wait.C:
			}
		}
		top, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && shown < 0:
			return err
		case err != nil:
			m.Lose(err, time.Now())
		default:
			m.Take(top, time.Now())
		}
		if shown < 0 {
			continue
		}
		text := m.snapshot(shown)
		if asJSON {
			line, err := m.JSON()
			if err != nil {
				return err
			}
			text = string(line) + "\n"
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is Text, apart from the one before.
func (m *Model) snapshot(n int) string {
	if n > 0 {
		return "\n" + m.Text()
	}
	return m.Text()
}
