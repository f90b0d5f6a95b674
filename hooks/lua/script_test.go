package lua

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/postern-mta/postern/hooks"
)

// greylist is the example of the design, as it stands there.
const greylist = `local greylist = policy {
  about    = "Defers the first delivery attempt of an unknown client, sender and recipient.",
  settings = {
    delay    = duration "5m"  : about "how long a new triplet waits",
    lifetime = duration "36d" : about "how long a known triplet is remembered",
    ipv4     = integer (24)   : about "prefix length that stands for an IPv4 client",
    ipv6     = integer (64)   : about "prefix length that stands for an IPv6 client",
  },
}

function greylist.rcpt(tx, rcpt)
  if tx.conn.relaying then return end
  local key  = { "greylist", tx.conn.ip:prefix(greylist.ipv4, greylist.ipv6), tostring(tx.sender), rcpt.address }
  local seen = store.get(key)
  if not seen then
    store.put(key, now(), greylist.lifetime)
    return defer("4.7.1", "Greylisted: please try again in %D", greylist.delay)
  end
  if now() - seen < greylist.delay then return defer("4.7.1", "Greylisted: too early") end
end

return greylist
`

// hello is the site script of the configuration's contract.
const hello = `local hello = policy {
  about    = "Refuses a subject with one of our words.",
  settings = { words = list(string) {} : about "words to refuse" },
}

function hello.message(tx)
  local subject = (tx.headers:get("Subject") or ""):lower()
  for _, word in ipairs(hello.words) do
    if subject:find(word, 1, true) then return reject("5.7.1", "Refused: %s", word) end
  end
end

return hello
`

func TestGreylist(t *testing.T) {
	o, clock := testOptions(t)
	p := load(t, o, greylist, map[string]any{"delay": "2m"})
	ask := func(want string) {
		t.Helper()
		d, err := p.Handle(t.Context(), hooks.Rcpt, at1(testTransaction()))
		if err != nil || strings.TrimSpace(d.Verb.String()+" "+d.Reply.Text) != want {
			t.Errorf("got %+v, %v, want %s", d, err, want)
		}
	}
	ask("defer Greylisted: please try again in 2m")
	clock.advance(time.Minute)
	ask("defer Greylisted: too early")
	clock.advance(time.Minute)
	ask("pass")
	clock.advance(37 * 24 * time.Hour)
	ask("defer Greylisted: please try again in 2m")
}

