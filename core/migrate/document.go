package migrate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// document is a postern.toml in the making.
type document struct {
	head   []string // comment lines at its beginning
	tables []*section
}

// section is one table, or one of an array of tables.
type section struct {
	name string
	list bool
	note string // comment above it
	rows []pair
}

type pair struct {
	key, value, from string
}

// inline is a table written within a line.
type inline []pair

// raw is a value as it stands in the file.
type raw string

// one is the table of a name, made where it is not there.
func (d *document) one(name string) *section {
	for _, t := range d.tables {
		if t.name == name && !t.list {
			return t
		}
	}
	t := &section{name: name}
	d.tables = append(d.tables, t)
	return t
}

// add begins another table of an array.
func (d *document) add(name, note string) *section {
	t := &section{name: name, list: true, note: note}
	d.tables = append(d.tables, t)
	return t
}

// all are the tables of an array.
func (d *document) all(name string) (list []*section) {
	for _, t := range d.tables {
		if t.name == name && t.list {
			list = append(list, t)
		}
	}
	return list
}

// set gives a key a value; from says where it comes from.
func (t *section) set(key string, value any, from string) *section {
	v := tomlValue(value)
	for i := range t.rows {
		if t.rows[i].key == key {
			t.rows[i].value, t.rows[i].from = v, from
			return t
		}
	}
	t.rows = append(t.rows, pair{key, v, from})
	return t
}

// has tells whether a key has a value.
func (t *section) has(key string) bool {
	return slices.ContainsFunc(t.rows, func(p pair) bool { return p.key == key })
}

// order is the order of tables in a file; others come behind these.
func order() []string {
	return []string{"server", "listen", "limits", "tls", "auth", "dkim", "dns", "domain", "lookup", "route", "local", "queue", "delivery", "policy", "score", "log", "console"}
}

func (d *document) String() string {
	var b strings.Builder
	for _, l := range d.head {
		b.WriteString("# " + strings.Map(printable, l) + "\n")
	}
	place := func(t *section) int {
		if i := slices.Index(order(), t.name); i >= 0 {
			return i
		}
		return len(order())
	}
	sorted := slices.Clone(d.tables)
	slices.SortStableFunc(sorted, func(a, b *section) int { return place(a) - place(b) })
	for _, t := range sorted {
		if len(t.rows) == 0 && !t.list {
			continue
		}
		b.WriteByte('\n')
		if t.note != "" {
			b.WriteString("# " + strings.Map(printable, t.note) + "\n")
		}
		if t.list {
			fmt.Fprintf(&b, "[[%s]]\n", t.name)
		} else {
			fmt.Fprintf(&b, "[%s]\n", t.name)
		}
		for _, p := range t.rows {
			b.WriteString(p.key + " = " + p.value)
			if p.from != "" && !strings.Contains(p.value, "\n") {
				b.WriteString(" # " + strings.Map(printable, p.from))
			}
			b.WriteByte('\n')
		}
	}
	return strings.TrimLeft(b.String(), "\n")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r == '\ufffd' {
		return ' '
	}
	return r
}

// tomlValue writes a value as TOML has it.
func tomlValue(v any) string {
	switch t := v.(type) {
	case raw:
		return string(t)
	case string:
		return tomlString(t)
	case bool:
		return strconv.FormatBool(t)
	case int:
		return strconv.Itoa(t)
	case int64:
		return strconv.FormatInt(t, 10)
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64)
	case []string:
		return tomlList(t)
	case inline:
		parts := make([]string, len(t))
		for i, p := range t {
			parts[i] = p.key + " = " + p.value
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	panic(fmt.Sprintf("migrate: no TOML for a %T", v)) // a mistake of ours
}

func tomlList(list []string) string {
	parts := make([]string, len(list))
	length := 0
	for i, s := range list {
		parts[i] = tomlString(s)
		length += len(parts[i]) + 2
	}
	if length < 90 {
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "[\n  " + strings.Join(parts, ",\n  ") + ",\n]"
}

// tomlString is a basic string; bytes that are no UTF-8, which TOML can't hold, become
// U+FFFD.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
