package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/hooks"
)

// Size of a Lua state.
const (
	registryStart = 512
	registryMax   = 48 << 10
	callDepth     = 200 // of functions that call each other
)

// stageCount is one more than the last stage.
const stageCount = int(hooks.Unload) + 1

// state is one Lua state with one policy loaded into it. It serves one call at a
// time. After load nothing in it changes any more but what belongs to the call.
type state struct {
	L      *lua.LState
	b      *budget
	script *Script
	policy *Policy // nil while Compile looks at the script

	values   map[string]any // the settings
	loading  bool
	policed  bool // a policy, not a program
	declared *declaration
	warned   []string // findings about the settings, told by log.warn while it loaded
	modules  map[string]lua.LValue
	handlers [stageCount]*lua.LFunction

	frozen   map[*lua.LTable]struct{}
	upvalues []upvalue
	readonly *lua.LTable // metatable of tables that are copies of something
	patterns map[string]*pattern
	regexes  map[string]*regexValue
	lookups  map[*lua.LFunction]lookupFunc
	spend    func(int)

	classes
	call  call
	calls uint64                    // that there were
	conns []*tcpConn                // that the call has open
	zones map[string]*time.Location // that were used before
	late  map[*lua.LTable]func() []slot
	have  libraries // of those that files name
}

// upvalue is a captured local as it was after load; each call begins with it.
type upvalue struct {
	at    *lua.Upvalue
	value lua.LValue
}

// bareState is a state without a policy and without libraries.
func bareState(s *Script) *state {
	st := &state{
		L: lua.NewState(lua.Options{
			SkipOpenLibs: true, CallStackSize: callDepth, MinimizeStackMemory: true,
			RegistrySize: registryStart, RegistryMaxSize: registryMax, RegistryGrowStep: 256,
		}),
		b: newBudget(s.options.LuaTime), script: s, loading: true,
		modules: map[string]lua.LValue{}, frozen: map[*lua.LTable]struct{}{}, patterns: map[string]*pattern{}, regexes: map[string]*regexValue{},
		lookups: map[*lua.LFunction]lookupFunc{},
	}
	st.spend = func(n int) { st.b.spend(st.L, n) }
	st.L.SetContext(st.b)
	return st
}

// newState makes a state and runs the script in it, with these settings.
func newState(ctx context.Context, s *Script, p *Policy, values map[string]any) (*state, error) {
	st := bareState(s)
	st.policy, st.values, st.policed = p, values, true
	st.b.limit *= 50 // loading may compute for longer: lists of 100,000 entries are read
	st.b.start(ctx)
	st.open()
	st.openLibraries(s.chunk.libraries)
	result, err := st.runChunk(s.chunk)
	if err != nil {
		st.L.Close()
		return nil, err
	}
	if err := st.finish(result); err != nil {
		st.L.Close()
		return nil, err
	}
	st.freeze()
	st.loading = false
	st.b.limit = s.options.LuaTime
	return st, nil
}

// runChunk runs a compiled file and returns its value.
func (st *state) runChunk(c *chunk) (lua.LValue, error) {
	L := st.L
	L.Push(L.NewFunctionFromProto(c.proto))
	functions := []lua.LGFunction{st.concat, st.set, st.setGlobal, st.key, st.locked}
	if c.cover != nil {
		functions = append(functions, c.cover.count)
	}
	for _, f := range functions {
		L.Push(L.NewFunction(f))
	}
	if err := L.PCall(len(functions), 1, nil); err != nil {
		return nil, plainError(err)
	}
	v := L.Get(-1)
	L.Pop(1)
	return v, nil
}

// plainError is what a script raised, without the traceback.
func plainError(err error) error {
	e, ok := err.(*lua.ApiError)
	if !ok {
		return err
	}
	if s, ok := e.Object.(lua.LString); ok {
		return errors.New(strings.TrimSpace(string(s)))
	}
	if e.Object != nil && e.Object != lua.LNil {
		return fmt.Errorf("error of type %s: %s", e.Object.Type(), e.Object)
	}
	if e.Cause != nil {
		return e.Cause
	}
	return errors.New("unknown error")
}

