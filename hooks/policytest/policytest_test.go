package policytest

import (
	"encoding/json"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/postern-mta/postern/hooks/lua"
	"github.com/postern-mta/postern/scripts"
)

func shipped(t *testing.T) Options {
	t.Helper()
	lib, err := fs.Sub(scripts.Files, "lib")
	if err != nil {
		t.Fatal(err)
	}
	return Options{Policies: []fs.FS{scripts.Files}, Modules: []fs.FS{scripts.Files, lib}, Dir: "../../scripts"}
}

// TestShippedScripts runs the tests of every shipped policy, which leave no line of
// them out.
func TestShippedScripts(t *testing.T) {
	o := shipped(t)
	o.Coverage = &lua.Coverage{}
	names, err := Files(scripts.Files)
	if err != nil || len(names) < 7 {
		t.Fatalf("%v, %v", names, err)
	}
	runner := New(o)
	for _, name := range names {
		t.Run(strings.TrimSuffix(name, "_test.lua"), func(t *testing.T) {
			source, err := scripts.Files.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f := FileResult{File: name, Source: source}
			f.Results, f.Err = runner.File(t.Context(), name, source, nil)
			if f.Failed() > 0 {
				var b strings.Builder
				f.Print(&b, false)
				t.Error(b.String())
			}
		})
	}
	covered := map[string]bool{}
	for _, f := range o.Coverage.Files() {
		covered[f.Name] = true
		if missed := Missed(f); len(missed) > 0 {
			t.Errorf("%s: not run by its tests: %s", f.Name, ShowLines(missed))
		}
	}
	for _, name := range names {
		if script := strings.TrimSuffix(name, "_test.lua") + ".lua"; !covered[script] {
			t.Errorf("%s does not run %s", name, script)
		}
	}
}

// TestEveryScriptIsItsManual: each policy begins with what it is, its settings
// and an example, has a test beside it, and documents every setting.
func TestEveryScriptIsItsManual(t *testing.T) {
	names, err := fs.Glob(scripts.Files, "*.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range names {
		name := strings.TrimSuffix(file, ".lua")
		if strings.HasSuffix(name, "_test") {
			continue
		}
		source, err := scripts.Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(source), "\n\n")
		for _, part := range []string{"-- " + name + ": ", "-- Settings:\n", "-- Example:\n--   [[policy]]\n--   use ", `"` + name + `"`} {
			if !strings.Contains(head, part) {
				t.Errorf("%s: the comment on top lacks %q", file, part)
			}
		}
		if _, err := fs.Stat(scripts.Files, name+"_test.lua"); err != nil {
			t.Errorf("%s has no test: %v", file, err)
		}
	}
}

