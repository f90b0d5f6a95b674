package send

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/message"
)

// Bounds of what a greylisting server may ask for: less would be no wait, and for
// more the schedule knows better.
const (
	greyMin = time.Minute
	greyMax = time.Hour
	// greyTries is after how many attempts the schedule holds again: a server that
	// always asks for a minute is not tried each minute for a week.
	greyTries = 5
)

var (
	greyWord  = regexp.MustCompile(`(?i)\bgr[ea]y[- ]?list`)
	greyClock = regexp.MustCompile(`\b(\d{1,2}):(\d{2}):(\d{2})\b`)
	greyCount = regexp.MustCompile(`(?i)\b(\d{1,5})\s*(s|secs?|seconds?|m|mins?|minutes?)\b`)
)

// greylisted is how long a server asks to wait that defers for greylisting, in the
// words of postgrey and Exim ("Greylisted for 300 seconds", "try again in 5 minutes")
// and of milter-greylist ("come back in 00:05:00"). It reports false where the reply
// is no greylisting, or names no time of use.
func greylisted(r message.Reply) (time.Duration, bool) {
	if !r.Temporary() || !greyWord.MatchString(r.Text) {
		return 0, false
	}
	var wait time.Duration
	if m := greyClock.FindStringSubmatch(r.Text); m != nil {
		for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
			n, _ := strconv.Atoi(m[i+1])
			wait += time.Duration(n) * unit
		}
	} else if m := greyCount.FindStringSubmatch(r.Text); m != nil {
		n, _ := strconv.Atoi(m[1])
		wait = time.Duration(n) * time.Second
		if strings.ToLower(m[2])[0] == 'm' {
			wait *= 60
		}
	}
	if wait <= 0 || wait > greyMax {
		return 0, false
	}
	return max(wait, greyMin), true
}