// finish checks what the script left and finds its handlers.
func (st *state) finish(result lua.LValue) error {
	d := st.declared
	switch {
	case d == nil:
		return errors.New("the script declares no policy; begin it with: local NAME = policy { about = \"…\" }")
	case result != d.table:
		return errors.New("the script must return its policy; end it with: return NAME")
	}
	for _, row := range hooks.Stages() {
		fn, ok := d.table.RawGetString(row.Name).(*lua.LFunction)
		if ok {
			st.handlers[row.Stage] = fn
		}
	}
	return nil
}

// freeze makes all that can be reached read-only.
func (st *state) freeze() {
	seen := map[*lua.LFunction]bool{}
	kept := map[*lua.Upvalue]bool{}
	queue := make([]lua.LValue, 0, 64)
	reach := func(v lua.LValue) {
		switch v := v.(type) {
		case *lua.LTable:
			if _, ok := st.frozen[v]; !ok {
				st.frozen[v] = struct{}{}
				queue = append(queue, v)
			}
		case *lua.LFunction:
			if len(v.Upvalues) > 0 && !seen[v] {
				seen[v] = true
				queue = append(queue, v)
			}
		}
	}
	reach(st.L.G.Global)
	for _, m := range st.modules {
		reach(m)
	}
	reach(st.declared.table)
	for len(queue) > 0 {
		v := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		switch v := v.(type) {
		case *lua.LTable:
			reach(v.Metatable)
			v.ForEach(func(k, item lua.LValue) {
				reach(k)
				reach(item)
			})
		case *lua.LFunction:
			for _, u := range v.Upvalues {
				if !kept[u] {
					kept[u] = true
					st.upvalues = append(st.upvalues, upvalue{u, u.Value()})
				}
				reach(u.Value())
			}
		}
	}
}

// writable raises an error where the table is not to be changed.
func (st *state) writable(L *lua.LState, t *lua.LTable) {
	if _, ok := st.frozen[t]; ok && !st.loading {
		L.RaiseError("what was made at load is read-only: keep state in tx.notes, conn.notes or store")
	}
	if t.Metatable == st.rcptList {
		L.RaiseError("tx.recipients changes by its methods: add, remove, replace")
	}
	if t.Metatable == st.readonly {
		L.RaiseError("this table is a copy and read-only: assign a new value to the note, or use the methods for changes")
	}
}

// set is t[k] = v.
func (st *state) set(L *lua.LState) int {
	target, k, v := L.Get(1), L.Get(2), L.Get(3)
	switch t := target.(type) {
	case *lua.LTable:
		st.writable(L, t)
		st.growth(L, t, k)
		if t.Metatable == lua.LNil {
			L.RawSet(t, k, v)
			return 0
		}
	case *lua.LUserData:
		if a, ok := t.Value.(assignable); ok {
			a.assign(st, L, k, v)
			return 0
		}
		L.RaiseError("%s has nothing that can be set", kindOf(t))
	}
	L.SetTable(target, k, v)
	return 0
}

// growth bounds t[k] for a k far behind the end, where gopher-lua fills the gap.
func (st *state) growth(L *lua.LState, t *lua.LTable, k lua.LValue) {
	if n, ok := k.(lua.LNumber); ok && n > 1024 && n < lua.LNumber(lua.MaxArrayIndex) {
		if gap := int(n) - t.MaxN(); gap > 1 {
			st.b.make(L, 16*gap)
		}
	}
}

// setGlobal is name = v for a name that is no local.
func (st *state) setGlobal(L *lua.LState) int {
	if !st.loading {
		L.RaiseError("%q is a global, and globals are read-only after load: write local, or keep state in tx.notes, conn.notes or store", L.ToString(1))
	}
	st.L.G.Global.RawSetString(L.ToString(1), L.Get(2))
	return 0
}

