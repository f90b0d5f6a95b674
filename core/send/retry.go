package send

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Retry says when a message that came at birth and could not be delivered at
// now is tried next. It is a pure function, so a restart changes nothing, and
// its result is after now.
type Retry func(birth, now time.Time) time.Time

// Skips of qmail's schedule, in square roots of seconds: a delivery on this host
// is tried after 100 s, 400 s, 900 s…, a remote one after 400 s, 1600 s, 3600 s…
const (
	SkipLocal  = 10
	SkipRemote = 20
)

// Quadratic is qmail's schedule: birth + (√age + skip)².
func Quadratic(skip int) Retry {
	return func(birth, now time.Time) time.Time {
		age := max(now.Sub(birth).Seconds(), 0)
		root := math.Floor(math.Sqrt(age)) + float64(skip)
		next := birth.Add(time.Duration(root * root * float64(time.Second)))
		if !next.After(now) { // the clock went back behind the message's birth
			next = now.Add(time.Duration(skip*skip) * time.Second)
		}
		return next
	}
}

// Delays waits each of the given times after the attempt before it, and the last
// one again and again. An empty list, or one that begins with no time, is
// Quadratic's for remote mail.
func Delays(list []time.Duration) Retry {
	if len(list) == 0 || list[0] <= 0 || list[len(list)-1] <= 0 {
		return Quadratic(SkipRemote)
	}
	return func(birth, now time.Time) time.Time {
		next := birth
		for _, d := range list {
			if next = next.Add(d); next.After(now) {
				return next
			}
		}
		last := list[len(list)-1]
		return next.Add((now.Sub(next)/last + 1) * last)
	}
}

var errRetry = errors.New(`write quadratic, or the waits between attempts, such as 5m, 15m, 1h`)

// ParseRetry reads a plan as a policy writes it: quadratic, or waits parted by commas
// or blanks. scheme is the next hop's. A nil one, of an empty text, is the
// configuration's.
func ParseRetry(s string, scheme string) (Retry, error) {
	switch s = strings.TrimSpace(s); s {
	case "":
		return nil, nil
	case "quadratic":
		if channelOf(scheme) == local {
			return Quadratic(SkipLocal), nil
		}
		return Quadratic(SkipRemote), nil
	}
	var list []time.Duration
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		d, ok := parseWait(word)
		if !ok || d < time.Second {
			return nil, errRetry
		}
		list = append(list, d)
	}
	if len(list) == 0 || len(list) > maxWaits {
		return nil, errRetry
	}
	return Delays(list), nil
}

// Bounds of a policy's plan.
const (
	maxWaits = 100
	maxWait  = 365 * 24 * time.Hour
)

// parseWait reads a duration as the configuration has it: 90s, 1h30m, 7d.
func parseWait(s string) (sum time.Duration, ok bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	for s != "" {
		i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 || i > 9 {
			return 0, false
		}
		n, err := strconv.Atoi(s[:i])
		unit := units[s[i]]
		if err != nil || unit == 0 || time.Duration(n) > maxWait/unit {
			return 0, false
		}
		if sum += time.Duration(n) * unit; sum > maxWait {
			return 0, false
		}
		s = s[i+1:]
	}
	return sum, sum > 0
}