func TestHello(t *testing.T) {
	o, _ := testOptions(t)
	d, err := load(t, o, hello, map[string]any{"words": []any{"lottery", "casino"}}).Handle(t.Context(), hooks.Message, testTransaction())
	if err != nil || d.Verb != hooks.Reject || d.Reply.Text != "Refused: casino" || d.Reply.Status() != "5.7.1" {
		t.Errorf("got %+v, %v", d, err)
	}
	d, err = load(t, o, hello, nil).Handle(t.Context(), hooks.Message, testTransaction())
	if err != nil || d.Verb != hooks.Pass {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestDeclaration(t *testing.T) {
	o, _ := testOptions(t)
	s, problems := Compile("site/greylist.lua", []byte(greylist), o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if s.Name() != "site/greylist.lua" || !strings.HasPrefix(s.About(), "Defers the first") || !slices.Equal(s.Stages(), []hooks.Stage{hooks.Rcpt}) || s.FailOpen() || s.Timeout() != 0 || len(s.Immune()) > 0 {
		t.Errorf("%q, %q, %v", s.Name(), s.About(), s.Stages())
	}
	want := "[{delay duration how long a new triplet waits 5m false false [] } {lifetime duration how long a known triplet is remembered 36d false false [] } {ipv4 integer prefix length that stands for an IPv4 client 24 false false [] } {ipv6 integer prefix length that stands for an IPv6 client 64 false false [] }]"
	if got := fmt.Sprint(s.Settings()); got != want {
		t.Errorf("settings %s", got)
	}
	s, problems = Compile("x.lua", []byte(`local p = policy { on_failure = "pass", immune = { "relaying", "authenticated" }, timeout = "3s", settings = { key = secret : about "key", kind = enum { "a", "b" } "b" } }
function p.rcpt() return accept(), p.key, p.kind end
return p`), o)
	if len(problems) > 0 || !s.FailOpen() || s.Timeout() != 3*time.Second || !slices.Equal(s.Immune(), []string{"relaying", "authenticated"}) {
		t.Fatalf("%v", problems)
	}
	if got := s.Settings(); !got[0].Required || !got[0].Secret || !slices.Equal(got[1].Choices, []string{"a", "b"}) || got[1].Type != `enum{"a", "b"}` {
		t.Errorf("%+v", got)
	}
}

func TestProblems(t *testing.T) {
	o, _ := testOptions(t)
	const end = "\nfunction p.rcpt() end\nreturn p"
	for _, c := range []struct{ source, want string }{
		{"local p = policy {", "syntax error at the end of the file"},
		{"local p == 1", `1: syntax error near "=="`},
		{"return 1", "the script declares no policy"},
		{"local p = policy {}\nfunction p.rcpt() end", "the script must return its policy"},
		{"local p = policy {}\nreturn p", "no function that is named after a stage"},
		{"local p = policy {}\nfunction p.rctp() end" + end, `2: "rctp" is no stage; did you mean "rcpt"?`},
		{"local p = policy {}\np.mail = 5" + end, "mail is a stage, so it must be a function"},
		{"local p = policy {\n  abuot = 'x' }" + end, `2: policy { } has no key "abuot"; did you mean "about"?`},
		{"local p = policy { on_failure = 'x' }" + end, `on_failure must be "defer" or "pass"`},
		{"local p = policy { immune = { 'all' } }" + end, `immune takes "relaying"`},
		{"local p = policy { timeout = 'soon' }" + end, "timeout: "},
		{"local p = policy { settings = {\n rcpt = string 'x' } }" + end, `2: a setting can't have the name "rcpt": it is a stage's`},
		{"local p = policy { settings = {\n\n mode = string 'x' } }" + end, `3: a setting can't have the name "mode": it is a key of every [[policy]]`},
		{"local p = policy { settings = { x = 5 } }" + end, `setting "x" must be a type`},
		{"local p = policy { settings = { x = duration 'soon' } }" + end, `the default of "x": "soon" is not a duration`},
		{"local p = policy { settings = { x = enum { 'a' } 'b' } }" + end, `"b" is unknown`},
		{"local p = policy {} local q = policy {}" + end, "stands in the script twice"},
		{"error('at load')", "1: at load"},
		{"store.get('x')", "1: look-ups belong in a handler"},
		{"dns.a('x.example')", "1: look-ups belong in a handler"},
		{"while true do end", "1: the time for computing"},
		{"local x = nil + 1", "1: cannot perform add operation between nil and number"},
		{"\x00", "NUL byte"},
		{strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000), ""},
		{"local x = " + strings.Repeat("-", 1001) + "1", ""},
		{"local x = " + strings.Repeat("not ", 1000) + "1", "nested deeper"},
		{"local x = " + strings.Repeat("{", 1000) + strings.Repeat("}", 1000), "nested deeper"},
		{"goto nowhere", ""},
		{"require 'none'", `module "none" is neither beside the policy nor in scripts/lib`},
		{"require '../x'", "is no module's name"},
	} {
		s, problems := Compile("x.lua", []byte(c.source), o)
		if s != nil || !Failed(problems) || !strings.Contains(fmt.Sprint(problems), c.want) {
			t.Errorf("%.60q: got %v, want %s", c.source, problems, c.want)
		}
	}
	s, problems := Compile("x.lua", []byte("local p = policy {}\nfunction p.rcpt()\n  return rejct('x')\nend\nreturn p"), o)
	if s == nil || len(problems) != 1 || !problems[0].Warning || problems[0].String() != `3: nothing has the name "rejct"; did you mean "reject"?` {
		t.Errorf("got %v", problems)
	}
}

// settingsScript shows each type's value.
const settingsScript = `local p = policy { settings = {
  s = string "x", i = integer(3), n = number(1.5), b = boolean(true), d = duration "90s", z = size "4KiB", a = address "a@example.net",
  c = cidrs { "192.0.2.0/24" }, dom = domains { "example.net", "*.example.org" }, r = regexp "^a+$", e = enum { "one", "two" } "two",
  f = file "", sec = secret "key", l = list(integer) { 1, 2 }, m = map(string) { k = "v" }, ll = list(list(string)) { { "x" } },
  lib = map(duration) {}, empty = regexp "",
} }
local function eq(got, want) if got ~= want then error("got " .. tostring(got) .. ", want " .. tostring(want), 2) end end
function p.mail(tx)
  eq(p.s, "x") eq(p.i, 3) eq(p.n, 1.5) eq(p.b, true) eq(p.d, 90) eq(p.z, 4096) eq(tostring(p.a), "a@example.net")
  eq(p.c:match(tx.conn.ip), true) eq(p.c:match("198.51.100.1"), false) eq(p.c[1], "192.0.2.0/24") eq(#p.c, 1)
  eq(p.dom:match("example.net"), true) eq(p.dom:match("Sub.Example.ORG"), true) eq(p.dom:match("example.org"), false)
  eq(p.r:match("aaa"), "aaa") eq(p.r:match("b"), nil) eq(p.e, "two") eq(p.f, nil) eq(p.sec, "key") eq(p.l[2], 2) eq(p.m.k, "v") eq(p.ll[1][1], "x")
  eq(next(p.lib), nil) eq(p.empty, nil)
  eq(pcall(function() p.s = "y" end), false) eq(pcall(function() p.l[1] = 5 end), false)
  return accept()
end
function p.data() return reject(p.s .. #p.l .. p.f.lines[2] .. p.d) end
return p`

func TestSettings(t *testing.T) {
	o, _ := testOptions(t)
	o.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(o.Dir, "words"), []byte("# words\none\n\n two \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := load(t, o, settingsScript, nil).Handle(t.Context(), hooks.Mail, testTransaction()); err != nil || d.Verb != hooks.Accept {
		t.Errorf("got %+v, %v", d, err)
	}
	p := load(t, o, settingsScript, map[string]any{"s": "given", "l": []any{int64(7)}, "f": "words", "d": int64(5)})
	if d, err := p.Handle(t.Context(), hooks.Data, testTransaction()); err != nil || d.Reply.Text != "given1two5" {
		t.Errorf("got %+v, %v", d, err)
	}
	s, _ := Compile("x.lua", []byte(settingsScript), o)
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"s", int64(5), "the number 5 is no such value; it expects a text"},
		{"i", "x", `the text "x" is no such value; it expects a whole number`},
		{"i", 1.5, "whole number"},
		{"n", true, "a number"},
		{"b", "true", "true or false"},
		{"d", "5x", `"5x" is not a duration`},
		{"d", []any{}, `a list is no such value; it expects a duration`},
		{"z", "5MB", `"5MB" is not a size`},
		{"a", "a b", "it expects an address"},
		{"c", []any{"192.0.2.0/33"}, `item 1: "192.0.2.0/33"`},
		{"c", int64(1), "it expects a list of networks"},
		{"dom", []any{"a..b"}, `item 1: "a..b"`},
		{"r", "(", "missing closing )"},
		{"e", "tow", `"tow" is unknown; did you mean "two"?`},
		{"f", "missing", "no such file"},
		{"l", []any{int64(1), "x"}, `item 2: the text "x"`},
		{"l", "x", "it expects a list, each a whole number"},
		{"m", map[string]any{"k": int64(1)}, "k: the number 1"},
		{"ll", []any{[]any{true}}, "item 1: item 1: the boolean true"},
		{"sx", "x", "unknown setting; did you mean"},
		{"something", "x", "unknown setting; there are s, i, n"},
	} {
		p, problems := s.Instance(map[string]any{c.key: c.value})
		if p != nil || len(problems) != 1 || problems[0].Key != c.key || !strings.Contains(problems[0].Text, c.want) {
			t.Errorf("%s = %v: got %v, want %s", c.key, c.value, problems, c.want)
		}
	}
	s, _ = Compile("x.lua", []byte("local p = policy { settings = { key = string } }\nfunction p.rcpt() end\nreturn p"), o)
	required, problems := Compile("x.lua", []byte("local p = policy { settings = { f = file, r = regexp } }\nlocal n = #p.f.lines + #(p.r:match('x') or '')\nfunction p.rcpt() return n end\nreturn p"), o)
	if required == nil {
		t.Errorf("got %v", problems)
	}
	if p, problems := s.Instance(nil); p != nil || len(problems) != 1 || problems[0].String() != "key: missing; it expects a text" {
		t.Errorf("got %v", problems)
	}
}

