package policytest

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/postern-mta/postern/hooks/lua"
)

// allStages is a policy that shows what tests can reach.
const allStages = `local p = policy { about = "x", every = "1m" }
function p.connect(conn) if conn:early("1s") then return reject{ text = "early", disconnect = true } end end
function p.tls(conn) if conn.tls.version == "TLSv1.0" then return reject("5.7.1", "Too old") end end
function p.auth(conn, login) if login.user == "joe" and login.password == "right" then return accept{ user = "joe" } end end
function p.mail(tx)
  local a, err = http.get("https://web.example/" .. tx.sender.user)
  tx:result("web", { status = a and a.status, body = a and a.body, kind = err and err.kind })
  local c, err = tcp.connect("scan.example:783", { wait = "3s" })
  tx:result("tcp", { line = c and c:line(), kind = err and err.kind })
end
function p.tick() store.incr("ticks") end
function p.command(conn, line) if line.verb == "NOOP" then return accept{ text = "ticks " .. tostring(store.get("ticks")) } end end
return p`

const reached = `
test("a client certificate and an old protocol", function(t)
  t:policy "p"
  local s = t:connect { tls = true, helo = "x.example" }
  expect(s:mail("a@example.org")):accepts()
  s = t:connect { helo = "x.example" }
  expect(s:starttls { version = "TLSv1.0" }):accepts()
  expect(s:ehlo "x.example"):rejects("5.7.1", "Too old")
end)
test("logins", function(t)
  t:users { ann = "secret" }
  t:policy "p"
  for _, mechanism in ipairs { "PLAIN", "LOGIN" } do
    expect(t:connect { tls = true, helo = "x.example" }:auth("ann", "secret", mechanism)):accepts("2.7.0")
    expect(t:connect { tls = true, helo = "x.example" }:auth("joe", "right", mechanism)):accepts("2.7.0")
    expect(t:connect { tls = true, helo = "x.example" }:auth("ann", "wrong", mechanism)):rejects("5.7.8")
  end
  local s = t:connect { helo = "x.example", user = "ann" }
  s:mail "ann@example.net"
  expect(s:rcpt "b@elsewhere.example"):accepts()
end)
test("early, closed and hung up", function(t)
  t:policy "p"
  local s = t:connect { early = "500ms" }
  expect(s.greeting.code):equals(554)
  s = t:connect { helo = "x.example" }
  s:close()
  expect(s.closed):is_true()
  expect(t:connect { helo = "x.example" }:quit()):disconnects("2.0.0")
end)
test("LMTP has a reply for each", function(t)
  local s = t:connect { lmtp = true, helo = "x.example" }
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  s:rcpt "c@example.net"
  local r = s:data "Subject: x\n\n.dot\n..\n"
  expect(#r.replies):equals(2)
  expect(t:delivered()[1].body):equals(".dot\r\n..\r\n")
end)
test("XCLIENT", function(t)
  t:dns { ["198.51.100.9"] = { ptr = "far.example" }, ["far.example"] = { a = "198.51.100.9" } }
  local s = t:connect { xclient = true, helo = "x.example" }
  expect(s:xclient { addr = "198.51.100.9" }):accepts()
  expect(t:connect { helo = "x.example" }:xclient { addr = "198.51.100.9" }):rejects()
end)
test("ticks follow the clock", function(t)
  t:policy "p"
  t:advance "10m30s"
  local s = t:connect { helo = "x.example" }
  expect(s:command "NOOP"):accepts("ticks 10")
end)
test("services", function(t)
  t:policy "p"
  t:http("https://web.example/a", { status = 203, body = { x = 1 } })
  t:http("https://web.example/*", function(q) return q.method .. " " .. q.path end)
  t:tcp("scan.example:783", { greeting = "hello\r\n", replies = {} })
  local s = t:connect { helo = "x.example" }
  s:mail "a@example.org"
  local r = t:trace()
  expect(r[#r].results.web):equals { status = 203, body = '{"x":1}' }
  expect(r[#r].results.tcp):equals { line = "hello" }
  t:http("https://web.example/*", { fail = "timeout" })
  t:http("https://web.example/a", { fail = "timeout" })
  t:tcp("scan.example:783", { fail = "timeout" })
  s:rset()
  local before = t:now()
  s:mail "b@example.org"
  r = t:trace()
  expect(r[#r].results.web):equals { kind = "temporary" }
  expect(r[#r].results.tcp):equals { kind = "temporary" }
  expect(t:now() - before):equals(3)
end)
test("tests share nothing", function(t)
  t:policy "p"
  expect(t:connect { helo = "x.example" }:command "NOOP"):accepts("ticks nil")
  expect(t:delivered()):equals {}
  expect(t:queue()):equals {}
end)
`

