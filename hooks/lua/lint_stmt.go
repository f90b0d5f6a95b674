package lua

import (
	"github.com/yuin/gopher-lua/ast"

	"github.com/postern-mta/postern/hooks"
)

func (w *linter) stmt(s ast.Stmt) {
	if n := lineOf(s); n > 0 {
		w.line = n
	}
	switch s := s.(type) {
	case *ast.LocalAssignStmt:
		w.local(s)
	case *ast.AssignStmt:
		w.assign(s)
	case *ast.FuncCallStmt:
		w.callStmt(s)
	case *ast.FuncDefStmt:
		w.funcDef(s)
	case *ast.DoBlockStmt:
		w.block(s.Stmts, nil)
	case *ast.WhileStmt:
		w.expr(s.Condition)
		w.block(s.Stmts, nil)
	case *ast.RepeatStmt:
		w.block(s.Stmts, nil, func() { w.expr(s.Condition) })
	case *ast.IfStmt:
		w.expr(s.Condition)
		w.block(s.Then, nil)
		w.block(s.Else, nil)
	case *ast.NumberForStmt:
		w.expr(s.Init)
		w.expr(s.Limit)
		w.expr(s.Step)
		w.block(s.Stmts, func() { w.declare(s, 0, &lintVar{name: s.Name, typ: "number", kept: true}) })
	case *ast.GenericForStmt:
		types := w.iterated(s.Exprs)
		w.block(s.Stmts, func() {
			for i, n := range s.Names {
				v := &lintVar{name: n, kept: true}
				if i < len(types) {
					v.typ = types[i]
				}
				w.declare(s, i, v)
			}
		})
	case *ast.ReturnStmt:
		w.ret(s)
	}
}

// local is `local a, b = f()`.
func (w *linter) local(s *ast.LocalAssignStmt) {
	if fn, ok := first(s.Exprs).(*ast.FunctionExpr); ok && len(s.Names) == 1 {
		w.declare(s, 0, &lintVar{name: s.Names[0], typ: "function", fn: fn})
		w.ownFunction(fn)
		return
	}
	types := w.list(s.Exprs, len(s.Names))
	for i, n := range s.Names {
		v := &lintVar{name: n, typ: types[i]}
		if w.module && w.frame.level == 0 && n == w.returns && i < len(s.Exprs) {
			if _, ok := s.Exprs[i].(*ast.TableExpr); ok {
				v.typ = moduleTable
			}
		}
		if i < len(s.Exprs) {
			v.kept = w.isPolicy(s.Exprs[i])
			if v.kept {
				v.typ = "policy"
			}
		}
		w.declare(s, i, v)
	}
}

// isPolicy tells whether an expression is policy{…}.
func (w *linter) isPolicy(e ast.Expr) bool {
	call, ok := e.(*ast.FuncCallExpr)
	return ok && call.Func != nil && w.global(call.Func) == "policy" && w.frame.level == 0
}

// list are the types of n values that expressions give.
func (w *linter) list(exprs []ast.Expr, n int) []string {
	types := make([]string, 0, max(n, len(exprs)))
	for i, e := range exprs {
		if i == len(exprs)-1 {
			types = append(types, w.values(e)...)
		} else {
			types = append(types, w.expr(e))
		}
	}
	for len(types) < n {
		types = append(types, "")
	}
	return types
}

func (w *linter) assign(s *ast.AssignStmt) {
	types := w.list(s.Rhs, len(s.Lhs))
	for i, l := range s.Lhs {
		var value ast.Expr
		if i < len(s.Rhs) {
			value = s.Rhs[i]
		}
		w.store(l, types[i], value)
	}
}

