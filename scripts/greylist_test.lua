local function attempt(t, ip, sender, rcpt)
  local s = t:connect { ip = ip }
  s:helo("client.example.org")
  s:mail(sender)
  return s:rcpt(rcpt)
end

test("a stranger is deferred, then accepted", function(t)
  t:policy("greylist")
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):defers("4.7.1", "try again in 5m")
  t:advance "4m"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):defers("4.7.1", "too early.*1m")
  t:advance "2m"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):accepts()
  expect(attempt(t, "198.51.100.250", "A@example.org", "B@example.net")):accepts()
end)

test("another network, sender or recipient is another triplet", function(t)
  t:policy("greylist", { delay = "1m" })
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):defers()
  t:advance "2m"
  expect(attempt(t, "198.51.101.7", "a@example.org", "b@example.net")):defers()
  expect(attempt(t, "198.51.100.7", "x@example.org", "b@example.net")):defers()
  expect(attempt(t, "198.51.100.7", "a@example.org", "x@example.net")):defers()
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):accepts()
end)

test("prefixes of IPv6", function(t)
  t:policy("greylist", { delay = "1m", ipv6 = 48 })
  expect(attempt(t, "2001:db8:1:2::1", "a@example.org", "b@example.net")):defers("4.7.1", "in 1m")
  t:advance "61s"
  expect(attempt(t, "2001:db8:1:99::1", "a@example.org", "b@example.net")):accepts()
  expect(attempt(t, "2001:db8:2::1", "a@example.org", "b@example.net")):defers()
end)

test("what is forgotten waits again", function(t)
  t:policy("greylist", { delay = "1m", window = "1h", lifetime = "10d" })
  attempt(t, "198.51.100.7", "a@example.org", "b@example.net")
  t:advance "2h"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):defers()
  t:advance "2m"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):accepts()
  t:advance "9d"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):accepts()
  t:advance "9d"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):accepts()
  t:advance "11d"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):defers()
end)

test("relaying clients and foreign recipients are left alone", function(t)
  t:policy("greylist")
  local s = t:connect { ip = "192.0.2.9", relaying = true }
  s:helo("inside.example.net")
  s:mail("a@example.net")
  expect(s:rcpt("b@example.net")):accepts()
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@elsewhere.example")):rejects("5.7.1")
end)

test("a store that fails holds nobody up", function(t)
  t:policy("greylist")
  t:store "down"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):accepts()
  t:store "up"
  expect(attempt(t, "198.51.100.7", "a@example.org", "b@example.net")):defers("4.7.1")
end)

test("a setting of the wrong kind is told", function(t)
  local ok, err = pcall(t.policy, t, "greylist", { delay = "soon" })
  expect(ok):equals(false)
  expect(err):contains("greylist.lua:delay")
end)

test("a client that comes again is known as a whole, while it writes", function(t)
  t:policy("greylist", { delay = "1m", lifetime = "10d" })
  for _, user in ipairs { "a", "b" } do
    expect(attempt(t, "198.51.100.7", user .. "@example.org", "x@example.net")):defers()
    t:advance "2m"
    expect(attempt(t, "198.51.100.7", user .. "@example.org", "x@example.net")):accepts()
    expect(attempt(t, "198.51.100.7", user .. "@example.org", "x@example.net")):accepts()
  end
  expect(attempt(t, "198.51.100.99", "c@example.org", "y@example.net")):accepts()
  expect(attempt(t, "198.51.101.7", "c@example.org", "y@example.net")):defers()
  t:advance "9d"
  expect(attempt(t, "198.51.100.7", "d@example.org", "y@example.net")):accepts()
  t:advance "9d"
  expect(attempt(t, "198.51.100.7", "e@example.org", "y@example.net")):accepts()
  t:advance "11d"
  expect(attempt(t, "198.51.100.7", "f@example.org", "y@example.net")):defers()
end)

test("nobody is promoted where that is off", function(t)
  t:policy("greylist", { delay = "1m", promote = 0 })
  for _, user in ipairs { "a", "b", "c" } do
    expect(attempt(t, "198.51.100.7", user .. "@example.org", "x@example.net")):defers()
    t:advance "2m"
    expect(attempt(t, "198.51.100.7", user .. "@example.org", "x@example.net")):accepts()
  end
end)

test("SPF makes many servers one client", function(t)
  t:dns { ["example.org"] = { txt = "v=spf1 ip4:198.51.100.7 ip4:203.0.113.7 -all" } }
  t:policy("spf", { fail = "pass" })
  t:policy("greylist", { delay = "1m", promote = 1 })
  expect(attempt(t, "198.51.100.7", "a@example.org", "x@example.net")):defers()
  t:advance "2m"
  expect(attempt(t, "203.0.113.7", "a@example.org", "x@example.net")):accepts()
  expect(attempt(t, "198.51.100.7", "b@example.org", "y@example.net")):accepts()
  expect(attempt(t, "192.0.2.7", "b@example.org", "y@example.net")):defers()
end)

test("who never waits", function(t)
  t:policy("greylist", { exempt = { "198.51.100.0/24", "2001:db8::/32" }, exempt_names = { "*.big.example" }, exempt_senders = { "@friend.example" } })
  expect(attempt(t, "198.51.100.7", "a@example.org", "x@example.net")):accepts()
  expect(attempt(t, "2001:db8::1", "a@example.org", "x@example.net")):accepts()
  expect(attempt(t, "203.0.113.7", "a@friend.example", "x@example.net")):accepts()
  expect(attempt(t, "203.0.113.7", "a@example.org", "postmaster@example.net")):accepts()
  local s = t:connect { ip = "203.0.113.7", host = "mx1.big.example", helo = "mx1.big.example" }
  s:mail "a@example.org"
  expect(s:rcpt "x@example.net"):accepts()
  s = t:connect { ip = "203.0.113.7", host = "mx.small.example", helo = "mx.small.example" }
  s:mail "a@example.org"
  expect(s:rcpt "x@example.net"):defers()
end)

test("a question whether an address exists is answered, a bounce waits", function(t)
  t:policy("greylist", { delay = "1m" })
  local function bounce()
    local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
    s:mail ""
    expect(s:rcpt "x@example.net"):accepts()
    return s:data "Subject: failure\n\n"
  end
  expect(bounce()):defers("4.7.1", "try again in 1m")
  expect(bounce()):defers("4.7.1", "too early")
  t:advance "2m"
  expect(bounce()):accepts()
end)
