package lua

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// format is string.format over the arguments from n on, also of reply and log
// texts: %s takes anything that has a text, and %D prints seconds in the form of
// the configuration, 5m or 1h30m.
func (st *state) format(L *lua.LState, n int) string {
	text := L.CheckString(n)
	arg := n
	var b strings.Builder
	for text != "" {
		i := strings.IndexByte(text, '%')
		if i < 0 {
			b.WriteString(text)
			break
		}
		b.WriteString(text[:i])
		text = text[i+1:]
		if strings.HasPrefix(text, "%") {
			b.WriteByte('%')
			text = text[1:]
			continue
		}
		end := len(text) - len(strings.TrimLeft(text, "-+ #0123456789."))
		if end == len(text) || end > 12 || tooWide(text[:end]) {
			L.RaiseError("%s", "invalid format text: write %% for a percent sign")
		}
		arg++
		if L.GetTop() < arg {
			L.RaiseError("%s", "the format text has more % than there are values")
		}
		b.WriteString(st.formatOne(L, text[:end], text[end], arg))
		text = text[end+1:]
		if b.Len() > maxResult {
			break
		}
	}
	st.b.make(L, b.Len())
	return b.String()
}

// tooWide tells whether a width or precision has more than two digits.
func tooWide(flags string) bool {
	digits := 0
	for i := range len(flags) {
		if flags[i] < '0' || flags[i] > '9' {
			digits = 0
		} else if digits++; digits > 2 {
			return true
		}
	}
	return strings.Count(flags, ".") > 1
}

func (st *state) formatOne(L *lua.LState, flags string, verb byte, arg int) string {
	switch verb {
	case 'd', 'i':
		return fmt.Sprintf("%"+flags+"d", toInt64(float64(L.CheckNumber(arg))))
	case 'u':
		return fmt.Sprintf("%"+flags+"d", uint64(toInt64(float64(L.CheckNumber(arg)))))
	case 'c':
		return string([]byte{byte(L.CheckInt(arg))})
	case 'o', 'x', 'X':
		return fmt.Sprintf("%"+flags+string(verb), uint64(toInt64(float64(L.CheckNumber(arg)))))
	case 'e', 'E', 'f', 'g', 'G':
		return fmt.Sprintf("%"+flags+string(verb), float64(L.CheckNumber(arg)))
	case 'D':
		return formatSeconds(float64(L.CheckNumber(arg)))
	case 'q':
		return quote(L.CheckString(arg))
	case 's':
		s := L.ToStringMeta(L.Get(arg)).String()
		if flags == "" {
			return s
		}
		return padded(flags, s)
	}
	L.RaiseError("invalid format %%%s%c", flags, verb)
	return ""
}

// padded is %s with width and precision, which count bytes.
func padded(flags, s string) string {
	width, precision, cut := strings.Cut(strings.TrimLeft(flags, "-+ #0"), ".")
	if cut {
		n, _ := strconv.Atoi(precision)
		s = s[:min(len(s), n)]
	}
	n, _ := strconv.Atoi(width)
	pad := strings.Repeat(" ", max(0, n-len(s)))
	if strings.Contains(flags, "-") {
		return s + pad
	}
	return pad + s
}

func toInt64(f float64) int64 {
	switch {
	case math.IsNaN(f):
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// quote writes s as Lua source.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString("\\r")
		case 0:
			b.WriteString("\\000")
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// brief is a text in quotes as errors show it.
func brief(s string) string {
	const most = 200
	if len(s) > most {
		return quote(strings.ToValidUTF8(s[:most], "")) + "…"
	}
	return quote(s)
}
