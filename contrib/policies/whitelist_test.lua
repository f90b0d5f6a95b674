local function session(t, how)
  how.ip = how.ip or "198.51.100.7"
  how.helo = how.helo or "client.example.org"
  return t:connect(how)
end

local function begin(t)
  t:policy("whitelist", {
    hosts = { "192.0.2.0/24" }, names = { "*.partner.example" }, senders = { "@friend.example" }, recipients = { "postmaster@" },
    skip = { "badmailfrom", "greylist" },
  })
  t:policy("badmailfrom", { addresses = { "spam@example.org", "spam@friend.example" } })
  t:policy "greylist"
end

test("clients, names and senders", function(t)
  begin(t)
  expect(session(t, {}):mail "spam@example.org"):rejects("5.7.1")
  expect(session(t, { ip = "192.0.2.9" }):mail "spam@example.org"):accepts()
  expect(session(t, { helo = "mx.partner.example" }):mail "spam@example.org"):accepts()
  expect(session(t, {}):mail "spam@friend.example"):accepts()
end)

test("recipients", function(t)
  begin(t)
  local s = session(t, {})
  s:mail "a@example.org"
  expect(s:rcpt "b@example.net"):defers("4.7.1")
  expect(s:rcpt "Postmaster@example.net"):accepts()
  expect(s:rcpt "postmaster@elsewhere.example"):rejects("5.7.1")
end)
