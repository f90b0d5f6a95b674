local function hello(t, name, facts)
  facts = facts or {}
  facts.ip = facts.ip or "198.51.100.7"
  return t:connect(facts):helo(name)
end

test("honest names pass", function(t)
  t:policy("helo")
  for _, name in ipairs { "client.example.org", "CLIENT.example.org.", "desktop", "with_underscore.example.org", "[198.51.100.7]", "[IPv6:2001:db8::1]", "xn--bcher-kva.example" } do
    expect(hello(t, name)):accepts()
  end
end)

test("what is no name is refused", function(t)
  t:policy("helo")
  for _, name in ipairs { "a..b", "-", "client!example", "[nonsense]", "[192.0.2.1", "[2001:db8::1]", "[IPv6:192.0.2.1]", "user@example.org" } do
    expect(hello(t, name)):rejects("5.5.2")
  end
  t:policy("helo", { syntax = false })
  expect(hello(t, "a..b")):accepts()
end)

test("a bare address is refused with advice", function(t)
  t:policy("helo")
  expect(hello(t, "198.51.100.7")):rejects("5.7.1", "%[198.51.100.7%]")
  t:policy("helo", { ip = false })
  expect(hello(t, "198.51.100.7")):accepts()
end)

test("our own names are ours", function(t)
  t:policy("helo", { names = { "mx.example.com" } })
  expect(hello(t, "example.net")):rejects("5.7.1", "not your name")
  expect(hello(t, "MX.example.com")):rejects("5.7.1")
  expect(hello(t, "localhost")):rejects("5.7.1")
  expect(hello(t, "[192.0.2.25]", { local_ip = "192.0.2.25" })):rejects("5.7.1", "our address")
  expect(hello(t, "localhost", { ip = "127.0.0.1" })):accepts()
  expect(hello(t, "example.net", { relaying = true })):accepts()
  t:policy("helo", { ours = false })
  expect(hello(t, "example.net")):accepts()
end)

test("tests that are off by default", function(t)
  t:dns { a = { ["client.example.org"] = "198.51.100.7" }, mx = { ["mail.example.org"] = "10 client.example.org" }, fail = { ["slow.example.org"] = "timeout" } }
  t:policy("helo", { fqdn = true, literal = true, resolves = true })
  expect(hello(t, "desktop")):rejects("5.5.2", "fully qualified")
  expect(hello(t, "[198.51.100.8]")):rejects("5.7.1", "not your address")
  expect(hello(t, "[198.51.100.7]")):accepts()
  expect(hello(t, "nowhere.example.org")):rejects("5.7.1", "DNS")
  expect(hello(t, "client.example.org")):accepts()
  expect(hello(t, "mail.example.org")):accepts()
  expect(hello(t, "slow.example.org")):accepts()
end)

test("what the client's confirmed name says", function(t)
  t:policy("helo", { named = true, belongs = { ["big.example"] = { "big.example", "big-mail.example" } } })
  expect(hello(t, "mx.example.org", { host = "out.example.org" })):accepts()
  expect(hello(t, "mx.example.org", { host = "out.other.example" })):rejects("5.7.1", "not the name of your address")
  expect(hello(t, "mx.example.org")):accepts()
  expect(hello(t, "mx.big.example", { host = "out.big.example" })):accepts()
  expect(hello(t, "big.example", { host = "out.example.org" })):rejects("5.7.1", "is not your name")
  expect(hello(t, "big.example")):rejects("5.7.1")
  expect(hello(t, "notbig.example")):accepts()
end)

test("names that anybody gets, and names that change", function(t)
  t:policy("helo", { dynamic = true, changed = true })
  expect(hello(t, "ip-198-51-100-7.example.org")):rejects("5.7.1", "anybody")
  expect(hello(t, "host100007.example.org")):rejects("5.7.1")
  expect(hello(t, "h-a1b2-c3d4.example.org", { ip = "2001:db8::a1b2:c3d4" })):rejects("5.7.1")
  expect(hello(t, "mx7.example.org")):accepts()
  expect(hello(t, "mx.example.org", { ip = "2001:db8::1" })):accepts()
  local s = t:connect { ip = "198.51.100.7" }
  expect(s:helo "one.example.org"):accepts()
  expect(s:helo "ONE.example.org"):accepts()
  expect(s:helo "two.example.org"):rejects("5.7.1", "another name")
end)

test("later, or points", function(t)
  t:policy("helo", { action = "defer" })
  expect(hello(t, "a..b")):defers("4.5.2")
  t:policy("helo", { action = "score", points = 1.5 })
  local s = t:connect { ip = "198.51.100.7", helo = "a..b" }
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  expect(s:data "Subject: x\n\n"):accepts()
  expect(t:delivered()[1].total):equals(1.5)
  expect((pcall(t.policy, t, "helo", { action = "tag" }))):equals(false)
end)
