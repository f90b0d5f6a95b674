package lua

import (
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/postern-mta/postern/hooks"
)

// callExpr walks a call and gives the types of its values.
func (w *linter) callExpr(e *ast.FuncCallExpr) []string {
	if e.Method != "" {
		return w.methodCall(e)
	}
	if own := w.ownCall(e); own != nil {
		return own
	}
	if name := w.global(e.Func); name != "" {
		return w.globalCall(e, name)
	}
	get, ok := e.Func.(*ast.AttrGetExpr)
	key, named := (*ast.StringExpr)(nil), false
	if ok {
		key, named = get.Key.(*ast.StringExpr)
	}
	if !named {
		w.expr(e.Func)
		w.arguments(e.Args)
		return nil
	}
	if module, ok := w.moduleOf(get.Object); ok {
		w.moduleCall(module, key.Value, e.Args)
		return nil
	}
	var entry *Entry
	if id, ok := get.Object.(*ast.IdentExpr); ok && w.holdsPolicy(id) {
		w.expr(get)
	} else if entry = w.member(w.expr(get.Object), key.Value); entry != nil && entry.Kind != FunctionEntry && entry.Kind != MethodEntry {
		entry = nil
	}
	line := w.line
	types := w.arguments(e.Args)
	if entry == nil {
		return nil
	}
	w.line = line
	switch entry.Kind {
	case MethodEntry:
		if len(types) == 0 || w.kind(types[0]) != entry.Of && w.kind(types[0]) != "" {
			w.tell(0, "%s is a method; write %s with a colon", key.Value, entry.Name)
		}
		return nil
	case FunctionEntry:
		w.arity(entry, e.Args)
		if entry.Of == "stringlib" && key.Value == "format" || entry.Of == "loglib" {
			w.formatted(e.Args, key.Value)
		}
	}
	return entry.Returns
}

func (w *linter) arguments(args []ast.Expr) []string { return w.list(args, 0) }

// ownCall is the call of a function of the file; nil where it is none.
func (w *linter) ownCall(e *ast.FuncCallExpr) []string {
	var fn *ast.FunctionExpr
	switch f := e.Func.(type) {
	case *ast.IdentExpr:
		if v := w.find(f.Value); v != nil && v.fn != nil {
			fn, v.read = v.fn, true
		}
	case *ast.AttrGetExpr:
		id, _ := f.Object.(*ast.IdentExpr)
		key, _ := f.Key.(*ast.StringExpr)
		if id == nil || key == nil {
			break
		}
		if v := w.find(id.Value); v != nil && (v.typ == "policy" || v.typ == moduleTable) {
			fn = w.members[key.Value]
			v.read = true
		}
	}
	if fn == nil {
		return nil
	}
	types := w.arguments(e.Args)
	for i, t := range types {
		if k := w.kind(t); k == "string" || k == "number" {
			types[i] = k // a literal is one of many
		}
	}
	for len(types) < len(fn.ParList.Names) {
		types = append(types, "")
	}
	w.call(fn, types, w.frame.stages)
	if facts := w.before[fn]; facts != nil {
		return []string{facts.returns}
	}
	return []string{""}
}

// globalCall is the call of a global: a decision, a basic function, a type.
func (w *linter) globalCall(e *ast.FuncCallExpr, name string) []string {
	line := w.line
	types := w.arguments(e.Args)
	w.line = line
	if verb, ok := decisions(name); ok {
		w.decision(verb, name)
		switch verb {
		case hooks.Reject, hooks.Defer:
			w.formatted(afterStatus(e.Args), name)
		default:
			w.formatted(e.Args, name)
		}
		return []string{"decision"}
	}
	if (name == "ipairs" || name == "pairs") && len(types) == 1 {
		w.walked(name, types[0])
	}
	entry := w.x.globals[name]
	if entry == nil || entry.Kind != FunctionEntry {
		return nil
	}
	w.arity(entry, e.Args)
	if name == "require" {
		return []string{w.required(e.Args)}
	}
	if name == "assert" || name == "policy" {
		return nil
	}
	return entry.Returns
}

// walked tells of what ipairs and pairs can't walk.
func (w *linter) walked(name, typ string) {
	switch kind := w.kind(typ); kind {
	case "", "table", "recipients":
	default:
		w.tell(0, "%s walks a list, and this is %s", name, withArticle(kind))
	}
}

// holdsPolicy tells whether a name is the policy's table.
func (w *linter) holdsPolicy(id *ast.IdentExpr) bool {
	v := w.find(id.Value)
	return v != nil && v.typ == "policy"
}

