package lua

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postern-mta/postern/hooks"
)

// check is how test scripts compare.
const checkFunctions = `
local function eq(got, want, what)
  if got ~= want then error((what or "") .. " got " .. tostring(got) .. ", want " .. tostring(want), 2) end
end
local function fails(pattern, f, ...)
  local ok, err = pcall(f, ...)
  if ok then error("no error", 2) end
  if not tostring(err):find(pattern) then error("error " .. tostring(err), 2) end
end
`

// runChecks runs a handler whose script may use eq and fails.
func runChecks(t *testing.T, at hooks.Stage, statements string) []hooks.Edit {
	t.Helper()
	o, _ := testOptions(t)
	parameters := "tx, rcpt, try"
	if at.Row().Scope == hooks.OfConnection {
		parameters = "conn, refusal"
	}
	p := load(t, o, fmt.Sprintf("%slocal p = policy {}\nfunction p.%s(%s)\n%s\nend\nreturn p\n", checkFunctions, at, parameters, statements), nil)
	tx := testTransaction()
	switch at.Row().Scope {
	case hooks.OfRecipient, hooks.OfDelivery:
		at1(tx)
		tx.Try = &hooks.Try{Attempt: 2, NextHop: "mx", Peer: "mx.example.net", Reply: message4xx, Age: 90e9}
	case hooks.OfConnection:
		tx.Refusal = &hooks.Refusal{Stage: hooks.Rcpt, Policy: "other", Reply: message4xx}
	}
	d, err := p.Handle(t.Context(), at, tx)
	if err != nil {
		t.Error(err)
	}
	return d.Edits
}

func kinds(edits []hooks.Edit) string {
	var b strings.Builder
	for _, e := range edits {
		fmt.Fprintf(&b, "%s; ", e)
	}
	return b.String()
}

func TestTransaction(t *testing.T) {
	runChecks(t, hooks.Rcpt, `
eq(tx.id, "message0001") eq(tostring(tx.sender), "a@example.org") eq(tx.sender.user, "a") eq(tx.sender.domain, "example.org") eq(tx.sender.null, false)
eq("<" .. tx.sender .. ">", "<a@example.org>") eq(tx.sender == addr.parse("a@example.org"), true) eq(tx.sender == addr.parse("b@example.org"), false)
eq(tx.params.SIZE, "123") eq(tx.params.SMTPUTF8, "") eq(tx.params.X, nil)
eq(tx.total, 0) eq(#tx.recipients, 2)
for i, r in ipairs(tx.recipients) do eq(r.domain, "example.net") end
eq(rcpt.address, "b@example.net") eq(rcpt.user, "b") eq(rcpt.domain, "example.net") eq(rcpt.ours, true) eq(rcpt.notes.x, "y") eq(tostring(rcpt), "b@example.net")
eq(next(rcpt.params), nil)
local c = tx.conn
eq(c.id, "session0001") eq(tostring(c.ip), "192.0.2.1") eq(c.port, 4321) eq(tostring(c.local_ip), "192.0.2.99") eq(c.local_port, 25)
eq(c.host, "mx.example.org") eq(c.helo, "client.example.org") eq(c.extended, true) eq(c.tls.version, "TLSv1.3") eq(c.tls.client, nil)
eq(c.user, nil) eq(c.authenticated, false) eq(c.relaying, false) eq(c.listener, "mx") eq(c.protocol, "smtp") eq(c.env.WORLD, "1")
eq(c.ip:prefix(24), "192.0.2.0/24") eq(c.ip:prefix(16, 64), "192.0.0.0/16") eq(c.ip.version, 4) eq(c.ip == ip.parse("192.0.2.1"), true)
fails("0 to 32 bits", c.ip.prefix, c.ip, 33)
fails("read%-only", function() tx.params.X = 1 end)
fails("read%-only", function() table.insert(tx.conn.tls, 1) end)
fails("can't be set", function() tx.conn.helo = "x" end)
fails("can't be set", function() rcpt.address = "x" end)
rcpt.notes.x = { 1, "a" } eq(rcpt.notes.x[2], "a") eq(tx.recipients[1].notes.x[1], 1) rcpt.notes.x = nil eq(rcpt.notes.x, nil)
fails("by its methods", function() tx.recipients[1] = nil end)
fails("by its methods", table.remove, tx.recipients)
eq(c:early("1s"), true) eq(c:early(0.5), false)
fails("is no time", c.early, c, {})
`)
	runChecks(t, hooks.Connect, `eq(conn.totals.messages, 0) conn:score("x", 1) conn:tag("t") conn:result("r", {a = 1}) eq(conn:results("r").a, 1) conn:skip("greylist")`)
	runChecks(t, hooks.Deferred, `eq(try.attempt, 2) eq(try.next_hop, "mx") eq(try.peer, "mx.example.net") eq(try.reply.code, 450) eq(try.reply.text, "later") eq(try.age, 90)`)
	runChecks(t, hooks.Deny, `eq(conn.id, "message0001") eq(refusal.stage, "rcpt") eq(refusal.policy, "other") eq(refusal.code, 450) eq(refusal.enhanced, "4.2.0") eq(refusal.text, "later")`)
}

