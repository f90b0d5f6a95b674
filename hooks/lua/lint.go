package lua

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"github.com/postern-mta/postern/hooks"
)

// The analysis of scripts. It walks the parsed file several times: types flow from
// the parameters of handlers into locals, and from calls into the parameters of
// the file's own functions, until nothing changes; then it walks once more and
// tells. It knows what the reference tells of members, their types and stages. What
// it can't follow has type "" and is never complained of, so that a finding is
// worth reading.

// maxWalks bounds the walks; types of a file that needs more are not followed.
const maxWalks = 8

const (
	maxFindings = 100     // of one file
	maxSteps    = 300_000 // expressions in one walk
)

// stageSet is a set of stages, 0 where it is not known who calls.
type stageSet uint32

func setOf(list ...hooks.Stage) (s stageSet) {
	for _, at := range list {
		s |= 1 << at
	}
	return s
}

// lintIndex is the reference by class and member.
type lintIndex struct {
	members map[string]map[string]*Entry
	classes map[string]*Class
	aliases map[string]bool
	globals map[string]*Entry
}

var reference = sync.OnceValue(func() *lintIndex {
	x := &lintIndex{members: map[string]map[string]*Entry{}, classes: map[string]*Class{}, aliases: map[string]bool{}, globals: map[string]*Entry{}}
	for _, c := range Classes() {
		if c.Alias != "" {
			x.aliases[c.Name] = true
			continue
		}
		x.classes[c.Name] = &c
		x.members[c.Name] = map[string]*Entry{}
	}
	for _, e := range Reference() {
		switch {
		case e.Of != "":
			x.members[e.Of][e.Member] = &e
		case x.globals[e.Name] == nil || e.Kind == LibraryEntry:
			x.globals[e.Name] = &e
		}
	}
	return x
})

// lintVar is a local.
type lintVar struct {
	name  string
	key   varKey
	line  int
	typ   string
	fn    *ast.FunctionExpr // the function that it holds
	level int
	read  bool
	kept  bool // nobody is told that it is not used: parameters, loops
}

// varKey names a declaration through all walks.
type varKey struct {
	node any
	n    int
}

// lintFunc is what one walk learns of a function for the next.
type lintFunc struct {
	params  []string
	stages  stageSet
	escaped bool // it is handed on: who calls it is not known
	called  bool
	returns string
	valued  bool
}

type lintScope struct {
	vars   map[string]*lintVar
	parent *lintScope
}

// lintFrame is the function whose body is walked.
type lintFrame struct {
	level   int
	stages  stageSet
	handler bool
	self    *lintFunc
}

// linter walks one file.
type linter struct {
	x       *lintIndex
	s       *Script
	lines   map[string]int // of policy{…}
	scope   *lintScope
	frame   *lintFrame
	depth   int
	steps   int
	line    int
	before  map[*ast.FunctionExpr]*lintFunc
	now     map[*ast.FunctionExpr]*lintFunc
	written map[varKey]bool // locals that get another value
	members map[string]*ast.FunctionExpr
	fields  map[string]bool // of the policy: what the file puts there
	used    map[string]bool // settings
	whole   bool            // the policy's table is handed on
	imports map[string]*imported
	module  bool                 // the file is a module
	returns string               // the name that it returns at its end
	given   map[string]*lintFunc // what is known of the calls of a module's functions
	found   []Problem
}

// lint analyses a script that was compiled and inspected, and its modules.
func (s *Script) lint(source []byte, lines map[string]int) (found []Problem) {
	defer func() {
		if recover() != nil { // its findings are advice: a fault of its own is none
			found = nil
		}
	}()
	w := s.newLinter(lines)
	found = w.run(s.name, source)
	return append(found, s.lintModules(w.imports)...)
}

func (s *Script) newLinter(lines map[string]int) *linter {
	return &linter{x: reference(), s: s, lines: lines, before: map[*ast.FunctionExpr]*lintFunc{}, written: map[varKey]bool{}, members: map[string]*ast.FunctionExpr{}, fields: map[string]bool{}}
}

