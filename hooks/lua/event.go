package lua

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// assignable is a value of ours whose members can be set.
type assignable interface {
	assign(st *state, L *lua.LState, k, v lua.LValue)
}

// classes are the metatables of the values of ours, and the values of which a
// call needs one.
type classes struct {
	kind, settingClass, decisionClass          *lua.LTable
	addressClass, ipClass, regexClass          *lua.LTable
	rcptClass, notesClass, planClass, rcptList *lua.LTable
	textLib                                    *lua.LTable
	tcpClass, partClass, lateClass             *lua.LTable
	noticeClass, copyClass                     *lua.LTable
	same, text                                 *lua.LFunction
	mimeWalks                                  mimeWalks

	tx, conn, headers, body, mime, capabilities *lua.LUserData
	txNotes, connNotes, current                 *lua.LUserData
}

// call is what one call is about, and what it changed so far: a handler sees its
// own edits, and the transaction itself stays as it is.
type call struct {
	at    hooks.Stage
	row   *hooks.Row
	event *hooks.Transaction
	edits []hooks.Edit

	sender, ip, localIP, host lua.LValue // read before
	rcpts                     []*rcpt    // made of the transaction's on first use
	rcptTable                 *lua.LTable
	current                   *rcpt
	plan                      *lua.LUserData

	mime      *mimeCall       // found on first use
	header    *message.Header // with own edits, nil before the first
	body      message.Body    // with own edits, nil before the first
	start     int64           // of the content in body
	bodyEdits []hooks.Edit    // own ones that body and header do not have yet
	bodies    int             // own edits of the body
	notes     map[string]any  // own edits; a nil value is a note taken away
	connNotes map[string]any
	results   map[string]map[string]any
	rcptNotes map[*hooks.Recipient]map[string]any
	offers    []string // own changes of conn.capabilities made; nil before the first
	score     float64
	received  *string
	logged    int
}

// object is a value of ours.
func (st *state) object(value any, class *lua.LTable) *lua.LUserData {
	return &lua.LUserData{Value: value, Metatable: class}
}

// newClass makes a metatable. index is a function, or a table of methods with a
// function behind it for the rest.
func (st *state) newClass(index lua.LValue) *lua.LTable {
	t := st.L.CreateTable(0, 4)
	t.RawSetString("__index", index)
	if st.text != nil {
		t.RawSetString("__tostring", st.text)
	}
	t.RawSetString("__metatable", lua.LString("locked"))
	return t
}

// single makes the class of a value that a state has only one of: methods are
// found without a call, fields by the function.
func (st *state) single(methods map[string]lua.LGFunction, field lua.LGFunction) *lua.LTable {
	index := st.library(methods)
	index.Metatable = st.newClass(st.L.NewFunction(field))
	return st.newClass(index)
}

func (st *state) newClasses() {
	L := st.L
	st.readonly = st.newClass(lua.LNil)
	st.lateClass = st.newClass(L.NewFunction(st.lateIndex))
	st.text = L.NewFunction(func(L *lua.LState) int {
		u := L.CheckUserData(1)
		if s, ok := u.Value.(fmt.Stringer); ok {
			L.Push(lua.LString(s.String()))
		} else {
			L.Push(lua.LString(kindOf(u)))
		}
		return 1
	})
	equal := L.NewFunction(func(L *lua.LState) int {
		a, b := L.CheckUserData(1), L.CheckUserData(2)
		L.Push(lua.LBool(a.Value == b.Value))
		return 1
	})
	st.openSettingClasses()
	st.decisionClass = st.newClass(L.NewFunction(st.noMember))
	st.addressClass = st.newClass(L.NewFunction(st.addressField))
	st.ipClass = st.newClass(L.NewFunction(st.ipField))
	st.addressClass.RawSetString("__eq", equal)
	st.ipClass.RawSetString("__eq", equal)
	st.regexClass = st.single(map[string]lua.LGFunction{
		"find": st.regexFind, "match": st.regexMatch, "gmatch": st.regexGmatch, "replace": st.regexReplace,
	}, st.missing("a regex", "regex"))
	st.rcptClass = st.newClass(L.NewFunction(st.rcptField))
	st.notesClass = st.newClass(L.NewFunction(st.noteField))
	st.planClass = st.newClass(L.NewFunction(st.planField))
	st.noticeClass = st.newClass(L.NewFunction(st.noticeField))
	st.copyClass = st.single(map[string]lua.LGFunction{
		"prepend": st.copyPrepend, "append": st.copyAppend, "remove": st.copyRemove,
	}, st.missing("rcpt.headers", "rcpthead"))
	st.rcptList = st.single(map[string]lua.LGFunction{
		"add": st.rcptsAdd, "remove": st.rcptsRemove, "replace": st.rcptsReplace,
	}, st.missing("tx.recipients", "recipients"))
	st.newSingles()
}

