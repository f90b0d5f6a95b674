package config

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// unit is one unit of time, the largest first in a list.
type unit struct {
	name string
	is   time.Duration
}

const day = 24 * time.Hour

func timeUnits() []unit {
	return []unit{{"w", 7 * day}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
}

// ParseDuration reads a time span as the configuration writes it: whole numbers with the units w, d, h, m, s, ms, from
// large to small and each once, such as "5m", "1h30m" or "7d"; "0" needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf(`%q is not a duration; write something like "30s", "5m", "1h30m" or "7d"`, s)
	if s == "0" {
		return 0, nil
	}
	var sum time.Duration
	units := timeUnits()
	rest := s
	for rest != "" {
		n, after, ok := digits(rest)
		if !ok {
			return 0, bad
		}
		name := after[:len(after)-len(strings.TrimLeft(after, "abcdefghijklmnopqrstuvwxyz"))]
		rest = after[len(name):]
		for len(units) > 0 && units[0].name != name {
			units = units[1:]
		}
		if len(units) == 0 {
			return 0, bad
		}
		high, low := bits.Mul64(n, uint64(units[0].is))
		if high != 0 || low > math.MaxInt64-uint64(sum) {
			return 0, fmt.Errorf("%q is longer than 292 years; write a shorter duration", s)
		}
		sum += time.Duration(low)
		units = units[1:]
	}
	if s == "" {
		return 0, bad
	}
	return sum, nil
}

// digits takes a whole number off the front of s.
func digits(s string) (n uint64, rest string, ok bool) {
	rest = strings.TrimLeft(s, "0123456789")
	n, err := strconv.ParseUint(s[:len(s)-len(rest)], 10, 64)
	return n, rest, err == nil
}

// FormatDuration writes a time span in the configuration's own form: "2s", "5m", "1h30m", "7d". Parts below a
// millisecond are dropped; ParseDuration reads the result for every span that is not negative.
func FormatDuration(d time.Duration) string {
	if d < 0 {
		if d == math.MinInt64 {
			d++ // has no positive counterpart; the difference is below a millisecond
		}
		return "-" + FormatDuration(-d)
	}
	var b strings.Builder
	for _, u := range timeUnits()[1:] {
		if n := d / u.is; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.name)
			d -= n * u.is
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// sizeUnits are the powers of 1024, the largest first.
func sizeUnits() []string { return []string{"TiB", "GiB", "MiB", "KiB", "B"} }

// ParseSize reads a number of bytes: "50MiB", "4KiB", "1GiB", "1TiB", "512B" or "512".
func ParseSize(s string) (int64, error) {
	n, name, ok := digits(s)
	name = strings.TrimPrefix(name, " ")
	if !ok {
		return 0, fmt.Errorf(`%q is not a size; write something like "50MiB", "4KiB" or a number of bytes`, s)
	}
	units := sizeUnits()
	for i, u := range units {
		if name != u && (name != "" || u != "B") {
			continue
		}
		shift := 10 * (len(units) - 1 - i)
		if n > math.MaxInt64>>shift {
			return 0, fmt.Errorf("%q is too large; write at most 8388607TiB", s)
		}
		return int64(n << shift), nil
	}
	for _, u := range units {
		if letter := u[:1]; strings.EqualFold(name, u) || strings.EqualFold(name, letter) || strings.EqualFold(name, letter+"B") {
			return 0, fmt.Errorf("%q has no unit that is known; did you mean \"%d%s\"?", s, n, u)
		}
	}
	return 0, fmt.Errorf(`%q is not a size; the units are B, KiB, MiB, GiB, TiB, as in "50MiB"`, s)
}

// FormatSize writes a number of bytes with the largest unit that divides it: "50MiB", "1GiB", "1000B".
func FormatSize(n int64) string {
	units := sizeUnits()
	for i, u := range units {
		if one := int64(1) << (10 * (len(units) - 1 - i)); n != 0 && n%one == 0 {
			return strconv.FormatInt(n/one, 10) + u
		}
	}
	return "0B"
}

// ParseRate reads so many in so long, such as "60/min", "5/s", "1000/hour" or "10000/day".
func ParseRate(s string) (Rate, error) {
	bad := fmt.Errorf(`%q is not a rate; write something like "5/s", "60/min", "1000/hour" or "10000/day"`, s)
	n, rest, ok := digits(s)
	per, slash := strings.CutPrefix(rest, "/")
	if !ok || !slash || n < 1 || n > math.MaxInt32 {
		return Rate{}, bad
	}
	r := Rate{Count: int(n)}
	switch per {
	case "s", "sec":
		r.Per = time.Second
	case "m", "min":
		r.Per = time.Minute
	case "h", "hour":
		r.Per = time.Hour
	case "d", "day":
		r.Per = day
	default:
		return Rate{}, bad
	}
	return r, nil
}

// ParsePrefix reads a CIDR such as "192.0.2.0/24" or "2001:db8::/32"; an address alone stands for itself. Bits behind
// the prefix are cleared, and an IPv4 address in IPv6 form becomes IPv4.
func ParsePrefix(s string) (netip.Prefix, error) {
	bad := fmt.Errorf(`%q is not an address or CIDR; write something like "192.0.2.0/24", "192.0.2.1" or "2001:db8::/32"`, s)
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, bad
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if host, length, ok := strings.Cut(s, "/"); ok {
			if a, err := netip.ParseAddr(host); err == nil {
				return netip.Prefix{}, fmt.Errorf("%q has a prefix length of %s; write one from 0 to %d", s, length, a.BitLen())
			}
		}
		return netip.Prefix{}, bad
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, bad
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
