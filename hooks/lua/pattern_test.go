package lua

import (
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct{ call, want string }{
		{`("hello world"):find("o w")`, "5 7"},
		{`("hello"):find("l+")`, "3 4"},
		{`("hello"):find("")`, "1 0"},
		{`("hello"):find("", 10)`, "6 5"},
		{`("hello"):find("l", -2)`, "4 4"},
		{`("hello"):find("h", 2)`, "nil"},
		{`("a.b"):find(".", 1, true)`, "2 2"},
		{`("a+b"):find("+", 1, true)`, "2 2"},
		{`("key = value"):match("^(%w+)%s*=%s*(%w+)$")`, "key value"},
		{`("  trim  "):match("^%s*(.-)%s*$")`, "trim"},
		{`("abc"):match("()b()")`, "2 3"},
		{`("abc"):match(".-")`, ""},
		{`("abc"):match("a(.*)(.)")`, "b c"},
		{`("THE (quick) fox"):find("%((%a+)%)")`, "5 11 quick"},
		{`("f(a(b)c)d"):match("%b()")`, "(a(b)c)"},
		{`("THE (quick) fox"):match("%f[%a]%a+%f[%A]")`, "THE"},
		{`("x=1,y=2"):gsub("(%w)=(%w)", "%2=%1")`, "1=x,2=y 2"},
		{`("abc"):gsub("", "-")`, "-a-b-c- 4"},
		{`("abc"):gsub("%w", "%0%0", 2)`, "aabbc 2"},
		{`("abc"):gsub("%w*", "x")`, "xx 2"},
		{`("hello"):gsub("l", { l = "L" })`, "heLLo 2"},
		{`("hello"):gsub("(h)(e)", function(a, b) return b .. a end)`, "ehllo 1"},
		{`("hello"):gsub("l", function() return false end)`, "hello 2"},
		{`("a%b"):gsub("%%", "%%%%")`, "a%%b 1"},
		{`("abc"):gsub("^a", "x")`, "xbc 1"},
		{`("aaa"):gsub("^a", "x")`, "xaa 1"},
		{`("]"):match("[]]")`, "]"},
		{`("^x"):match("[x^]")`, "^"},
		{`("a-z"):match("[a%-z]+")`, "a-z"},
		{`("b"):match("[^a]")`, "b"},
		{`("5"):match("[%a%d]")`, "5"},
		{`("äö"):match("[\128-\255]+")`, "äö"},
		{`("a\0b"):match("%z")`, "\x00"},
		{`("a$"):match("a$")`, "nil"},
		{`("a$"):match("a%$$")`, "a$"},
		{`("$a"):match("$a")`, "$a"},
		{`("aXb"):match("%u")`, "X"},
		{`("0xFf"):match("%x+", 3)`, "Ff"},
		{`("a,b"):match("%p")`, ","},
		{`("abab"):match("(ab)%1")`, "ab"},
		{`("aa"):match("(a)%1?")`, "nil"},
		{`("color colour"):gsub("colou?r", "X")`, "X X 2"},
		{`("a.b.c"):gsub("%.", "/")`, "a/b/c 2"},
		{`("x"):rep(3):match("x?x?x?x?$")`, "xxx"},
	} {
		o, _ := testOptions(t)
		st := patternState(t, o)
		fn, err := st.L.LoadString("local out = {} for i, v in ipairs({ (function(...) local t = {} for i = 1, select('#', ...) do t[i] = tostring((select(i, ...))) end return t end)(" + c.call + ") }) do out = v end return table.concat(out, ' ')")
		if err != nil {
			t.Fatal(err)
		}
		st.L.Push(fn)
		if err := st.L.PCall(0, 1, nil); err != nil {
			t.Errorf("%s: %v", c.call, err)
			continue
		}
		if got := st.L.Get(-1).String(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.call, got, c.want)
		}
	}
	for _, bad := range []string{"%", "[a", "[]", "[^]", "(a", "a)", "%b", "%bx", "%f", "%fa", "%1", "(%1)", "[a%", strings.Repeat("()", 33)} {
		if p, err := compilePattern(bad, true); err == nil {
			t.Errorf("%q: got %+v", bad, p)
		}
	}
}

// patternState is a state with the libraries, and no policy.
func patternState(t testing.TB, o Options) *state {
	p := load(t, o, "local p = policy {}\nfunction p.mail() end\nreturn p", nil)
	st, err := p.pool.acquire(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pool.release(p, st) })
	return st
}

func TestGmatch(t *testing.T) {
	runChecks(t, 1, `
local out = {} for k, v in ("a=1, b=2"):gmatch("(%w+)=(%w+)") do out[#out + 1] = k .. v end eq(table.concat(out, " "), "a1 b2")
out = {} for w in ("one two"):gmatch("%a+") do out[#out + 1] = w end eq(#out, 2)
local n = 0 for _ in ("abc"):gmatch("") do n = n + 1 end eq(n, 4)
eq(("^a"):gmatch("^a")(), "^a")`)
}

// FuzzPattern: no pattern hangs, panics or claims a match outside the text.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"a*b", "^(%w+)%s*=%s*(%w+)$", "%b()", "%f[%a]%a+", "(a)(b)%1", "[^%s]-x?", "()", "[a-c]+$", ".-.-.-b", "%d%D%S%z", "[]x]", "a%$"} {
		f.Add("key = value (a(b)c) aab", p)
	}
	f.Fuzz(func(t *testing.T, s, text string) {
		if len(s) > 1000 || len(text) > 100 {
			return
		}
		p, err := compilePattern(text, true)
		if err != nil {
			return
		}
		type tooLong struct{}
		steps := 0
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(tooLong); !ok {
					panic(r)
				}
			}
		}()
		m := matcher{p: p, s: s, spend: func(n int) {
			if steps += n; steps > 1e6 {
				panic(tooLong{})
			}
		}}
		from, to, ok := m.find(0)
		if !ok {
			return
		}
		if from < 0 || to < from || to > len(s) {
			t.Fatalf("%q in %q: %d, %d", text, s, from, to)
		}
		for i := range p.captures {
			if c := m.captures[i]; c.end != -1 && (c.start < 0 || c.end < c.start || c.end > len(s)) {
				t.Fatalf("%q in %q: capture %d is %+v", text, s, i, c)
			}
		}
	})
}
