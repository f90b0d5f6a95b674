package lua

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/postern-mta/postern/hooks"
)

// values are the types of all values of an expression.
func (w *linter) values(e ast.Expr) []string {
	call, ok := e.(*ast.FuncCallExpr)
	if !ok {
		return []string{w.expr(e)}
	}
	return w.callExpr(call)
}

// expr walks an expression and gives the type of its first value.
func (w *linter) expr(e ast.Expr) string {
	if e == nil {
		return ""
	}
	if w.depth++; w.depth > 2*maxDepth {
		panic("too deep")
	}
	if w.steps++; w.steps > maxSteps {
		panic("too long")
	}
	defer func() { w.depth-- }()
	if n := e.Line(); n > 0 {
		w.line = n
	}
	switch e := e.(type) {
	case *ast.StringExpr:
		if strings.ContainsAny(e.Value, "\"\n") || len(e.Value) > 40 {
			return "string"
		}
		return `"` + e.Value + `"`
	case *ast.NumberExpr:
		return "number"
	case *ast.TrueExpr, *ast.FalseExpr:
		return "boolean"
	case *ast.NilExpr:
		return "nil"
	case *ast.IdentExpr:
		return w.name(e)
	case *ast.AttrGetExpr:
		return w.get(e)
	case *ast.FuncCallExpr:
		if list := w.callExpr(e); len(list) > 0 {
			return list[0]
		}
		return ""
	case *ast.FunctionExpr:
		w.function(e, nil, w.frame.stages, false)
		return "function"
	case *ast.TableExpr:
		for _, f := range e.Fields {
			w.expr(f.Key)
			w.expr(f.Value)
		}
		return "table"
	}
	return w.operation(e)
}

func (w *linter) operation(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.LogicalOpExpr:
		l, r := w.expr(e.Lhs), w.expr(e.Rhs)
		if k := w.kind(l); e.Operator == "or" && k != "" && k == w.kind(r) && k != "boolean" {
			return k
		}
	case *ast.RelationalOpExpr:
		w.compare(e)
		return "boolean"
	case *ast.StringConcatOpExpr:
		w.joined(e.Lhs)
		w.joined(e.Rhs)
		return "string"
	case *ast.ArithmeticOpExpr:
		w.counted(e.Lhs)
		w.counted(e.Rhs)
		return "number"
	case *ast.UnaryMinusOpExpr:
		w.counted(e.Expr)
		return "number"
	case *ast.UnaryNotOpExpr:
		w.expr(e.Expr)
		return "boolean"
	case *ast.UnaryLenOpExpr:
		typ := w.expr(e.Expr)
		switch kind := w.kind(typ); kind {
		case "", "string", "table", "recipients":
		default:
			w.tell(0, "%s has no length; # counts the bytes of a text or the items of a list", withArticle(kind))
		}
		return "integer"
	}
	return ""
}

// joined is a part of a text that .. makes.
func (w *linter) joined(e ast.Expr) {
	typ := w.expr(e)
	switch kind := w.kind(typ); kind {
	case "table":
		w.tell(0, "a table can't be joined to a text; write table.concat(list, \", \")")
	case "boolean", "function", "decision":
		w.tell(0, "%s can't be joined to a text; write tostring(…)", withArticle(kind))
	}
}

// counted is a part of a calculation.
func (w *linter) counted(e ast.Expr) {
	typ := w.expr(e)
	switch kind := w.kind(typ); kind {
	case "", "number", "string":
	default:
		w.tell(0, "%s is no number to count with", withArticle(kind))
	}
}

// compare finds comparisons that are never true, or fail.
func (w *linter) compare(e *ast.RelationalOpExpr) {
	left, right := w.expr(e.Lhs), w.expr(e.Rhs)
	l, r := w.kind(left), w.kind(right)
	if l == "" || r == "" {
		return
	}
	equality := e.Operator == "==" || e.Operator == "~="
	switch {
	case l != r && equality:
		hint := "write tostring(…) around the first"
		if r != "string" {
			hint = "write tostring(…) around the second"
		}
		if l != "string" && r != "string" {
			hint = "compare what is of one type"
		}
		w.tell(0, "%s never equals %s; %s", withArticle(l), withArticle(r), hint)
	case l != r:
		w.tell(0, "%s and %s have no order; compare what is of one type", withArticle(l), withArticle(r))
	case l == "string" && equality:
		w.choice(left, right)
		w.choice(right, left)
	}
}

// choice tells of a text that is none of those that a value can be.
func (w *linter) choice(value, typ string) {
	a, b := alternatives(value), alternatives(typ)
	if len(a) != 1 || len(b) < 2 || a[0][0] != '"' || slices.Contains(b, a[0]) || slices.Contains(b, "string") {
		return
	}
	words := make([]string, len(b))
	for i := range b {
		words[i] = strings.Trim(b[i], `"`)
	}
	w.tell(0, "it is never %s%s; it is one of %s", a[0], didYouMean(strings.Trim(a[0], `"`), words), strings.Join(b, ", "))
}

