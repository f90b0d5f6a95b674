package lua

import (
	"maps"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
)

// A module that a script requires is analysed as its policy is: its own file, with
// what the script's calls of its functions say of their parameters and stages. What
// it gives is known from loading it.

// moduleType is the type of a module's value; the name stands behind it.
const moduleType = "module:"

// moduleTable is the type of the table that a module returns, in the module itself.
const moduleTable = "module"

// imported is what a file does with a module.
type imported struct {
	members map[string]*lintFunc
	escaped bool // its table is handed on: who calls what is not known
}

func (use *imported) member(name string) *lintFunc {
	f := use.members[name]
	if f == nil {
		f = &lintFunc{}
		use.members[name] = f
	}
	return f
}

// exports are the names in the tables that modules gave.
func exports(modules map[string]lua.LValue) map[string][]string {
	all := map[string][]string{}
	for name, v := range modules {
		t, ok := v.(*lua.LTable)
		if !ok || t.Metatable != lua.LNil {
			continue
		}
		names := []string{}
		t.ForEach(func(k, _ lua.LValue) {
			if s, ok := k.(lua.LString); ok {
				names = append(names, string(s))
			}
		})
		slices.Sort(names)
		all[name] = names
	}
	return all
}

// lintModules analyses the modules of a script. from is what the script does with
// them; what modules do with each other makes parameters unknown.
func (s *Script) lintModules(from map[string]*imported) (found []Problem) {
	names := slices.Sorted(maps.Keys(s.modules))
	unknown := map[string]bool{}
	for pass := range 2 {
		found = nil
		for _, name := range names {
			c := s.modules[name]
			w := s.newLinter(nil)
			w.module = true
			if use := from[name]; use != nil && !use.escaped && !unknown[name] {
				w.given = use.members
			}
			list := append(slices.Clone(c.warnings), w.run(c.file, c.source)...)
			slices.SortStableFunc(list, func(a, b Problem) int { return a.Line - b.Line })
			for _, p := range list {
				p.File = c.file
				found = append(found, p)
			}
			if pass == 0 {
				for other := range w.imports {
					unknown[other] = true
				}
			}
		}
	}
	return found
}

// returnedName is the name that a file returns at its end, or "".
func returnedName(stmts []ast.Stmt) string {
	if len(stmts) == 0 {
		return ""
	}
	ret, ok := stmts[len(stmts)-1].(*ast.ReturnStmt)
	if !ok || len(ret.Exprs) != 1 {
		return ""
	}
	id, _ := ret.Exprs[0].(*ast.IdentExpr)
	if id == nil {
		return ""
	}
	return id.Value
}

// imported is what is known of the use of a module.
func (w *linter) imported(name string) *imported {
	use := w.imports[name]
	if use == nil {
		use = &imported{members: map[string]*lintFunc{}}
		w.imports[name] = use
	}
	return use
}

// required is the type of what require gives.
func (w *linter) required(args []ast.Expr) string {
	name, ok := first(args).(*ast.StringExpr)
	if !ok {
		return ""
	}
	w.imported(name.Value)
	if _, known := w.s.exports[name.Value]; !known {
		return ""
	}
	return moduleType + name.Value
}

// moduleOf is the module that an expression is, without noting that it is read
// whole.
func (w *linter) moduleOf(e ast.Expr) (name string, ok bool) {
	switch e := e.(type) {
	case *ast.IdentExpr:
		if v := w.find(e.Value); v != nil {
			if name, ok = strings.CutPrefix(v.typ, moduleType); ok {
				v.read = true
			}
		}
	case *ast.FuncCallExpr:
		if w.global(e.Func) == "require" && e.Method == "" {
			return strings.CutPrefix(w.required(e.Args), moduleType)
		}
	}
	return name, ok
}

// moduleMember tells of a name that the module has not got.
func (w *linter) moduleMember(module, name string) bool {
	names := w.s.exports[module]
	if slices.Contains(names, name) {
		return true
	}
	hint := didYouMean(name, names)
	if hint == "" {
		hint = "; it has " + strings.Join(names, ", ")
		if len(names) == 0 {
			hint = "; it is empty"
		}
	}
	w.tell(0, "module %q has no member %q%s", module, name, hint)
	return false
}

// moduleCall notes a call of a module's function.
func (w *linter) moduleCall(module, name string, args []ast.Expr) {
	line := w.line
	types := w.arguments(args)
	w.line = line
	if !w.moduleMember(module, name) {
		return
	}
	for i, t := range types {
		if k := w.kind(t); k == "string" || k == "number" {
			types[i] = k
		}
		if strings.HasPrefix(t, moduleType) || t == "policy" {
			types[i] = ""
		}
	}
	w.imported(module).member(name).add(types, w.frame.stages)
}

// moduleFunction is `function M.name() … end` in a module.
func (w *linter) moduleFunction(name string, fn *ast.FunctionExpr) {
	w.members[name] = fn
	switch f := w.given[name]; {
	case w.given == nil || f != nil && f.escaped:
		w.facts(fn).escaped = true
	case f != nil && f.called:
		types := slices.Clone(f.params)
		for len(types) < len(fn.ParList.Names) {
			types = append(types, "")
		}
		w.call(fn, types, f.stages)
	}
	w.ownFunction(fn)
}
