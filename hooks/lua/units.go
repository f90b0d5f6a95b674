package lua

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxSeconds is the longest span that a time.Duration holds.
const maxSeconds = float64(math.MaxInt64 / int64(time.Second))

type timeUnit struct {
	name string
	is   time.Duration
}

func timeUnits() []timeUnit {
	const day = 24 * time.Hour
	return []timeUnit{{"w", 7 * day}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
}

// parseSpan reads a time span as the configuration writes it, "1h30m", and
// returns seconds.
func parseSpan(s string) (float64, error) {
	bad := fmt.Errorf(`%q is not a duration; write something like "30s", "5m", "1h30m" or "7d"`, s)
	if s == "0" {
		return 0, nil
	}
	if s == "" {
		return 0, bad
	}
	sum := 0.0
	units := timeUnits()
	for rest := s; rest != ""; {
		tail := strings.TrimLeft(rest, "0123456789")
		n, err := strconv.ParseUint(rest[:len(rest)-len(tail)], 10, 63)
		if err != nil {
			return 0, bad
		}
		end := 0
		for end < len(tail) && tail[end] >= 'a' && tail[end] <= 'z' {
			end++
		}
		name := tail[:end]
		for len(units) > 0 && units[0].name != name {
			units = units[1:]
		}
		if len(units) == 0 {
			return 0, bad
		}
		sum += float64(n) * units[0].is.Seconds()
		units, rest = units[1:], tail[end:]
	}
	if sum > maxSeconds {
		return 0, fmt.Errorf("%q is longer than 292 years", s)
	}
	return sum, nil
}

// toDuration is seconds as a time.Duration, within its bounds.
func toDuration(seconds float64) time.Duration {
	if !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxSeconds) * float64(time.Second))
}

// formatSeconds writes a span in the configuration's own form: 2s, 5m, 1h30m.
func formatSeconds(seconds float64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	left := toDuration(seconds).Round(time.Millisecond)
	if left >= time.Minute {
		left = left.Round(time.Second)
	}
	var b strings.Builder
	b.WriteString(sign)
	for _, u := range timeUnits()[1:] {
		if n := left / u.is; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.name)
			left -= n * u.is
		}
	}
	if b.Len() == len(sign) {
		return "0s"
	}
	return b.String()
}

// parseSize reads a number of bytes: "50MiB", "4KiB", "512".
func parseSize(s string) (float64, error) {
	tail := strings.TrimLeft(s, "0123456789")
	n, err := strconv.ParseUint(s[:len(s)-len(tail)], 10, 53)
	if err == nil {
		for i, unit := range []string{"B", "KiB", "MiB", "GiB", "TiB"} {
			if name := strings.TrimPrefix(tail, " "); name == unit || name == "" {
				return float64(n) * math.Pow(1024, float64(i)), nil
			}
		}
	}
	return 0, fmt.Errorf(`%q is not a size; write something like "50MiB", "4KiB" or a number of bytes`, s)
}

// nearest is the word of the list that s was most likely meant to be, or "".
func nearest(s string, words []string) string {
	best, least := "", max(1, min(3, len(s)/2))+1
	for _, w := range words {
		if d := distance(s, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, change or swap with a neighbour.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	var older []int
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, before, row = before, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(before[j]+1, row[j-1]+1, before[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// DidYouMean names the word that is nearest to a misspelt one, as the end of a message;
// "" where none is near.
func DidYouMean(s string, words []string) string { return didYouMean(s, words) }

// didYouMean is `; did you mean "x"?`, or "".
func didYouMean(s string, words []string) string {
	if w := nearest(s, words); w != "" {
		return fmt.Sprintf("; did you mean %q?", w)
	}
	return ""
}

// ParseDuration reads a time span as settings and tests write it, such as "1h30m".
func ParseDuration(s string) (time.Duration, error) {
	seconds, err := parseSpan(s)
	return toDuration(seconds), err
}
