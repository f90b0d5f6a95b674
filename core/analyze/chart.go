package analyze

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Charts draws the distribution of delays, outcomes and volume over time as text, in
// so many columns.
func Charts(w io.Writer, d *Distribution, s *Series, columns int) error {
	const label = 18
	wide := max(columns-label-24, 10)
	var b strings.Builder
	bands := d.Bands()
	highest, all := int64(1), int64(0)
	for _, n := range bands {
		highest, all = max(highest, n), all+n
	}
	if all > 0 {
		b.WriteString("Delay of successful deliveries\n\n")
		for i, n := range bands {
			fmt.Fprintf(&b, "%*s  %s %d (%.1f %%)\n", label-2, bandNames[i], bar(n, highest, wide), n, 100*float64(n)/float64(all))
		}
		b.WriteString("\n")
	}
	start, parts := s.Within(30)
	if len(parts) == 0 {
		_, err := io.WriteString(w, b.String())
		return err
	}
	step := stepOf(start, s)
	most, volume := int64(1), int64(1)
	for _, p := range parts {
		most, volume = max(most, p.Successes+p.Failures+p.Deferrals), max(volume, p.Bytes)
	}
	fmt.Fprintf(&b, "Outcomes, a line per %s (UTC): █ success ▒ deferral ░ failure\n\n", span(step))
	for i, p := range parts {
		n := p.Successes + p.Failures + p.Deferrals
		whole := scaled(n, most, wide)
		failed, deferred := share(p.Failures, n, whole), share(p.Deferrals, n, whole)
		sent := max(whole-failed-deferred, 0)
		if p.Successes > 0 && sent == 0 {
			sent = 1
		}
		fmt.Fprintf(&b, "%*s  %s%s%s %d", label-2, moment(start[i], step), strings.Repeat("█", sent), strings.Repeat("▒", deferred), strings.Repeat("░", failed), n)
		if p.Deferrals+p.Failures > 0 {
			fmt.Fprintf(&b, " (%d deferred, %d failed)", p.Deferrals, p.Failures)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nVolume delivered, a line per %s (UTC)\n\n", span(step))
	for i, p := range parts {
		fmt.Fprintf(&b, "%*s  %s %s\n", label-2, moment(start[i], step), bar(p.Bytes, volume, wide), size(p.Bytes))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func stepOf(start []time.Time, s *Series) time.Duration {
	if len(start) > 1 {
		return start[1].Sub(start[0])
	}
	return s.Width()
}

// scaled is how many of wide columns n takes; what is there takes one.
func scaled(n, highest int64, wide int) int {
	if n <= 0 {
		return 0
	}
	return max(1, int(float64(n)/float64(highest)*float64(wide)))
}

func share(n, all int64, whole int) int {
	if n == 0 {
		return 0
	}
	return max(1, int(float64(n)/float64(all)*float64(whole)))
}

func bar(n, highest int64, wide int) string { return strings.Repeat("█", scaled(n, highest, wide)) }

// moment is the start of a part of time, as short as it may be.
func moment(t time.Time, step time.Duration) string {
	if step >= 24*time.Hour {
		return t.Format(time.DateOnly)
	}
	return t.Format("2006-01-02 15:04")
}

// span is a part's length in words.
func span(d time.Duration) string {
	switch {
	case d == time.Minute:
		return "minute"
	case d < time.Hour:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d == time.Hour:
		return "hour"
	case d < 24*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d == 24*time.Hour:
		return "day"
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// size is a number of bytes for people.
func size(n int64) string {
	for _, u := range []struct {
		of   int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.of {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