// locked stands before an assignment to a local of the file in a function.
func (st *state) locked(L *lua.LState) int {
	if !st.loading {
		L.RaiseError("%q belongs to the file and is read-only after load: keep state in tx.notes, conn.notes or store", L.ToString(1))
	}
	return 0
}

// key is the k of { [k] = v }.
func (st *state) key(L *lua.LState) int {
	if n, ok := L.Get(1).(lua.LNumber); ok && n > 1024 && n < lua.LNumber(lua.MaxArrayIndex) {
		st.b.make(L, 16*int(n))
	}
	L.SetTop(1)
	return 1
}

// concat is a .. b .. c: strings, numbers, and values of ours that have a text.
func (st *state) concat(L *lua.LState) int {
	n, size := L.GetTop(), 0
	for i := 1; i <= n; i++ {
		switch v := L.Get(i).(type) {
		case lua.LString:
			size += len(v)
		case lua.LNumber:
			size += 24
		case *lua.LUserData:
			if _, ok := v.Value.(fmt.Stringer); !ok {
				L.RaiseError("attempt to concatenate %s", kindOf(v))
			}
			size += 64
		default:
			return st.concatMeta(L, n)
		}
	}
	st.b.make(L, size)
	out := make([]byte, 0, size)
	for i := 1; i <= n; i++ {
		switch v := L.Get(i).(type) {
		case lua.LString:
			out = append(out, v...)
		case lua.LNumber:
			out = append(out, v.String()...)
		case *lua.LUserData:
			out = append(out, v.Value.(fmt.Stringer).String()...)
		}
	}
	L.Push(lua.LString(out))
	return 1
}

// concatMeta is concat where a table with __concat may be among the values.
func (st *state) concatMeta(L *lua.LState, n int) int {
	right := L.Get(n)
	for i := n - 1; i >= 1; i-- {
		left := L.Get(i)
		meta := L.GetMetaField(left, "__concat")
		if meta == lua.LNil {
			meta = L.GetMetaField(right, "__concat")
		}
		if meta == lua.LNil {
			a, okA := joinable(left)
			b, okB := joinable(right)
			if !okA || !okB {
				bad := left
				if okA {
					bad = right
				}
				L.RaiseError("attempt to concatenate %s", kindOf(bad))
			}
			st.b.make(L, len(a)+len(b))
			right = lua.LString(a + b)
			continue
		}
		L.Push(meta)
		L.Push(left)
		L.Push(right)
		L.Call(2, 1)
		right = L.Get(-1)
		L.Pop(1)
	}
	L.Push(right)
	return 1
}

func joinable(v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return v.String(), true
	case *lua.LUserData:
		s, ok := v.Value.(fmt.Stringer)
		if ok {
			return s.String(), true
		}
	}
	return "", false
}

// kindOf names a value for an error message.
func kindOf(v lua.LValue) string {
	switch v := v.(type) {
	case nil, *lua.LNilType:
		return "nil"
	case *lua.LUserData:
		if n, ok := v.Value.(interface{ luaKind() string }); ok {
			return n.luaKind()
		}
		return "an object"
	case lua.LString:
		return "a string"
	case lua.LBool:
		return "a boolean"
	}
	return "a " + v.Type().String()
}

// wait runs a look-up: the clock of the budget stands still, and the pool knows
// that this state waits.
func (st *state) wait(L *lua.LState, f func(ctx context.Context)) {
	if st.loading && st.policed {
		L.RaiseError("look-ups belong in a handler: the file itself runs when the configuration is loaded")
	}
	st.b.spend(L, 64)
	st.b.pause()
	if st.policy != nil {
		st.policy.pool.waiting(st.policy, 1)
	}
	defer func() {
		if st.policy != nil {
			st.policy.pool.waiting(st.policy, -1)
		}
		st.b.resume()
	}()
	f(st.b.Context)
}
