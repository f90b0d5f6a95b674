package config

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is a way of reading one value: the type's name for the manual, and a reader that reports what it can't take.
type kind[T any] struct {
	typ   string
	read  func(v value) (T, bool)
	later []string // values, as the manual shows them, that this version refuses
}

// planned adds values that the reader refuses as not available in this version.
func (k kind[T]) planned(values ...string) kind[T] {
	k.later = values
	return k
}

// reader makes a kind.
func reader[T any](typ string, read func(v value) (T, bool)) kind[T] {
	return kind[T]{typ: typ, read: read}
}

// scalar makes a kind of a parser of strings. The parser's error says what is wrong and what to write.
func scalar[T any](typ, example string, parse func(string) (T, error)) kind[T] {
	return reader(typ, func(v value) (zero T, ok bool) {
		s, isString := v.raw.(string)
		if !isString {
			v.fail("%s; write %s such as %s", v.found(), withArticle(typ), example)
			return zero, false
		}
		got, err := parse(s)
		if err != nil {
			v.fail("%v", err)
			return zero, false
		}
		return got, true
	})
}

// withArticle puts "a" or "an" before a type's name.
func withArticle(typ string) string {
	if strings.ContainsAny(typ[:1], "aeio") {
		return "an " + typ
	}
	return "a " + typ
}

// word is a string that names something: one line, not empty.
func word(example string) kind[string] {
	return scalar("string", strconv.Quote(example), func(s string) (string, error) {
		if s == "" || s != oneLine(s) || strings.TrimSpace(s) != s {
			return "", fmt.Errorf("%q is not a name; write something like %q", s, example)
		}
		return s, nil
	})
}

// sentence is a string of one line, for people or in a language of its own.
func sentence(example string) kind[string] {
	return scalar("string", example, func(s string) (string, error) {
		if s != oneLine(s) || strings.TrimSpace(s) == "" {
			return "", fmt.Errorf("%q is not a line of text; write something like %s", s, example)
		}
		return s, nil
	})
}

// boolean is true or false.
func boolean() kind[bool] {
	return reader("boolean", func(v value) (bool, bool) {
		b, ok := v.raw.(bool)
		if !ok {
			v.fail("%s; write true or false, without quotes", v.found())
		}
		return b, ok
	})
}

// optional reads as k into a pointer, so that "not written" stays apart from every value.
func optional[T any](k kind[T]) kind[*T] {
	return reader(k.typ, func(v value) (*T, bool) {
		got, ok := k.read(v)
		return &got, ok
	})
}

// count is an integer of at least low.
func count(low int64) kind[int] {
	return reader("integer", func(v value) (int, bool) {
		n, ok := v.raw.(int64)
		if d, isInt := v.raw.(int); isInt { // a default of the schema
			n, ok = int64(d), true
		}
		switch {
		case !ok:
			v.fail("%s; write an integer such as 100, without quotes", v.found())
			return 0, false
		case n < low:
			v.fail("%d is too small; write at least %d", n, low)
			return 0, false
		case n > math.MaxInt32:
			v.fail("%d is too large; write at most %d", n, math.MaxInt32)
			return 0, false
		}
		return int(n), true
	})
}

// share is a part of something: over 0, up to 1.
func share() kind[float64] {
	return reader("number", func(v value) (float64, bool) {
		f, ok := number().read(v)
		if ok && (f <= 0 || f > 1) {
			v.fail("%g is no part; write a number over 0 and up to 1, such as 0.1 for a tenth", f)
			return 0, false
		}
		return f, ok
	})
}

// between is a number of that range.
func between(low, high float64) kind[float64] {
	return reader("number", func(v value) (float64, bool) {
		f, ok := number().read(v)
		if ok && (f < low || f > high) {
			v.fail("%g is out of range; write a number from %g to %g", f, low, high)
			return 0, false
		}
		return f, ok
	})
}

// number is any finite number.
func number() kind[float64] {
	return reader("number", func(v value) (float64, bool) {
		f, ok := v.raw.(float64)
		if n, isInt := v.raw.(int64); isInt {
			f, ok = float64(n), true
		}
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			v.fail("is not a finite number; write one such as 5.0, without quotes")
			return 0, false
		}
		return f, true
	})
}

// size is a number of bytes, at least 1.
func size() kind[int64] {
	parse := scalar("size", `"50MiB"`, ParseSize)
	return reader("size", func(v value) (int64, bool) {
		n, ok := v.raw.(int64)
		if !ok {
			n, ok = parse.read(v)
		}
		if ok && n < 1 {
			v.fail(`must be at least one byte; write a size such as "50MiB"`)
			return 0, false
		}
		return n, ok
	})
}

// duration is a time span of at least low.
func duration(low time.Duration) kind[time.Duration] {
	parse := scalar("duration", `"5m"`, ParseDuration)
	return reader("duration", func(v value) (time.Duration, bool) {
		if n, isInt := v.raw.(int64); isInt {
			v.fail(`has no unit; write "%ds" for seconds, or something like "5m", "1h30m", "7d"`, n)
			return 0, false
		}
		d, ok := parse.read(v)
		if ok && d < low {
			v.fail("%s is too short; write at least %q", FormatDuration(d), FormatDuration(low))
			return 0, false
		}
		return d, ok
	})
}

