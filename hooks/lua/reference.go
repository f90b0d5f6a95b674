package lua

import (
	"slices"
	"strings"

	"github.com/postern-mta/postern/hooks"
)

// EntryKind tells what an Entry is.
type EntryKind string

// The kinds of entries.
const (
	GlobalEntry   EntryKind = "global"   // a value: a constant, or the type of a setting
	LibraryEntry  EntryKind = "library"  // a table of functions; its Type names the class of its members
	FunctionEntry EntryKind = "function" // called with a dot, or alone
	MethodEntry   EntryKind = "method"   // called with a colon
	FieldEntry    EntryKind = "field"    // read, and set at SetAt
)

// Entry is one thing that a script can use. The table of them is the one source
// of the reference in docs/lua.md, of editor stubs, of the analysis of scripts, and
// of what "did you mean" looks through.
type Entry struct {
	Name    string        // as documents call it: "dns.a", "tx.headers:get", "now"
	Of      string        // the class whose member it is, "" for a global
	Member  string        // its name there: "get"; of a global, Name
	Kind    EntryKind     // of the entry
	Type    string        // of a field or global, of a library the class of its members
	Params  []Param       // of a function or method, without the object itself
	Returns []string      // types, in order
	Doc     string        // one to three sentences
	Stages  []hooks.Stage // where it is legal; nil: wherever its object is
	SetAt   []hooks.Stage // where a field can be set; nil: nowhere
	Example string        // Lua; what a line gives stands behind -->
	At      hooks.Stage   // where the example runs
}

// Param is one parameter. The name "..." stands for any number of them.
type Param struct {
	Name     string
	Type     string
	Optional bool
}

// Class is a type of the table: an object with members, or a name for other
// types. Types are written as LuaLS does: string, number, integer, boolean, nil,
// table, function, any, a class, T[], T?, T|U, "text".
type Class struct {
	Name  string
	Shown string // as documents call a value of it: "tx.headers"
	Doc   string
	Alias string // the types it stands for; "" for one with members
	Plain bool   // a plain table that is read-only or the caller's own, and has only fields
	Open  bool   // any further member is legal
}

// Fails tells whether the function answers nil and an error where it can't
// answer.
func (e *Entry) Fails() bool { return len(e.Returns) > 1 && e.Returns[1] == "error?" }

// Signature is the entry as documents show it: `dns.a(name: string): ip[]?, error?`.
func (e *Entry) Signature() string {
	if e.Kind != FunctionEntry && e.Kind != MethodEntry {
		if e.Kind == LibraryEntry {
			return e.Name
		}
		return e.Name + ": " + e.Type
	}
	var b strings.Builder
	b.WriteString(e.Name)
	b.WriteByte('(')
	for i, p := range e.Params {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.Name)
		if p.Optional {
			b.WriteByte('?')
		}
		b.WriteString(": " + p.Type)
	}
	b.WriteByte(')')
	if len(e.Returns) > 0 {
		b.WriteString(": " + strings.Join(e.Returns, ", "))
	}
	return b.String()
}

// Reference lists all entries in the order of the documents.
func Reference() []Entry {
	var list []Entry
	for _, s := range sections() {
		for _, i := range s.items {
			if i.there() {
				list = append(list, s.entry(i))
			}
		}
	}
	return list
}

// Classes lists the types that entries name, in the order of the documents.
func Classes() []Class {
	list := aliases()
	for _, s := range sections() {
		if s.class != "" {
			list = append(list, Class{Name: s.class, Shown: s.name, Doc: s.doc, Plain: s.plain, Open: s.open})
		}
	}
	return list
}

// Arguments are the parameters of the function that a policy has for a stage.
func Arguments(at hooks.Stage) []Param {
	row := at.Row()
	switch {
	case at == hooks.Deny:
		return []Param{{Name: "tx", Type: "tx|conn"}, {Name: "refusal", Type: "refusal"}}
	case at == hooks.Auth:
		return []Param{{Name: "conn", Type: "conn"}, {Name: "login", Type: "login"}}
	case at == hooks.Command:
		return []Param{{Name: "conn", Type: "conn"}, {Name: "line", Type: "line"}}
	case at == hooks.DSN:
		return []Param{{Name: "tx", Type: "tx"}, {Name: "notice", Type: "notice"}}
	case row.Scope == hooks.OfConnection:
		return []Param{{Name: "conn", Type: "conn"}}
	case row.Scope == hooks.OfPolicy:
		return nil
	}
	list := []Param{{Name: "tx", Type: "tx"}}
	if row.Scope != hooks.OfRecipient && row.Scope != hooks.OfDelivery {
		return list
	}
	list = append(list, Param{Name: "rcpt", Type: "rcpt"})
	switch at {
	case hooks.Rcpt:
		return list
	case hooks.Route:
		return append(list, Param{Name: "plan", Type: "plan"})
	}
	return append(list, Param{Name: "try", Type: "plan"})
}

// section is a library, or a class of objects, with its members.
type section struct {
	name   string // what stands before the members: "dns", "tx.headers"; "" for globals
	class  string // of the members; "" for globals
	doc    string
	plain  bool
	open   bool
	stages []hooks.Stage // where the object is there; nil: wherever it can be had
	at     hooks.Stage   // where examples run; 0: rcpt
	items  []member
}