// store is the writing of one value.
func (w *linter) store(target ast.Expr, typ string, value ast.Expr) {
	switch l := target.(type) {
	case *ast.IdentExpr:
		w.storeName(l)
	case *ast.AttrGetExpr:
		key, named := l.Key.(*ast.StringExpr)
		if id, ok := l.Object.(*ast.IdentExpr); ok && named {
			if v := w.find(id.Value); v != nil && v.typ == "policy" {
				w.storeMember(v, key.Value, value)
				return
			}
		}
		object := w.expr(l.Object)
		w.expr(l.Key)
		if named {
			w.setMember(object, key.Value, typ)
		}
	}
}

func (w *linter) storeName(l *ast.IdentExpr) {
	v := w.find(l.Value)
	if v == nil {
		if w.frame.level > 0 && w.frame.stages != 0 {
			w.tell(l.Line(), "%q is a global, which can't be set while mail is handled; write local %s, or keep it in tx.notes, conn.notes or store", l.Value, l.Value)
		}
		return
	}
	w.written[v.key] = true
	v.typ, v.fn = "", nil
	if v.level == 0 && w.frame.level > 0 && w.frame.stages != 0 {
		w.tell(l.Line(), "%q is a local of the file, which can't be set while mail is handled; keep the value in tx.notes, conn.notes or store", l.Value)
	}
}

// storeMember is the writing of a member of the policy: a handler, or a function
// of its own.
func (w *linter) storeMember(v *lintVar, name string, value ast.Expr) {
	v.read = true
	at, stage := hooks.ParseStage(name)
	switch {
	case w.s.setting(name) != nil:
		w.tell(0, "%q is a setting, which the script can't change; use a local", name)
	case stage:
		if id, ok := value.(*ast.IdentExpr); ok {
			if f := w.find(id.Value); f != nil && f.fn != nil {
				w.call(f.fn, handlerTypes(at), setOf(at))
			}
		}
	default:
		w.fields[name] = true
	}
}

func handlerTypes(at hooks.Stage) (types []string) {
	for _, p := range Arguments(at) {
		types = append(types, p.Type)
	}
	return types
}

// funcDef is `function a.b() … end`.
func (w *linter) funcDef(s *ast.FuncDefStmt) {
	if s.Name.Func == nil {
		w.expr(s.Name.Receiver)
		w.function(s.Func, nil, 0, false, "self")
		return
	}
	switch target := s.Name.Func.(type) {
	case *ast.AttrGetExpr:
		id, _ := target.Object.(*ast.IdentExpr)
		key, _ := target.Key.(*ast.StringExpr)
		if id == nil || key == nil {
			break
		}
		v := w.find(id.Value)
		if v != nil && v.typ == moduleTable {
			w.moduleFunction(key.Value, s.Func)
			return
		}
		if v == nil || v.typ != "policy" {
			break
		}
		w.storeMember(v, key.Value, nil)
		if at, ok := hooks.ParseStage(key.Value); ok {
			w.function(s.Func, handlerTypes(at), setOf(at), true)
		} else {
			w.members[key.Value] = s.Func
			w.ownFunction(s.Func)
		}
		return
	case *ast.IdentExpr:
		w.storeName(target)
	}
	if get, ok := s.Name.Func.(*ast.AttrGetExpr); ok {
		w.expr(get.Object)
	}
	w.function(s.Func, nil, 0, false)
}

// ownFunction is the body of a function of the file, with what the walk before
// learned of its calls.
func (w *linter) ownFunction(fn *ast.FunctionExpr) {
	facts := w.before[fn]
	if facts == nil || facts.escaped || !facts.called {
		w.function(fn, nil, 0, false)
		return
	}
	w.function(fn, facts.params, facts.stages, false)
}

func (w *linter) facts(fn *ast.FunctionExpr) *lintFunc {
	f := w.now[fn]
	if f == nil {
		f = &lintFunc{}
		w.now[fn] = f
	}
	return f
}

// call notes a call of a function of the file.
func (w *linter) call(fn *ast.FunctionExpr, types []string, at stageSet) {
	w.facts(fn).add(types, at)
}

