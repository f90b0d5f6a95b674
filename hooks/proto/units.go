package proto

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

type timeUnit struct {
	name string
	is   time.Duration
}

// ParseDuration reads a time span as postern.toml writes it: whole numbers with
// the units w, d, h, m, s, ms, from large to small and each once, such as "5m",
// "1h30m" or "7d"; "0" needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf(`%q is not a duration; write something like "30s", "5m", "1h30m" or "7d"`, s)
	if s == "0" {
		return 0, nil
	}
	units := []timeUnit{{"w", 168 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
	var sum uint64
	for rest := s; rest != "" || sum == 0 && rest == s; {
		n, name, ok := cutNumber(rest)
		if !ok {
			return 0, bad
		}
		end := strings.IndexAny(name, "0123456789")
		if end < 0 {
			end = len(name)
		}
		name, rest = name[:end], name[end:]
		for len(units) > 0 && units[0].name != name {
			units = units[1:]
		}
		if len(units) == 0 {
			return 0, bad
		}
		high, low := bits.Mul64(n, uint64(units[0].is))
		if high != 0 || low > math.MaxInt64-sum {
			return 0, fmt.Errorf("%q is longer than 292 years; write a shorter duration", s)
		}
		sum += low
		units = units[1:]
	}
	return time.Duration(sum), nil
}

// ParseSize reads a number of bytes: "50MiB", "4KiB", "1GiB", "1TiB", "512B" or
// "512".
func ParseSize(s string) (int64, error) {
	n, name, ok := cutNumber(s)
	shift, known := map[string]uint{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[strings.TrimPrefix(name, " ")]
	if !ok || !known {
		return 0, fmt.Errorf(`%q is not a size; the units are B, KiB, MiB, GiB, TiB, as in "50MiB"`, s)
	}
	if n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is too large; write at most 8388607TiB", s)
	}
	return int64(n << shift), nil
}

// cutNumber takes a whole number off the front of s.
func cutNumber(s string) (n uint64, rest string, ok bool) {
	rest = strings.TrimLeft(s, "0123456789")
	n, err := strconv.ParseUint(s[:len(s)-len(rest)], 10, 64)
	return n, rest, err == nil
}
