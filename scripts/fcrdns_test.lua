local function mail(t, ip, how)
  t:dns {
    ["198.51.100.7"] = { ptr = { "other.example", "good.example" } }, ["good.example"] = { a = "198.51.100.7" },
    ["198.51.100.8"] = { ptr = "liar.example" }, ["liar.example"] = { a = "192.0.2.1" },
    ["198.51.100.9"] = { ptr = "timeout" }, ["198.51.100.10"] = { ptr = "servfail" },
    ["198.51.100.12"] = { ptr = "c6-33-100-12.dyn.example" }, ["c6-33-100-12.dyn.example"] = { a = "198.51.100.12" },
    ["198.51.100.13"] = { ptr = "host100013.dyn.example" }, ["host100013.dyn.example"] = { a = "198.51.100.13" },
    ["198.51.100.25"] = { ptr = "mx25.example" }, ["mx25.example"] = { a = "198.51.100.25" },
    ["2001:db8::1"] = { ptr = "six.example" }, ["six.example"] = { aaaa = "2001:db8::1" },
    ["2001:db8::a1b2:c3d4"] = { ptr = "h-a1b2-c3d4.dyn.example" }, ["h-a1b2-c3d4.dyn.example"] = { aaaa = "2001:db8::a1b2:c3d4" },
  }
  how = how or {}
  how.ip, how.helo = ip, "client.example.org"
  local s = t:connect(how)
  return s:mail "a@example.org", s
end

local function iprev(t)
  for _, run in ipairs(t:trace()) do
    if run.results and run.results.fcrdns then return run.results.fcrdns end
  end
end

test("by default it only looks", function(t)
  t:policy "fcrdns"
  for _, ip in ipairs { "198.51.100.7", "198.51.100.8", "198.51.100.9", "198.51.100.11", "198.51.100.12", "10.0.0.1" } do expect((mail(t, ip))):accepts() end
  expect(iprev(t).iprev):equals "pass"
  expect(iprev(t).name):equals "good.example"
end)

test("what is wrong is refused where that is asked for", function(t)
  t:policy("fcrdns", { no_name = "defer", no_match = "reject", generic = "reject", exempt = { "198.51.100.13" } })
  expect((mail(t, "198.51.100.7"))):accepts()
  expect((mail(t, "198.51.100.25"))):accepts()
  expect((mail(t, "2001:db8::1"))):accepts()
  expect((mail(t, "198.51.100.8"))):rejects("5.7.25", "no name of 198.51.100.8")
  expect((mail(t, "198.51.100.11"))):defers("4.7.25", "has no name")
  expect((mail(t, "2001:db8::2"))):defers("4.7.25")
  expect((mail(t, "198.51.100.12"))):rejects("5.7.25", "provider")
  expect((mail(t, "198.51.100.13"))):accepts()
  expect((mail(t, "2001:db8::a1b2:c3d4"))):rejects("5.7.25")
  expect((mail(t, "198.51.100.8", { relaying = true }))):accepts()
  t:policy("fcrdns", { generic = "reject" })
  expect((mail(t, "198.51.100.13"))):rejects("5.7.25")
end)

test("a DNS that fails is nobody's fault", function(t)
  t:policy("fcrdns", { no_name = "reject", no_match = "reject" })
  expect((mail(t, "198.51.100.9"))):accepts()
  expect((mail(t, "198.51.100.10"))):accepts()
  expect(iprev(t).iprev):equals "temperror"
end)

test("or they get points", function(t)
  t:policy("fcrdns", { no_match = "score", points = 1.5 })
  local _, s = mail(t, "198.51.100.8")
  s:rcpt "b@example.net"
  s:data "Subject: hello\n\n"
  expect(t:delivered()[1].total):equals(1.5)
  expect((pcall(t.policy, t, "fcrdns", { no_match = true }))):equals(false)
end)