func TestHeaders(t *testing.T) {
	edits := runChecks(t, hooks.Message, `
local h = tx.headers
eq(h:get("subject"), "Grüße aus dem Casino") eq(h:get("None"), nil) eq(#h:all("X-Two"), 2) eq(h:all("x-two")[2], "2")
eq(h:raw("Subject"), " =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus dem Casino")
local names = {} for name, value in h:each() do names[#names + 1] = name .. "=" .. value end
eq(table.concat(names, " "), "From=A <a@example.org> Subject=Grüße aus dem Casino X-Two=1 X-Two=2")
h:prepend("X-Top", "ä") eq(h:get("X-Top"), "ä")
h:append("X-End", 5) eq(h:get("x-end"), "5")
h:replace("Subject", tx.sender) eq(h:get("Subject"), "a@example.org")
h:remove("X-Two", 1) eq(h:get("X-Two"), "2") h:remove("X-Two") eq(h:get("X-Two"), nil)
fails("CR, LF", h.prepend, h, "X", "a\nb")
`)
	want := "headers:prepend X-Top: ä; headers:append X-End: 5; headers:replace Subject: a@example.org; headers:remove X-Two 1; headers:remove X-Two; "
	if got := kinds(edits); got != want {
		t.Errorf("edits: %q, want %q", got, want)
	}
	if _, err := body(t, hooks.Queued, `tx.headers:prepend("A", "b")`); err == nil || !strings.Contains(err.Error(), "headers:prepend is not possible at stage queued") {
		t.Errorf("got %v", err)
	}
}

func TestBody(t *testing.T) {
	runChecks(t, hooks.Message, `
local b = tx.body
eq(b.size, tx.size) eq(b:read(1, 4), "From") eq(b:read(b.size - 1), "\r\n") eq(b:read(b.size + 1), nil)
eq(b:contains("Hello world"), true) eq(b:contains("X-Two: 2"), true) eq(b:contains("nothing"), false) eq(b:contains("nothing", "order"), true)
eq(b:match("order ([0-9]+)"), "4711") eq(b:match("(?i)HELLO"), "Hello") eq(b:match("none"), nil)
local k, v = b:match("(X-Two): ([0-9])") eq(k, "X-Two") eq(v, "1")
eq(b:match(regex.compile("wor.d")), "world")
fails("counts from 1", b.read, b, 0)
`)
}