// member is an entry in the short form of the tables: what is a name behind a
// colon is a method, a signature in parentheses makes a function of it.
type member struct {
	name    string
	sig     string
	doc     string
	example string
	edit    hooks.EditKind
	set     bool
	kind    EntryKind
	stages  []hooks.Stage
}

// at says at which stages alone the member is there.
func (i member) at(stages ...hooks.Stage) member {
	i.stages = stages
	return i
}

// edits says which edit the member is, and so where it is legal.
func (i member) edits(kind hooks.EditKind) member {
	i.edit = kind
	return i
}

// settable says that the field can be set, and which edit that is.
func (i member) settable(kind hooks.EditKind) member {
	i.edit, i.set = kind, true
	return i
}

// def is a member without restrictions.
func def(name, sig, doc, example string) member {
	return member{name: name, sig: sig, doc: doc, example: example}
}

// lib is the global of a library.
func lib(name, class, doc string) member {
	return member{name: name, sig: class, doc: doc, kind: LibraryEntry}
}

func (s *section) entry(i member) Entry {
	name, method := strings.CutPrefix(i.name, ":")
	e := Entry{Of: s.class, Member: name, Kind: i.kind, Doc: i.doc, Example: i.example, Stages: s.stages, At: s.at}
	switch {
	case s.name == "":
		e.Name = name
	case method:
		e.Name = s.name + ":" + name
	default:
		e.Name = s.name + "." + name
	}
	switch {
	case !strings.HasPrefix(i.sig, "("):
		e.Type = i.sig
		if e.Kind == "" {
			e.Kind = FieldEntry
			if s.class == "" {
				e.Kind = GlobalEntry
			}
		}
	case e.Kind != "":
	case method:
		e.Kind = MethodEntry
	default:
		e.Kind = FunctionEntry
	}
	if e.Kind == FunctionEntry || e.Kind == MethodEntry {
		e.Params, e.Returns = parseSignature(i.sig)
	}
	if i.stages != nil {
		e.Stages = i.stages
	}
	switch {
	case i.set:
		e.SetAt = editStages(i.edit)
	case i.edit != 0:
		e.Stages = editStages(i.edit)
	}
	if e.At == 0 {
		e.At = hooks.Rcpt
	}
	for _, list := range [][]hooks.Stage{e.Stages, e.SetAt} {
		if len(list) > 0 && !slices.Contains(list, e.At) {
			e.At = list[0]
		}
	}
	return e
}

// editStages lists the stages that allow an edit.
func editStages(kind hooks.EditKind) (list []hooks.Stage) {
	for _, row := range hooks.Stages() {
		if row.AllowsEdit(kind) {
			list = append(list, row.Stage)
		}
	}
	return list
}

// parseSignature reads "(name: type, more?: type): type, type".
func parseSignature(sig string) (params []Param, returns []string) {
	end := closing(sig)
	for _, part := range split(sig[1:end]) {
		name, kind, _ := strings.Cut(part, ": ")
		name, optional := strings.CutSuffix(name, "?")
		params = append(params, Param{Name: name, Type: kind, Optional: optional})
	}
	return params, split(strings.TrimPrefix(sig[end+1:], ": "))
}

// closing is where the parenthesis closes that opens s.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(s) - 1
}

// split splits at commas outside of brackets.
func split(s string) (list []string) {
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '{', '<':
			depth++
		case ')', '}', '>':
			depth--
		case ',':
			if depth == 0 {
				list = append(list, strings.TrimSpace(s[from:i]))
				from = i + 1
			}
		}
	}
	if rest := strings.TrimSpace(s[from:]); rest != "" {
		list = append(list, rest)
	}
	return list
}

// members lists the names that a class has, for "did you mean".
func members(class string) (names []string) {
	for _, s := range sections() {
		if s.class != class {
			continue
		}
		for _, i := range s.items {
			if i.there() {
				names = append(names, strings.TrimPrefix(i.name, ":"))
			}
		}
	}
	return names
}

// sections are all tables, in the order of the documents. What makes an edit that
// no stage allows is left out.
func sections() []section {
	all := slices.Concat(languageSections(), objectSections(), librarySections())
	return slices.DeleteFunc(all, func(s section) bool {
		return len(s.items) > 0 && !slices.ContainsFunc(s.items, member.there)
	})
}

// there tells whether a stage allows what the member does.
func (i member) there() bool { return i.edit == 0 || i.set || len(editStages(i.edit)) > 0 }

// ValueType is the type of the setting's value in the script, in the table's
// notation.
func (s Setting) ValueType() string { return valueType(s.Type) }

func valueType(kind string) string {
	if of, ok := strings.CutPrefix(kind, "list("); ok {
		return valueType(strings.TrimSuffix(of, ")")) + "[]"
	}
	if of, ok := strings.CutPrefix(kind, "map("); ok {
		return "table<string, " + valueType(strings.TrimSuffix(of, ")")) + ">"
	}
	if strings.HasPrefix(kind, "enum{") {
		return "string"
	}
	switch kind {
	case "integer", "size":
		return "integer"
	case "number", "duration":
		return "number"
	case "boolean", "address", "cidrs":
		return kind
	case "domains":
		return "domainlist"
	case "regexp":
		return "regex?"
	case "file":
		return "filevalue?"
	}
	return "string"
}