// add takes one more call.
func (f *lintFunc) add(types []string, at stageSet) {
	if !f.called {
		f.called, f.stages = true, at
		f.params = append([]string(nil), types...)
		return
	}
	if at == 0 || f.stages == 0 {
		f.stages = 0
	} else {
		f.stages |= at
	}
	for i := range f.params {
		if i >= len(types) || types[i] != f.params[i] {
			f.params[i] = ""
		}
	}
}

// function walks a body.
func (w *linter) function(fn *ast.FunctionExpr, types []string, at stageSet, handler bool, more ...string) {
	outer, line := w.frame, w.line
	w.frame = &lintFrame{level: outer.level + 1, stages: at, handler: handler, self: w.facts(fn)}
	w.block(fn.Stmts, func() {
		for i, n := range append(more, fn.ParList.Names...) {
			v := &lintVar{name: n, kept: true}
			if i < len(types) && len(more) == 0 {
				v.typ = types[i]
			}
			w.declare(fn, i, v)
		}
		if fn.ParList.HasVargs {
			w.declare(fn, -1, &lintVar{name: "arg", kept: true})
		}
	})
	w.frame, w.line = outer, line
}

// ret is a return: of a handler, it must be a decision.
func (w *linter) ret(s *ast.ReturnStmt) {
	if id, ok := first(s.Exprs).(*ast.IdentExpr); ok && w.frame.level == 0 {
		if v := w.find(id.Value); v != nil {
			v.read = true
			if v.typ == "policy" {
				return
			}
		}
	}
	types := w.list(s.Exprs, 1)
	f := w.frame.self
	if f == nil || len(s.Exprs) == 0 {
		return
	}
	if typ := types[0]; !f.valued {
		f.valued, f.returns = true, typ
	} else if typ != f.returns {
		f.returns = ""
	}
	if !w.frame.handler || len(s.Exprs) == 0 {
		return
	}
	switch kind := w.kind(types[0]); kind {
	case "", "nil", "boolean", "decision", "function":
	default:
		w.tell(0, "a handler returns a decision or nothing, and this is %s; write return reject(…), accept() or the like", withArticle(kind))
	}
}

// callStmt is a call whose results are dropped.
func (w *linter) callStmt(s *ast.FuncCallStmt) {
	call, ok := s.Expr.(*ast.FuncCallExpr)
	if !ok {
		w.expr(s.Expr)
		return
	}
	name := w.global(call.Func)
	_, decision := decisions(name)
	typ := w.expr(call)
	switch {
	case decision || name == "" && typ == "decision" && call.Method == "":
		if name == "" {
			name = "the function"
		}
		w.tell(0, "%s makes a decision, which is not returned and so has no effect; write return in front", name)
	case call.Method == "each_rcpt" && typ == "decision":
		w.tell(0, "each_rcpt makes a decision, which is not returned and so has no effect; write return in front")
	}
}

// iterated are the types of a loop's variables.
func (w *linter) iterated(exprs []ast.Expr) []string {
	call, ok := first(exprs).(*ast.FuncCallExpr)
	if !ok || len(exprs) > 1 {
		w.list(exprs, 0)
		return nil
	}
	if call.Method != "" {
		if id, ok := call.Receiver.(*ast.IdentExpr); ok && w.holdsPolicy(id) {
			w.expr(call)
			return nil
		}
		object := w.expr(call.Receiver)
		w.methodOf(call, object)
		switch w.class(object) + ":" + call.Method {
		case "mime:parts":
			return []string{"part"}
		case "headers:each":
			return []string{"string", "string"}
		}
		return nil
	}
	name := w.global(call.Func)
	if name != "ipairs" && name != "pairs" || len(call.Args) != 1 {
		w.expr(call)
		return nil
	}
	typ := w.expr(call.Args[0])
	w.walked(name, typ)
	if of := w.element(typ); of != "" && name == "ipairs" {
		return []string{"integer", of}
	} else if of := mapValue(typ); of != "" && name == "pairs" {
		return []string{"string", of}
	}
	return nil
}
