package lua

import (
	"errors"
	"fmt"
	"math"
	"slices"

	lua "github.com/yuin/gopher-lua"
)

// Bounds of a plain value: a note, a result, a stored value.
const (
	maxPlainDepth = 16
	maxPlainItems = 20_000
	maxPlainBytes = 1 << 20
)

// plainer turns Lua values into plain ones: string, float64, bool, []any,
// map[string]any.
type plainer struct {
	items, bytes int
	complete     func(*lua.LTable) // nil: no table has late members
}

// toPlain is v as a plain value; nil is nil. Values of ours that have a text,
// such as an address, become that text.
func toPlain(v lua.LValue) (any, error) {
	p := plainer{}
	return p.value(v, 0)
}

// plain is toPlain, with what it makes counted.
func (st *state) plain(L *lua.LState, v lua.LValue) (any, error) {
	p := plainer{complete: st.complete}
	plain, err := p.value(v, 0)
	st.b.make(L, p.bytes+plainItem*p.items)
	return plain, err
}

// plainItem is about how many bytes an item of a plain value takes.
const plainItem = 48

// fromPlain is a plain value for Lua, with what it makes counted.
func (st *state) fromPlain(L *lua.LState, v any, meta lua.LValue) lua.LValue {
	st.b.make(L, weight(v))
	return fromPlain(v, meta)
}

// weight is about how many bytes a plain value is.
func weight(v any) int {
	n := plainItem
	switch v := v.(type) {
	case string:
		n += len(v)
	case []any:
		for _, one := range v {
			n += weight(one)
		}
	case map[string]any:
		for k, one := range v {
			n += len(k) + weight(one)
		}
	}
	return n
}

func (p *plainer) value(v lua.LValue, depth int) (any, error) {
	p.items++
	if p.items > maxPlainItems || p.bytes > maxPlainBytes {
		return nil, fmt.Errorf("a value of more than %d items or %d MiB", maxPlainItems, maxPlainBytes>>20)
	}
	switch v := v.(type) {
	case nil, *lua.LNilType:
		return nil, nil
	case lua.LBool:
		return bool(v), nil
	case lua.LNumber:
		if f := float64(v); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f, nil
		}
		return nil, errors.New("a number that is not finite")
	case lua.LString:
		p.bytes += len(v)
		return string(v), nil
	case *lua.LTable:
		if depth == maxPlainDepth {
			return nil, fmt.Errorf("tables nested deeper than %d, or in a circle", maxPlainDepth)
		}
		return p.table(v, depth+1)
	case *lua.LUserData:
		if s, ok := v.Value.(fmt.Stringer); ok {
			return s.String(), nil
		}
	}
	return nil, fmt.Errorf("%s is no plain value: write strings, numbers, booleans or tables of them", kindOf(v))
}

func (p *plainer) table(t *lua.LTable, depth int) (any, error) {
	if p.complete != nil {
		p.complete(t)
	}
	n := t.Len()
	list := make([]any, 0, min(n, maxPlainItems))
	var fields map[string]any
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		item, err := p.value(v, depth)
		if err != nil {
			return nil, err
		}
		switch k := k.(type) {
		case lua.LNumber:
			if int(k) != len(list)+1 || lua.LNumber(int(k)) != k {
				return nil, errors.New("a table that is neither a list without gaps nor named values")
			}
			list = append(list, item)
		case lua.LString:
			if fields == nil {
				fields = map[string]any{}
			}
			p.bytes += len(k)
			fields[string(k)] = item
		default:
			return nil, errors.New("a table whose keys are neither numbers nor texts")
		}
	}
	if fields == nil {
		return list, nil
	}
	if len(list) > 0 {
		return nil, errors.New("a table that is neither a list nor named values but both")
	}
	return fields, nil
}

// fromPlain is a plain value for Lua; meta becomes the metatable of its tables.
func fromPlain(v any, meta lua.LValue) lua.LValue {
	switch v := v.(type) {
	case bool:
		return lua.LBool(v)
	case string:
		return lua.LString(v)
	case []any:
		t := &lua.LTable{Metatable: meta}
		for i, item := range v {
			t.RawSetInt(i+1, fromPlain(item, meta))
		}
		return t
	case []string:
		t := texts(v)
		t.Metatable = meta
		return t
	case map[string]any:
		t := &lua.LTable{Metatable: meta}
		for _, k := range sortedKeys(v) {
			t.RawSetString(k, fromPlain(v[k], meta))
		}
		return t
	}
	if f, ok := toFloat(v); ok {
		return lua.LNumber(f)
	}
	return lua.LNil
}

// sortedKeys gives pairs an order that does not change from run to run.
func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// spanOf reads seconds: a number, or a text such as "5m".
func spanOf(v lua.LValue) (float64, error) {
	switch v := v.(type) {
	case lua.LNumber:
		if f := float64(v); f >= 0 && f <= maxSeconds {
			return f, nil
		}
	case lua.LString:
		return parseSpan(string(v))
	}
	return 0, fmt.Errorf(`%s is no time; write seconds, or a text such as "5m"`, kindOf(v))
}
