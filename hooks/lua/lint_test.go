package lua

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the analysis says of a script: "LINE: text" of each finding.
func findings(t testing.TB, name, source string) (list []string) {
	t.Helper()
	script, problems := Compile(name, []byte(source), exampleOptions(t))
	if script == nil {
		t.Fatalf("%s does not compile: %v\n%s", name, problems, source)
	}
	for _, p := range problems {
		if !p.Warning {
			t.Errorf("%s: an error: %s", name, p)
		}
		list = append(list, p.String())
	}
	return list
}

// lintHead is four lines in front of what the cases below say.
const lintHead = `local p = policy {
  settings = { words = list(string) {}, limit = integer(3), action = enum { "reject", "defer" } "reject", text = string "" },
}
local function use() return p.words, p.limit, p.action, p.text end use()
`

func TestLint(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		// members
		{`function p.rcpt(tx) return reject("%s", tx.sendr) end`, `5: tx has no member "sendr"; did you mean "sender"?`},
		{`function p.rcpt(tx) local c = tx.conn log.info(c.hello) end`, `5: conn has no member "hello"; did you mean "helo"?`},
		{`function p.rcpt(tx, rcpt) log.info(rcpt.adress) end`, `5: rcpt has no member "adress"; did you mean "address"?`},
		{`function p.rcpt(tx) tx:scor("a", 1) end`, `5: tx has no member "scor"; did you mean "score"?`},
		{`function p.rcpt(tx) for _, r in ipairs(tx.recipients) do log.info(r.adress) end end`, `5: rcpt has no member "adress"; did you mean "address"?`},
		{`function p.message(tx) return tx:each_rcpt(function(r) if r.usr then return reject() end end) end`, `5: rcpt has no member "usr"; did you mean "user"?`},
		{`function p.message(tx) for part in tx.mime:parts() do log.info(part.typ) end end`, `5: a part has no member "typ"; did you mean "type"?`},
		{`function p.rcpt(tx) dns.dnsbll(tx.conn.ip) end`, `5: dns has no member "dnsbll"; did you mean "dnsbl"?`},
		{`function p.rcpt(tx) local ip = tx.conn.ip return accept(ip.parse("x")) end`, `5: an ip has no member "parse"`},
		{`function p.rcpt(tx) local s = tx.conn.helo or "" log.info(s:uper()) end`, `5: string has no member "uper"; did you mean "upper"?`},
		{`function p.auth(conn, login) log.info(login.usr) end`, `5: login has no member "usr"; did you mean "user"?`},
		{`function p.rcpt(tx) local list = dns.mx("a") if list then log.info(list[1].hst) end end`, `5: mx has no member "hst"; did you mean "host"?`},
		{`function p.rcpt(tx) log.info(nothere) end`, `5: nothing has the name "nothere"`},
		{`function p.rcpt(tx) tx.score("a", 1) end`, `5: score is a method; write tx:score with a colon`},
		{`function p.rcpt(tx) dns:a("x") end`, `5: dns.a is a function; write it with a dot`},
		{`function p.rcpt(tx, rcpt) rcpt.address = "a@b" end`, `5: rcpt.address can't be set; write rcpt:replace(address)`},
		{`function p.rcpt(tx) tx:route() end`, `5: tx:route wants "url" too; write tx:route(url: string)`},
		// through functions
		{"local function name(c) return c.hots end\nfunction p.mail(tx) log.info(name(tx.conn)) end", `5: conn has no member "hots"; did you mean "host"?`},
		{"local function a(x) return x.conn.hots end\nlocal function b(x) return a(x) end\nfunction p.mail(tx) log.info(b(tx)) end", `5: conn has no member "hots"; did you mean "host"?`},
		{"local function size(tx) return tx.body.size end\nfunction p.rcpt(tx) if size(tx) then return accept() end end", `5: tx.body is not there at stage rcpt; it belongs to message, queue`},
		{"local function no() return quarantine(\"x\") end\nfunction p.rcpt() return no() end", `5: quarantine is nothing to be answered at stage rcpt; it belongs to headers to queue`},
		{"local function no() return reject(\"x\") end\nfunction p.rcpt() no() end", `6: the function makes a decision, which is not returned and so has no effect; write return in front`},
		{"function p.check(tx) return tx.conn.hots end\nfunction p.mail(tx) log.info(p.check(tx)) end", `5: conn has no member "hots"; did you mean "host"?`},
		// stages
		{`function p.rcpt(tx) log.info(tx.body.size) end`, `5: tx.body is not there at stage rcpt; it belongs to message, queue`},
		{`function p.mail(tx) tx.received = "x" end`, `5: tx.received can't be set at stage mail; it belongs to queue`},
		{`function p.connect(conn) conn.capabilities:remove("X") end`, `5: conn.capabilities is not there at stage connect; it belongs to helo`},
		{`function p.rcpt() return quarantine("x") end`, `5: quarantine is nothing to be answered at stage rcpt; it belongs to headers to queue`},
		{`function p.disconnect() return reject("x") end`, `5: reject is nothing to be answered at stage disconnect, which only observes; return nothing`},
		// decisions
		{`function p.rcpt(tx) reject("5.7.1", "no") end`, `5: reject makes a decision, which is not returned and so has no effect; write return in front`},
		{`function p.message(tx) tx:each_rcpt(function() end) end`, `5: each_rcpt makes a decision, which is not returned and so has no effect; write return in front`},
		{`function p.rcpt(tx) return "no" end`, `5: a handler returns a decision or nothing, and this is a string; write return reject(…), accept() or the like`},
		{`function p.rcpt(tx) return reject("5.7.1", "%s and %s", 1) end`, `5: the text of reject has 2 directives such as %s, and 1 values follow it`},
		{"function p.rcpt(tx)\n  do return accept() end\n  log.info(\"x\")\nend", `7: nothing gets here: what stands above always leaves; take it out, or put a condition above`},
		{"function p.rcpt(tx)\n  if tx.sender.null then return accept() else return reject() end\n  return pass()\nend", `7: nothing gets here: what stands above always leaves; take it out, or put a condition above`},
		// settings
		{`function p.rcpt() log.info(p.wrods) end`, `5: no setting is called "wrods"; did you mean "words"?`},
		{`function p.rcpt() log.info(p.colour) end`, `5: no setting is called "colour"; declare it in settings`},
		{`function p.rcpt() for _, w in ipairs(p.text) do log.info(w) end end`, `5: ipairs walks a list, and this is a string`},
		{`function p.rcpt() log.info("x" .. p.words) end`, `5: a table can't be joined to a text; write table.concat(list, ", ")`},
		{`function p.rcpt() if p.action == "deffer" then return defer() end end`, `5: it is never "deffer"; did you mean "defer"?; it is one of "reject", "defer"`},
		{`function p.rcpt() if p.limit == "3" then return defer() end end`, `5: a number never equals a string; write tostring(…) around the first`},
		{`function p.rcpt() p.limit = 3 end`, `5: "limit" is a setting, which the script can't change; use a local`},
		{`function p.rcpt() log.info(p.limit:upper()) end`, `5: a number has no methods`},
		// types
		{`function p.rcpt(tx, rcpt) if rcpt.address == tx.sender then return reject() end end`, `5: a string never equals an address; write tostring(…) around the second`},
		{`function p.rcpt(tx) if tx.conn.ip == "192.0.2.1" then return reject() end end`, `5: an ip never equals a string; write tostring(…) around the first`},
		{`function p.rcpt(tx) if tx.size < "5" then return reject() end end`, `5: a number and a string have no order; compare what is of one type`},
		{`function p.rcpt(tx) return reject("5.7.1", "%s", tx.sender + 1) end`, `5: an address is no number to count with`},
		// locals and globals
		{`function p.rcpt(tx) local unused = tx.size end`, `5: the local "unused" is never read; take it out, or call it _`},
		{`function p.rcpt(tx) count = 1 end`, `5: "count" is a global, which can't be set while mail is handled; write local count, or keep it in tx.notes, conn.notes or store`},
		{"local n = 0\nfunction p.rcpt() n = n + 1 end", `6: "n" is a local of the file, which can't be set while mail is handled; keep the value in tx.notes, conn.notes or store`},
		{`function p.rcpt(tx) local reject = tx.size log.info(reject) end`, `5: "reject" is a decision, which the local of that name hides; give it another name`},
	} {
		got := findings(t, "lint.lua", lintHead+c.source+"\nreturn p\n")
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s\ngot  %q\nwant %q", c.source, got, c.want)
		}
	}
}

