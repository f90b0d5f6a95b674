package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/config"
)

// momentHelp is what a flag that takes a moment says of it.
const momentHelp = `how long ago ("2h", "7d"), a time ("14:00", "yesterday 14:00", "2026-11-27 14:00"), RFC 3339 or Unix seconds`

// leastUnix is what a number must be to be Unix seconds: below, in 1973, it is no time
// of mail.
const leastUnix = 100_000_000

// moment reads a point in time as people write it, in the zone of now: how long
// ago it was, now, a day with or without a time, or a time alone: the last one
// that was.
func moment(text string, now time.Time) (time.Time, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "now" {
		return now, nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds >= leastUnix {
		return time.Unix(seconds, 0).In(now.Location()), nil
	}
	if ago, err := config.ParseDuration(strings.TrimSpace(strings.TrimSuffix(text, " ago"))); err == nil {
		return now.Add(-ago), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text)); err == nil {
		return t, nil
	}
	first, rest, _ := strings.Cut(strings.Replace(text, "t", " ", boolInt(isDate(text))), " ")
	if hour, err := clockTime(first); err == nil && rest == "" {
		t := at(now, 0, hour)
		if t.After(now) {
			t = at(now, -1, hour)
		}
		return t, nil
	}
	days, ok := daysTo(first, now)
	if ok && rest == "" {
		return at(now, days, time.Time{}), nil
	}
	hour, err := clockTime(strings.TrimSpace(rest))
	if !ok || err != nil {
		return time.Time{}, fmt.Errorf("%q is no time; write %s", text, momentHelp)
	}
	return at(now, days, hour), nil
}

// isDate tells whether text begins with a date that a "T" ends.
func isDate(text string) bool { return len(text) > 10 && text[10] == 't' && text[4] == '-' }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func clockTime(s string) (t time.Time, err error) {
	for _, layout := range [...]string{"15:04", "15:04:05"} {
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return t, err
}

// at is a time of day, so many days from now; a day may have 23 or 25 hours.
func at(now time.Time, days int, hour time.Time) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d+days, hour.Hour(), hour.Minute(), hour.Second(), 0, now.Location())
}

// daysTo is how many days a day is from that of now; a weekday is the last one,
// today included.
func daysTo(day string, now time.Time) (int, bool) {
	switch day {
	case "today":
		return 0, true
	case "yesterday":
		return -1, true
	}
	if t, err := time.Parse(time.DateOnly, day); err == nil {
		y, m, d := now.Date()
		return int(t.Sub(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)) / (24 * time.Hour)), true
	}
	for w := time.Sunday; w <= time.Saturday; w++ {
		if name := strings.ToLower(w.String()); day == name || day == name[:3] {
			return -int((now.Weekday() - w + 7) % 7), true
		}
	}
	return 0, false
}

// momentFlag is a flag that takes a moment.
type momentFlag struct {
	time.Time
	text string
}

// String implements pflag.Value.
func (m *momentFlag) String() string { return m.text }

// Set implements pflag.Value.
func (m *momentFlag) Set(s string) (err error) {
	m.text = s
	m.Time, err = moment(s, time.Now())
	return err
}

// Type implements pflag.Value.
func (m *momentFlag) Type() string { return "TIME" }
