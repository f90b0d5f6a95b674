package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// section is one table of the file: its rows are its keys.
type section[S any] struct {
	name string // dotted, such as "delivery.rule"; empty for the whole file
	list bool   // written [[name]]
	doc  string
	rows []row[S]
	// begin, if any, sees each table before its keys are read.
	begin func(s *S, v value)
	// other, if any, takes the keys that no row names; without it they are errors.
	other func(s *S, name string, v value)
}

// row is one key: the name, how it is read and where it is put, its value where it is not written, and its meaning.
type row[S any] struct {
	name string
	bind binding[S]
	// def is the value as TOML would give it, or computed or required; nil leaves the zero value.
	def any
	doc string
}

// computed in place of a default says in words what the value depends on; finish fills it in.
type computed string

// required in place of a default is an example of what must be written.
type required string

// binding joins a way of reading with the field that takes the value.
type binding[S any] struct {
	typ   string
	later bool // refused as not available in this version
	// laterValues are values that are refused so, as the manual shows them.
	laterValues []string
	read        func(v value, s *S)
	// nested is set for tables: defaults of what is inside, and its documentation.
	nested   func(l *loader, s *S)
	keys     func() []KeyDoc
	repeated bool // may be written in several files
}

// to binds a kind to a field.
func to[S, T any](k kind[T], field func(*S) *T) binding[S] {
	return binding[S]{typ: k.typ, laterValues: k.later, read: func(v value, s *S) {
		if got, ok := k.read(v); ok {
			*field(s) = got
		}
	}}
}

// later binds a key that this version refuses.
func later[S any]() binding[S] {
	return binding[S]{later: true, read: func(v value, _ *S) {
		v.fail("not available in this version; leave it out")
	}}
}

// table binds a nested table that stands at most once.
func table[S, T any](sec section[T], field func(*S) *T) binding[S] {
	return binding[S]{
		typ: "table", repeated: true,
		nested: func(l *loader, s *S) { sec.setDefaults(l, field(s)) },
		keys:   sec.docs,
		read: func(v value, s *S) {
			if _, seen := v.load.keys[v.key]; !v.inList && !seen {
				v.load.keys[v.key] = v.pos("")
			}
			sec.walk(v, field(s))
		},
	}
}

// tables binds a list of tables; each file adds to it.
func tables[S, T any](sec section[T], field func(*S) *[]T) binding[S] {
	return binding[S]{
		typ: "list of tables", repeated: true,
		keys: sec.docs,
		read: func(v value, s *S) {
			for _, one := range v.tables() {
				var entry T
				sec.setDefaults(one.load, &entry)
				if !sec.walk(one, &entry) {
					continue
				}
				list := field(s)
				*list = append(*list, entry)
			}
		},
	}
}

// setDefaults gives every field the default of its row.
func (sec section[S]) setDefaults(l *loader, s *S) {
	for _, r := range sec.rows {
		if r.bind.nested != nil {
			r.bind.nested(l, s)
			continue
		}
		switch r.def.(type) {
		case nil, computed, required:
		default:
			r.bind.read(value{load: l, raw: r.def, key: join(sec.name, r.name), file: "default", inList: true}, s)
		}
	}
}

// walk reads one table into s and reports every key that is unknown, misplaced, missing or wrong; it is false where v
// is no table.
func (sec section[S]) walk(v value, s *S) bool {
	tree, ok := v.raw.(map[string]any)
	if !ok {
		v.fail("%s; write it as %s", v.found(), sec.header())
		return false
	}
	if sec.begin != nil {
		sec.begin(s, v)
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		child := v.child(name, tree[name])
		i := slices.IndexFunc(sec.rows, func(r row[S]) bool { return r.name == name })
		switch {
		case i < 0 && sec.other != nil:
			sec.other(s, name, child)
		case i < 0:
			child.fail("%s", sec.unknown(name))
		case sec.rows[i].bind.repeated || child.firstTime():
			sec.rows[i].bind.read(child, s)
		}
	}
	for _, r := range sec.rows {
		example, ok := r.def.(required)
		if _, written := tree[r.name]; ok && !written {
			v.failKey(r.name, "missing; write %s = %s", r.name, string(example))
		}
	}
	return true
}

