local function session(t, how)
  how.ip = how.ip or "198.51.100.7"
  return t:connect(how)
end

local function greeting(t, ip, host) return session(t, { ip = ip, host = host }).greeting end
local function helo(t, name, ip) return session(t, { ip = ip }):ehlo(name) end
local function mail(t, sender, how)
  how = how or {}
  how.helo = how.helo or "client.example.org"
  local s = session(t, how)
  return s:mail(sender), s
end
local function rcpt(t, address)
  local _, s = mail(t, "a@example.org")
  return s:rcpt(address)
end
local function send(t, from, how)
  local _, s = mail(t, "a@example.org", how)
  s:rcpt "b@example.net"
  return s:data("From: " .. from .. "\nSubject: hello\n\nworld\n")
end

test("clients, IPv4 and IPv6, and their names", function(t)
  t:policy("access", { rules = {
    "deny client 198.51.100.0/24 Your network sends spam", "allow client 198.51.100.9", "defer client 2001:db8::/32",
    "deny name *.dyn.example", "allow name good.dyn.example",
  } })
  expect(greeting(t, "198.51.100.7")):rejects("5.7.1", "^Your network sends spam$")
  expect(greeting(t, "198.51.100.7", "good.dyn.example")):accepts()
  expect(greeting(t, "198.51.100.9")):accepts()
  expect(greeting(t, "198.51.100.9", "x.dyn.example")):accepts()
  expect(greeting(t, "2001:db8::7")):defers("4.7.1", "Not welcome here")
  expect(greeting(t, "203.0.113.7", "x.dyn.example")):rejects("5.7.1")
  expect(greeting(t, "203.0.113.7")):accepts()
  expect(session(t, { relaying = true }).greeting):accepts()
end)

test("names in HELO, by domain and expression", function(t)
  t:policy("access", { rules = { "deny helo /^(dsl|cable)-[0-9]/", "deny helo bad.example", "allow helo dsl-1.good.example" } })
  expect(helo(t, "DSL-7.example.org")):rejects("5.7.1")
  expect(helo(t, "Bad.example.")):rejects("5.7.1")
  expect(helo(t, "dsl-1.good.example")):accepts()
  expect(helo(t, "x.bad.example")):accepts()
  expect(helo(t, "[198.51.100.7]")):accepts()
end)

test("senders", function(t)
  t:policy("access", { rules = { "deny sender @bulk.example No newsletters", "deny sender robot@", "allow sender good@bulk.example", "deny sender /\\+bounce@/" } })
  expect((mail(t, "x@bulk.example"))):rejects("5.7.1", "^No newsletters$")
  expect((mail(t, "robot@example.org"))):rejects("5.7.1")
  expect((mail(t, "a+bounce@example.org"))):rejects("5.7.1")
  for _, sender in ipairs { "good@bulk.example", "a@example.org", "" } do expect((mail(t, sender))):accepts() end
end)

test("recipients, one by one", function(t)
  t:policy("access", { rules = { "deny recipient closed@example.net Gone", "defer recipient /^list-/", "allow recipient list-owner@example.net" } })
  expect(rcpt(t, "Closed@example.net")):rejects("5.7.1", "^Gone$")
  expect(rcpt(t, "list-a@example.net")):defers("4.7.1")
  expect(rcpt(t, "list-owner@example.net")):accepts()
  expect(rcpt(t, "b@example.net")):accepts()
  expect(rcpt(t, "list-owner@elsewhere.example")):defers("4.7.1")
end)

test("From, and an allow that covers it", function(t)
  t:policy("access", { rules = { "deny from *.spam.example", "allow from boss@x.spam.example", "allow client 192.0.2.1" } })
  expect(send(t, "Spam <x@a.spam.example>")):rejects("5.7.1")
  expect(send(t, "Boss <boss@x.spam.example>")):accepts()
  expect(send(t, "a@example.org, x@a.spam.example")):rejects("5.7.1")
  expect(send(t, "nonsense")):accepts()
  expect(send(t, "x@a.spam.example", { ip = "192.0.2.1" })):accepts()
  expect(#t:delivered()):equals(3)
end)

test("any name", function(t)
  t:policy("access", { rules = { "deny any spam.example", "deny any *.spam.example" } })
  expect(greeting(t, "198.51.100.7", "mx.spam.example")):rejects("5.7.1")
  expect(helo(t, "spam.example")):rejects("5.7.1")
  expect((mail(t, "a@spam.example"))):rejects("5.7.1")
  expect(rcpt(t, "b@example.net")):accepts()
  expect(send(t, "x@spam.example")):rejects("5.7.1")
  expect(send(t, "x@example.org")):accepts()
  local found
  for _, run in ipairs(t:trace()) do found = found or run.results and run.results.access end
  expect(found):equals { action = "deny", subject = "sender", value = "spam.example" }
end)

test("a file, and rules that are none", function(t)
  t:policy("access", { file = "testdata/access.txt" })
  expect(greeting(t, "203.0.113.7")):rejects("5.7.1", "^Not welcome here$")
  for _, rule in ipairs { "deny", "drop client 192.0.2.1", "deny planet earth", "deny client nowhere", "deny sender /(/", "deny client 192.0.2.0/99" } do
    expect((pcall(t.policy, t, "access", { rules = { rule } }))):equals(false)
  end
  expect((pcall(t.policy, t, "access", { file = "nowhere.txt" }))):equals(false)
end)

test("rules stand here and in a file, and each is told where it stands", function(t)
  local ok, err = pcall(t.policy, t, "access", { rules = { "deny client 192.0.2.300" }, file = "testdata/bad_addresses.txt" })
  expect(ok):equals(false)
  expect(err):contains("rules: item 1: ")
  expect(err):contains('bad_addresses.txt:6: write ACTION SUBJECT VALUE')
  local many = {}
  for i = 1, 60 do many[i] = "no rule" end
  ok, err = pcall(t.policy, t, "access", { rules = many })
  expect(ok):equals(false)
  expect(err):contains("item 50: ")
  expect(err:find("item 51: ", 1, true)):is_nil()
end)

test("what is wrong with rules is told, all at once", function(t)
  local ok, err = pcall(t.policy, t, "access", { rules = { "deny client 192.0.2.300", "deny cleint x", "deny helo /(/", "deny sender @", "deny any *.spam.example" } })
  expect(ok):equals(false)
  for n = 1, 4 do expect(err):contains(("rules: item %d: "):format(n)) end
  expect(err:find("item 5", 1, true)):is_nil()
end)
