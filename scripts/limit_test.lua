local client = "198.51.100.7"

local function session(t, how)
  how = how or {}
  how.ip, how.helo = how.ip or client, "client.example.org"
  return t:connect(how)
end

local function rcpt(t, sender, address, how)
  local s = session(t, how)
  local reply = s:mail(sender)
  if reply.code ~= 250 then return reply end
  return s:rcpt(address or "b@example.net"), s
end

test("nothing is limited by default", function(t)
  t:policy "limit"
  for _ = 1, 50 do expect((rcpt(t, "a@example.org"))):accepts() end
end)

test("connections at a time", function(t)
  t:policy("limit", { connections = 2 })
  local a, b = t:connect { ip = client }, t:connect { ip = client }
  expect(a.greeting):accepts()
  expect(b.greeting):accepts()
  expect(t:connect { ip = client }.greeting):defers("4.7.0", "at a time")
  expect(t:connect { ip = "198.51.100.8" }.greeting):accepts()
  expect(t:connect { ip = client, relaying = true }.greeting):accepts()
  a:quit()
  expect(t:connect { ip = client }.greeting):accepts()
  t:policy("limit", { connections = 1, exempt = { "203.0.113.0/24" } })
  for _ = 1, 3 do expect(t:connect { ip = "203.0.113.7" }.greeting):accepts() end
  t:connect({ ip = "2001:db8::1" }):quit()
  t:connect({ ip = "2001:db8::2" })
  expect(t:connect { ip = "2001:db8::3" }.greeting):defers("4.7.0")
end)

test("rates", function(t)
  t:policy("limit", { connect_rate = "3/1m" })
  for _ = 1, 3 do expect(session(t).greeting):accepts() end
  expect(t:connect { ip = client }.greeting):defers("4.7.0", "again in 20s")
  t:advance "21s"
  expect(session(t).greeting):accepts()
  t:policy("limit", { message_rate = "1/m" })
  expect((rcpt(t, "a@example.org"))):accepts()
  expect((rcpt(t, "b@example.org"))):defers("4.7.1", "of your server: too many, please try again in 1m")
  t:policy("limit", { sender_rate = "1/1h" })
  expect((rcpt(t, "a@example.org"))):accepts()
  expect((rcpt(t, "A@example.org"))):defers("4.7.1", "this sender")
  expect((rcpt(t, "b@example.org"))):accepts()
  expect((rcpt(t, ""))):accepts()
  t:policy("limit", { domain_rate = "1/1d" })
  expect((rcpt(t, "a@example.com"))):accepts()
  expect((rcpt(t, "b@example.com"))):defers("4.7.1", "this domain")
end)

test("recipients", function(t)
  t:policy("limit", { recipient_rate = "2/1h", null_rate = "1/1h", recipients = 2 })
  expect((rcpt(t, "", "x@example.net"))):accepts()
  expect((rcpt(t, "", "x@example.net"))):defers("4.7.1", "Bounces")
  expect((rcpt(t, "a@example.org", "x@example.net"))):defers("4.7.1", "this recipient")
  expect((rcpt(t, "a@example.org", "x@elsewhere.example"))):rejects("5.7.1")
  local reply, s = rcpt(t, "a@example.org", "1@example.net")
  expect(reply):accepts()
  expect(s:rcpt "2@example.net"):accepts()
  expect(s:rcpt "3@example.net"):defers("4.5.3")
  expect((rcpt(t, "a@example.net", "x@example.net", { relaying = true }))):accepts()
end)

test("users", function(t)
  t:policy("limit", { user_rate = "2/1d" })
  expect((rcpt(t, "jane@example.net", "a@elsewhere.example", { user = "jane" }))):accepts()
  expect((rcpt(t, "jane@example.net", "b@elsewhere.example", { user = "Jane" }))):accepts()
  expect((rcpt(t, "jane@example.net", "c@elsewhere.example", { user = "jane" }))):defers("4.7.1", "Recipients of yours")
  expect((rcpt(t, "joe@example.net", "c@elsewhere.example", { user = "joe" }))):accepts()
end)

test("errors end a connection", function(t)
  t:policy("limit", { errors = 2 })
  local s = session(t)
  s:mail "a@example.org"
  expect(s:rcpt "x@elsewhere.example"):rejects("5.7.1")
  expect(s:rcpt "y@elsewhere.example"):disconnects("4.7.0", "Too many errors")
  t:policy("helo", {})
  s = t:connect { ip = client }
  expect(s:helo "a..b"):rejects()
  expect(s:helo "a..b"):disconnects("4.7.0")
end)

test("errors without a message count, too", function(t)
  t:policy("limit", { errors = 3 })
  local s = session(t)
  expect(s:rcpt "x@example.net"):rejects("5.5.1")
  expect(s:mail "a b@"):rejects()
  expect(s:rcpt "x@example.net"):disconnects("4.7.0", "Too many errors")
end)

test("history counts", function(t)
  t:policy("badmailfrom", { addresses = { "spam@" } })
  t:policy("karma", { refusals = { badmailfrom = 5 }, strikes = 0 })
  t:policy("limit", { recipients = 2 })
  local function three(ip)
    local s = session(t, { ip = ip })
    s:mail "a@example.org"
    for i = 1, 2 do s:rcpt(i .. "@example.net") end
    local reply = s:rcpt "3@example.net"
    s:data "Subject: x\n\n"
    s:quit()
    return reply, s
  end
  expect((three())):defers()
  expect((three())):accepts()
  local s = session(t, { ip = "203.0.113.7" })
  s:mail "spam@example.org"
  s:quit()
  s = session(t, { ip = "203.0.113.7" })
  s:mail "a@example.org"
  expect(s:rcpt "1@example.net"):accepts()
  expect(s:rcpt "2@example.net"):defers("4.5.3")
end)

test("a store that is down limits nobody, and rates that are none", function(t)
  t:policy("limit", { message_rate = "1/1m", connections = 1 })
  t:store "down"
  for _ = 1, 3 do expect((rcpt(t, "a@example.org"))):accepts() end
  for _, bad in ipairs { "many", "0/1m", "5/0s", "5/1y", "5" } do
    expect((pcall(t.policy, t, "limit", { message_rate = bad }))):equals(false)
  end
end)

test("rates are written in either way, and what is none is told with its setting", function(t)
  t:policy("limit", { connect_rate = "30/1m", message_rate = "60/min", sender_rate = "5/10s", user_rate = "500/day" })
  local ok, err = pcall(t.policy, t, "limit", { connect_rate = "30 per minute", message_rate = "0/1m", user_rate = "5/0s", ipv4 = 32 })
  expect(ok):equals(false)
  for _, name in ipairs { "connect_rate", "message_rate", "user_rate" } do expect(err):contains(name .. ": write a rate such as") end
end)
