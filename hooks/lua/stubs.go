package lua

import (
	"fmt"
	"io"
	"strings"

	"github.com/postern-mta/postern/hooks"
)

// WriteStubs writes the table of entries as annotations of lua-language-server
// (EmmyLua), by which editors complete and check scripts. It is a file that is
// never run.
func WriteStubs(w io.Writer) error {
	var b strings.Builder
	b.WriteString("---@meta postern\n-- What Postern's scripts can use, for lua-language-server. Written by: postern policy stubs\n\n")
	for _, c := range Classes() {
		if c.Alias != "" {
			fmt.Fprintf(&b, "---%s\n---@alias %s %s\n\n", c.Doc, c.Name, c.Alias)
		}
	}
	writePolicyClass(&b)
	for _, s := range sections() {
		s.stub(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writePolicyClass says which functions a policy has, and what each is given.
func writePolicyClass(b *strings.Builder) {
	b.WriteString("---The keys of policy { }.\n---@class policydeclaration\n")
	for _, f := range [...][3]string{
		{"about", "string", "One line that says what the policy does."},
		{"settings", "table<string, setting>", "Its settings: NAME = TYPE default : about \"…\"."},
		{"on_failure", `"defer"|"pass"`, "What follows a failure."},
		{"immune", `("relaying"|"authenticated")[]`, "Clients that it leaves alone."},
		{"timeout", "span", "Of one call."},
		{"deny_at", denyWords(), "The stage until which its refusals are kept."},
		{"every", "span", "How often tick is called."},
	} {
		fmt.Fprintf(b, "---@field %s? %s %s\n", f[0], f[1], f[2])
	}
	b.WriteString("\n---A policy: its settings are fields, its functions are named after stages.\n---@class policy\n---@field [string] any\n")
	for _, row := range hooks.Stages() {
		var params []string
		for _, p := range Arguments(row.Stage) {
			params = append(params, p.Name+": "+p.Type)
		}
		result := ": decision?"
		if row.Observe {
			result = ""
		}
		fmt.Fprintf(b, "---@field %s? fun(%s)%s %s\n", row.Name, strings.Join(params, ", "), result, row.When)
	}
	b.WriteByte('\n')
}

func denyWords() string {
	var words []string
	for _, at := range hooks.DenyStages() {
		words = append(words, `"`+at.String()+`"`)
	}
	return strings.Join(words, "|")
}

// ownLua are libraries that the editor knows: only what is Postern's own is
// written of them.
var ownLua = [...]string{"stringlib", "tablelib", "mathlib", "debuglib"}

func knownToEditors(class string) bool {
	for _, one := range ownLua {
		if one == class {
			return true
		}
	}
	return false
}

// stub writes a class with its members, or globals.
func (s *section) stub(b *strings.Builder) {
	if knownToEditors(s.class) || s.class == "" && s.doc == "basic functions" {
		return
	}
	object := s.class
	if s.class != "" {
		fmt.Fprintf(b, "---%s\n---@class %s\n", oneDocLine(s.doc), s.class)
		if s.open {
			b.WriteString("---@field [string] any\n")
		}
		if s.class == "setting" {
			b.WriteString("---@operator call(any): setting\n")
		}
	}
	var calls []Entry
	for _, i := range s.items {
		if !i.there() {
			continue
		}
		switch e := s.entry(i); {
		case e.Kind == FieldEntry:
			fmt.Fprintf(b, "---@field %s %s %s\n", e.Member, e.Type, stubDoc(&e))
		case e.Kind == LibraryEntry && knownToEditors(e.Type):
		case e.Kind == LibraryEntry, e.Kind == GlobalEntry:
			fmt.Fprintf(b, "---%s\n---@type %s\n%s = nil\n\n", stubDoc(&e), e.Type, e.Member)
		default:
			calls = append(calls, e)
		}
	}
	if s.class == "" {
		object = ""
	} else {
		fmt.Fprintf(b, "local %s = {}\n\n", stubName(object))
	}
	for i := range calls {
		calls[i].stub(b, object)
	}
}

// stubName is a name for the local variable of a class.
func stubName(class string) string { return "_" + class }

func oneDocLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// stubDoc is the entry's doc with the stages where it is legal.
func stubDoc(e *Entry) string {
	doc := oneDocLine(e.Doc)
	if len(e.Stages) > 0 {
		doc += " At " + wordsOf(e.Stages) + "."
	}
	if len(e.SetAt) > 0 {
		doc += " Settable at " + wordsOf(e.SetAt) + "."
	}
	return doc
}

func wordsOf(stages []hooks.Stage) string {
	words := make([]string, 0, len(stages))
	for _, at := range stages {
		words = append(words, at.String())
	}
	return strings.Join(words, ", ")
}

// stub writes a function or method.
func (e *Entry) stub(b *strings.Builder, object string) {
	fmt.Fprintf(b, "---%s\n", stubDoc(e))
	var names []string
	for _, p := range e.Params {
		name, kind := p.Name, p.Type
		if e.Of == "" && e.Member == "policy" {
			kind = "policydeclaration"
		}
		names = append(names, name)
		if p.Optional {
			name += "?"
		}
		fmt.Fprintf(b, "---@param %s %s\n", name, kind)
	}
	for _, r := range e.Returns {
		switch {
		case e.Of == "" && e.Member == "policy":
			r = "policy"
		case r == "...":
			r = "any ..."
		}
		fmt.Fprintf(b, "---@return %s\n", r)
	}
	name := e.Member
	switch {
	case object != "" && e.Kind == MethodEntry:
		name = stubName(object) + ":" + e.Member
	case object != "":
		name = stubName(object) + "." + e.Member
	}
	fmt.Fprintf(b, "function %s(%s) end\n\n", name, strings.Join(names, ", "))
}