// newSingles makes the values of which a call has one.
func (st *state) newSingles() {
	tx := map[string]lua.LGFunction{
		"score": st.addScore, "result": st.setResult, "results": st.getResults, "tag": st.addTag, "skip": st.skip, "route": st.route, "priority": st.priority,
		"pardon": st.pardon, "each_rcpt": st.eachRcpt, "ret": st.setReturn,
	}
	st.tx = st.object(txObject{}, st.single(tx, st.txField))
	st.conn = st.object(connObject{}, st.single(map[string]lua.LGFunction{
		"score": st.addScore, "result": st.setResult, "results": st.getResults, "tag": st.addTag, "skip": st.skip, "pardon": st.pardon, "early": st.early,
	}, st.connField))
	st.headers = st.object(headersObject{}, st.single(map[string]lua.LGFunction{
		"get": st.headerGet, "all": st.headerAll, "raw": st.headerRaw, "each": st.headerEach,
		"prepend": st.headerPrepend, "append": st.headerAppend, "replace": st.headerReplace, "remove": st.headerRemove,
	}, st.missing("tx.headers", "headers")))
	st.body = st.object(bodyObject{}, st.single(map[string]lua.LGFunction{
		"read": st.bodyRead, "contains": st.bodyContains, "match": st.bodyMatch, "replace": st.bodyReplace, "footer": st.bodyFooter,
	}, st.bodyField))
	st.mimeWalks = mimeWalks{st.L.NewFunction(st.mimeParts), st.L.NewFunction(st.mimeAttachments), st.L.NewFunction(st.mimeURLs), st.L.NewFunction(st.mimeAllText)}
	st.mime = st.object(mimeObject{}, st.newClass(st.L.NewFunction(st.mimeField)))
	st.partClass = st.newClass(st.L.NewFunction(st.partField))
	st.capabilities = st.object(capabilitiesObject{}, st.single(map[string]lua.LGFunction{
		"add": st.capabilityAdd, "remove": st.capabilityRemove, "get": st.capabilityGet, "list": st.capabilityList,
	}, st.missing("conn.capabilities", "capabilities")))
	st.txNotes = st.object(&notes{}, st.notesClass)
	st.connNotes = st.object(&notes{conn: true}, st.notesClass)
	st.current = st.object(nil, st.rcptClass)
}

// noMember is the function behind the methods of a value without fields.
func (st *state) noMember(L *lua.LState) int {
	return unknown(L, kindOf(L.Get(1)), L.Get(2).String())
}

// missing is the function behind the methods of a class without fields. A list
// has nothing where a number leads behind its end.
func (st *state) missing(what, class string) lua.LGFunction {
	return func(L *lua.LState) int {
		if _, ok := L.Get(2).(lua.LNumber); ok {
			L.Push(lua.LNil)
			return 1
		}
		return unknown(L, what, L.Get(2).String(), members(class)...)
	}
}

// unknown ends the reading of a member that there is not.
func unknown(L *lua.LState, what, key string, members ...string) int {
	L.RaiseError("%s has no member %q%s", what, key, didYouMean(key, members))
	return 0
}