// TestDocuments: each policy's page and the comment on top name every setting
// with its default, and the test in the manual of Lua runs.
func TestDocuments(t *testing.T) {
	o := shipped(t)
	names, err := fs.Glob(scripts.Files, "*.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range names {
		name := strings.TrimSuffix(file, ".lua")
		if strings.HasSuffix(name, "_test") {
			continue
		}
		source, _ := scripts.Files.ReadFile(file)
		page, err := os.ReadFile("../../docs/policies/" + name + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		script, problems := lua.Compile(file, source, lua.Options{Modules: o.Modules})
		if len(problems) > 0 {
			t.Errorf("%s: %v", file, problems)
			continue
		}
		for _, s := range script.Settings() {
			if s.About == "" || !strings.Contains(string(source), "\n--   "+s.Name+" ") {
				t.Errorf("%s: setting %q is not described", file, s.Name)
			}
			value, _ := json.Marshal(s.Default)
			if row := "| `" + s.Name + "` | `" + string(value) + "` |"; !strings.Contains(string(page), row) {
				t.Errorf("docs/policies/%s.md has no row %s", name, row)
			}
		}
	}
	manual, err := os.ReadFile("../../docs/lua.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "```lua\ntest(")
	example, _, _ := strings.Cut(rest, "```")
	results, err := Run(t.Context(), "manual_test.lua", []byte("test("+example), o)
	if err != nil || len(results) != 1 || results[0].Err != nil {
		t.Errorf("the manual's test: %v, %v", results, err)
	}
}

// run runs a test file over a policy that the test gives.
func run(t *testing.T, policy, tests string) []Result {
	t.Helper()
	o := Options{Policies: []fs.FS{fstest.MapFS{"p.lua": {Data: []byte(policy)}}}}
	results, err := Run(t.Context(), "p_test.lua", []byte(tests), o)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

const everything = `local p = policy { settings = { word = string "x" } }
function p.connect(conn) conn.notes.n = 1 conn:tag("seen") end
function p.mail(tx) if tx.sender.user == "drop" then return discard("dropped") end end
function p.rcpt(tx, rcpt)
  if rcpt.user == "alias" then rcpt:replace("real@example.net") end
  if rcpt.user == "broken" then error("broken") end
  tx.notes.count = (tx.notes.count or 0) + 1
end
function p.headers(tx) tx.headers:prepend("X-Count", tx.notes.count) end
function p.message(tx)
  if tx.headers:get("Subject") == p.word then return quarantine("a word") end
  tx:score("some", 2)
end
function p.queue(tx) if tx.total >= 2 and tx.sender.user == "hold" then return hold("points") end end
return p`

func TestSession(t *testing.T) {
	for _, r := range run(t, everything, `
local function session(t, sender)
  local s = t:connect { ip = "198.51.100.1", host = "h.example", tls = { version = "TLSv1.3" } }
  expect(s.greeting):accepts()
  expect(s:mail("a@example.org")):rejects("5.5.1", "EHLO")
  expect(s:ehlo("c.example")):accepts()
  expect(s:rcpt("b@example.net")):rejects("5.5.1")
  expect(s:mail(sender or "a@example.org", { SIZE = 5 })):accepts()
  return s
end
test("a message goes through every stage", function(t)
  t:policy("p")
  local s = session(t)
  expect(s:rcpt("<alias@example.net>")):accepts()
  expect(s:rcpt("c@example.net")):accepts()
  expect(s:rcpt("d@elsewhere.example")):rejects("5.7.1", "Relaying denied")
  expect(s:rcpt("broken@example.net")):defers("4.3.0", "Policy p failed")
  expect(s:data("Subject: y\n\nhello\n")):accepts()
  local m = t:delivered()[1]
  assert(m.text:match("\r\n(X%-Count.*)$") == "X-Count: 3\r\nSubject: y\r\n\r\nhello\r\n", m.text)
  assert(table.concat(m.recipients, " ") == "real@example.net c@example.net")
  assert(m.total == 2 and m.tags[1] == "seen" and m.sender == "a@example.org" and not m.held)
  local errors = 0
  for _, run in ipairs(t:trace()) do if run.error then errors = errors + 1 assert(run.error:find("p.lua:6: broken", 1, true)) end end
  assert(errors == 1)
  expect(s:quit()):accepts()
  assert(s.closed and not pcall(s.rset, s))
end)
test("quarantine, hold and discard", function(t)
  t:policy("p", { word = "bad" })
  local s = session(t) s:rcpt("b@example.net")
  expect(s:data("Subject: bad\n\n")):accepts("2.0.0", "queued as %w+")
  assert(#t:delivered() == 0 and t:quarantined()[1].reason == "p: a word")
  s = session(t, "hold@example.org") s:rcpt("b@example.net")
  expect(s:data("\n")):accepts()
  assert(t:delivered()[1].held)
  s = session(t, "drop@example.org") s:rcpt("b@example.net")
  expect(s:data("\n")):accepts()
  assert(#t:delivered() == 1)
end)
test("shadow", function(t)
  t:policy("p", { word = "bad" }, { mode = "shadow" })
  local s = session(t) s:rcpt("b@example.net")
  expect(s:data("Subject: bad\n\n")):accepts()
  assert(#t:quarantined() == 0 and #t:delivered() == 1)
  local shadow = 0
  for _, run in ipairs(t:trace()) do if run.shadow and run.decision == "quarantine" then shadow = shadow + 1 end end
  assert(shadow == 1)
end)
`) {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Name, r.Err)
		}
	}
}

// TestFailuresShow: what a test gets wrong, or finds wrong, is its error.
func TestFailuresShow(t *testing.T) {
	for _, c := range []struct{ statements, want string }{
		{`expect(t:connect{ ip = "198.51.100.1" }.greeting):rejects()`, "p_test.lua:2: want a rejection, got 220"},
		{`local s = t:connect{} s:helo("x") expect(s:mail("a@b.example")):accepts("2.9.9")`, "want the status 2.9.9, got 250 2.1.0 Ok"},
		{`local s = t:connect{} s:helo("x") expect(s:mail("a@b.example")):accepts("2.1.0", "never")`, `want a text that matches "never"`},
		{`t:policy("none")`, `there is no policy "none"`},
		{`t:policy("p", { wrod = "x" })`, `p.lua:wrod: unknown setting; did you mean "word"?`},
		{`t:policy("p", { word = 5 })`, "it expects a text"},
		{`t:connect{ ipp = "x" }`, `"ipp" is none of`},
		{`t:connect{ ip = "x" }`, "connect: ip"},
		{`t:advance("soon")`, "not a duration"},
		{`t:dns{ b = { x = "y" } }`, `"b" is none of`},
		{`t.policy("p")`, "with a colon"},
		{`t:nothing()`, `t has no member "nothing"`},
		{`assert(false, "mine")`, "mine"},
		{`while true do end`, "time for computing|takes longer than"},
	} {
		results := run(t, everything, "test('one', function(t)\n"+c.statements+"\nend)")
		if len(results) != 1 || results[0].Err == nil || !holdsOne(results[0].Err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.statements, results, c.want)
		}
	}
	for source, want := range map[string]string{"": "there is no test", "test(1)": `write test("name"`, "x x": "syntax error"} {
		if _, err := Run(t.Context(), "p_test.lua", []byte(source), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", source, err)
		}
	}
}
