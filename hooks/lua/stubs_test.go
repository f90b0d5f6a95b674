package lua

import (
	"bytes"
	"strings"
	"testing"

	"github.com/yuin/gopher-lua/parse"

	"github.com/postern-mta/postern/hooks"
)

// The stubs are Lua, and have every entry of the table that an editor does not
// know of itself.
func TestStubs(t *testing.T) {
	var b bytes.Buffer
	if err := WriteStubs(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if _, err := parse.Parse(strings.NewReader(text), "postern.lua"); err != nil {
		t.Fatal(err)
	}
	for _, e := range Reference() {
		var want string
		switch {
		case knownToEditors(e.Of), e.Kind == LibraryEntry && knownToEditors(e.Type):
			continue
		case e.Kind == FieldEntry:
			want = "---@field " + e.Member + " " + e.Type + " "
		case e.Kind == MethodEntry:
			want = "function " + stubName(e.Of) + ":" + e.Member + "("
		case e.Kind == FunctionEntry && e.Of != "":
			want = "function " + stubName(e.Of) + "." + e.Member + "("
		case e.Kind == LibraryEntry, e.Kind == GlobalEntry && e.Of == "" && e.Type == "setting":
			want = "---@type " + e.Type + "\n" + e.Member + " = nil\n"
		case e.Member == "policy" || e.Member == "reject" || e.Member == "now":
			want = "function " + e.Member + "("
		default:
			continue // of the language
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: no %q", e.Name, want)
		}
	}
	for _, row := range hooks.Stages() {
		if !strings.Contains(text, "---@field "+row.Name+"? fun(") {
			t.Errorf("no function of stage %s", row.Name)
		}
	}
	for _, c := range Classes() {
		if !knownToEditors(c.Name) && strings.Count(text, "@class "+c.Name+"\n")+strings.Count(text, "@alias "+c.Name+" ") != 1 {
			t.Errorf("class %s is not there once", c.Name)
		}
	}
}