// A setting that nobody reads is told on its line.
func TestLintUnusedSetting(t *testing.T) {
	got := findings(t, "lint.lua", "local p = policy {\n  settings = {\n    a = string \"\",\n    b = integer(1) : about \"x\",\n  },\n}\nfunction p.rcpt() return reject(\"%s\", p.a) end\nreturn p")
	if want := `4: the setting "b" is never read; use it, or take it out`; len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is right is not complained of.
func TestLintIsQuiet(t *testing.T) {
	for _, source := range []string{
		"local function either(tx) if tx.size > 5 then return tx.body.size end end\nfunction p.rcpt(tx) if either(tx) then return accept() end end\nfunction p.message(tx) if either(tx) then return accept() end end",
		"local cache = {}\nfunction p.rcpt(tx) if cache[tx.id] then return accept() end end",
		"function p.deny(tx, refusal) if refusal.code == 550 and tx.sender then return accept() end end",
		"function p.rcpt(tx, rcpt) local x = tx.notes.anything if x and x.y == 5 then return reject(\"100% sure\") end end",
		"function p.rcpt(tx) local ok, err = pcall(function() return tx.sender.user end) if not ok then return reject(\"%s\", err) end end",
		"function p.rcpt(tx) local _ = tx.size local a, b = dns.a(\"x\") if b then return defer() end end",
		"local M = {}\nfunction M.f(x) return x.anything end\nfunction p.rcpt(tx) return M.f(tx) and accept() or reject() end",
		"function p.rcpt(tx) local x = 1 x = \"a\" if x == \"a\" then return accept() end end",
		"local t = setmetatable({}, { __index = function(_, k) return k end })\nfunction p.rcpt(tx) return reject(\"%s\", t.any) end",
		"function p.rcpt(tx, rcpt) local name = rcpt.address:lower():match(\"(.*)@\") or \"\" if name == \"a\" then return reject() end end",
		"local function judge(r) if r.user == \"a\" then return reject() end end\nfunction p.message(tx) return tx:each_rcpt(judge) end",
		"function p.helo(conn) conn.capabilities:remove(\"CHUNKING\") end",
		"function p.deferred(tx, rcpt, try) if try.attempt > 3 then return reject(\"4.4.1\", \"%s\", try.reply.text) end end",
		"local f\nfunction p.rcpt(tx) return f and f(tx) or nil end",
		"function p.rcpt(tx) while true do if tx.size then break end end return accept() end",
	} {
		if got := findings(t, "lint.lua", lintHead+source+"\nreturn p\n"); len(got) > 0 {
			t.Errorf("%s\n%q", source, got)
		}
	}
}

// Nothing is found in what the project itself publishes: the shipped policies, the
// examples of the reference, the policies in documents.
func TestLintKnowsOurOwn(t *testing.T) {
	shipped, _ := filepath.Glob("../../scripts/*.lua")
	n := 0
	for _, file := range shipped {
		if strings.HasSuffix(file, "_test.lua") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := exampleOptions(t)
		o.Modules = append(o.Modules, os.DirFS("../../scripts/lib"))
		_, problems := Compile(filepath.Base(file), source, o)
		for _, p := range problems {
			t.Errorf("%s:%s", file, p)
		}
		n++
	}
	documents, _ := filepath.Glob("../../docs/*.md")
	fence := regexp.MustCompile("(?s)```lua\n(.*?)```")
	for _, file := range append(documents, "../../README.md") {
		if filepath.Base(file) == "lua-reference.md" {
			continue // its examples are those of the table, below
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range fence.FindAllSubmatch(text, -1) {
			source := string(block[1])
			if !strings.Contains(source, "policy {") || !regexp.MustCompile(`(?m)^return \w+\s*$`).MatchString(source) {
				continue
			}
			for _, f := range findings(t, fmt.Sprintf("%s#%d", filepath.Base(file), i), source) {
				t.Errorf("%s, block %d: %s\n%s", file, i, f, source)
			}
			n++
		}
	}
	for _, e := range Reference() {
		if e.Example == "" {
			continue
		}
		for _, f := range findings(t, e.Name, exampleSource(&e)) {
			if !strings.Contains(f, "makes a decision, which is not returned") && !strings.Contains(f, "is never read") && !strings.Contains(f, "is a decision, which the local") && !strings.Contains(f, "is nothing to be answered") { // examples of decisions are looked at as values
				t.Errorf("%s: %s\n%s", e.Name, f, exampleSource(&e))
			}
		}
		n++
	}
	if n < 200 {
		t.Errorf("only %d sources: is this the repository?", n)
	}
}

// The analysis takes any source: it ends, and never panics.
func FuzzLint(f *testing.F) {
	f.Add(lintHead + "function p.rcpt(tx) return tx.x.y:z(p.words) end return p")
	f.Add("local p = policy {} function p.rcpt(a) local a = a or {} for i = 1, 2 do a[i] = p end goto x ::x:: end return p")
	f.Add("local p = policy {} local function f(x) return f(f)(x) end function p.mail(tx) repeat local y = f(tx) until y return f end return p")
	x := reference()
	if len(x.members) < 30 {
		f.Fatal("the reference is not there")
	}
	f.Add("local x = " + strings.Repeat("a.b(", 300) + strings.Repeat(").c()", 300))
	f.Fuzz(func(_ *testing.T, source string) {
		s := &Script{name: "fuzz.lua"}
		s.lint([]byte(source), map[string]int{})
	})
}
