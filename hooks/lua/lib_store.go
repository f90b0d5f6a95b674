package lua

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/store"
)

func (st *state) openStore(g *lua.LTable) {
	g.RawSetString("store", st.lookupLibrary(map[string]lookupFunc{
		"get": st.storeGet, "put": st.storePut, "incr": st.storeIncr, "take": st.storeTake, "swap": st.storeSwap, "delete": st.storeDelete,
	}))
}

// failStore is fail for an error of the store.
func failStore(L *lua.LState, err error) int {
	kind := "temporary"
	if store.Misused(err) {
		kind = "bad"
	}
	return fail(L, kind, err.Error())
}

// toStore is a question to the store, if there is one.
func (st *state) toStore(question func(ctx context.Context, s store.Store) error, answer lua.LGFunction) lookup {
	s := st.script.options.Library.Store
	err := errors.New("there is no store here")
	q := lookup{answer: func(L *lua.LState) int {
		if err != nil {
			return failStore(L, err)
		}
		return answer(L)
	}}
	if s != nil {
		q.ask = func(ctx context.Context) { err = question(ctx, s) }
	}
	return q
}

// storeKey reads a key: a text or number, or a list of parts. Parts are kept
// apart, so that {"a", "bc"} and {"ab", "c"} are two keys; a text is the same key
// as the list of it alone.
func (st *state) storeKey(L *lua.LState, n int) []byte {
	t, ok := L.Get(n).(*lua.LTable)
	if !ok {
		return store.Key(keyPart(L, n, L.Get(n)))
	}
	parts := make([]string, t.Len())
	st.b.make(L, 32*len(parts))
	if len(parts) == 0 {
		L.ArgError(n, "the key is empty")
	}
	for i := range parts {
		parts[i] = keyPart(L, n, t.RawGetInt(i+1))
		st.b.spend(L, 1)
	}
	return store.Key(parts...)
}

func keyPart(L *lua.LState, n int, v lua.LValue) string {
	s, ok := joinable(v)
	if b, isBool := v.(lua.LBool); isBool {
		s, ok = b.String(), true
	}
	if !ok {
		L.ArgError(n, "a key is a text or a list of texts and numbers; "+kindOf(v)+" is none")
	}
	return s
}

func (st *state) storedArgument(L *lua.LState, n int) ([]byte, error) {
	v, err := st.plain(L, L.Get(n))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, nil
	}
	return store.Encode(v)
}

// span reads a time argument; nothing means for ever.
func (st *state) span(L *lua.LState, n int) time.Duration {
	if L.Get(n) == lua.LNil {
		return 0
	}
	seconds, err := spanOf(L.Get(n))
	if err != nil {
		L.ArgError(n, err.Error())
	}
	return toDuration(seconds)
}

// storeGet is store.get(key): the value, or nil; an error is a second value.
func (st *state) storeGet(L *lua.LState) lookup {
	key := st.storeKey(L, 1)
	var b []byte
	var ok bool
	return st.toStore(func(ctx context.Context, s store.Store) (err error) {
		b, ok, err = s.Get(ctx, key)
		return err
	}, func(L *lua.LState) int {
		if !ok {
			return fail(L, "none", "there is no such entry")
		}
		st.b.make(L, len(b))
		v, err := store.Decode(b)
		if err != nil {
			return fail(L, "bad", "the entry is not a value of ours: "+err.Error())
		}
		L.Push(fromPlain(v, lua.LNil))
		return 1
	})
}

func answerTrue(L *lua.LState) int {
	L.Push(lua.LTrue)
	return 1
}

// storePut is store.put(key, value, ttl).
func (st *state) storePut(L *lua.LState) lookup {
	key := st.storeKey(L, 1)
	value, err := st.storedArgument(L, 2)
	if err != nil {
		L.ArgError(2, err.Error())
	}
	if value == nil {
		L.ArgError(2, "nil can't be stored: use store.delete")
	}
	ttl := st.span(L, 3)
	return st.toStore(func(ctx context.Context, s store.Store) error { return s.Put(ctx, key, value, ttl) }, answerTrue)
}

// storeDelete is store.delete(key).
func (st *state) storeDelete(L *lua.LState) lookup {
	key := st.storeKey(L, 1)
	return st.toStore(func(ctx context.Context, s store.Store) error { return s.Delete(ctx, key) }, answerTrue)
}

// storeIncr is store.incr(key, by, ttl): the sum.
func (st *state) storeIncr(L *lua.LState) lookup {
	key, by, ttl := st.storeKey(L, 1), L.OptInt64(2, 1), st.span(L, 3)
	var sum int64
	return st.toStore(func(ctx context.Context, s store.Store) (err error) {
		sum, err = s.Incr(ctx, key, by, ttl)
		return err
	}, func(L *lua.LState) int {
		L.Push(lua.LNumber(sum))
		return 1
	})
}

// storeTake is store.take(key, capacity, per, n): true, or false and how long
// until there are n tokens.
func (st *state) storeTake(L *lua.LState) lookup {
	key, capacity, per, n := st.storeKey(L, 1), float64(L.CheckNumber(2)), st.span(L, 3), float64(L.OptNumber(4, 1))
	var allowed bool
	var retry time.Duration
	return st.toStore(func(ctx context.Context, s store.Store) (err error) {
		allowed, retry, err = s.Take(ctx, key, n, capacity, per)
		return err
	}, func(L *lua.LState) int {
		L.Push(lua.LBool(allowed))
		if allowed {
			return 1
		}
		L.Push(lua.LNumber(retry.Seconds()))
		return 2
	})
}

// storeSwap is store.swap(key, old, new, ttl): whether the value was old and is
// new now; nil means no entry.
func (st *state) storeSwap(L *lua.LState) lookup {
	key := st.storeKey(L, 1)
	old, err := st.storedArgument(L, 2)
	if err != nil {
		L.ArgError(2, err.Error())
	}
	value, err := st.storedArgument(L, 3)
	if err != nil {
		L.ArgError(3, err.Error())
	}
	ttl, swapped := st.span(L, 4), false
	return st.toStore(func(ctx context.Context, s store.Store) (err error) {
		swapped, err = s.Swap(ctx, key, old, value, ttl)
		return err
	}, func(L *lua.LState) int {
		L.Push(lua.LBool(swapped))
		return 1
	})
}

// encodeJSON writes a plain value; texts must be UTF-8, so that they come back
// as they were.
func encodeJSON(v any) ([]byte, error) { return store.EncodeJSON(v) }

// decodeJSON reads one JSON value.
func decodeJSON(b []byte) (any, error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	return v, nil
}