func TestRecipients(t *testing.T) {
	edits := runChecks(t, hooks.Rcpt, `
rcpt:replace("other@example.org") eq(rcpt.address, "other@example.org") eq(rcpt.ours, false) eq(tx.recipients[1].address, "other@example.org")
rcpt:route("smtp://[192.0.2.7]:25")
local before = tx.recipients
tx.recipients:add("d@example.net") eq(#before, 2) eq(#tx.recipients, 3) eq(tx.recipients[3].ours, true)
tx.recipients:add("d@example.net") eq(#tx.recipients, 3)
tx.recipients:remove("c@example.net") eq(#tx.recipients, 2)
tx.recipients:replace("d@example.net", "e@example.net", "f@example.net") eq(#tx.recipients, 3) eq(tx.recipients[3].address, "f@example.net")
tx.recipients[2]:replace("g@example.net") eq(tx.recipients[2].user, "g")
tx:route("local") tx:priority(5)
`)
	tx := at1(testTransaction())
	chain := hooks.NewChain([]hooks.Entry{{Name: "edits", Handler: handlerOf(edits)}}, hooks.Options{})
	chain.Run(t.Context(), hooks.Rcpt, tx)
	var got []string
	for _, r := range tx.Recipients {
		got = append(got, r.Address.String())
	}
	if want := []string{"other@example.org", "g@example.net", "f@example.net"}; !slices.Equal(got, want) {
		t.Errorf("recipients %v, want %v", got, want)
	}
	if tx.Current.Route != "smtp://[192.0.2.7]:25" || tx.Route != "local" || tx.Priority != 5 {
		t.Errorf("route %q, %q, priority %d", tx.Current.Route, tx.Route, tx.Priority)
	}
}

// handlerOf answers with edits.
type handlerOf []hooks.Edit

func (handlerOf) Name() string          { return "edits" }
func (handlerOf) Stages() []hooks.Stage { return []hooks.Stage{hooks.Rcpt} }
func (h handlerOf) Handle(context.Context, hooks.Stage, *hooks.Transaction) (hooks.Decision, error) {
	return hooks.Decision{Edits: h}, nil
}

func TestNotesAndScore(t *testing.T) {
	edits := runChecks(t, hooks.Rcpt, `
eq(tx.notes.a, nil) tx.notes.a = 1 eq(tx.notes.a, 1) tx.notes.a = nil eq(tx.notes.a, nil)
tx.notes.t = { x = { 1, "two", true } } eq(tx.notes.t.x[2], "two") eq(#tx.notes.t.x, 3)
fails("read%-only", function() tx.notes.t.x[1] = 5 end)
fails("no plain value", function() tx.notes.f = function() end end)
local loop = {} loop.loop = loop fails("in a circle", function() tx.notes.l = loop end)
fails("neither a list", function() tx.notes.m = { 1, x = 2 } end)
tx.conn.notes.seen = true eq(tx.conn.notes.seen, true)
tx.notes.ip = tx.conn.ip eq(tx.notes.ip, "192.0.2.1")
local names = {} for k, v in pairs(tx.notes) do names[#names + 1] = k end eq(table.concat(names, ","), "ip,t")
tx:score("a", 1.5, "why") tx:score("b", 2) eq(tx.total, 3.5)
tx:result("spf", { pass = true }) eq(tx:results("spf").pass, true) eq(tx:results("none"), nil)
fails("finite", tx.score, tx, "x", 0/0)
tx:tag("t") tx:skip("greylist")
`)
	want := "notes a = 1; notes a = <nil>; notes t = map[x:[1 two true]]; conn.notes seen = true; notes ip = 192.0.2.1; score a +1.5 why; score b +2 ; result spf = map[pass:true]; tag t; skip greylist; "
	if got := kinds(edits); got != want {
		t.Errorf("edits:\n%s\nwant\n%s", got, want)
	}
	edits = runChecks(t, hooks.Queue, `eq(tx.received, "") tx.received = "from x by y" eq(tx.received, "from x by y")`)
	if got := kinds(edits); got != "received from x by y; " {
		t.Error(got)
	}
	edits = runChecks(t, hooks.Route, `eq(try.next_hop, "mx") try.next_hop = "local" eq(try.next_hop, "local")`)
	if got := kinds(edits); got != "route b@example.net to local; " {
		t.Error(got)
	}
}

