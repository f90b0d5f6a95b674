package lua

import (
	"slices"
	"strings"
)

// alternatives are the types that a type stands for, without nil.
func alternatives(typ string) (list []string) {
	depth, from, quoted := 0, 0, false
	add := func(s string) {
		for strings.HasSuffix(s, "?") {
			s = strings.TrimSuffix(s, "?")
		}
		if s != "" && s != "nil" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for i := range len(typ) {
		switch c := typ[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '<':
			depth++
		case c == ')' || c == '>':
			depth--
		case c == '|' && depth == 0:
			add(typ[from:i])
			from = i + 1
		}
	}
	add(typ[from:])
	return list
}

// classes are the classes that a value may be of; nil where it may be anything
// else.
func (w *linter) classes(typ string) []string {
	list := alternatives(typ)
	for _, one := range list {
		if c := w.x.classes[one]; c == nil || c.Open {
			return nil
		}
	}
	return list
}

// class is the one class that a value is of, or "".
func (w *linter) class(typ string) string {
	if list := w.classes(typ); len(list) == 1 {
		return list[0]
	}
	return ""
}

// kind is what a value surely is where it is not nil: string, number, boolean,
// table, function, or the class of an object; "" where that is not known.
func (w *linter) kind(typ string) string {
	kind := ""
	for i, one := range alternatives(typ) {
		k := w.kindOf(one)
		if k == "" || i > 0 && k != kind {
			return ""
		}
		kind = k
	}
	return kind
}

func (w *linter) kindOf(one string) string {
	switch {
	case one == "integer":
		return "number"
	case strings.HasPrefix(one, `"`):
		return "string"
	case strings.HasSuffix(one, "[]"), strings.HasPrefix(one, "table<"):
		return "table"
	case slices.Contains([]string{"string", "number", "boolean", "table", "function"}, one):
		return one
	}
	c := w.x.classes[one]
	switch {
	case c == nil || c.Open || one == "setting":
		return ""
	case c.Plain, one == "cidrs", one == "domainlist", strings.HasSuffix(one, "lib"):
		return "table"
	}
	return one
}

// element is the type of a list's items, or "".
func (w *linter) element(typ string) string {
	list := alternatives(typ)
	if len(list) != 1 {
		return ""
	}
	switch list[0] {
	case "recipients":
		return "rcpt"
	case "cidrs", "domainlist":
		return "string"
	}
	of, ok := strings.CutSuffix(list[0], "[]")
	if !ok || strings.HasPrefix(of, "(") {
		return ""
	}
	return of
}

// mapValue is the type of a table's named values, or "".
func mapValue(typ string) string {
	list := alternatives(typ)
	if len(list) != 1 {
		return ""
	}
	of, ok := strings.CutPrefix(list[0], "table<string, ")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(of, ">")
}

// settingType is the type of a setting's value, an enum's choices told.
func (d *settingDecl) settingType() string {
	if len(d.kind.choices) == 0 {
		return valueType(d.kind.String())
	}
	quoted := make([]string, len(d.kind.choices))
	for i, c := range d.kind.choices {
		quoted[i] = `"` + c + `"`
	}
	return strings.Join(quoted, "|")
}

// withArticle is a kind as sentences call it.
func withArticle(kind string) string {
	if strings.Contains("aeiou", kind[:1]) {
		return "an " + kind
	}
	return "a " + kind
}
