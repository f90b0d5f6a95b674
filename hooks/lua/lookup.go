package lua

import (
	"context"
	"fmt"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

// Bounds of parallel.
const (
	maxParallel = 64 // look-ups of one call of parallel
	atOnce      = 16 // of them that run at a time
)

// lookup is a question to what lies outside the script. Its arguments have been
// read; ask runs without the Lua state, maybe beside others; answer pushes the
// results.
type lookup struct {
	ask    func(ctx context.Context) // nil: the answer is known
	answer func(L *lua.LState) int
}

// lookupFunc reads the arguments of a look-up.
type lookupFunc func(L *lua.LState) lookup

// failed is a look-up that has its error already.
func failed(kind, text string) lookup {
	return lookup{answer: func(L *lua.LState) int { return fail(L, kind, text) }}
}

// lookups makes a library whose functions block, and can be given to parallel.
func (st *state) lookupLibrary(functions map[string]lookupFunc) *lua.LTable {
	t := st.L.CreateTable(0, len(functions))
	for name, f := range functions {
		st.addLookup(t, name, f)
	}
	return t
}

func (st *state) addLookup(t *lua.LTable, name string, f lookupFunc) {
	fn := st.L.NewFunction(func(L *lua.LState) int {
		q := f(L)
		if q.ask != nil {
			st.wait(L, q.ask)
		}
		return q.answer(L)
	})
	st.lookups[fn] = f
	t.RawSetString(name, fn)
}

// parallel is parallel{ {dns.a, "x"}, {dns.txt, "y"} }: a table of the values in
// their order, and one of the errors.
func (st *state) parallel(L *lua.LState) int {
	t := L.CheckTable(1)
	n := t.Len()
	if n > maxParallel {
		L.ArgError(1, fmt.Sprintf("parallel takes at most %d look-ups", maxParallel))
	}
	list := make([]lookup, n)
	for i := range list {
		st.prepare(L, i+1, t.RawGetInt(i+1), &list[i])
	}
	if n > 0 {
		st.wait(L, func(ctx context.Context) { askAll(ctx, list) })
	}
	values, errs := L.CreateTable(n, 0), L.CreateTable(0, 0)
	for i := range list {
		L.Push(L.NewFunction(list[i].answer))
		L.Call(0, 2)
		values.RawSetInt(i+1, L.Get(-2))
		if L.Get(-2) == lua.LNil {
			errs.RawSetInt(i+1, L.Get(-1))
		}
		L.Pop(2)
	}
	L.Push(values)
	L.Push(errs)
	return 2
}

// prepare reads one item of parallel: a look-up and its arguments.
func (st *state) prepare(L *lua.LState, i int, v lua.LValue, into *lookup) {
	item, ok := v.(*lua.LTable)
	if !ok {
		L.ArgError(1, fmt.Sprintf("item %d must be a table such as { dns.a, \"example.org\" }, not %s", i, kindOf(v)))
	}
	fn, _ := item.RawGetInt(1).(*lua.LFunction)
	f := st.lookups[fn]
	if f == nil {
		L.ArgError(1, fmt.Sprintf("item %d must begin with a look-up, such as dns.a, store.get or http.get", i))
	}
	L.Push(L.NewFunction(func(L *lua.LState) int {
		*into = f(L)
		return 0
	}))
	n := min(item.MaxN(), 16)
	for k := 2; k <= n; k++ {
		L.Push(item.RawGetInt(k))
	}
	L.Call(max(0, n-1), 0)
}

// askAll runs the questions beside each other, the last of them here, and waits for all.
// What one panics with is raised here, where it can be caught.
func askAll(ctx context.Context, list []lookup) {
	last := len(list) - 1
	for last >= 0 && list[last].ask == nil {
		last--
	}
	if last < 0 {
		return
	}
	slots := make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	var mu sync.Mutex
	var broken any
	ask := func(q lookup) {
		defer func() {
			if p := recover(); p != nil {
				mu.Lock()
				broken = p
				mu.Unlock()
			}
		}()
		q.ask(ctx)
	}
	for _, q := range list[:last] {
		if q.ask == nil {
			continue
		}
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			ask(q)
		})
	}
	slots <- struct{}{}
	ask(list[last])
	<-slots
	asking.Wait()
	if broken != nil {
		panic(broken)
	}
}
