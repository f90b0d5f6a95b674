package lua

import (
	"fmt"
	"net/mail"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Layouts of time.format.
const (
	layoutMail = "Mon, 02 Jan 2006 15:04:05 -0700" // RFC 5322
	maxLayout  = 200
)

// Years that a time of a script may lie in.
const (
	firstSecond = -62135596800 // 0001-01-01
	lastSecond  = 253402300799 // 9999-12-31
)

func (st *state) openTime(g *lua.LTable) {
	g.RawSetString("time", st.library(map[string]lua.LGFunction{"format": st.timeFormat, "parse": st.timeParse, "date": st.timeDate}))
}

// timeArguments are seconds at position n, and a zone behind it.
func (st *state) timeArguments(L *lua.LState, n, zone int) (time.Time, string) {
	seconds := float64(L.CheckNumber(n))
	if !(seconds >= firstSecond && seconds <= lastSecond) {
		L.ArgError(n, "the time must lie between the years 1 and 9999")
	}
	whole := int64(seconds)
	t := time.Unix(whole, int64((seconds-float64(whole))*1e9))
	name := L.OptString(zone, "UTC")
	switch name {
	case "UTC":
		return t.UTC(), ""
	case "local":
		return t.Local(), ""
	}
	l, err := st.zone(L, name)
	if err != nil {
		return t, "there is no time zone " + quote(name)
	}
	return t.In(l), ""
}

// maxZonesKept bounds the time zones that a state keeps.
const maxZonesKept = 50

// zone finds a time zone, which is read from the system's once.
func (st *state) zone(L *lua.LState, name string) (*time.Location, error) {
	if l := st.zones[name]; l != nil {
		return l, nil
	}
	st.b.spend(L, 512)
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil, err
	}
	if st.zones == nil || len(st.zones) >= maxZonesKept {
		st.zones = map[string]*time.Location{}
	}
	st.zones[name] = l
	return l, nil
}

// timeFormat is time.format(seconds, layout, zone).
func (st *state) timeFormat(L *lua.LState) int {
	t, wrong := st.timeArguments(L, 1, 3)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	out := ""
	switch layout := L.OptString(2, "rfc5322"); {
	case layout == "rfc5322":
		out = t.Format(layoutMail)
	case layout == "rfc3339":
		out = t.Format(time.RFC3339)
	case strings.Contains(layout, "%") && len(layout) <= maxLayout:
		out, wrong = strftime(t, layout)
	default:
		wrong = quote(layout) + ` is no layout: write "rfc5322", "rfc3339", or a text with %Y and the like`
	}
	if wrong != "" {
		L.ArgError(2, wrong)
	}
	L.Push(lua.LString(out))
	return 1
}

// directives are what stands behind % in a layout, in the form of package time.
func directive(t time.Time, c byte) (string, bool) {
	layouts := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January",
		'z': "-0700", 'Z': "MST", 'F': "2006-01-02", 'T': "15:04:05", 'I': "03", 'p': "PM", 'y': "06", 'e': "_2",
	}
	if layout, ok := layouts[c]; ok {
		return t.Format(layout), true
	}
	switch c {
	case '%':
		return "%", true
	case 'j':
		return fmt.Sprintf("%03d", t.YearDay()), true
	case 'u':
		return fmt.Sprint((int(t.Weekday())+6)%7 + 1), true
	case 's':
		return fmt.Sprint(t.Unix()), true
	}
	return "", false
}

// strftime is the function of that name, of C.
func strftime(t time.Time, layout string) (out, wrong string) {
	var b strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' {
			b.WriteByte(layout[i])
			continue
		}
		if i++; i == len(layout) {
			return "", "a % stands at the end of the layout: write %% for a percent sign"
		}
		text, ok := directive(t, layout[i])
		if !ok {
			return "", "there is no %" + layout[i:i+1] + " in a layout"
		}
		b.WriteString(text)
	}
	return b.String(), ""
}

// timeParse is time.parse(text): a date of RFC 5322 or RFC 3339 as seconds.
func (st *state) timeParse(L *lua.LState) int {
	s := strings.TrimSpace(L.CheckString(1))
	if len(s) > maxLayout {
		return fail(L, "bad", "the text is too long for a date")
	}
	st.b.spend(L, 64)
	t, err := parseDate(s)
	if err != nil {
		return fail(L, "bad", quote(s)+" is no date of RFC 5322 or RFC 3339")
	}
	L.Push(lua.LNumber(float64(t.UnixMilli()) / 1e3))
	return 1
}

// parseDate reads a date of either form, which the hyphen behind a year tells.
func parseDate(s string) (time.Time, error) {
	if len(s) < len(time.DateOnly) || s[4] != '-' {
		return mail.ParseDate(s)
	}
	if len(s) == len(time.DateOnly) {
		return time.Parse(time.DateOnly, s)
	}
	return time.Parse(time.RFC3339, s)
}

// timeDate is time.date(seconds, zone): a table of the parts.
func (st *state) timeDate(L *lua.LState) int {
	t, wrong := st.timeArguments(L, 1, 2)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	name, offset := t.Zone()
	out := L.CreateTable(0, 10)
	for part, n := range map[string]int{
		"year": t.Year(), "month": int(t.Month()), "day": t.Day(), "hour": t.Hour(), "min": t.Minute(), "sec": t.Second(),
		"weekday": (int(t.Weekday())+6)%7 + 1, "yearday": t.YearDay(), "offset": offset,
	} {
		out.RawSetString(part, lua.LNumber(n))
	}
	out.RawSetString("zone", lua.LString(name))
	L.Push(out)
	return 1
}