// header is the table's name as it is written in a file.
func (sec section[S]) header() string {
	if sec.list {
		return "[[" + sec.name + "]]"
	}
	return "[" + sec.name + "]"
}

// unknown says what to write in place of a key that sec doesn't have.
func (sec section[S]) unknown(name string) string {
	what, names := "unknown key", []string{}
	if sec.name == "" {
		what = "unknown section"
	}
	for _, r := range sec.rows {
		if !r.bind.later {
			names = append(names, r.name)
		}
	}
	if near := Suggest(name, names); near != "" {
		return fmt.Sprintf("%s; did you mean %q?", what, near)
	}
	var homes []string
	for _, k := range Keys() {
		if k.Key == name && k.Section != sec.name && k.Section != "" && !slices.Contains(homes, k.header()) {
			homes = append(homes, k.header())
		}
	}
	if len(homes) > 0 {
		return fmt.Sprintf("%s; %q belongs to %s", what, name, strings.Join(homes, " or "))
	}
	if sec.name == "" {
		return what + "; there are " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s; %s has %s", what, sec.header(), strings.Join(names, ", "))
}

// value is one value of a file on its way into a field, with all that a message about it needs.
type value struct {
	load   *loader
	raw    any
	node   *node
	file   string
	key    string // dotted
	inList bool   // below a [[list]], where the same key stands once an entry
}

// child is the value under a key of the table v.
func (v value) child(name string, raw any) value {
	c := v
	c.raw, c.node, c.key = raw, v.node.child(name), join(v.key, name)
	if c.node == nil {
		c.node = &node{line: v.line()}
	}
	return c
}

// item is the i-th element of the list v.
func (v value) item(i int, raw any) value {
	c := v.entry(i, raw)
	c.key += "[" + strconv.Itoa(i) + "]"
	return c
}

// entry is the i-th table of the [[list]] v, whose keys are told apart by their lines alone.
func (v value) entry(i int, raw any) value {
	c := v
	c.raw, c.inList = raw, true
	if n := v.node.item(i); n != nil {
		c.node = n
	}
	return c
}

// tables are the entries of v as a list of tables; a single table counts as one, and is reported.
func (v value) tables() []value {
	var out []value
	switch raw := v.raw.(type) {
	case []map[string]any:
		for i, t := range raw {
			out = append(out, v.entry(i, t))
		}
	case []any:
		for i, t := range raw {
			out = append(out, v.entry(i, t))
		}
	case map[string]any:
		v.fail("one table where a list of them belongs; write [[%s]]", v.key)
		one := v
		one.inList = true
		out = append(out, one)
	default:
		v.fail("%s; write [[%s]]", v.found(), v.key)
	}
	return out
}

// firstTime notes where a key of a [section] stands, and reports the second place.
func (v value) firstTime() bool {
	if v.inList {
		return true
	}
	if at, seen := v.load.keys[v.key]; seen && at.File != v.file {
		v.fail("is already set at %s:%d; leave one of the two out", at.File, at.Line)
		return false
	}
	v.load.keys[v.key] = v.pos("")
	return true
}

// pos is where v stands; problems of keys below it are reported with the section's name before them.
func (v value) pos(section string) Pos {
	return Pos{File: v.file, Line: v.line(), section: section, node: v.node}
}

// line is the line of v, at least 1.
func (v value) line() int {
	if v.node == nil {
		return 1
	}
	return max(1, v.node.line)
}

// fail reports what is wrong with v; what to write.
func (v value) fail(format string, args ...any) {
	v.failKey("", format, args...)
}

// failKey reports what is wrong with a key of the table v.
func (v value) failKey(name, format string, args ...any) {
	v.load.problems = append(v.load.problems, Problem{
		File: v.file, Line: v.line(), Key: join(v.key, name), Text: oneLine(fmt.Sprintf(format, args...)),
	})
}

// found describes a value of the wrong type.
func (v value) found() string {
	switch v.raw.(type) {
	case string:
		return "is a string"
	case int64:
		return "is an integer"
	case float64:
		return "is a number"
	case bool:
		return "is a boolean"
	case []any, []map[string]any:
		return "is a list"
	case map[string]any:
		return "is a table"
	default:
		return "is a date or time"
	}
}
