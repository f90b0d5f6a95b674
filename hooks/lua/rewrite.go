package lua

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

// gopher-lua can bound neither `..` nor an assignment such as t[6e7] = 1, and has
// no read-only tables. So the parsed chunk is changed before it is compiled:
//
//	a .. b .. c        cat(a, b, c)
//	t[k] = v           set(t, k, v)
//	name = v           global("name", v)       where name is no local
//	{ [k] = v }        { [key(k)] = v }
//	upper = v          locked("upper"); upper = v   in a function, upper a local of the file
//	s                  cover(n); s                  where coverage is counted
//
// The functions are locals on top of the chunk, under names that no script
// can write; newState passes them in.
const (
	hiddenCat    = "\x01cat"
	hiddenSet    = "\x01set"
	hiddenGlobal = "\x01global"
	hiddenKey    = "\x01key"
	hiddenLocked = "\x01locked"
	hiddenCover  = "\x01cover"
)

const (
	maxSource = 1 << 20
	maxDepth  = 400 // nesting of a script's syntax
	maxParts  = 100 // of one call of cat: registers are few
)

// scope is one function of the script.
type scope struct {
	parent *scope
	level  int // 0 for the file itself
	blocks []map[string]bool
}

func (s *scope) declare(names ...string) {
	for _, n := range names {
		s.blocks[len(s.blocks)-1][n] = true
	}
}

type use struct {
	name string
	line int
}

type rewriter struct {
	at       *scope
	depth    int
	temps    int
	known    []string
	assigned map[string]bool
	reads    []use
	covering bool
	covered  []int // lines of statements, in their order
}

// warnings lists the globals that nothing defines.
func (r *rewriter) warnings() []Problem {
	var list []Problem
	for _, u := range r.reads {
		if !r.assigned[u.name] && !slices.Contains(r.known, u.name) {
			list = append(list, Problem{Line: u.line, Warning: true, Text: fmt.Sprintf("nothing has the name %q%s", u.name, didYouMean(u.name, r.known))})
		}
	}
	return list
}

// resolve finds the level of the function whose local the name is, or -1.
func (r *rewriter) resolve(name string) int {
	for s := r.at; s != nil; s = s.parent {
		for _, b := range slices.Backward(s.blocks) {
			if b[name] {
				return s.level
			}
		}
	}
	return -1
}

func (r *rewriter) chunk(stmts []ast.Stmt) []ast.Stmt {
	r.at = &scope{blocks: []map[string]bool{{}}}
	names := []string{hiddenCat, hiddenSet, hiddenGlobal, hiddenKey, hiddenLocked}
	if r.covering {
		names = append(names, hiddenCover)
	}
	stmts = r.stmts(stmts)
	first := &ast.LocalAssignStmt{
		Names: names,
		Exprs: []ast.Expr{at(&ast.Comma3Expr{}, 1)},
	}
	return append([]ast.Stmt{at(first, 1)}, stmts...)
}

// at sets the line of a node.
func at[N ast.PositionHolder](n N, line int) N {
	n.SetLine(line)
	n.SetLastLine(line)
	return n
}

func ident(name string, line int) ast.Expr { return at(&ast.IdentExpr{Value: name}, line) }

func text(s string, line int) ast.Expr { return at(&ast.StringExpr{Value: s}, line) }

// hidden is a call of one of the functions.
func hidden(name string, line int, args ...ast.Expr) *ast.FuncCallExpr {
	return at(&ast.FuncCallExpr{Func: ident(name, line), Args: args, AdjustRet: true}, line)
}

func hiddenStmt(name string, line int, args ...ast.Expr) ast.Stmt {
	call := hidden(name, line, args...)
	call.AdjustRet = false
	return at(&ast.FuncCallStmt{Expr: call}, line)
}

// enter counts nesting; what it returns ends it.
func (r *rewriter) enter(line int) func() {
	if r.depth++; r.depth > maxDepth {
		panic(Problem{Line: line, Text: fmt.Sprintf("nested deeper than %d levels", maxDepth)})
	}
	return func() { r.depth-- }
}

func (r *rewriter) block(stmts []ast.Stmt, names ...string) []ast.Stmt {
	r.at.blocks = append(r.at.blocks, map[string]bool{})
	r.at.declare(names...)
	stmts = r.stmts(stmts)
	r.at.blocks = r.at.blocks[:len(r.at.blocks)-1]
	return stmts
}

func (r *rewriter) stmts(list []ast.Stmt) []ast.Stmt {
	out := make([]ast.Stmt, 0, len(list))
	for _, s := range list {
		if r.covering {
			out = append(out, r.cover(s))
		}
		out = r.stmt(out, s)
	}
	return out
}

// cover is what counts that s runs.
func (r *rewriter) cover(s ast.Stmt) ast.Stmt {
	line := s.Line()
	if f, ok := s.(*ast.FuncDefStmt); ok && line == 0 {
		line = f.Func.Line()
	}
	r.covered = append(r.covered, line)
	n := at(&ast.NumberExpr{Value: strconv.Itoa(len(r.covered) - 1)}, line)
	return hiddenStmt(hiddenCover, line, n)
}

