package migrate

import "strings"

// ini is a file of sections; what stands before the first is in "main", as Haraka has it.
type ini map[string]map[string]value

// value is one of a key, with its line.
type value struct {
	text string
	line int
}

// readINI reads the form that Haraka reads: [section], key=value, ; and # in front of
// comments, a backslash at a line's end that continues it. Of a key given twice the last
// counts, and a key alone is true.
func readINI(text string) ini {
	out := ini{"main": {}}
	section, n := "main", 0
	held, from := "", 0
	for l := range strings.Lines(text) {
		n++
		l = strings.TrimSpace(l)
		if held == "" {
			from = n
		}
		if rest, ok := strings.CutSuffix(l, `\`); ok {
			held += rest
			continue
		}
		l, held = held+l, ""
		switch {
		case l == "" || l[0] == ';' || l[0] == '#':
		case l[0] == '[' && strings.HasSuffix(l, "]"):
			section = strings.TrimSpace(l[1 : len(l)-1])
			if out[section] == nil {
				out[section] = map[string]value{}
			}
		default:
			k, v, ok := strings.Cut(l, "=")
			if !ok {
				v = "true"
			}
			v, _, _ = strings.Cut(v, " ;")
			out[section][strings.TrimSpace(k)] = value{strings.TrimSpace(v), from}
		}
	}
	return out
}

// get is the value of a key; "" where it is not there.
func (i ini) get(section, key string) string { return i[section][key].text }

// yes tells whether a switch is on; or where it is not there.
func (i ini) yes(section, key string, or bool) bool {
	v, ok := i[section][key]
	if !ok {
		return or
	}
	switch strings.ToLower(v.text) {
	case "true", "yes", "ok", "enabled", "on", "1":
		return true
	}
	return false
}
