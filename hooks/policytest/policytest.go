// Package policytest runs the tests of policies: NAME_test.lua files that drive
// whole SMTP sessions through the mail path that the daemon has, with a virtual
// clock, a DNS of data, services of the network that the test plays, next hops of
// its own and a scratch store.
//
//   - Runner (policytest.go) runs files and returns what became of their tests.
//   - harness.go is t: the policies, the clock, what was taken on; trace.go what the
//     policies decided, dns.go the DNS, network.go and lines.go t:http and t:tcp,
//     nexthop.go where mail is delivered to.
//   - world.go is the mail path: gate, protocol engine, intake, queue (engine.go) and
//     scheduler, on connections in memory (wire.go) with certificates of secrets.go.
//   - session.go is one SMTP session: what the client says.
//   - expect.go is expect(value).
//   - report.go, junit.go and lcov.go say what came of it.
//
// A test file has test(name, function(t) … end); each test begins with nothing:
// no policies, an empty DNS, an empty store and queue, one domain of ours,
// example.net. All Lua of a test runs on one goroutine: what the mail path wants of
// it, such as the function of a t:http, is run while the test waits for a reply.
package policytest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks/lua"
)

// Options of New.
type Options struct {
	// Policies are the folders where t:policy(name) looks for name.lua, in order.
	Policies []fs.FS
	// Modules are the folders where require looks, in order.
	Modules []fs.FS
	// Dir is the folder that paths in file settings belong to.
	Dir string
	// Match limits the run to tests whose name it matches; nil: all.
	Match *regexp.Regexp
	// Timeout bounds one test, by the machine's clock; 0: DefaultTimeout.
	Timeout time.Duration
	// Scratch is where temporary files go; "": the system's place.
	Scratch string
	// Coverage counts what runs of the policies; nil: nothing is counted.
	Coverage *lua.Coverage
	// Config reads what t:config says, for scripts that reach library; nil: nobody
	// does.
	Config func(source string, library lua.Library) (*Config, error)

	secrets *secrets
}

// DefaultTimeout bounds one test where nothing is said.
const DefaultTimeout = 10 * time.Second

// Result is what became of one test.
type Result struct {
	Name     string
	Line     int // of the test in its file
	Err      error
	Duration time.Duration
	Stack    string     // of the Lua calls that led to Err
	Dialogue [][]string // of each session, with SMTP as it was spoken
	Trace    []string   // what each policy decided, in order
}

// Runner runs test files. It is safe for concurrent use.
type Runner struct{ o Options }

// New makes a runner.
func New(o Options) *Runner {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	o.secrets = newSecrets()
	return &Runner{o}
}

// running is a file whose tests run. It belongs to one goroutine.
type running struct {
	o        Options
	tests    []registered
	expected int // expectations of the test that runs
	loaded   bool
}

type registered struct {
	name string
	body *lua.Callback
}

// File runs the tests of a file, one after the other. The error says that the file
// itself is wrong; tests that failed are in the results. each, which may be nil, is
// told of every result as it comes. ctx ends it early.
func (r *Runner) File(ctx context.Context, name string, source []byte, each func(Result)) ([]Result, error) {
	run := &running{o: r.o}
	loading, cancel := context.WithTimeoutCause(ctx, r.o.Timeout, tooLong(r.o.Timeout))
	defer cancel()
	program, err := lua.RunProgram(loading, name, source, map[string]any{
		"test": lua.Function(run.test), "expect": lua.Function(run.expect), "assert": lua.Tap(func() { run.expected++ }),
	}, lua.Options{Modules: r.o.Modules, LuaTime: r.o.Timeout})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	if run.loaded = true; len(run.tests) == 0 {
		return nil, fmt.Errorf("%s: there is no test in it; write test(\"name\", function(t) … end)", name)
	}
	results := []Result{}
	for _, t := range run.tests {
		if r.o.Match != nil && !r.o.Match.MatchString(t.name) {
			continue
		}
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		one := run.one(ctx, name, t)
		results = append(results, one)
		if each != nil {
			each(one)
		}
	}
	return results, nil
}

// Run runs the tests of one file.
func Run(ctx context.Context, name string, source []byte, o Options) ([]Result, error) {
	return New(o).File(ctx, name, source, nil)
}

// test is test(name, function(t) … end).
func (run *running) test(args []any) (any, error) {
	if run.loaded {
		return nil, errors.New("a test can't stand within a test")
	}
	if len(args) == 2 {
		title, isText := args[0].(string)
		body, isFunction := args[1].(*lua.Callback)
		if isText && isFunction {
			for _, t := range run.tests {
				if t.name == title {
					return nil, fmt.Errorf("the test %q is there already, in line %d", title, t.body.Line())
				}
			}
			run.tests = append(run.tests, registered{title, body})
			return nil, nil
		}
	}
	return nil, errors.New(`write test("name", function(t) … end)`)
}

var errExpectsNothing = errors.New("the test expects nothing: write expect(…) or assert(…) in it, so that it can fail")

func tooLong(d time.Duration) error {
	return fmt.Errorf("the test takes longer than %s and was ended (--timeout)", d)
}

// one runs one test.
func (run *running) one(ctx context.Context, file string, t registered) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, run.o.Timeout, tooLong(run.o.Timeout))
	defer cancel()
	run.expected = 0
	h := newHarness(ctx, run.o)
	err := t.body.Call(ctx, h.object())
	late := ctx.Err() != nil
	result := Result{Name: t.name, Line: t.body.Line(), Trace: h.traceLines()}
	if raised, ok := errors.AsType[*lua.Raised](err); ok {
		result.Stack = raised.Stack
	}
	switch closing := h.close(); {
	case late:
		err = fmt.Errorf("%s:%d: %w", file, result.Line, context.Cause(ctx))
	case err == nil && closing != nil:
		err = fmt.Errorf("%s:%d: after the test: %w", file, result.Line, closing)
	case err == nil && run.expected == 0:
		err = fmt.Errorf("%s:%d: %w", file, result.Line, errExpectsNothing)
	}
	if len(h.faults) > 0 {
		err = errors.Join(append(h.faults, err)...)
	}
	for _, d := range h.sessions {
		result.Dialogue = append(result.Dialogue, d.text())
	}
	result.Err, result.Duration = err, time.Since(start)
	return result
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
	var names []string
	for _, folder := range o.Policies {
		source, err := fs.ReadFile(folder, file)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return file, source, err
		}
		there, _ := fs.Glob(folder, "*.lua")
		for _, n := range there {
			if n = strings.TrimSuffix(n, ".lua"); !strings.HasSuffix(n, "_test") {
				names = append(names, n)
			}
		}
	}
	return file, nil, fmt.Errorf("there is no policy %q%s", name, lua.DidYouMean(name, names))
}