// run asks the handler of a stage.
func (st *state) run(ctx context.Context, at hooks.Stage, tx *hooks.Transaction) (hooks.Decision, error) {
	L := st.L
	st.b.start(ctx)
	for _, u := range st.upvalues {
		u.at.SetValue(u.value)
	}
	c := &st.call
	st.calls++
	*c = call{at: at, row: at.Row(), event: tx, edits: nil}
	if tx.Current != nil {
		c.current = &rcpt{r: tx.Current, origin: tx.Current, current: true}
		st.current.Value = c.current
	}
	L.SetTop(0)
	fn := st.handlers[at]
	L.Push(fn)
	n := st.arguments(L)
	err := L.PCall(n, 1, nil)
	if st.b.over != nil && (err == nil || errors.Is(st.b.over, hooks.ErrBody)) {
		err = fmt.Errorf("%s:%d: %w", st.script.name, line(fn), st.b.over)
	}
	if err != nil {
		return hooks.Decision{}, st.failure(fn, err)
	}
	result := L.Get(-1)
	L.SetTop(0)
	d, err := st.answer(fn, result)
	edits := c.edits
	*c = call{} // nothing of a call is kept alive by the state
	clear(st.late)
	st.current.Value = nil
	if err != nil {
		return hooks.Decision{}, err
	}
	d.Edits = edits
	return d, nil
}

// failure is the error of a call, with the file's name.
func (st *state) failure(fn *lua.LFunction, err error) error {
	err = plainError(err)
	if !strings.Contains(err.Error(), ".lua:") && !strings.HasPrefix(err.Error(), st.script.name+":") {
		return fmt.Errorf("%s:%d: %w", st.script.name, line(fn), err)
	}
	return err
}

func line(fn *lua.LFunction) int {
	if fn.Proto == nil {
		return 0
	}
	return fn.Proto.LineDefined
}

// arguments pushes what the stage's function gets.
func (st *state) arguments(L *lua.LState) int {
	c := &st.call
	switch {
	case c.at == hooks.Deny:
		L.Push(st.subject())
		L.Push(st.refusal())
		return 2
	case c.at == hooks.Auth:
		L.Push(st.conn)
		L.Push(st.login())
		return 2
	case c.at == hooks.Command:
		L.Push(st.conn)
		L.Push(st.command())
		return 2
	case c.at == hooks.DSN:
		L.Push(st.tx)
		L.Push(st.object(&notice{}, st.noticeClass))
		return 2
	case c.row.Scope == hooks.OfConnection:
		L.Push(st.conn)
		return 1
	case c.row.Scope == hooks.OfPolicy:
		return 0
	}
	L.Push(st.tx)
	if c.row.Scope != hooks.OfRecipient && c.row.Scope != hooks.OfDelivery {
		return 1
	}
	if c.current != nil {
		L.Push(st.current)
	} else {
		L.Push(lua.LNil)
	}
	if c.at == hooks.Rcpt {
		return 2
	}
	c.plan = st.object(&plan{}, st.planClass)
	L.Push(c.plan)
	return 3
}

// subject is tx, or conn where there is no transaction.
func (st *state) subject() lua.LValue {
	if st.call.event.ID == "" {
		return st.conn
	}
	return st.tx
}

// login is the second argument of stage auth.
func (st *state) login() lua.LValue {
	l := st.call.event.Login
	if l == nil {
		return lua.LNil
	}
	fields := map[string]any{"mechanism": l.Mechanism, "user": l.User}
	if l.Password != "" {
		fields["password"] = l.Password
	}
	return fromPlain(fields, st.readonly)
}

// command is the second argument of stage command.
func (st *state) command() lua.LValue {
	l := st.call.event.Command
	if l == nil {
		return lua.LNil
	}
	return fromPlain(map[string]any{"verb": l.Verb, "argument": l.Argument}, st.readonly)
}

func (st *state) refusal() lua.LValue {
	r := st.call.event.Refusal
	if r == nil {
		return lua.LNil
	}
	t := st.L.CreateTable(0, 6)
	put(t, slot{"code", lua.LNumber(r.Reply.Code)}, textField("enhanced", r.Reply.Status()), textField("policy", r.Policy), textField("stage", r.Stage.String()),
		textField("text", r.Reply.Text), slot{"conn", st.conn})
	t.Metatable = st.readonly
	return t
}

