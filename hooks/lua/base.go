package lua

import (
	"fmt"
	"strings"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// maxUnpack is how many values a call can return by unpack or string.byte.
const maxUnpack = 4096

// absent are globals of gopher-lua that policies don't get.
var absent = [...]string{
	"collectgarbage", "dofile", "getfenv", "load", "loadfile", "loadstring", "module", "newproxy", "rawget", "rawset",
	"setfenv", "_printregs", "_GOPHER_LUA_VERSION",
}

// open fills the globals, but for the libraries that files name.
func (st *state) open() {
	L := st.L
	lua.OpenBase(L)
	L.SetTop(0)
	g := L.G.Global
	for _, name := range absent {
		g.RawSetString(name, lua.LNil)
	}
	st.newClasses()
	st.same = L.NewFunction(same)
	for name, f := range map[string]lua.LGFunction{
		"error": st.raise, "getmetatable": st.getMetatable, "next": st.next, "setmetatable": st.setMetatable, "pairs": st.pairs, "pcall": st.pcall,
		"print": st.print, "require": st.require, "unpack": st.unpack, "xpcall": st.xpcall, "now": st.now, "policy": st.declare, "parallel": st.parallel, "pause": st.pause,
	} {
		g.RawSetString(name, L.NewFunction(f))
	}
	g.RawSetString("debug", st.library(map[string]lua.LGFunction{"traceback": st.traceback}))
	st.openText(g)
	st.openTables(g)
	st.openDecisions(g)
	st.openKinds(g)
	st.openIP(g)
	for _, name := range always {
		st.guard(name)
	}
}

// always are the libraries that every state has: values have their methods.
var always = [...]string{"string", "table", "debug", "ip"}

// byName are the libraries that a state has where its files name them. To make all of them
// for each state took most of its time and memory.
var byName = [...]struct {
	name string
	open func(*state, *lua.LTable)
}{
	{"math", (*state).openMath},
	{"dns", (*state).openDNS},
	{"addr", (*state).openAddr},
	{"store", (*state).openStore},
	{"regex", (*state).openRegex},
	{"log", (*state).openLog},
	{"json", (*state).openJSON},
	{"http", (*state).openHTTP},
	{"tcp", (*state).openTCP},
	{"hash", (*state).openHash},
	{"base64", (*state).openBase64},
	{"time", (*state).openTime},
	{"metric", (*state).openMetric},
	{"geoip", (*state).openGeoIP},
	{"host", (*state).openHost},
	{"lookup", (*state).openLookup},
	{"mime", (*state).openMIME},
	{"spf", (*state).openSPF},
	{"dmarc", (*state).openDMARC},
	{"dkim", (*state).openDKIM},
	{"arc", (*state).openARC},
}

// libraries is a set of those that are named, by their places in byName.
type libraries uint32

const allLibraries libraries = 1<<len(byName) - 1

// librariesOf are the libraries that a compiled file may reach: those whose name it holds
// anywhere, and all where it holds _G.
func librariesOf(p *lua.FunctionProto) (set libraries) {
	for _, c := range p.Constants {
		text, ok := c.(lua.LString)
		if !ok {
			continue
		}
		if text == "_G" {
			return allLibraries
		}
		for i := range byName {
			if string(text) == byName[i].name {
				set |= 1 << i
			}
		}
	}
	for _, inner := range p.FunctionPrototypes {
		set |= librariesOf(inner)
	}
	return set
}

// openLibraries makes those of the set that the state has not got.
func (st *state) openLibraries(set libraries) {
	set &^= st.have
	st.have |= set
	for i := range byName {
		if set&(1<<i) != 0 {
			byName[i].open(st, st.L.G.Global)
			st.guard(byName[i].name)
		}
	}
}

func (st *state) openMath(g *lua.LTable) {
	lua.OpenMath(st.L)
	st.L.Pop(1)
	if m, ok := g.RawGetString("math").(*lua.LTable); ok {
		m.RawSetString("randomseed", lua.LNil)
	}
}

// libraryClass tells the class of a library, by whose members a name that is wrong is guessed.
var libraryClass = sync.OnceValue(func() map[string]string {
	classes := map[string]string{}
	for _, m := range libraryGlobals().items {
		classes[m.name] = m.sig
	}
	return classes
})

// guard makes the reading of a member that a library has not got an error that says
// what is near.
func (st *state) guard(name string) {
	t, ok := st.L.G.Global.RawGetString(name).(*lua.LTable)
	if !ok {
		return
	}
	meta, ok := t.Metatable.(*lua.LTable)
	if !ok {
		meta = st.newClass(lua.LNil)
		t.Metatable = meta
	}
	meta.RawSetString("__index", st.L.NewFunction(st.missing(name, libraryClass()[name])))
}

// globalNames lists what scripts find; the same in every state.
func globalNames(st *state) []string {
	var names []string
	st.L.G.Global.ForEach(func(k, _ lua.LValue) { names = append(names, k.String()) })
	return names
}

// library makes a table of functions.
func (st *state) library(functions map[string]lua.LGFunction) *lua.LTable {
	t := st.L.CreateTable(0, len(functions))
	for name, f := range functions {
		t.RawSetString(name, st.L.NewFunction(f))
	}
	return t
}

func (st *state) getMetatable(L *lua.LState) int {
	L.CheckAny(1)
	if t, ok := L.Get(1).(*lua.LTable); ok {
		st.complete(t)
	}
	L.Push(L.GetMetatable(L.Get(1)))
	return 1
}

func (st *state) setMetatable(L *lua.LState) int {
	t := L.CheckTable(1)
	if L.Get(2) != lua.LNil {
		L.CheckTable(2)
	}
	st.writable(L, t)
	st.complete(t)
	if L.GetMetaField(t, "__metatable") != lua.LNil {
		L.RaiseError("cannot change a protected metatable")
	}
	L.SetMetatable(t, L.Get(2))
	L.SetTop(1)
	return 1
}

// pairs walks tables, and the notes.
func (st *state) pairs(L *lua.LState) int {
	L.CheckAny(1)
	if u, ok := L.Get(1).(*lua.LUserData); ok {
		n, ok := u.Value.(*notes)
		if !ok {
			L.RaiseError("pairs: %s is no table", kindOf(u))
		}
		L.Replace(1, n.table(st))
	}
	t := L.CheckTable(1)
	st.complete(t)
	L.Push(L.G.Global.RawGetString("next"))
	L.Push(t)
	L.Push(lua.LNil)
	return 3
}

func (st *state) unpack(L *lua.LState) int {
	t := L.CheckTable(1)
	from, to := L.OptInt(2, 1), 0
	if L.Get(3) == lua.LNil {
		to = t.Len()
	} else {
		to = L.CheckInt(3)
	}
	if to < from {
		return 0
	}
	if to-from < 0 || to-from >= maxUnpack {
		st.b.exceed(L, "unpack of more than %d values", maxUnpack)
	}
	for i := from; i <= to; i++ {
		L.Push(t.RawGetInt(i))
	}
	return to - from + 1
}

// caught is called with the error of a protected call: a limit goes on upwards.
func (st *state) caught(L *lua.LState, err error) lua.LValue {
	object := lua.LValue(lua.LString(err.Error()))
	if e, ok := err.(*lua.ApiError); ok {
		if e.Object != nil {
			object = e.Object
		}
	}
	if s, ok := object.(lua.LString); ok && strings.HasPrefix(string(s), "runtime error: ") {
		st.b.fail(fmt.Errorf("internal error: %s", s))
	}
	if s, ok := object.(lua.LString); ok && (strings.Contains(string(s), "stack overflow") || strings.Contains(string(s), "registry overflow")) {
		st.b.fail(fmt.Errorf("limit: functions call each other too deeply or hold too many values (at most %d calls)", callDepth))
	}
	if st.b.over != nil {
		L.RaiseError("%s", st.b.over.Error())
	}
	return object
}

// same is given to every protected call as its handler. Without one, gopher-lua
// cuts all closures of the running call off from the locals that they share, when
// an error is raised, and not only those of the functions that the error ends.
func same(L *lua.LState) int {
	L.SetTop(1)
	return 1
}

// raise is error(value, level): a text gets the place of the level in front.
func (st *state) raise(L *lua.LState) int {
	value, level := L.Get(1), L.OptInt(2, 1)
	if s, ok := value.(lua.LString); ok && level > 0 {
		if where := strings.TrimSpace(L.Where(level)); where != "" {
			value = lua.LString(where) + " " + s
		}
	}
	L.Error(value, 0)
	return 0
}

func (st *state) pcall(L *lua.LState) int {
	L.CheckAny(1)
	if err := L.PCall(L.GetTop()-1, lua.MultRet, st.same); err != nil {
		object := st.caught(L, err)
		L.Push(lua.LFalse)
		L.Push(object)
		return 2
	}
	L.Insert(lua.LTrue, 1)
	return L.GetTop()
}

// xpcall calls its handler behind the failed call, so that a handler that fails
// is an error like any other.
func (st *state) xpcall(L *lua.LState) int {
	f, handler := L.CheckFunction(1), L.CheckFunction(2)
	L.SetTop(0)
	L.Push(f)
	err := L.PCall(0, lua.MultRet, st.same)
	if err == nil {
		L.Insert(lua.LTrue, 1)
		return L.GetTop()
	}
	object := st.caught(L, err)
	L.SetTop(0)
	L.Push(lua.LFalse)
	L.Push(handler)
	L.Push(object)
	L.Call(1, lua.MultRet)
	return L.GetTop()
}

func (st *state) traceback(L *lua.LState) int {
	out := L.OptString(1, "") + "\nstack traceback:"
	for level := 1; level <= 20; level++ {
		where := strings.TrimSuffix(strings.TrimSpace(L.Where(level)), ":")
		if where == "" {
			break
		}
		out += "\n\t" + where
	}
	L.Push(lua.LString(strings.TrimPrefix(out, "\n")))
	return 1
}

func (st *state) now(L *lua.LState) int {
	t := st.script.options.Library.Now()
	L.Push(lua.LNumber(float64(t.UnixMicro()) / 1e6))
	return 1
}

// require loads a module of the policy's folder or of scripts/lib, once.
func (st *state) require(L *lua.LState) int {
	name := L.CheckString(1)
	if v, ok := st.modules[name]; ok {
		if v == nil {
			L.RaiseError("module %q requires itself", name)
		}
		L.Push(v)
		return 1
	}
	if !st.loading {
		L.RaiseError("require %q belongs to the top of the file: modules are loaded once", name)
	}
	c, problem := st.script.module(name)
	if problem != nil {
		L.RaiseError("%s", problem.Text)
	}
	st.modules[name] = nil
	st.openLibraries(c.libraries)
	v, err := st.runChunk(c)
	if err != nil {
		if st.b.over == nil {
			delete(st.modules, name)
		}
		L.RaiseError("module %q: %s", name, err.Error())
	}
	if v == lua.LNil {
		v = lua.LTrue
	}
	st.modules[name] = v
	L.Push(v)
	return 1
}
