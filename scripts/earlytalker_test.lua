test("who speaks early is refused and disconnected", function(t)
  t:policy("earlytalker")
  local s = t:connect { ip = "198.51.100.7", early = "500ms" }
  expect(s.greeting):rejects("5.5.1", "before the greeting")
  assert(s.closed)
end)

test("who waits is greeted", function(t)
  t:policy("earlytalker", { wait = "2s" })
  expect(t:connect { ip = "198.51.100.7" }.greeting):accepts()
  expect(t:connect { ip = "198.51.100.7", early = "3s" }.greeting):accepts()
  expect(t:connect { ip = "198.51.100.7", early = "0s", relaying = true }.greeting):accepts()
end)

test("the session is over, and the wait is on the clock", function(t)
  t:policy("earlytalker", { wait = "2s" })
  local before = t:now()
  expect(t:connect { ip = "198.51.100.7", early = "0s" }.greeting):rejects("5.5.1")
  expect(t:now() - before):equals(0)
  t:connect { ip = "198.51.100.8" }
  expect(t:now() - before):equals(2)
end)

test("it may be deferred, or only be points", function(t)
  t:policy("earlytalker", { action = "defer" })
  local s = t:connect { ip = "198.51.100.7", early = "0s" }
  expect(s.greeting):defers("4.5.1", "before the greeting")
  assert(s.closed)
  t:policy("earlytalker", { action = "score", points = 2 })
  s = t:connect { ip = "198.51.100.7", early = "0s", helo = "client.example.org" }
  expect(s.greeting):accepts()
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  expect(s:data "Subject: x\n\n"):accepts()
  expect(t:delivered()[1].total):equals(2)
end)