// run analyses one file.
func (w *linter) run(name string, source []byte) []Problem {
	if bytes.HasPrefix(source, []byte("#!")) {
		source = append([]byte("--"), source...)
	}
	stmts, err := parse.Parse(bytes.NewReader(source), name)
	if err != nil {
		return nil
	}
	if w.module {
		w.returns = returnedName(stmts)
	}
	for walk := 0; ; walk++ {
		w.walk(stmts)
		stable := sameFacts(w.before, w.now)
		w.before = w.now
		if stable && walk > 0 {
			break
		}
		if walk == maxWalks {
			return nil
		}
	}
	if !w.module {
		w.settingsUsed()
	}
	slices.SortStableFunc(w.found, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	w.found = slices.Compact(w.found)
	return w.found[:min(len(w.found), maxFindings)]
}

func sameFacts(a, b map[*ast.FunctionExpr]*lintFunc) bool {
	if len(a) != len(b) {
		return false
	}
	for fn, one := range a {
		other := b[fn]
		if other == nil || one.stages != other.stages || one.escaped != other.escaped || one.called != other.called || one.returns != other.returns || !slices.Equal(one.params, other.params) {
			return false
		}
	}
	return true
}

// walk goes through the file once.
func (w *linter) walk(stmts []ast.Stmt) {
	w.now, w.found, w.used, w.whole = map[*ast.FunctionExpr]*lintFunc{}, nil, map[string]bool{}, false
	w.imports = map[string]*imported{}
	w.frame, w.scope, w.depth, w.steps = &lintFrame{}, nil, 0, 0
	w.block(stmts, nil)
}

// tell notes a finding on the line that is walked.
func (w *linter) tell(line int, format string, args ...any) {
	if line <= 0 {
		line = w.line
	}
	if len(w.found) < 4*maxFindings {
		w.found = append(w.found, Problem{Line: line, Warning: true, Text: fmt.Sprintf(format, args...)})
	}
}

func (w *linter) declare(node any, n int, v *lintVar) {
	v.key, v.level, v.line = varKey{node, n}, w.frame.level, w.line
	if w.written[v.key] {
		v.typ, v.fn = "", nil
	}
	if _, ok := decisions(v.name); ok && v.name != "disconnect" {
		w.tell(v.line, "%q is a decision, which the local of that name hides; give it another name", v.name)
	}
	w.scope.vars[v.name] = v
}

func (w *linter) find(name string) *lintVar {
	for s := w.scope; s != nil; s = s.parent {
		if v := s.vars[name]; v != nil {
			return v
		}
	}
	return nil
}

// block walks statements in a scope of their own; open declares what it begins
// with, and after sees what it ends with.
func (w *linter) block(stmts []ast.Stmt, open func(), after ...func()) {
	if w.depth++; w.depth > maxDepth {
		panic("too deep") // the compiler says so first
	}
	w.scope = &lintScope{vars: map[string]*lintVar{}, parent: w.scope}
	var hidden []*lintVar
	if open != nil {
		open()
	}
	for i, s := range stmts {
		if i > 0 && w.ends(stmts[i-1]) && !isLabel(s) {
			w.tell(lineOf(s), "nothing gets here: what stands above always leaves; take it out, or put a condition above")
		}
		hidden = append(hidden, w.shadowed(s)...)
		w.stmt(s)
	}
	for _, f := range after {
		f()
	}
	for _, v := range w.scope.vars {
		hidden = append(hidden, v)
	}
	w.unused(hidden)
	w.scope = w.scope.parent
	w.depth--
}

// shadowed are the locals of the same block that a statement declares anew.
func (w *linter) shadowed(s ast.Stmt) (list []*lintVar) {
	if l, ok := s.(*ast.LocalAssignStmt); ok {
		for _, n := range l.Names {
			if v := w.scope.vars[n]; v != nil && v.typ != "policy" {
				list = append(list, v)
			}
		}
	}
	return list
}

// unused tells of locals that nobody reads. Of those that one statement declares
// together, one that is read is reason enough for all.
func (w *linter) unused(list []*lintVar) {
	read := map[any]bool{}
	for _, v := range list {
		read[v.key.node] = read[v.key.node] || v.read
	}
	for _, v := range list {
		if v.kept || read[v.key.node] || v.name[0] == '_' || v.key.n > 0 {
			continue
		}
		w.tell(v.line, "the local %q is never read; take it out, or call it _", v.name)
	}
}

func isLabel(s ast.Stmt) bool {
	_, ok := s.(*ast.LabelStmt)
	return ok
}

func lineOf(s ast.Stmt) int {
	if n := s.Line(); n > 0 {
		return n
	}
	switch s := s.(type) {
	case *ast.FuncCallStmt:
		return s.Expr.Line()
	case *ast.FuncDefStmt:
		return s.Func.Line()
	}
	return 0
}

// ends tells whether nothing behind the statement runs.
func (w *linter) ends(s ast.Stmt) bool {
	last := func(list []ast.Stmt) bool { return len(list) > 0 && w.ends(list[len(list)-1]) }
	switch s := s.(type) {
	case *ast.ReturnStmt, *ast.BreakStmt, *ast.GotoStmt:
		return true
	case *ast.DoBlockStmt:
		return last(s.Stmts)
	case *ast.IfStmt:
		return last(s.Then) && last(s.Else)
	case *ast.FuncCallStmt:
		call, ok := s.Expr.(*ast.FuncCallExpr)
		return ok && w.global(call.Func) == "error"
	}
	return false
}

// global is the name of the global that an expression is, or "".
func (w *linter) global(e ast.Expr) string {
	if id, ok := e.(*ast.IdentExpr); ok && w.find(id.Value) == nil {
		return id.Value
	}
	return ""
}

func decisions(name string) (hooks.Verb, bool) { return hooks.ParseVerb(name) }

// settingsUsed tells of settings that the script never reads.
func (w *linter) settingsUsed() {
	if w.whole {
		return
	}
	for _, d := range w.s.settings {
		if !w.used[d.name] {
			w.tell(max(w.lines["settings."+d.name], 1), "the setting %q is never read; use it, or take it out", d.name)
		}
	}
}
