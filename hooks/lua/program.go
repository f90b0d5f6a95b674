package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Object is a value that a program's host gives to Lua. Its methods are called
// with a colon; Field answers reads, and may be nil.
type Object struct {
	Kind    string // for messages: "a session"
	Methods map[string]Function
	Field   func(name string) (any, bool)
}

func (o *Object) luaKind() string { return o.Kind }

// Function is a host's function. Arguments and results are plain values (string,
// float64, bool, []any, map[string]any, nil), *Object and, as arguments, *Callback.
// An error is raised in Lua, with the line of the call.
type Function func(args []any) (any, error)

// Callback is a Lua function that was given to the host.
type Callback struct {
	st *state
	fn *lua.LFunction
}

// Line is the line where the function begins.
func (c *Callback) Line() int { return line(c.fn) }

// Call calls the function, with a budget of its own, until ctx is done; its
// results are dropped. The error is a *Raised.
func (c *Callback) Call(ctx context.Context, args ...any) error {
	c.st.b.start(ctx)
	_, err := c.Invoke(args...)
	return err
}

// Invoke calls the function within the call of the host's function that is under
// way, on its goroutine and its budget, and returns the first result. The error is
// a *Raised.
func (c *Callback) Invoke(args ...any) (any, error) {
	L := c.st.L
	L.Push(c.fn)
	for _, a := range args {
		L.Push(c.st.fromHost(a))
	}
	if err := L.PCall(len(args), 1, nil); err != nil {
		return nil, raised(err)
	}
	defer L.Pop(1)
	return c.st.toHost(L.Get(-1))
}

// Raised is an error of a program.
type Raised struct {
	Text  string // as it was raised, mostly "file:line: text"
	Stack string // of the calls that led there
}

func (r *Raised) Error() string { return r.Text }

func raised(err error) error {
	r := &Raised{Text: plainError(err).Error()}
	if e, ok := err.(*lua.ApiError); ok {
		r.Stack = strings.TrimSpace(strings.TrimPrefix(e.StackTrace, "stack traceback:"))
	}
	return r
}

// Tap, given as a global of that name, is told of each call of the library's
// function.
type Tap func()

// Program is a script of the host's own kind, such as a test: it has the
// libraries of policies, and the host's functions as globals. It serves one
// goroutine.
type Program struct {
	st *state
}

// RunProgram compiles and runs a file. o.LuaTime bounds all of it; 0 means a
// minute. Close ends it.
func RunProgram(ctx context.Context, name string, source []byte, globals map[string]any, o Options) (*Program, error) {
	if o.LuaTime == 0 {
		o.LuaTime = time.Minute
	}
	s := &Script{name: name, short: strings.TrimSuffix(name, ".lua"), options: o.filled(), modules: map[string]*chunk{}}
	c, problem := compileChunk(name, source, nil, nil)
	if problem != nil {
		if problem.Line == 0 {
			return nil, fmt.Errorf("%s: %s", name, problem)
		}
		return nil, fmt.Errorf("%s:%s", name, problem)
	}
	st := bareState(s)
	st.b.start(ctx)
	st.open()
	st.openLibraries(allLibraries)
	for _, k := range sortedNames(globals) {
		v := st.fromHost(globals[k])
		if tap, ok := globals[k].(Tap); ok {
			v = st.tapped(st.L.G.Global.RawGetString(k), tap)
		}
		st.L.G.Global.RawSetString(k, v)
	}
	if _, err := st.runChunk(c); err != nil {
		st.L.Close()
		return nil, err
	}
	return &Program{st}, nil
}

// Close ends the program.
func (p *Program) Close() {
	p.st.hangUp()
	p.st.L.Close()
}

// tapped is f, with tap called first.
func (st *state) tapped(f lua.LValue, tap Tap) lua.LValue {
	return st.L.NewFunction(func(L *lua.LState) int {
		tap()
		n := L.GetTop()
		L.Insert(f, 1)
		L.Call(n, lua.MultRet)
		return L.GetTop()
	})
}

// fromHost is a host's value for Lua.
func (st *state) fromHost(v any) lua.LValue {
	switch v := v.(type) {
	case Function:
		return st.hostFunction(v, false)
	case func([]any) (any, error):
		return st.hostFunction(v, false)
	case *Object:
		return st.object(v, st.hostClass(v))
	case []any:
		t := st.L.CreateTable(len(v), 0)
		for i, item := range v {
			t.RawSetInt(i+1, st.fromHost(item))
		}
		return t
	}
	return fromPlain(v, lua.LNil)
}

func (st *state) hostClass(o *Object) *lua.LTable {
	index := st.L.CreateTable(0, len(o.Methods))
	for _, name := range sortedNames(o.Methods) {
		index.RawSetString(name, st.hostFunction(o.Methods[name], true))
	}
	index.Metatable = st.newClass(st.L.NewFunction(func(L *lua.LState) int {
		key := L.Get(2).String()
		if o.Field != nil {
			if v, ok := o.Field(key); ok {
				L.Push(st.fromHost(v))
				return 1
			}
		}
		return unknown(L, o.Kind, key, sortedNames(o.Methods)...)
	}))
	return st.newClass(index)
}

// hostFunction calls f; a method's first argument is the object, which f knows.
func (st *state) hostFunction(f Function, method bool) *lua.LFunction {
	return st.L.NewFunction(func(L *lua.LState) int {
		first := 1
		if method {
			if _, ok := L.Get(1).(*lua.LUserData); !ok {
				L.RaiseError("call it with a colon: object:method(…)")
			}
			first = 2
		}
		var args []any
		for i := first; i <= L.GetTop(); i++ {
			v, err := st.toHost(L.Get(i))
			if err != nil {
				L.ArgError(i, err.Error())
			}
			args = append(args, v)
		}
		st.b.pause()
		v, err := f(args)
		st.b.resume()
		if err != nil {
			L.RaiseError("%s", err.Error())
		}
		L.Push(st.fromHost(v))
		return 1
	})
}

var errFunctionInTable = errors.New("a table with functions can't be given here")

func (st *state) toHost(v lua.LValue) (any, error) {
	switch v := v.(type) {
	case *lua.LFunction:
		return &Callback{st, v}, nil
	case *lua.LUserData:
		if o, ok := v.Value.(*Object); ok {
			return o, nil
		}
	}
	plain, err := toPlain(v)
	if err != nil && v.Type() == lua.LTTable {
		err = errors.Join(errFunctionInTable, err)
	}
	return plain, err
}
