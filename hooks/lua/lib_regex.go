package lua

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxRegex     = 8 << 10
	maxRegexSize = 20_000 // instructions
	maxMatches   = 20_000
	maxRegexes   = 100 // compiled texts that a state keeps
)

// maxRegexWork bounds the size of an expression times that of the text: RE2
// takes that many steps at worst, and can't be stopped.
const maxRegexWork = 200_000_000

// regexValue is a compiled regular expression.
type regexValue struct {
	re   *regexp.Regexp
	size int // instructions
}

func (*regexValue) luaKind() string { return "a regex" }

// String is the expression's text.
func (r *regexValue) String() string { return r.re.String() }

func (st *state) newRegex(re *regexp.Regexp) lua.LValue {
	return st.object(&regexValue{re, regexSize(re)}, st.regexClass)
}

func regexSize(re *regexp.Regexp) int {
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err == nil {
		if prog, err := syntax.Compile(parsed.Simplify()); err == nil {
			return len(prog.Inst)
		}
	}
	return maxRegexSize
}

func (st *state) openRegex(g *lua.LTable) {
	g.RawSetString("regex", st.library(map[string]lua.LGFunction{
		"compile": st.regexCompile, "find": st.regexFind, "match": st.regexMatch, "gmatch": st.regexGmatch, "replace": st.regexReplace, "quote": st.regexQuote,
	}))
}

func compileRegex(text string) (*regexp.Regexp, error) {
	if len(text) > maxRegex {
		return nil, fmt.Errorf("the expression is longer than %d bytes", maxRegex)
	}
	re, err := regexp.Compile(text)
	if err == nil && regexSize(re) > maxRegexSize {
		return nil, errors.New("the expression is too large")
	}
	return re, err
}

// regexCompile is regex.compile(text): an object, or nil and an error.
func (st *state) regexCompile(L *lua.LState) int {
	text := L.CheckString(1)
	st.b.spend(L, 256+8*len(text))
	re, err := compileRegex(text)
	if err != nil {
		return fail(L, "bad", err.Error())
	}
	L.Push(st.newRegex(re))
	return 1
}

// checkRegex is an argument: a compiled expression, or the text of one.
func (st *state) checkRegex(L *lua.LState, n int) *regexValue {
	if u, ok := L.Get(n).(*lua.LUserData); ok {
		if r, ok := u.Value.(*regexValue); ok {
			return r
		}
	}
	text := L.CheckString(n)
	if r, ok := st.regexes[text]; ok {
		return r
	}
	st.b.spend(L, 256+8*len(text))
	re, err := compileRegex(text)
	if err != nil {
		L.ArgError(n, err.Error())
	}
	if len(st.regexes) >= maxRegexes {
		clear(st.regexes)
	}
	r := &regexValue{re, regexSize(re)}
	st.regexes[text] = r
	return r
}

// regexArguments are an expression and the text that it is matched against.
func (st *state) regexArguments(L *lua.LState) (*regexp.Regexp, string) {
	r, s := st.checkRegex(L, 1), L.CheckString(2)
	if r.size*len(s) > maxRegexWork {
		st.b.exceed(L, "a regular expression of this size on a text of %d bytes", len(s))
	}
	st.b.spend(L, 8+len(s)>>1)
	return r.re, s
}

// pushGroups pushes the groups of a match, or all of it where there are none.
func pushGroups(L *lua.LState, s string, at []int) int {
	if len(at) > 2 {
		at = at[2:]
	}
	for i := 0; i < len(at); i += 2 {
		if at[i] < 0 {
			L.Push(lua.LNil)
		} else {
			L.Push(lua.LString(s[at[i]:at[i+1]]))
		}
	}
	return len(at) / 2
}

// regexMatch is regex.match(re, s) or re:match(s).
func (st *state) regexMatch(L *lua.LState) int {
	re, s := st.regexArguments(L)
	at := re.FindStringSubmatchIndex(s)
	if at == nil {
		L.Push(lua.LNil)
		return 1
	}
	return pushGroups(L, s, at)
}

// regexFind is regex.find(re, s, init): first and last position, and the groups.
func (st *state) regexFind(L *lua.LState) int {
	re, s := st.regexArguments(L)
	from := start(L, 3, len(s))
	at := re.FindStringSubmatchIndex(s[from:])
	if at == nil {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(lua.LNumber(from + at[0] + 1))
	L.Push(lua.LNumber(from + at[1]))
	if len(at) == 2 {
		return 2
	}
	return 2 + pushGroups(L, s[from:], at)
}

// regexGmatch is regex.gmatch(re, s): an iterator over the matches.
func (st *state) regexGmatch(L *lua.LState) int {
	re, s := st.regexArguments(L)
	all := re.FindAllStringSubmatchIndex(s, maxMatches+1)
	st.b.make(L, 64*len(all))
	if len(all) > maxMatches {
		st.b.exceed(L, "more than %d matches", maxMatches)
	}
	L.Push(L.NewFunction(func(L *lua.LState) int {
		if len(all) == 0 {
			L.Push(lua.LNil)
			return 1
		}
		at := all[0]
		all = all[1:]
		return pushGroups(L, s, at)
	}))
	return 1
}

// regexReplace is regex.replace(re, s, with): all matches, $1 standing for a group.
func (st *state) regexReplace(L *lua.LState) int {
	re, s := st.regexArguments(L)
	with := L.CheckString(3)
	matches := len(re.FindAllStringIndex(s, maxMatches+1))
	if matches > maxMatches {
		st.b.exceed(L, "more than %d matches", maxMatches)
	}
	st.b.make(L, len(s)*(1+strings.Count(with, "$"))+matches*(len(with)+16))
	out := re.ReplaceAllString(s, with)
	st.b.make(L, len(out))
	L.Push(lua.LString(out))
	return 1
}

// regexQuote is regex.quote(text): an expression that matches the text itself.
func (st *state) regexQuote(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, 2*len(s))
	L.Push(lua.LString(regexp.QuoteMeta(s)))
	return 1
}