// timestamp is a moment: a date, whose day begins in UTC, or a time with its zone.
func timestamp() kind[time.Time] {
	parse := scalar("date", `"2027-01-01"`, func(s string) (time.Time, error) {
		for _, layout := range [...]string{time.DateOnly, time.RFC3339} {
			if t, err := time.Parse(layout, s); err == nil {
				return t, nil
			}
		}
		return time.Time{}, fmt.Errorf(`%q is no date; write "2027-01-01", or a time such as "2027-01-01T12:00:00Z"`, s)
	})
	return reader(parse.typ, func(v value) (time.Time, bool) {
		t, ok := v.raw.(time.Time)
		if !ok {
			return parse.read(v)
		}
		if zone := t.Location().String(); strings.HasSuffix(zone, "-local") { // TOML's dates without a zone
			t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
		}
		return t, true
	})
}

// options are the values of an enumeration: those that work and those of later versions.
type options struct{ now, later []string }

// enum is one of a few words.
func enum(o options) kind[string] {
	typ := `"` + strings.Join(o.now, `" or "`) + `"`
	return reader(typ, func(v value) (string, bool) {
		s, ok := v.raw.(string)
		switch near := Suggest(s, o.now); {
		case !ok:
			v.fail("%s; write %s", v.found(), typ)
		case slices.Contains(o.now, s):
			return s, true
		case slices.Contains(o.later, s):
			v.fail("%q is not available in this version; write %s", s, typ)
		case near != "":
			v.fail("%q is unknown; did you mean %q? It takes %s", s, near, typ)
		default:
			v.fail("%q is unknown; write %s", s, typ)
		}
		return "", false
	}).planned(quotedAll(o.later)...)
}

// quotedAll sets words as the manual shows values.
func quotedAll(words []string) []string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "`" + w + "`"
	}
	return quoted
}

// level is a log level.
func level() kind[slog.Level] {
	words := enum(options{now: []string{"debug", "info", "warn", "error"}})
	return reader(words.typ, func(v value) (level slog.Level, ok bool) {
		s, ok := words.read(v)
		if !ok {
			return 0, false
		}
		return level, level.UnmarshalText([]byte(s)) == nil
	})
}

// path is the name of a file or folder, made absolute; empty stays empty.
func path() kind[string] {
	plain := scalar("path", `"var/file"`, func(s string) (string, error) {
		if s != oneLine(s) {
			return "", fmt.Errorf("%q holds control characters; write a path", s)
		}
		return s, nil
	})
	return reader(plain.typ, func(v value) (string, bool) {
		s, ok := plain.read(v)
		return v.load.resolve(s), ok
	})
}

// resolve makes a path of the file absolute.
func (l *loader) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.dir, path)
}

// listOf is a list of any length; every bad element is reported at its own line.
func listOf[T any](k kind[T], example string) kind[[]T] {
	return reader("list of "+plural(k.typ), func(v value) ([]T, bool) {
		var raws []any
		switch raw := v.raw.(type) {
		case []any:
			raws = raw
		case []map[string]any:
			for _, t := range raw {
				raws = append(raws, t)
			}
		default:
			v.fail("%s; write a list such as [%s]", v.found(), example)
			return nil, false
		}
		out, good := make([]T, 0, len(raws)), true
		for i, raw := range raws {
			got, ok := k.read(v.item(i, raw))
			if ok {
				out = append(out, got)
			}
			good = good && ok
		}
		return out, good
	})
}

// plural names several values of a type in the manual.
func plural(typ string) string {
	if strings.HasPrefix(typ, `"`) {
		return typ
	}
	if strings.HasSuffix(typ, "address") || strings.HasSuffix(typ, "ss") {
		return typ + "es"
	}
	return typ + "s"
}

// some is a list of at least one element, for keys that an empty list would turn into "never".
func some[T any](k kind[T], example string) kind[[]T] {
	list := listOf(k, example)
	return reader(list.typ, func(v value) ([]T, bool) {
		got, ok := list.read(v)
		if ok && len(got) == 0 {
			v.fail("is an empty list, which nothing matches; leave it out, or write [%s]", example)
			return nil, false
		}
		return got, ok
	})
}

// prefixes is a list of CIDRs.
func prefixes() kind[[]netip.Prefix] {
	return listOf(scalar("CIDR", `"127.0.0.0/8"`, ParsePrefix), `"127.0.0.0/8"`)
}

// somePrefixes is a list of CIDRs that may not be empty.
func somePrefixes() kind[[]netip.Prefix] {
	return some(scalar("CIDR", `"127.0.0.0/8"`, ParsePrefix), `"127.0.0.0/8"`)
}

// destinations is a list of what [[delivery.rule]] names destinations by.
func destinations() kind[[]string] {
	return some(scalar("destination", `"example.net"`, parseDestination), `"example.net"`)
}

// patterns is a list of domain patterns that may not be empty.
func patterns() kind[[]string] {
	return some(scalar("domain pattern", `"example.net"`, parsePattern), `"example.net"`)
}
