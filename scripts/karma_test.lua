local client = "198.51.100.7"

local function session(t, ip)
  return t:connect { ip = ip or client, helo = "client.example.org" }
end

-- visit is a connection that brings one message.
local function visit(t, sender, subject, ip)
  local s = session(t, ip)
  s:mail(sender or "a@example.org")
  s:rcpt "b@example.net"
  local reply = s:data("Subject: " .. (subject or "hello") .. "\n\nworld\n")
  s:quit()
  return reply
end

local function history(t)
  local it
  for _, run in ipairs(t:trace()) do it = run.results and run.results.karma or it end
  return it
end

test("good clients get better", function(t)
  t:policy "karma"
  for i = 1, 4 do
    expect(visit(t)):accepts()
    expect(history(t).history):equals(i - 1)
  end
  expect(t:delivered()[4].total):equals(-0.75)
  for _ = 1, 20 do visit(t) end
  expect(t:delivered()[24].total):equals(-2)
  expect(t:delivered()[1].total):equals(0)
end)

test("bad ones get points, and into the penalty box", function(t)
  t:policy("badmailfrom", { addresses = { "spam@" } })
  t:policy("karma", { refusals = { badmailfrom = 5 }, tarpit = "3s" })
  local function spam() return visit(t, "spam@example.org") end
  spam()
  local before = t:now()
  visit(t, "a@example.org", "hello")
  expect(t:delivered()[1].total):equals(0.25)
  expect(t:now() - before >= 3):is_true()
  for _ = 1, 3 do spam() end
  local s = session(t)
  expect(s.greeting):defers("4.7.1", "come back in")
  expect(s.closed):is_true()
  expect(session(t, "198.51.100.8").greeting):accepts()
  t:advance "61m"
  expect(session(t).greeting):accepts()
  spam()
  t:advance "61m"
  expect(session(t).greeting):defers(421)
  t:advance "60m"
  expect(session(t).greeting):accepts()
  t:advance "31d"
  visit(t)
  expect(history(t).history):equals(0)
end)

test("what a message scores counts", function(t)
  t:dns {
    ["odd.example.one.example"] = { a = "127.0.0.2" }, ["odd.example.two.example"] = { a = "127.0.0.2" }, ["so.example.one.example"] = { a = "127.0.0.2" },
  }
  t:policy("rhsbl", { zones = { "one.example", "two.example" }, action = "score" })
  t:policy "content_signatures"
  t:policy("karma", { points = 0 })
  expect(visit(t, "a@odd.example")):accepts()
  visit(t)
  expect(history(t).bad):equals(1)
  expect(visit(t, "a@so.example")):accepts()
  visit(t)
  expect(history(t)):equals { bad = 1, good = 1, history = 0 }
  local gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
  expect(visit(t, "a@odd.example", gtube)):rejects("5.7.1", "GTUBE")
  visit(t)
  expect(history(t).bad):equals(2)
end)

test("refusals add up, greylisting does not", function(t)
  t:policy("greylist", { promote = 0 })
  t:policy "karma"
  for _ = 1, 6 do visit(t) end
  t:advance "6m"
  visit(t)
  expect(history(t).bad):equals(0)
  t:policy("badrcptto", { addresses = { "bad@" } })
  t:policy("greylist", { exempt = { "0.0.0.0/0" } })
  local s = session(t)
  s:mail "a@example.org"
  for _ = 1, 5 do s:rcpt "bad@example.net" end
  s:quit()
  visit(t)
  expect(history(t).bad):equals(1)
  t:policy("helo", {})
  for _ = 1, 5 do t:connect { ip = client }:helo("a..b") end
end)

test("where a client is", function(t)
  t:geoip { ["198.51.100.0/24"] = { asn = 64496, name = "Example" } }
  t:policy("karma", { tlds = { top = 1 }, asns = { ["64496"] = 0.5 }, refuse_at = 2 })
  local s = t:connect { ip = client, host = "mx.example.top", helo = "mx.example.top" }
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  expect(s:data "Subject: x\n\n"):accepts()
  expect(t:delivered()[1].total):equals(1.5)
  t:policy("karma", { tlds = { top = 2 }, refuse_at = 2 })
  s = t:connect { ip = client, host = "mx.example.top", helo = "mx.example.top" }
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  expect(s:data "Subject: x\n\n"):rejects("5.7.1", "speaks against")
end)

test("a store that is down, IPv6 networks, and settings that are wrong", function(t)
  t:policy("badmailfrom", { addresses = { "spam@" } })
  t:policy("karma", { strikes = 1, refusals = { badmailfrom = 5 } })
  t:store "down"
  expect(visit(t)):accepts()
  t:store "up"
  visit(t, "spam@example.org", nil, "2001:db8::1")
  expect(session(t, "2001:db8::2").greeting):defers(421)
  expect(session(t, "2001:db8:0:1::2").greeting):accepts()
  expect((pcall(t.policy, t, "karma", { penalty = "long" }))):equals(false)
end)