// answer judges what a handler returned.
func (st *state) answer(fn *lua.LFunction, v lua.LValue) (hooks.Decision, error) {
	if v == lua.LNil {
		return hooks.Decision{}, nil
	}
	var d *decision
	if u, ok := v.(*lua.LUserData); ok {
		d, _ = u.Value.(*decision)
	}
	row := st.call.row
	if d == nil {
		return hooks.Decision{}, fmt.Errorf("%s:%d: %s returned %s, which is no decision", st.script.name, line(fn), row.Name, kindOf(v))
	}
	if !row.Observe && !row.Allows(d.Verb) {
		return hooks.Decision{}, fmt.Errorf("%s:%d: %s is no decision of stage %s", st.script.name, line(fn), d.Verb, row.Name)
	}
	return d.Decision, nil
}

// allow raises an error where the stage does not allow that kind of edit.
func (st *state) allow(L *lua.LState, kind hooks.EditKind) {
	row := st.call.row
	if row == nil {
		L.RaiseError("%s is possible only while a handler runs", kind)
	}
	if !row.AllowsEdit(kind) {
		L.RaiseError("%s is not possible at stage %s", kind, row.Name)
	}
}

// edit notes a change, if the stage allows it.
func (st *state) edit(L *lua.LState, e hooks.Edit) {
	st.allow(L, e.Kind)
	c := &st.call
	if len(c.edits) >= maxEdits {
		st.b.exceed(L, "more than %d edits in one call", maxEdits)
	}
	c.edits = append(c.edits, e)
}

const maxEdits = 2000

func (st *state) addScore(L *lua.LState) int {
	name, points := L.CheckString(2), float64(L.CheckNumber(3))
	if points-points != 0 {
		L.ArgError(3, "the points must be finite")
	}
	st.edit(L, hooks.Edit{Kind: hooks.AddScore, Name: name, Number: points, Value: oneLine(L.OptString(4, ""))})
	st.call.score += points
	return 0
}

func (st *state) addTag(L *lua.LState) int {
	st.b.spend(L, len(L.CheckString(2))>>6)
	st.edit(L, hooks.Edit{Kind: hooks.AddTag, Value: L.CheckString(2)})
	return 0
}

func (st *state) skip(L *lua.LState) int {
	st.edit(L, hooks.Edit{Kind: hooks.SkipPolicy, Value: L.CheckString(2)})
	return 0
}

// pardon is tx:pardon(policy) and conn:pardon(policy); without a policy, of all.
func (st *state) pardon(L *lua.LState) int {
	st.edit(L, hooks.Edit{Kind: hooks.Pardon, Value: L.OptString(2, "")})
	return 0
}

func (st *state) route(L *lua.LState) int {
	st.edit(L, hooks.Edit{Kind: hooks.SetRoute, Value: L.CheckString(2)})
	return 0
}

func (st *state) priority(L *lua.LState) int {
	st.edit(L, hooks.Edit{Kind: hooks.SetPriority, N: L.CheckInt(2)})
	return 0
}

func (st *state) setResult(L *lua.LState) int {
	name := L.CheckString(2)
	v, err := st.plain(L, L.CheckTable(3))
	if err != nil {
		L.ArgError(3, err.Error())
	}
	fields, ok := v.(map[string]any)
	if list, isList := v.([]any); isList && len(list) == 0 {
		fields, ok = map[string]any{}, true
	}
	if !ok {
		L.ArgError(3, "a result is a table of named values")
	}
	st.edit(L, hooks.Edit{Kind: hooks.SetResult, Name: name, Any: fields})
	if st.call.results == nil {
		st.call.results = map[string]map[string]any{}
	}
	st.call.results[name] = fields
	return 0
}

func (st *state) getResults(L *lua.LState) int {
	name := L.CheckString(2)
	fields, ok := st.call.results[name]
	if !ok {
		fields, ok = st.call.event.Results[name]
	}
	if !ok && st.call.event.Session != nil {
		fields, ok = st.call.event.Session.Results[name]
	}
	if !ok {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(st.fromPlain(L, fields, st.readonly))
	return 1
}

// paramTable is ESMTP parameters by their upper-case names.
func (st *state) paramTable(params []hooks.Param) lua.LValue {
	t := st.L.CreateTable(0, len(params))
	for _, p := range params {
		t.RawSetString(p.Key, lua.LString(p.Value))
	}
	t.Metatable = st.readonly
	return t
}

// sortedNames is for messages.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