// TestFailureLeavesNoEdits: what failed is as if it had not been asked.
func TestFailureLeavesNoEdits(t *testing.T) {
	d, err := body(t, hooks.Rcpt, `tx.notes.x = 1 tx:tag("x") error("late")`)
	if err == nil || len(d.Edits) > 0 || d.Verb != hooks.Pass {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestLibraries(t *testing.T) {
	runChecks(t, hooks.Connect, `
-- dns
local list = dns.a("mx.example.org") eq(#list, 1) eq(tostring(list[1]), "192.0.2.1") eq(list[1] == conn.ip, true)
local v, err = dns.a("nothing.example") eq(v, nil) eq(err.kind, "none")
v, err = dns.a("slow.example") eq(err.kind, "temporary")
v, err = dns.a("not a\tname") eq(err.kind, "bad")
eq(dns.mx("example.org")[1].host, "mx.example.org") eq(dns.mx("example.org")[1].preference, 10) eq(dns.txt("t.example")[2], "two")
eq(dns.ptr(conn.ip)[1], "mx.example.org") eq(dns.fcrdns("192.0.2.1"), "mx.example.org")
v, err = dns.fcrdns("192.0.2.2") eq(v, nil) eq(err.kind, "none")
v = dns.dnsbl("127.0.0.2", { "bl.example", "other.example" }) eq(#v, 1) eq(v[1].zone, "bl.example") eq(v[1].answer, "127.0.0.2") eq(v[1].text, "listed for a test")
eq(#dns.dnsbl("127.0.0.3", { "bl.example" }), 0)
v, err = dns.dnsbl("127.0.0.2", { "dead.example" }) eq(v, nil) eq(err.kind, "temporary")
eq(#dns.dnsbl("127.0.0.2", { "dead.example", "bl.example" }), 1)
v, err = dns.aaaa("mx.example.org") eq(err.kind, "none")
-- ip
v, err = ip.parse("1.2.3") eq(v, nil) eq(err.kind, "bad")
local six = ip.parse("2001:db8::1") eq(six:prefix(24, 64), "2001:db8::/64") eq(six.version, 6) eq("" .. six, "2001:db8::1")
local set = ip.set { "192.0.2.0/24", "2001:db8::/32" } eq(set:match(conn.ip), true) eq(set:match("198.51.100.1"), false) eq(set:match(six), true) eq(#set, 2)
eq(ip.match(conn.ip, { "192.0.2.1" }), true) eq(ip.parse("::ffff:192.0.2.1") == conn.ip, true)
v, err = ip.set { "x" } eq(v, nil) eq(err.kind, "bad")
-- addr
eq(addr.parse("<A@EXAMPLE.net>").domain, "example.net") eq(addr.parse("").null, true) eq(addr.parse('"a b"@x.example').user, "a b")
v, err = addr.parse("a b") eq(err.kind, "bad")
local a, detail = addr.subaddress("user+tag@example.net") eq(tostring(a), "user@example.net") eq(detail, "tag")
a, detail = addr.subaddress("user@example.net") eq(detail, nil) eq(tostring(a), "user@example.net")
-- store
v, err = store.get("none") eq(v, nil) eq(err.kind, "none")
eq(store.put("k", "v"), true) eq(store.get("k"), "v") eq(store.get { "k" }, "v") eq(store.delete("k"), true) eq(store.get("k"), nil)
store.put({ "a", "bc" }, 1) store.put({ "ab", "c" }, 2) eq(store.get { "a", "bc" }, 1) eq(store.get { "ab", "c" }, 2)
store.put("bin", "\0\255\n") eq(store.get("bin"), "\0\255\n")
store.put("t", { list = { 1, 2.5, true, "x" } }) eq(store.get("t").list[2], 2.5)
store.put("f", 1.25) eq(store.get("f"), 1.25) store.put("b", false) eq(store.get("b"), false)
eq(store.incr("n"), 1) eq(store.incr("n", 4, "1h"), 5) eq(store.get("n"), 5)
store.put("num", 7) eq(store.incr("num"), 8)
eq(store.swap("s", nil, 1), true) eq(store.swap("s", nil, 2), false) eq(store.swap("s", 1, 2), true) eq(store.get("s"), 2) eq(store.swap("s", 2, nil), true) eq(store.get("s"), nil)
eq(store.take("bucket", 2, "1m"), true) eq(store.take("bucket", 2, 60), true)
local ok, wait = store.take("bucket", 2, "1m") eq(ok, false) eq(wait, 30)
store.put({ conn.ip, true, 5 }, "x") eq(store.get { "192.0.2.1", "true", 5 }, "x")
fails("can't be stored", store.put, "x", nil)
v, err = store.incr("bin") eq(err.kind, "bad")
-- regex
eq(regex.match("b(.)d", "abcd"), "c") eq(regex.match("x", "abcd"), nil) eq(regex.match("bc", "abcd"), "bc")
local re = regex.compile("([a-z])([0-9])?") eq(re:match("a"), "a") local x, y = re:match("a1") eq(y, "1") x, y = re:match("a") eq(y, nil)
local from, to = re:find("--a1") eq(from, 3) eq(to, 4) eq(re:replace("a1b", "<$1>"), "<a><b>") eq(regex.quote("a.b"), "a\\.b")
local n = 0 for m in regex.gmatch("[0-9]+", "1 22 333") do n = n + #m end eq(n, 6)
v, err = regex.compile("(") eq(v, nil) eq(err.kind, "bad")
-- json
eq(json.encode { a = 1 }, '{"a":1}') eq(json.encode { 1, "x", true }, '[1,"x",true]') eq(json.encode("<>"), '"<>"')
eq(json.decode('{"a":[1,2,{"b":null}]}').a[2], 2) v, err = json.decode("{") eq(err.kind, "bad") v, err = json.encode("\255") eq(err.kind, "bad")
-- log
log.debug("x") log.info("x %s", 1) log.warn("100%") log.error("x %D", 60) print("a", 1, conn.ip)
eq(now(), 1795348800)
`)
}

func TestStandardLibrary(t *testing.T) {
	runChecks(t, hooks.Connect, `
for _, name in ipairs { "os", "io", "load", "loadstring", "loadfile", "dofile", "rawset", "rawget", "setfenv", "getfenv", "newproxy", "module", "collectgarbage", "coroutine", "channel", "package", "_printregs" } do
  eq(_G[name], nil, name)
end
eq(type(debug.traceback()), "string") local n = 0 for k in pairs(debug) do n = n + 1 end eq(n, 1)
fails("no member", function() return string.dump end) fails("no member", function() return math.randomseed end)
eq(getmetatable(""), "locked") fails("protected", setmetatable, setmetatable({}, { __metatable = 1 }), {})
fails("read%-only", function() string.rep = nil end)
fails("read%-only", function() function string.mine() end end)
fails("read%-only", function() _G.x = 1 end)
fails("read%-only", function() x = 1 end)
fails("read%-only", function() math.pi = 3 end)
fails("read%-only", setmetatable, _G, {})
fails("read%-only", table.insert, string, 1)
fails("read%-only", table.sort, _G)
eq(undefined, nil)
eq(("aXb"):lower(), "axb") eq(("äx"):upper(), "äX") eq(("abc"):sub(-2), "bc") eq(("abc"):sub(2, 10), "bc") eq(("abc"):sub(0), "abc") eq(("abc"):reverse(), "cba") eq(#("x"):rep(10), 10) eq(("x"):rep(-1), "")
eq(("abc"):byte(-1), 99) eq(select("#", ("abc"):byte(1, -1)), 3) eq(string.char(97, 98), "ab") eq(("abc"):len(), 3)
eq(string.format("%5s|%-5s|%05d|%x|%.2f|%q|%c|%%|%i", "a", "b", 42, 255, 1.5, 'x"\n', 65, 7), '    a|b    |00042|ff|1.50|"x\\"\\\n"|A|%|7')
eq(string.format("%s %s %s", nil, true, conn.ip), "nil true 192.0.2.1") eq(string.format("%.2s", "abc"), "ab")
fails("invalid format", string.format, "%y", 1) fails("invalid format", string.format, "%999d", 1)
eq(table.concat({ 1, 2, 3 }, ","), "1,2,3") eq(table.concat({}, ","), "") eq(table.concat({ 1, 2, 3 }, "", 2, 3), "23")
local t = { 3, 1, 2 } table.sort(t) eq(table.concat(t), "123") table.sort(t, function(a, b) return a > b end) eq(table.concat(t), "321")
table.insert(t, 4) table.insert(t, 1, 0) eq(table.concat(t), "03214") eq(table.remove(t), 4) eq(table.remove(t, 1), 0) eq(table.remove({}), nil) eq(#t, 3)
local a, b = 1, 2 a, b = b, a eq(a, 2) local o = { x = 1, y = 2 } o.x, o.y = o.y, o.x eq(o.x, 2) eq(o.y, 1)
local i = 1 i, t[i] = i + 1, 20 eq(t[1], 20) eq(i, 2)
local obj = { n = 0 } function obj:inc(by) self.n = self.n + by return self end eq(obj:inc(2):inc(3).n, 5)
eq(select("#", unpack({ 1, nil, 3 }, 1, 3)), 3) eq((unpack { 7 }), 7)
local mt = setmetatable({}, { __concat = function(a, b) return "meta" end, __index = function(_, k) return k end, __newindex = function(t, k, v) error("no " .. k) end })
eq("a" .. mt, "meta") eq(mt .. "b", "meta") eq(mt.foo, "foo") fails("no bar", function() mt.bar = 1 end)
eq("a" .. 1 .. 2.5, "a12.5") eq(1 .. "", "1") fails("concatenate nil", function() return "a" .. nil end) fails("concatenate a table", function() return {} .. "a" end)
local function f() return "x", "y" end eq("a" .. f(), "ax") eq(("a" .. "b") .. "c", "abc")
local e = { code = 1 } local ok, err = pcall(error, e) eq(err, e) ok, err = xpcall(function() error("a") end, function(m) return "handled " .. m end) eq(ok, false) eq(err:find("handled", 1, true), 1)
eq(select(2, pcall(function(...) return select("#", ...) end, 1, 2, 3)), 3)
local s = 0 for k, v in pairs { 1, 2, x = 3 } do s = s + v end eq(s, 6)
eq(tostring(accept()), "accept") eq(tonumber("0x10"), 16) eq(tonumber("z", 36), 35)
do local n = 0 while true do n = n + 1 if n > 3 then break end end eq(n, 4) end
for i = 1, 3 do if i == 2 then goto continue end eq(i == 2, false) ::continue:: end
local long = "" for i = 1, 300 do long = long .. "x" end eq(#long, 300)
eq("1".."2".."3".."4".."5".."6".."7".."8".."9".."0", "1234567890")
local function va(...) return select("#", ...), ... end eq((va(1, 2)), 2)
`)
}

// TestClosuresSurviveErrors: a caught error leaves closures and the locals that
// they share together.
func TestClosuresSurviveErrors(t *testing.T) {
	runChecks(t, hooks.Connect, `
local n = 0
local function inc() n = n + 1 end
inc()
pcall(error, "x")
inc()
eq(n, 2)
pcall(function() inc() error("x") end)
n = n + 10
inc()
eq(n, 14)
xpcall(function() inc() error("x") end, function() inc() end)
n = n + 10
inc()
eq(n, 27)`)
	_, err := body(t, hooks.Rcpt, "local function f() error('mine', 2) end\nlocal x = 1\nf()\nreturn x")
	if err == nil || err.Error() != "test.lua:5: mine" {
		t.Errorf("got %v", err)
	}
}