func TestWorld(t *testing.T) {
	for _, r := range run(t, allStages, reached) {
		if r.Err != nil {
			t.Errorf("%s\n%s", r.Name, r.Details([]byte(reached)))
		}
	}
}

// TestBounds: what a test does wrong, or for ever, ends as its failure, and the
// tests behind it run.
func TestBounds(t *testing.T) {
	const policy = `local p = policy { about = "x", timeout = "1h" }
function p.mail(tx) http.get("http://web.example/") end
return p`
	for _, c := range []struct{ statements, want string }{
		{`while true do end`, "time for computing|takes longer than"},
		{`t:policy "p" t:http("http://web.example/", function() while true do end end) t:connect{ helo = "x" }:mail "a@b.example" expect(1):equals(1)`, "time for computing|takes longer than"},
		{`t:policy "p" t:http("http://web.example/", function() error("mine") end) t:connect{ helo = "x" }:mail "a@b.example" expect(1):equals(1)`, "p_test.lua:2: mine"},
		{`t:policy "p" t:http("http://web.example/", function() return {} end) t:connect{ helo = "x" }:mail "a@b.example"`, "expects nothing"},
		{`string.rep("x", 1e9)`, "MiB"},
		{`local x = "x" while true do x = x .. x end`, "MiB"},
		{`test("inner", function() end)`, "within a test"},
		{`t:polcy("p")`, `did you mean "policy"`},
		{`t:policy("q")`, `there is no policy "q"`},
		{`t:policy("p", {}, { mod = "shadow" })`, `did you mean "mode"`},
		{`t:policy("p", {}, { when = { client = "x" } })`, "client"},
		{`t:connect{ user = 5 }`, "wrong type"},
		{`t:next_hop{ ["*"] = "huh" }`, "is no reply"},
		{`t:tcp("x", {})`, "host:port"},
		{`t:http("ftp://x/", 200)`, "no URL"},
		{`t:http("http://x/", { statsu = 1 })`, "statsu"},
		{`expect({ 1, { a = "x" } }):equals{ 1, { a = "y" } }`, "  -     a = \"y\",\n"},
		{`expect("abc"):contains "d"`, `want "d" in it, got "abc"`},
		{`expect({ 1, 2 }):contains(3)`, "want 3 in it"},
		{`expect("abc"):matches "^b"`, "that matches"},
		{`expect(1):is_nil()`, "want nil, got 1"},
		{`expect(1):accepts()`, "a reply is expected"},
		{`t:config "x = 1"`, "nobody here who reads configurations"},
	} {
		o := Options{Policies: []fs.FS{fstest.MapFS{"p.lua": {Data: []byte(policy)}}}, Timeout: 2 * time.Second}
		source := "test('one', function(t)\n" + c.statements + "\nend)\ntest('two', function(t) expect(1):equals(1) end)"
		results, err := Run(t.Context(), "p_test.lua", []byte(source), o)
		if err != nil || len(results) != 2 || results[0].Err == nil || !holdsOne(results[0].Err.Error(), c.want) || results[1].Err != nil {
			t.Errorf("%s: got %v, %v, want %s", c.statements, results, err, c.want)
		}
	}
}

// holdsOne tells whether a text holds one of several: which bound a loop meets first
// depends on how busy the machine is.
func holdsOne(text, wanted string) bool {
	return slices.ContainsFunc(strings.Split(wanted, "|"), func(w string) bool { return strings.Contains(text, w) })
}

// TestShowLines: runs of lines in few words.
func TestShowLines(t *testing.T) {
	got := ShowLines([]lua.LineCoverage{{Line: 3, Statements: 1}, {Line: 5, Statements: 1}, {Line: 6, Statements: 2}, {Line: 7, Statements: 2, Run: 1}})
	if got != "3, 5-6, 7 (in part)" {
		t.Error(got)
	}
}
