package message

import (
	"math/rand/v2"
	"time"
)

// idAlphabet is in ASCII order, so that ids sort as the times they hold.
const idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const (
	idTimeDigits   = 8 // milliseconds since 1970 in base 62: enough until the year 8889
	idRandomDigits = 7 // 62^7 = 3.5e12 names in each millisecond
)

// NewID returns a name for a message or a session: fifteen characters of
// [0-9A-Za-z], the time at to the millisecond in front, so that ids sort by age.
// It is unique for all practical purposes, and it is no secret.
func NewID(at time.Time) string {
	var b [idTimeDigits + idRandomDigits]byte
	t := uint64(max(at.UnixMilli(), 0))
	for i := idTimeDigits - 1; i >= 0; i-- {
		b[i] = idAlphabet[t%62]
		t /= 62
	}
	r := rand.Uint64()
	for i := idTimeDigits; i < len(b); i++ {
		b[i] = idAlphabet[r%62]
		r /= 62
	}
	return string(b[:])
}

// ValidID tells whether s has the form of an id: 8 to 32 of [0-9A-Za-z].
func ValidID(s string) bool {
	if len(s) < 8 || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
			return false
		}
	}
	return true
}
