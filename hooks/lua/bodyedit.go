package lua

import (
	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// bodyReplace is tx.body:replace(text, type): the message becomes that text, of
// type text/plain where nothing is said. Type "raw" takes the text for the content
// as it stands, for the fields that the message has.
func (st *state) bodyReplace(L *lua.LState) int {
	st.content(L)
	e := hooks.Edit{Kind: hooks.ReplaceBody, Value: st.headerValue(L, 2), Name: L.OptString(3, "text/plain")}
	if e.Name == "raw" {
		e.Name = ""
	}
	st.allow(L, e.Kind)
	st.b.spend(L, len(e.Value)>>5)
	if _, err := message.ReplaceText(&message.Header{}, e.Value, e.Name); err != nil {
		L.RaiseError("%s: %s", e.Kind, err.Error())
	}
	st.edit(L, e)
	return 0
}

// bodyFooter is tx.body:footer{ text =, html =, top = }.
func (st *state) bodyFooter(L *lua.LState) int {
	st.content(L)
	fields, err := toPlain(L.CheckTable(2))
	if err != nil {
		L.ArgError(2, err.Error())
	}
	given, _ := fields.(map[string]any)
	for name, v := range given {
		ok := false
		switch name {
		case "text", "html":
			_, ok = v.(string)
		case "top":
			_, ok = v.(bool)
		}
		if !ok {
			L.ArgError(2, "a footer is { text = …, html = …, top = true }: texts, and true or false; "+quote(name)+" is not")
		}
	}
	if given["text"] == nil && given["html"] == nil {
		L.ArgError(2, "a footer needs text, html or both")
	}
	st.edit(L, hooks.Edit{Kind: hooks.AddFooter, Any: given})
	return 0
}
