package send

import (
	"errors"
	"math"
	"math/rand/v2"
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

// Growth is a plan whose first wait is Start, and each further one Factor times
// the one before it, up to Max; Factor 1 has them all alike. Of each wait, up to the
// part Jitter of it is added, so that what failed together is not tried together.
type Growth struct {
	Start  time.Duration // a second or more
	Factor float64       // 1 or more
	Max    time.Duration // Start or more
	Jitter float64       // 0 to 1
}

// Growing is the plan of g. What jitter adds is drawn from the message's birth and
// the number of the wait alone, so a restart changes nothing here either.
func Growing(g Growth) Retry {
	return func(birth, now time.Time) time.Time {
		next, wait := birth, g.Start
		n := uint64(0)
		if g.Factor > 1 {
			for ; wait < g.Max; n++ {
				if at := next.Add(wait + g.added(birth, n, wait)); at.After(now) {
					return at
				}
				next = next.Add(wait)
				wait = time.Duration(min(float64(wait)*g.Factor, float64(g.Max)))
				if wait <= 0 { // a Growth that nobody checked
					break
				}
			}
		}
		// From here all waits are alike: the first that can be later than now is found
		// without walking a week of them.
		wait = max(wait, time.Second)
		if done := now.Sub(next)/wait - 1; done > 0 {
			next, n = next.Add(done*wait), n+uint64(done)
		}
		for {
			if at := next.Add(wait + g.added(birth, n, wait)); at.After(now) {
				return at
			}
			next, n = next.Add(wait), n+1
		}
	}
}

// added is what chance adds to the n-th wait.
func (g Growth) added(birth time.Time, n uint64, wait time.Duration) time.Duration {
	if g.Jitter <= 0 {
		return 0
	}
	part := rand.New(rand.NewPCG(uint64(birth.UnixNano()), n)).Float64()
	return time.Duration(part * min(g.Jitter, 1) * float64(wait))
}

var errRetry = errors.New(`write quadratic, the waits between attempts, such as 5m, 15m, 1h, or what makes them grow, such as start=5m factor=2 max=4h jitter=0.2`)

// ParseRetry reads a plan as a policy writes it: quadratic, waits parted by commas
// or blanks, or the words of a Growth, of which start is needed. scheme is the next
// hop's. A nil one, of an empty text, is the configuration's.
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
	if strings.Contains(s, "=") {
		return parseGrowth(s)
	}
	var list []time.Duration
	for word := range strings.FieldsFuncSeq(s, parted) {
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

func parted(r rune) bool { return r == ',' || r == ' ' }

// parseGrowth reads start=5m factor=2 max=4h jitter=0.2, with the configuration's
// defaults for all but the first.
func parseGrowth(s string) (Retry, error) {
	g := Growth{Factor: 2, Max: 4 * time.Hour}
	for word := range strings.FieldsFuncSeq(s, parted) {
		key, text, _ := strings.Cut(word, "=")
		var ok bool
		switch key {
		case "start":
			g.Start, ok = parseWait(text)
		case "max":
			g.Max, ok = parseWait(text)
		case "factor":
			g.Factor, ok = parseNumber(text, 1, 100)
		case "jitter":
			g.Jitter, ok = parseNumber(text, 0, 1)
		}
		if !ok {
			return nil, errRetry
		}
	}
	if g.Start < time.Second || g.Max < g.Start {
		return nil, errRetry
	}
	return Growing(g), nil
}

func parseNumber(s string, low, high float64) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f >= low && f <= high
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
