package send

import (
	"math"
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
