package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// maxPatterns is how many compiled patterns a state keeps.
const maxPatterns = 200

// openText makes the string library; string is a setting's type at the same time.
func (st *state) openText(g *lua.LTable) {
	lib := st.library(map[string]lua.LGFunction{
		"byte": st.textByte, "char": st.textChar, "find": st.textFind, "format": st.textFormat, "gmatch": st.textGmatch, "gsub": st.textGsub,
		"len": st.textLen, "lower": st.textLower, "match": st.textMatch, "rep": st.textRep, "reverse": st.textReverse, "sub": st.textSub, "upper": st.textUpper,
	})
	st.textLib = lib
	g.RawSetString("string", lib)
	meta := st.L.CreateTable(0, 2)
	meta.RawSetString("__index", lib)
	meta.RawSetString("__metatable", lua.LString("locked"))
	st.L.SetMetatable(lua.LString(""), meta)
	st.frozen[meta] = struct{}{}
}

// span turns Lua's positions, negative from the end, into a slice's.
func span(n, from, to int) (int, int) {
	if from < 0 {
		from = max(n+from+1, 1)
	} else if from == 0 {
		from = 1
	}
	if to < 0 {
		to = n + to + 1
	} else if to > n {
		to = n
	}
	if from > to {
		return 0, 0
	}
	return from - 1, to
}

func (st *state) textByte(L *lua.LState) int {
	s := L.CheckString(1)
	first := L.OptInt(2, 1)
	from, to := span(len(s), first, L.OptInt(3, first))
	if to-from > maxUnpack {
		st.b.exceed(L, "string.byte of more than %d bytes", maxUnpack)
	}
	for i := from; i < to; i++ {
		L.Push(lua.LNumber(s[i]))
	}
	return to - from
}

func (st *state) textChar(L *lua.LState) int {
	out := make([]byte, 0, L.GetTop())
	for i := 1; i <= L.GetTop(); i++ {
		n := L.CheckInt(i)
		if n < 0 || n > 255 {
			L.ArgError(i, "invalid value")
		}
		out = append(out, byte(n))
	}
	L.Push(lua.LString(out))
	return 1
}

func (st *state) textLen(L *lua.LState) int {
	L.Push(lua.LNumber(len(L.CheckString(1))))
	return 1
}

func (st *state) textLower(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, len(s))
	L.Push(lua.LString(mapASCII(s, 'A', 'Z')))
	return 1
}

func (st *state) textUpper(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, len(s))
	L.Push(lua.LString(mapASCII(s, 'a', 'z')))
	return 1
}

// mapASCII changes the case of the letters from first to last; other bytes, those
// of UTF-8 included, stay, as in the C locale.
func mapASCII(s string, first, last byte) string {
	for i := range len(s) {
		if s[i] < first || s[i] > last {
			continue
		}
		out := []byte(s)
		for ; i < len(out); i++ {
			if out[i] >= first && out[i] <= last {
				out[i] ^= 0x20
			}
		}
		return string(out)
	}
	return s
}

func (st *state) textRep(L *lua.LState) int {
	s, n := L.CheckString(1), L.CheckInt(2)
	if n <= 0 || s == "" {
		L.Push(lua.LString(""))
		return 1
	}
	if n > maxResult {
		n = maxResult + 1
	}
	st.b.make(L, len(s)*n)
	L.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

func (st *state) textReverse(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, len(s))
	out := make([]byte, len(s))
	for i := range len(s) {
		out[len(s)-1-i] = s[i]
	}
	L.Push(lua.LString(out))
	return 1
}

func (st *state) textSub(L *lua.LState) int {
	s := L.CheckString(1)
	from, to := span(len(s), L.CheckInt(2), L.OptInt(3, -1))
	L.Push(lua.LString(s[from:to]))
	return 1
}

func (st *state) textFormat(L *lua.LState) int {
	L.Push(lua.LString(st.format(L, 1)))
	return 1
}

// pattern compiles a pattern, or finds it among those compiled before.
func (st *state) pattern(L *lua.LState, text string, anchors bool) *pattern {
	key := text
	if !anchors {
		key = "\x01" + text
	}
	if p, ok := st.patterns[key]; ok {
		return p
	}
	st.b.spend(L, 16+len(text))
	p, err := compilePattern(text, anchors)
	if err != nil {
		L.RaiseError("%s", err.Error())
	}
	if len(st.patterns) >= maxPatterns {
		clear(st.patterns)
	}
	st.patterns[key] = p
	return p
}

// start is the offset that an init argument means.
func start(L *lua.LState, n, length int) int {
	from := L.OptInt(n, 1)
	if from < 0 {
		return max(length+from, 0)
	}
	return min(max(from-1, 0), length)
}

// pushCapture pushes capture i, or the whole match where the pattern has none.
func (m *matcher) pushCapture(L *lua.LState, i, from, to int) {
	if i >= m.p.captures {
		L.Push(lua.LString(m.s[from:to]))
		return
	}
	c := m.captures[i]
	if c.end < 0 {
		L.Push(lua.LNumber(c.start + 1))
		return
	}
	L.Push(lua.LString(m.s[c.start:c.end]))
}

