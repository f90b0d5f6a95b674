package lua

import (
	"context"
	"fmt"

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
	st.changeBody(L, e)
	return 0
}

// maxBodies bounds the changes of the body that one call makes.
const maxBodies = 20

// changeBody notes a change of the body. What it makes of the message is found out
// when the handler looks: most that put a footer do not.
func (st *state) changeBody(L *lua.LState, e hooks.Edit) {
	c := &st.call
	st.edit(L, e)
	if c.bodies++; c.bodies > maxBodies {
		// As where one can't be made: the message may hold what was to be taken out.
		st.b.fail(fmt.Errorf("limit: %w: more than %d changes of the body in one call", hooks.ErrBody, maxBodies))
		L.RaiseError("%s", st.b.over.Error())
	}
	c.bodyEdits = append(c.bodyEdits, e)
}

// editBody makes the handler's own changes of the body where they are not made yet,
// so that it sees them in tx.body, tx.mime and tx.headers.
func (st *state) editBody(L *lua.LState) {
	c := &st.call
	if len(c.bodyEdits) == 0 {
		return
	}
	list := c.bodyEdits
	c.bodyEdits, c.mime = nil, nil
	body, start, h := c.body, c.start, c.header
	if body == nil {
		body, start = c.event.Body, c.event.Content
	}
	if h == nil {
		h = c.event.Header.Clone()
	}
	work := &mimeCall{}
	for _, e := range list {
		var err error
		st.wait(L, func(ctx context.Context) {
			body, start, _, err = hooks.EditBody(h, heldBody{body, ctx, work}, start, e)
		})
		st.pay(L, work)
		if err != nil { // not for pcall: the message may hold what was to be taken out
			st.b.fail(fmt.Errorf("%s: %w", e.Kind, err))
			L.RaiseError("%s", st.b.over.Error())
		}
	}
	c.body, c.start, c.header = body, start, h
}

// bodyFooter is tx.body:footer{ text =, html =, top = }.
func (st *state) bodyFooter(L *lua.LState) int {
	st.content(L)
	fields, err := st.plain(L, L.CheckTable(2))
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
	st.changeBody(L, hooks.Edit{Kind: hooks.AddFooter, Any: given})
	return 0
}
