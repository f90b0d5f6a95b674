package lua

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// chunk is a compiled file.
type chunk struct {
	proto     *lua.FunctionProto
	sum       [sha256.Size]byte // of the source
	file      string            // its name
	source    []byte
	warnings  []Problem
	cover     *covered       // nil: not counted
	lines     map[string]int // of the keys of policy{…}: "about", "settings.delay"
	libraries libraries      // that it may reach
}

// compileChunk parses, rewrites and compiles one file. known tells which globals
// there are; cover, which may be nil, counts what runs.
func compileChunk(name string, source []byte, known []string, cover *Coverage) (c *chunk, problem *Problem) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case Problem:
			problem = &p
		default:
			problem = &Problem{Text: fmt.Sprintf("can't be compiled: %v", p)}
		}
	}()
	sum := sha256.Sum256(source)
	if len(source) > maxSource {
		return nil, &Problem{Text: fmt.Sprintf("the file is larger than %d MiB", maxSource>>20)}
	}
	if i := bytes.IndexByte(source, 0); i >= 0 {
		return nil, &Problem{Line: 1 + bytes.Count(source[:i], []byte("\n")), Text: "a NUL byte stands in the file"}
	}
	if bytes.HasPrefix(source, []byte("#!")) {
		source = append([]byte("--"), source...)
	}
	stmts, err := parse.Parse(bytes.NewReader(source), name)
	if err != nil {
		return nil, syntaxProblem(err)
	}
	lines := policyLines(stmts)
	r := &rewriter{known: known, covering: cover != nil, assigned: map[string]bool{}}
	stmts = r.chunk(stmts)
	proto, err := lua.Compile(stmts, name)
	if err != nil {
		if e, ok := err.(*lua.CompileError); ok {
			return nil, &Problem{Line: e.Line, Text: e.Message}
		}
		return nil, &Problem{Text: err.Error()}
	}
	c = &chunk{proto: proto, file: name, source: source, sum: sum, warnings: r.warnings(), lines: lines, libraries: librariesOf(proto)}
	if cover != nil {
		c.cover = cover.file(name, source, r.covered)
	}
	return c, nil
}

// policyLines finds the lines of the keys of policy{…}, which stands in a local
// of the file.
func policyLines(stmts []ast.Stmt) map[string]int {
	lines := map[string]int{}
	for _, s := range stmts {
		var list []ast.Expr
		switch s := s.(type) {
		case *ast.LocalAssignStmt:
			list = s.Exprs
		case *ast.AssignStmt:
			list = s.Rhs
		case *ast.ReturnStmt:
			list = s.Exprs
		}
		call, _ := first(list).(*ast.FuncCallExpr)
		if call == nil {
			continue
		}
		if id, ok := call.Func.(*ast.IdentExpr); ok && id.Value == "policy" {
			keyLines(lines, "", first(call.Args))
		}
	}
	return lines
}

func keyLines(lines map[string]int, prefix string, e ast.Expr) {
	t, ok := e.(*ast.TableExpr)
	if !ok {
		return
	}
	for _, f := range t.Fields {
		if k, ok := f.Key.(*ast.StringExpr); ok {
			lines[prefix+k.Value] = f.Value.Line()
			if prefix == "" && k.Value == "settings" {
				keyLines(lines, "settings.", f.Value)
			}
		}
	}
}

func syntaxProblem(err error) *Problem {
	e, ok := err.(*parse.Error)
	if !ok {
		return &Problem{Text: err.Error()}
	}
	if e.Pos.Line == parse.EOF {
		return &Problem{Text: "syntax error at the end of the file: something is not closed (end, bracket or quote)"}
	}
	text := "syntax error"
	if e.Token != "" {
		text += " near " + strconv.Quote(e.Token)
	}
	if e.Message != "" && e.Message != "syntax error" {
		text += ": " + e.Message
	}
	return &Problem{Line: e.Pos.Line, Text: text}
}
