local function deliver(t, ...)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  for _, address in ipairs { ... } do expect(s:rcpt(address)):accepts() end
  s:data "Subject: hello\n\n"
  local all = t:delivered()
  local got = #all > 0 and all[#all].recipients or {}
  table.sort(got)
  return table.concat(got, " ")
end

test("names of every form", function(t)
  t:domains { "example.net", "example.com" }
  t:policy("aliases", { to = {
    ["team@example.net"] = { "jane", "joe@elsewhere.example" }, ["abuse@"] = { "admin@example.net" }, ["@example.com"] = { "@example.net" },
    ["list@example.net"] = { "jane+" }, ["exact+x@example.net"] = { "joe@example.net" },
  } })
  expect(deliver(t, "Team@example.net")):equals "jane@example.net joe@elsewhere.example"
  expect(deliver(t, "team+news@example.net")):equals "jane@example.net joe@elsewhere.example"
  expect(deliver(t, "abuse@example.net")):equals "admin@example.net"
  expect(deliver(t, "abuse@example.com")):equals "admin@example.net"
  expect(deliver(t, "bob@example.com")):equals "bob@example.net"
  expect(deliver(t, "list+go@example.net")):equals "jane+go@example.net"
  expect(deliver(t, "list@example.net")):equals "jane@example.net"
  expect(deliver(t, "exact+x@example.net")):equals "joe@example.net"
  expect(deliver(t, "other+y@example.net")):equals "other+y@example.net"
end)

test("nobody, everybody, loops and foreigners", function(t)
  t:policy("aliases", { to = {
    ["void@example.net"] = {}, ["one@example.net"] = { "two" }, ["two@example.net"] = { "one" }, ["self@example.net"] = { "self", "copy" },
    ["out@example.net"] = { "x@elsewhere.example" },
  } })
  expect(deliver(t, "void@example.net", "b@example.net")):equals "b@example.net"
  expect(#deliver(t, "one@example.net") > 0):is_true()
  expect(deliver(t, "self@example.net")):equals "copy@example.net self@example.net"
  expect(deliver(t, "out@example.net")):equals "x@elsewhere.example"
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  expect(s:rcpt "x@elsewhere.example"):rejects("5.7.1")
  t:policy("aliases", { to = { ["*"] = { "all@example.net" }, ["all@example.net"] = { "all" } }, separator = "" })
  expect(deliver(t, "a+b@example.net")):equals "all@example.net"
end)

test("a file and a map", function(t)
  t:lookup("aliases", { ["sales@example.net"] = "jane@example.net, joe@example.net", ["help@example.net"] = { "sales" } })
  t:policy("aliases", { lines = "testdata/aliases.txt", map = "aliases" })
  expect(deliver(t, "info@example.net")):equals "jane@example.net joe@example.net"
  expect(deliver(t, "help@example.net")):equals "jane@example.net joe@example.net"
  expect(deliver(t, "other@example.net")):equals "other@example.net"
end)

test("what can't be looked up waits", function(t)
  t:policy("aliases", { map = "nowhere" })
  local function rcpt()
    local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
    s:mail "a@example.org"
    return s:rcpt "b@example.net"
  end
  expect(rcpt()):defers("4.3.5")
  t:policy("aliases", { to = { ["b@example.net"] = { "c" }, ["c@example.net"] = { "no good" } } })
  expect(rcpt()):defers("4.3.5")
  expect((pcall(t.policy, t, "aliases", { to = { "b" } }))):equals(false)
end)