// stmt appends what s becomes.
func (r *rewriter) stmt(out []ast.Stmt, s ast.Stmt) []ast.Stmt {
	defer r.enter(s.Line())()
	switch s := s.(type) {
	case *ast.AssignStmt:
		return r.assign(out, s)
	case *ast.LocalAssignStmt:
		if _, ok := first(s.Exprs).(*ast.FunctionExpr); ok && len(s.Names) == 1 {
			r.at.declare(s.Names...) // local function f can call itself
		}
		r.exprs(s.Exprs)
		r.at.declare(s.Names...)
	case *ast.FuncCallStmt:
		s.Expr = r.expr(s.Expr)
	case *ast.DoBlockStmt:
		s.Stmts = r.block(s.Stmts)
	case *ast.WhileStmt:
		s.Condition = r.expr(s.Condition)
		s.Stmts = r.block(s.Stmts)
	case *ast.RepeatStmt:
		r.at.blocks = append(r.at.blocks, map[string]bool{})
		s.Stmts = r.stmts(s.Stmts)
		s.Condition = r.expr(s.Condition)
		r.at.blocks = r.at.blocks[:len(r.at.blocks)-1]
	case *ast.IfStmt:
		s.Condition = r.expr(s.Condition)
		s.Then = r.block(s.Then)
		s.Else = r.block(s.Else)
	case *ast.NumberForStmt:
		s.Init, s.Limit, s.Step = r.expr(s.Init), r.expr(s.Limit), r.expr(s.Step)
		s.Stmts = r.block(s.Stmts, s.Name)
	case *ast.GenericForStmt:
		r.exprs(s.Exprs)
		s.Stmts = r.block(s.Stmts, s.Names...)
	case *ast.FuncDefStmt:
		return r.funcDef(out, s)
	case *ast.ReturnStmt:
		r.exprs(s.Exprs)
	}
	return append(out, s)
}