// TestStateDoesNotLeak: whatever a call tries, the next one finds what load left.
func TestStateDoesNotLeak(t *testing.T) {
	o, _ := testOptions(t)
	o.Pool = NewPool(4) // a share of one state
	p := load(t, o, `local p = policy {}
local seen, count = {}, 0
local function counter() local n = 0 return function() n = n + 1 return n end end
local nextID = counter()
nextID()
helper = function() return "made at load" end
function p.mail(tx)
  local log = {}
  local function try(f) local ok, err = pcall(f) log[#log + 1] = ok and "changed" or tostring(err):match("read%-only") or err end
  try(function() seen.x = (seen.x or 0) + 1 end)
  try(function() count = count + 1 end)
  try(function() leaked = true end)
  try(function() _G.leaked = true end)
  try(function() p.extra = 1 end)
  try(function() string.extra = 1 end)
  try(function() helper = nil end)
  try(function() function p.rcpt() return accept() end end)
  return reject(table.concat(log, ",") .. " " .. tostring(seen.x) .. count .. tostring(leaked) .. nextID() .. helper())
end
return p`, nil)
	want := "read-only,read-only,read-only,read-only,read-only,read-only,read-only,read-only nil0nil2made at load"
	for range 3 {
		d, err := p.Handle(t.Context(), hooks.Mail, testTransaction())
		if err != nil || d.Reply.Text != want {
			t.Fatalf("got %q, %v", d.Reply.Text, err)
		}
	}
}