// name is the reading of a name.
func (w *linter) name(e *ast.IdentExpr) string {
	if v := w.find(e.Value); v != nil {
		v.read = true
		if v.typ == "policy" {
			w.whole = true
		}
		if module, ok := strings.CutPrefix(v.typ, moduleType); ok {
			w.imported(module).escaped = true
		}
		if v.fn != nil {
			w.facts(v.fn).escaped = true
		}
		return v.typ
	}
	if g := w.x.globals[e.Value]; g != nil && g.Kind == LibraryEntry {
		return g.Type
	}
	if g := w.x.globals[e.Value]; g != nil && (g.Kind == FunctionEntry) {
		return "function"
	}
	return ""
}

// get is the reading of a member.
func (w *linter) get(e *ast.AttrGetExpr) string {
	key, named := e.Key.(*ast.StringExpr)
	if id, ok := e.Object.(*ast.IdentExpr); ok && named {
		if v := w.find(id.Value); v != nil && v.typ == "policy" {
			v.read = true
			return w.policyMember(key.Value)
		}
	}
	if module, ok := w.moduleOf(e.Object); ok && named {
		if w.moduleMember(module, key.Value) {
			w.imported(module).member(key.Value).escaped = true
		}
		return ""
	}
	object := w.expr(e.Object)
	w.expr(e.Key)
	if !named {
		if of := w.element(object); of != "" {
			return of + "?"
		}
		return ""
	}
	entry := w.member(object, key.Value)
	if entry == nil {
		return mapValue(object)
	}
	switch entry.Kind {
	case FunctionEntry, MethodEntry:
		return "function"
	}
	return entry.Type
}

// policyMember is the reading of a setting.
func (w *linter) policyMember(name string) string {
	if d := w.s.setting(name); d != nil {
		w.used[name] = true
		return d.settingType()
	}
	if fn := w.members[name]; fn != nil {
		w.facts(fn).escaped = true
		return "function"
	}
	if _, stage := hooks.ParseStage(name); stage || w.fields[name] {
		return ""
	}
	names := make([]string, 0, len(w.s.settings))
	for _, d := range w.s.settings {
		names = append(names, d.name)
	}
	if hint := didYouMean(name, names); hint != "" {
		w.tell(0, "no setting is called %q%s", name, hint)
	} else {
		w.tell(0, "no setting is called %q; declare it in settings", name)
	}
	return ""
}

// member finds a member of an object, and tells where there is none or where the
// stage has none.
func (w *linter) member(object, name string) *Entry {
	list := w.classes(object)
	if len(list) == 0 {
		return nil
	}
	var found *Entry
	var names []string
	for _, class := range list {
		if e := w.x.members[class][name]; e != nil && found == nil {
			found = e
		}
		for n := range w.x.members[class] {
			names = append(names, n)
		}
	}
	if found == nil {
		if len(names) > 0 {
			slices.Sort(names)
			w.tell(0, "%s has no member %q%s", w.shown(list[0]), name, didYouMean(name, names))
		}
		return nil
	}
	if len(list) == 1 && w.atStage(found.Name, "is not there", found.Stages) {
		return nil // what it would have is not worth a second line
	}
	return found
}

// shown is a class as documents call a value of it.
func (w *linter) shown(class string) string {
	c := w.x.classes[class]
	switch {
	case c == nil:
		return class
	case strings.HasSuffix(class, "lib"), strings.ContainsAny(c.Shown, "."), slices.Contains([]string{"tx", "conn", "rcpt", "login", "line", "notice", "refusal", "mx"}, class):
		return c.Shown
	}
	return withArticle(c.Shown)
}

// atStage tells where none of the stages that call is one of those legal, and
// whether it did.
func (w *linter) atStage(name, what string, legal []hooks.Stage) bool {
	if w.frame.stages == 0 || len(legal) == 0 || w.frame.stages&setOf(legal...) != 0 {
		return false
	}
	w.tell(0, "%s %s at stage %s; it belongs to %s", name, what, w.stageNames(), strings.ReplaceAll(stageList(legal), "`", ""))
	return true
}

func (w *linter) stageNames() string {
	var names []string
	for rest := w.frame.stages; rest != 0; rest &= rest - 1 {
		names = append(names, hooks.Stage(bits.TrailingZeros32(uint32(rest))).String())
	}
	return strings.Join(names, ", ")
}

// setMember is the setting of a member of an object.
func (w *linter) setMember(object, name, _ string) {
	list := w.classes(object)
	if len(list) != 1 {
		return
	}
	e := w.x.members[list[0]][name]
	switch c := w.x.classes[list[0]]; {
	case c.Plain && e != nil:
	case strings.HasSuffix(list[0], "lib"):
		w.tell(0, "%s is a library, which can't be changed", c.Shown)
	case e == nil:
		w.member(object, name)
	case len(e.SetAt) == 0 && !c.Plain:
		w.tell(0, "%s can't be set%s", e.Name, w.instead(list[0], name))
	default:
		w.atStage(e.Name, "can't be set", e.SetAt)
	}
}

// instead names the method that changes what can't be set.
func (w *linter) instead(class, name string) string {
	switch {
	case class == "rcpt" && (name == "address" || name == "user" || name == "domain"):
		return "; write rcpt:replace(address)"
	case class == "tx" && name == "recipients":
		return "; its methods add, remove and replace change it"
	case class == "tx" && name == "total":
		return "; write tx:score(name, points)"
	}
	return "; it is read-only"
}