func first(list []ast.Expr) ast.Expr {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// funcDef is function a.b() or function a:b(), which is an assignment.
func (r *rewriter) funcDef(out []ast.Stmt, s *ast.FuncDefStmt) []ast.Stmt {
	line := s.Line()
	if line == 0 {
		line = s.Func.Line()
	}
	target := s.Name.Func
	if target == nil {
		s.Func.ParList.Names = append([]string{"self"}, s.Func.ParList.Names...)
		target = at(&ast.AttrGetExpr{Object: s.Name.Receiver, Key: text(s.Name.Method, line)}, line)
	}
	return r.assign(out, at(&ast.AssignStmt{Lhs: []ast.Expr{target}, Rhs: []ast.Expr{s.Func}}, line))
}

func (r *rewriter) assign(out []ast.Stmt, s *ast.AssignStmt) []ast.Stmt {
	for _, l := range s.Lhs {
		if id, ok := l.(*ast.IdentExpr); ok && r.resolve(id.Value) < 0 {
			r.assigned[id.Value] = true
		}
	}
	r.exprs(s.Rhs)
	if len(s.Lhs) == 1 && len(s.Rhs) == 1 {
		return r.store(out, r.target(s.Lhs[0]), s.Rhs[0], s)
	}
	plain := !slices.ContainsFunc(s.Lhs, func(l ast.Expr) bool {
		id, ok := l.(*ast.IdentExpr)
		return !ok || r.resolve(id.Value) < 0
	})
	if plain && sound(s.Rhs) {
		for _, l := range s.Lhs {
			out = r.lock(out, l.(*ast.IdentExpr))
		}
		return append(out, s)
	}
	// a.x, b = f(): all is evaluated into locals of a block of its own, then stored.
	block := at(&ast.DoBlockStmt{}, s.Line())
	targets := make([]ast.Expr, len(s.Lhs))
	values := make([]string, len(s.Lhs))
	for i, l := range s.Lhs {
		targets[i] = r.target(l)
		if get, ok := targets[i].(*ast.AttrGetExpr); ok {
			names := []string{r.temp(), r.temp()}
			block.Stmts = append(block.Stmts, at(&ast.LocalAssignStmt{Names: names, Exprs: []ast.Expr{get.Object, get.Key}}, l.Line()))
			targets[i] = at(&ast.AttrGetExpr{Object: ident(names[0], l.Line()), Key: ident(names[1], l.Line())}, l.Line())
		}
		values[i] = r.temp()
	}
	block.Stmts = append(block.Stmts, at(&ast.LocalAssignStmt{Names: values, Exprs: s.Rhs}, s.Line()))
	for i := range targets {
		value := ident(values[i], s.Line())
		one := at(&ast.AssignStmt{Lhs: []ast.Expr{targets[i]}, Rhs: []ast.Expr{value}}, s.Line())
		block.Stmts = r.store(block.Stmts, targets[i], value, one)
	}
	return append(out, block)
}

// sound tells whether gopher-lua compiles an assignment of these to locals as it should:
// a call that gives one value to a function's last parameter is put together in the
// registers of the locals behind that. A call whose values are counted by the assignment
// is not.
func sound(values []ast.Expr) bool {
	for i, v := range values {
		if call, ok := v.(*ast.FuncCallExpr); ok && (call.AdjustRet || i < len(values)-1) {
			return false
		}
	}
	return true
}

func (r *rewriter) temp() string {
	r.temps++
	return "\x01" + strconv.Itoa(r.temps)
}

// target rewrites what an assignment writes to, without making it a read.
func (r *rewriter) target(l ast.Expr) ast.Expr {
	if get, ok := l.(*ast.AttrGetExpr); ok {
		get.Object, get.Key = r.expr(get.Object), r.expr(get.Key)
	}
	return l
}

// store appends the assignment s of one value to one target.
func (r *rewriter) store(out []ast.Stmt, target, value ast.Expr, s *ast.AssignStmt) []ast.Stmt {
	switch l := target.(type) {
	case *ast.AttrGetExpr:
		return append(out, hiddenStmt(hiddenSet, s.Line(), l.Object, l.Key, value))
	case *ast.IdentExpr:
		if r.resolve(l.Value) < 0 {
			return append(out, hiddenStmt(hiddenGlobal, s.Line(), text(l.Value, s.Line()), value))
		}
		out = r.lock(out, l)
		if call, ok := value.(*ast.FuncCallExpr); ok {
			call.AdjustRet = false // see sound
		}
	}
	return append(out, s)
}

// lock guards the assignment to a local of the file within a function.
func (r *rewriter) lock(out []ast.Stmt, l *ast.IdentExpr) []ast.Stmt {
	if r.at.level > 0 && r.resolve(l.Value) == 0 {
		return append(out, hiddenStmt(hiddenLocked, l.Line(), text(l.Value, l.Line())))
	}
	return out
}

func (r *rewriter) exprs(list []ast.Expr) {
	for i := range list {
		list[i] = r.expr(list[i])
	}
}

func (r *rewriter) expr(e ast.Expr) ast.Expr {
	if e == nil {
		return nil
	}
	defer r.enter(e.Line())()
	switch e := e.(type) {
	case *ast.IdentExpr:
		if r.resolve(e.Value) < 0 {
			r.reads = append(r.reads, use{e.Value, e.Line()})
		}
	case *ast.AttrGetExpr:
		e.Object, e.Key = r.expr(e.Object), r.expr(e.Key)
	case *ast.TableExpr:
		r.fields(e)
	case *ast.FuncCallExpr:
		e.Func, e.Receiver = r.expr(e.Func), r.expr(e.Receiver)
		r.exprs(e.Args)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs), r.expr(e.Rhs)
	case *ast.RelationalOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs), r.expr(e.Rhs)
	case *ast.ArithmeticOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs), r.expr(e.Rhs)
	case *ast.UnaryMinusOpExpr:
		e.Expr = r.expr(e.Expr)
	case *ast.UnaryNotOpExpr:
		e.Expr = r.expr(e.Expr)
	case *ast.UnaryLenOpExpr:
		e.Expr = r.expr(e.Expr)
	case *ast.StringConcatOpExpr:
		return r.concat(e)
	case *ast.FunctionExpr:
		r.function(e)
	}
	return e
}

func (r *rewriter) fields(e *ast.TableExpr) {
	for _, f := range e.Fields {
		f.Value = r.expr(f.Value)
		if _, ok := f.Key.(*ast.StringExpr); f.Key != nil && !ok {
			f.Key = hidden(hiddenKey, f.Key.Line(), r.expr(f.Key))
		}
	}
}

func (r *rewriter) function(e *ast.FunctionExpr) {
	s := &scope{parent: r.at, level: r.at.level + 1, blocks: []map[string]bool{{}}}
	s.declare(e.ParList.Names...)
	if e.ParList.HasVargs {
		s.declare("arg")
	}
	r.at = s
	e.Stmts = r.stmts(e.Stmts)
	r.at = s.parent
}

// concat turns a chain of `..` into one call.
func (r *rewriter) concat(e *ast.StringConcatOpExpr) ast.Expr {
	parts := []ast.Expr{e.Lhs}
	rest := e.Rhs
	for {
		next, ok := rest.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		parts = append(parts, next.Lhs)
		rest = next.Rhs
	}
	parts = append(parts, rest)
	r.exprs(parts)
	for i, p := range parts { // only the last argument could give several values
		if call, ok := p.(*ast.FuncCallExpr); ok && i == len(parts)-1 {
			call.AdjustRet = true
		}
		if dots, ok := p.(*ast.Comma3Expr); ok {
			dots.AdjustRet = true
		}
	}
	line := e.Line()
	if line == 0 {
		line = e.Lhs.Line()
	}
	for len(parts) > maxParts {
		tail := hidden(hiddenCat, line, parts[len(parts)-maxParts:]...)
		parts = append(parts[:len(parts)-maxParts:len(parts)-maxParts], tail)
	}
	return hidden(hiddenCat, line, parts...)
}
