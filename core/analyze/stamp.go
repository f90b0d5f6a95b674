package analyze

import (
	"strconv"
	"time"
)

// Stamp is a time in nanoseconds since 1970.
type Stamp int64

// Since is the time from an earlier stamp, in seconds.
func (s Stamp) Since(earlier Stamp) float64 { return float64(s-earlier) / 1e9 }

// Time is the stamp as a time.
func (s Stamp) Time() time.Time { return time.Unix(0, int64(s)).UTC() }

// Append adds the stamp as Unix seconds with a fraction, as accustamp and splogger
// write it.
func (s Stamp) Append(b []byte) []byte {
	if s < 0 {
		b, s = append(b, '-'), -s
	}
	b = strconv.AppendInt(b, int64(s/1e9), 10)
	digits, part := 6, int64(s%1e9)
	if part%1000 != 0 {
		digits = 9
	} else {
		part /= 1000
	}
	b = append(b, '.')
	at := len(b)
	b = append(b, "000000000"[:digits]...)
	for i := at + digits - 1; i >= at; i-- {
		b[i] = byte('0' + part%10)
		part /= 10
	}
	return b
}

// String is what Append adds.
func (s Stamp) String() string { return string(s.Append(nil)) }

// latest is the last second that a Stamp holds, in the year 2262.
const latest = 1<<63/1_000_000_000 - 1

// parseStamp reads Unix seconds with or without a fraction, or a TAI64N label as
// multilog writes it: @, 16 digits of 2^62 + 10 + Unix seconds, 8 of nanoseconds.
func parseStamp(b []byte) (Stamp, bool) {
	if len(b) == 25 && b[0] == '@' {
		return parseLabel(b[1:])
	}
	var seconds, part int64
	i := 0
	for ; i < len(b) && isDigit(b[i]); i++ {
		if seconds = seconds*10 + int64(b[i]-'0'); seconds > latest {
			return 0, false
		}
	}
	if i == 0 {
		return 0, false
	}
	if i < len(b) {
		if b[i] != '.' || i+1 == len(b) {
			return 0, false
		}
		scale := int64(100_000_000)
		for i++; i < len(b); i++ {
			if !isDigit(b[i]) {
				return 0, false
			}
			part += int64(b[i]-'0') * scale
			scale /= 10
		}
	}
	return Stamp(seconds*1e9 + part), true
}

func parseLabel(b []byte) (Stamp, bool) {
	var seconds, part uint64
	for i, c := range b {
		var n byte
		switch {
		case isDigit(c):
			n = c - '0'
		case c >= 'a' && c <= 'f':
			n = c - 'a' + 10
		default:
			return 0, false
		}
		if i < 16 {
			seconds = seconds<<4 | uint64(n)
		} else {
			part = part<<4 | uint64(n)
		}
	}
	const epoch = 1<<62 + 10
	if seconds < epoch || seconds-epoch > latest || part >= 1e9 {
		return 0, false
	}
	return Stamp((seconds-epoch)*1e9 + part), true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