func (m *matcher) pushCaptures(L *lua.LState, from, to int) int {
	n := max(1, m.p.captures)
	for i := range n {
		m.pushCapture(L, i, from, to)
	}
	return n
}

func (st *state) textFind(L *lua.LState) int {
	s, p := L.CheckString(1), L.CheckString(2)
	from := start(L, 3, len(s))
	if lua.LVAsBool(L.Get(4)) {
		st.b.spend(L, (len(s)-from)>>6)
		i := strings.Index(s[from:], p)
		if i < 0 {
			L.Push(lua.LNil)
			return 1
		}
		L.Push(lua.LNumber(from + i + 1))
		L.Push(lua.LNumber(from + i + len(p)))
		return 2
	}
	m := matcher{p: st.pattern(L, p, true), s: s, spend: st.spend}
	a, b, ok := m.find(from)
	if !ok {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(lua.LNumber(a + 1))
	L.Push(lua.LNumber(b))
	for i := range m.p.captures {
		m.pushCapture(L, i, a, b)
	}
	return 2 + m.p.captures
}

func (st *state) textMatch(L *lua.LState) int {
	s := L.CheckString(1)
	m := matcher{p: st.pattern(L, L.CheckString(2), true), s: s, spend: st.spend}
	a, b, ok := m.find(start(L, 3, len(s)))
	if !ok {
		L.Push(lua.LNil)
		return 1
	}
	return m.pushCaptures(L, a, b)
}

func (st *state) textGmatch(L *lua.LState) int {
	m := matcher{p: st.pattern(L, L.CheckString(2), false), s: L.CheckString(1), spend: st.spend}
	next := 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		if next > len(m.s) {
			L.Push(lua.LNil)
			return 1
		}
		a, b, ok := m.find(next)
		if !ok {
			next = len(m.s) + 1
			L.Push(lua.LNil)
			return 1
		}
		next = b
		if a == b {
			next++
		}
		return m.pushCaptures(L, a, b)
	}))
	return 1
}

func (st *state) textGsub(L *lua.LState) int {
	s := L.CheckString(1)
	m := matcher{p: st.pattern(L, L.CheckString(2), true), s: s, spend: st.spend}
	repl := L.Get(3)
	switch repl.(type) {
	case lua.LString, lua.LNumber, *lua.LTable, *lua.LFunction:
	default:
		L.ArgError(3, "string, function or table expected, got "+kindOf(repl))
	}
	most := len(s) + 1
	if L.Get(4) != lua.LNil {
		most = L.CheckInt(4)
	}
	var out []byte
	src, count, made := 0, 0, 0
	for count < most {
		a, b, ok := m.find(src)
		if !ok {
			break
		}
		count++
		out = append(out, s[src:a]...)
		out = st.replacement(L, &m, repl, out, a, b)
		if b > a {
			src = b
		} else {
			if src = a; src < len(s) {
				out = append(out, s[src])
			}
			src++
		}
		if n := len(out); n > maxResult {
			st.b.make(L, n)
		} else if n-made > 64<<10 {
			st.b.make(L, n-made)
			made = n
		}
		if src > len(s) || m.p.anchored {
			break
		}
	}
	if src < len(s) {
		out = append(out, s[src:]...)
	}
	st.b.make(L, len(out))
	L.Push(lua.LString(out))
	L.Push(lua.LNumber(count))
	return 2
}

// replacement appends what stands for the match from a to b.
func (st *state) replacement(L *lua.LState, m *matcher, repl lua.LValue, out []byte, a, b int) []byte {
	var v lua.LValue
	switch r := repl.(type) {
	case *lua.LTable:
		m.pushCapture(L, 0, a, b)
		key := L.Get(-1)
		L.Pop(1)
		v = L.GetTable(r, key)
	case *lua.LFunction:
		L.Push(r)
		n := m.pushCaptures(L, a, b)
		L.Call(n, 1)
		v = L.Get(-1)
		L.Pop(1)
	default:
		return st.expand(L, m, r.String(), out, a, b)
	}
	if !lua.LVAsBool(v) {
		return append(out, m.s[a:b]...)
	}
	s, ok := joinable(v)
	if !ok {
		L.RaiseError("invalid replacement value (%s)", kindOf(v))
	}
	return append(out, s...)
}

// expand appends a replacement text with its %0 to %9.
func (st *state) expand(L *lua.LState, m *matcher, text string, out []byte, a, b int) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		switch c := text[i]; {
		case c == '0':
			out = append(out, m.s[a:b]...)
		case c >= '1' && c <= '9':
			index := int(c - '1')
			if index >= max(1, m.p.captures) {
				L.RaiseError("invalid capture index %%%c in the replacement", c)
			}
			m.pushCapture(L, index, a, b)
			out = append(out, L.Get(-1).String()...)
			L.Pop(1)
		default:
			out = append(out, c)
		}
		if len(out) > maxResult {
			st.b.make(L, len(out))
		}
	}
	return out
}
