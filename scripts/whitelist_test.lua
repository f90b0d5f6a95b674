local function session(t, how)
  how.ip = how.ip or "198.51.100.7"
  how.helo = how.helo or "client.example.org"
  return t:connect(how)
end

local function begin(t, more)
  t:dns { ["signed.example"] = { txt = "v=spf1 ip4:198.51.100.7 -all" } }
  t:policy("spf", { fail = "pass" })
  local settings = {
    clients = { "192.0.2.0/24", "2001:db8::/32" }, names = { "*.friend.example" }, helos = { "*.partner.example" },
    senders = { "@friend.example", "@signed.example" }, recipients = { "postmaster@" }, skip = { "badmailfrom", "greylist" },
  }
  for key, value in pairs(more or {}) do settings[key] = value end
  t:policy("whitelist", settings)
  t:policy("badmailfrom", { addresses = { "spam@" } })
end

test("clients, names and senders", function(t)
  begin(t)
  expect(session(t, {}):mail "spam@example.org"):rejects("5.7.1")
  expect(session(t, { ip = "192.0.2.9" }):mail "spam@example.org"):accepts()
  expect(session(t, { ip = "2001:db8::9" }):mail "spam@example.org"):accepts()
  expect(session(t, { host = "mx.friend.example" }):mail "spam@example.org"):accepts()
  expect(session(t, { host = "mx.other.example" }):mail "spam@example.org"):rejects("5.7.1")
  expect(session(t, { helo = "mx.partner.example" }):mail "spam@example.org"):accepts()
  expect(session(t, {}):mail "spam@friend.example"):rejects("5.7.1")
  expect(session(t, {}):mail "spam@signed.example"):accepts()
  expect(session(t, {}):mail ""):accepts()
end)

test("senders that nobody vouches for, and points", function(t)
  begin(t, { verified = false, points = -2 })
  local s = session(t, {})
  expect(s:mail "spam@friend.example"):accepts()
  s:rcpt "b@example.net"
  s:data "Subject: x\n\n"
  expect(t:delivered()[1].total):equals(-2)
end)

test("recipients, of whom each is spared alone", function(t)
  begin(t)
  t:policy("greylist", { promote = 0, exempt_recipients = {} })
  local s = session(t, {})
  s:mail "a@example.org"
  expect(s:rcpt "b@example.net"):defers("4.7.1")
  expect(s:rcpt "Postmaster@example.net"):accepts()
  expect(s:rcpt "postmaster@elsewhere.example"):rejects("5.7.1")
end)

test("what is kept until RCPT", function(t)
  t:policy("whitelist", { recipients = { "postmaster@" }, skip = { "badmailfrom" } })
  t:policy("badmailfrom", { addresses = { "spam@" } }, { deny_at = "rcpt" })
  local s = session(t, {})
  expect(s:mail "spam@example.org"):accepts()
  expect(s:rcpt "b@example.net"):rejects("5.7.1")
  expect(s:rcpt "postmaster@example.net"):accepts()
  expect((pcall(t.policy, t, "whitelist", { clients = { "all" } }))):equals(false)
end)

test("who stands behind a listed recipient is not spared", function(t)
  t:policy("whitelist", { recipients = { "postmaster@", "abuse@" }, skip = { "greylist", "content_signatures" } })
  t:policy("greylist", { exempt_recipients = {} })
  t:policy("content_signatures", { signatures = { "casino" } })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  expect(s:mail "a@example.org"):accepts()
  expect(s:rcpt "postmaster@example.net"):accepts()
  expect(s:rcpt "joe@example.net"):defers("4.7.1")
  expect(s:rcpt "abuse@example.net"):accepts()
  expect(s:data "Subject: casino\n\n"):accepts()
  t:advance "10m"
  expect(s:mail "a@example.org"):accepts()
  expect(s:rcpt "joe@example.net"):accepts()
  expect(s:rcpt "postmaster@example.net"):accepts()
  expect(s:data "Subject: casino\n\n"):rejects("5.7.1")
end)