// decision tells of one that the stage does not know.
func (w *linter) decision(verb hooks.Verb, name string) {
	if w.frame.stages == 0 || verb == hooks.Pass {
		return
	}
	var legal []hooks.Stage
	observes := true
	for _, row := range hooks.Stages() {
		if row.Allows(verb) {
			legal = append(legal, row.Stage)
		}
		if w.frame.stages&setOf(row.Stage) != 0 && !row.Observe {
			observes = false
		}
	}
	if observes {
		w.tell(0, "%s is nothing to be answered at stage %s, which only observes; return nothing", name, w.stageNames())
		return
	}
	w.atStage(name, "is nothing to be answered", legal)
}

// methodCall is object:method(…).
func (w *linter) methodCall(e *ast.FuncCallExpr) []string {
	if id, ok := e.Receiver.(*ast.IdentExpr); ok {
		if v := w.find(id.Value); v != nil && v.typ == "policy" {
			v.read = true
			w.policyMember(e.Method)
			w.arguments(e.Args)
			return nil
		}
	}
	return w.methodOf(e, w.expr(e.Receiver))
}

// methodOf is the call of a method of an object whose type is known.
func (w *linter) methodOf(e *ast.FuncCallExpr, object string) []string {
	line := w.line
	var entry *Entry
	switch kind := w.kind(object); {
	case kind == "string":
		if entry = w.x.members["stringlib"][e.Method]; entry == nil {
			w.member("stringlib", e.Method)
		}
	case kind == "number" || kind == "boolean" || kind == "function":
		w.tell(0, "%s has no methods", withArticle(kind))
	default:
		if entry = w.member(object, e.Method); entry != nil && entry.Kind == FunctionEntry {
			w.tell(0, "%s is a function; write it with a dot", entry.Name)
			entry = nil
		}
	}
	w.methodArguments(e, object)
	w.line = line
	if entry == nil || len(w.classes(object)) != 1 && entry.Of != "stringlib" {
		return nil
	}
	if entry.Kind == MethodEntry {
		w.arity(entry, e.Args)
	}
	if entry.Of == "stringlib" && e.Method == "format" {
		w.formatted(append([]ast.Expr{e.Receiver}, e.Args...), e.Method)
	}
	return entry.Returns
}

// methodArguments walks the arguments; the function of each_rcpt is given a
// recipient.
func (w *linter) methodArguments(e *ast.FuncCallExpr, object string) {
	if w.class(object) == "tx" && e.Method == "each_rcpt" && len(e.Args) == 1 {
		switch f := e.Args[0].(type) {
		case *ast.FunctionExpr:
			w.function(f, []string{"rcpt"}, w.frame.stages, true)
			return
		case *ast.IdentExpr:
			if v := w.find(f.Value); v != nil && v.fn != nil {
				v.read = true
				w.call(v.fn, []string{"rcpt"}, w.frame.stages)
				return
			}
		}
	}
	w.arguments(e.Args)
}

// arity tells of arguments that are missing.
func (w *linter) arity(entry *Entry, args []ast.Expr) {
	needed := 0
	for i, p := range entry.Params {
		if !p.Optional && p.Name != "..." && !strings.HasSuffix(p.Type, "?") && p.Type != "any" && p.Type != "plain" {
			needed = i + 1
		}
	}
	if len(args) >= needed || len(args) > 0 && manyValues(args[len(args)-1]) {
		return
	}
	w.tell(0, "%s wants %q too; write %s", entry.Name, entry.Params[len(args)].Name, entry.Signature())
}

func manyValues(e ast.Expr) bool {
	switch e.(type) {
	case *ast.FuncCallExpr, *ast.Comma3Expr:
		return true
	}
	return false
}

// afterStatus leaves out a code and a status in front of a text.
func afterStatus(args []ast.Expr) []ast.Expr {
	if len(args) > 0 {
		if _, ok := args[0].(*ast.NumberExpr); ok {
			args = args[1:]
		}
	}
	if len(args) > 0 {
		if s, ok := args[0].(*ast.StringExpr); ok && len(s.Value) >= 5 && (s.Value[0] == '4' || s.Value[0] == '5') && s.Value[1] == '.' && !strings.ContainsAny(s.Value, " %") {
			args = args[1:]
		}
	}
	return args
}

// formatted compares a format text with what follows it. Without arguments it is
// literal, but for string.format.
func (w *linter) formatted(args []ast.Expr, name string) {
	if len(args) < 2 && name != "format" || len(args) == 0 || manyValues(args[len(args)-1]) {
		return
	}
	format, ok := args[0].(*ast.StringExpr)
	if !ok {
		return
	}
	wanted := 0
	for i := 0; i < len(format.Value); i++ {
		if format.Value[i] != '%' {
			continue
		}
		if i++; i < len(format.Value) && format.Value[i] != '%' {
			wanted++
		}
	}
	if given := len(args) - 1; given != wanted {
		w.tell(0, "the text of %s has %d directives such as %%s, and %d values follow it", name, wanted, given)
	}
}