func TestRequire(t *testing.T) {
	o, _ := testOptions(t)
	o.Modules = append(o.Modules,
		fstest.MapFS{"near.lua": {Data: []byte(`local m = { n = 0 } function m.name() return "near" end return m`)}, "self.lua": {Data: []byte(`return require "self"`)}, "bad.lua": {Data: []byte("\nx x")}},
		fstest.MapFS{"near.lua": {Data: []byte(`return "far"`)}, "lib/deep.lua": {Data: []byte(`return "deep" .. require("near").name()`)}})
	p := load(t, o, `local near, deep = require "near", require "lib.deep"
local p = policy {}
function p.mail(tx)
  assert(require("near") == near)
  assert(not pcall(function() near.n = 1 end))
  assert(not pcall(require, "other"))
  return reject(near.name() .. deep)
end
return p`, nil)
	d, err := p.Handle(t.Context(), hooks.Mail, testTransaction())
	if err != nil || d.Reply.Text != "neardeepnear" {
		t.Errorf("got %+v, %v", d, err)
	}
	for source, want := range map[string]string{`require "self"`: "requires itself", `require "bad"`: `module "bad": bad.lua:2: syntax error near "x"`} {
		if _, problems := Compile("x.lua", []byte(source), o); !strings.Contains(fmt.Sprint(problems), want) {
			t.Errorf("%s: got %v", source, problems)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{greylist, hello, settingsScript, "a.b.c, d[1], e = f(), ... x = 1", "for i=1,2 do goto x ::x:: end", "return -2^3..'a'..[[b]]", "local function f(...) return ... end", "x = {[1]=2, y=3; 4}", "if a then elseif b then else end", "repeat local x until x", `x = "\065\n"`} {
		f.Add(s)
	}
	o, _ := testOptions(f)
	o.LuaTime = 5 * time.Millisecond
	f.Fuzz(func(t *testing.T, source string) {
		s, problems := Compile("fuzz.lua", []byte(source), o)
		if (s == nil) != Failed(problems) {
			t.Errorf("script %v with %v", s, problems)
		}
	})
}

// A map of settings has one order, whatever run it is: what a policy adds up, and what
// is told of it, comes out alike.
func TestSettingsHaveOneOrder(t *testing.T) {
	o, _ := testOptions(t)
	source := `local p = policy { about = "x", settings = { m = map(number) {} : about "x" } }
function p.rcpt(tx)
  local all = ""
  for k in pairs(p.m) do all = all .. k end
  return reject(all)
end
return p`
	given := map[string]any{}
	for c := 'a'; c <= 'j'; c++ {
		given[string(c)] = 1.0
	}
	p := load(t, o, source, map[string]any{"m": given})
	if d, err := p.Handle(t.Context(), hooks.Rcpt, at1(testTransaction())); err != nil || d.Reply.Text != "abcdefghij" {
		t.Errorf("%v, %v", d, err)
	}
}
