// Package policytest runs the tests of policies: NAME_test.lua files that drive
// SMTP sessions through a real chain of policies, with a virtual clock, a DNS of
// data and a store of their own.
//
//   - Run (policytest.go) runs one file and returns what became of its tests.
//   - harness.go is t: the policies, the clock, the DNS, the trace, the mail.
//   - session.go is one SMTP session: which stage runs when, and the replies.
//   - expect.go is expect(reply).
//
// A test file has test(name, function(t) … end); each test begins with nothing:
// no policies, an empty DNS, an empty store, one domain of ours, example.net.
package policytest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks/lua"
)

// Options of Run.
type Options struct {
	// Policies are the folders where t:policy(name) looks for name.lua, in order.
	Policies []fs.FS
	// Modules are the folders where require looks, in order.
	Modules []fs.FS
	// Dir is the folder that paths in file settings belong to.
	Dir string
	// Match limits the run to tests whose name contains it; empty: all.
	Match string
}

// Result is what became of one test.
type Result struct {
	Name     string
	Line     int // of the test in its file
	Err      error
	Duration time.Duration
}

// limit bounds one file's tests.
const limit = time.Minute

// Run runs the tests of a file. The error says that the file itself is wrong;
// tests that failed are in the results. ctx ends it early.
func Run(ctx context.Context, name string, source []byte, o Options) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type registered struct {
		name string
		body *lua.Callback
	}
	var tests []registered
	program, err := lua.RunProgram(ctx, name, source, map[string]any{
		"test": lua.Function(func(args []any) (any, error) {
			if len(args) == 2 {
				title, isText := args[0].(string)
				body, isFunction := args[1].(*lua.Callback)
				if isText && isFunction {
					tests = append(tests, registered{title, body})
					return nil, nil
				}
			}
			return nil, errors.New(`write test("name", function(t) … end)`)
		}),
		"expect": lua.Function(expect),
	}, lua.Options{Modules: o.Modules, LuaTime: limit})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	if len(tests) == 0 {
		return nil, fmt.Errorf("%s: there is no test in it", name)
	}
	var results []Result
	for _, t := range tests {
		if !strings.Contains(t.name, o.Match) {
			continue
		}
		start := time.Now()
		h := newHarness(ctx, o)
		err := t.body.Call(h.object())
		h.close()
		results = append(results, Result{Name: t.name, Line: t.body.Line(), Err: err, Duration: time.Since(start)})
	}
	return results, nil
}

// Files lists the tests in a folder, *_test.lua, without its subfolders.
func Files(folder fs.FS) ([]string, error) {
	names, err := fs.Glob(folder, "*_test.lua")
	if err != nil {
		return nil, fmt.Errorf("policytest: %w", err)
	}
	return names, nil
}

// find reads a policy's script.
func (o Options) find(name string) (file string, source []byte, err error) {
	file = name
	if path.Ext(file) != ".lua" {
		file += ".lua"
	}
	for _, folder := range o.Policies {
		source, err := fs.ReadFile(folder, file)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file, source, err
		}
	}
	return file, nil, fmt.Errorf("there is no policy %q", name)
}
