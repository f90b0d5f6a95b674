local function world(t)
  t:dns {
    ["7.100.51.198.wl.example"] = { a = "127.0.5.2" }, ["8.100.51.198.wl.example"] = { a = "127.0.5.0" },
    ["1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.wl.example"] = { a = "127.0.9.3" },
    ["7.100.51.198.dead.example"] = { a = "servfail" },
  }
end

local function rcpt(t, ip)
  local s = t:connect { ip = ip, helo = "client.example.org" }
  s:mail "a@example.org"
  return s:rcpt "b@example.net", s
end

test("a client that is trusted enough is spared", function(t)
  world(t)
  t:policy("dnswl", { zones = { "dead.example", "wl.example 127.0.*.1-3=known" }, points = -2 })
  t:policy "greylist"
  expect((rcpt(t, "198.51.100.7"))):accepts()
  expect((rcpt(t, "2001:db8::1"))):accepts()
  expect((rcpt(t, "198.51.100.8"))):defers("4.7.1")
  expect((rcpt(t, "198.51.100.9"))):defers("4.7.1")
  expect((rcpt(t, "10.0.0.1"))):defers("4.7.1")
  local _, s = rcpt(t, "198.51.100.7")
  s:data "Subject: hello\n\n"
  expect(t:delivered()[1].total):equals(-2)
end)

test("no list, and lists that time out, change nothing", function(t)
  t:policy "dnswl"
  expect((rcpt(t, "198.51.100.7"))):accepts()
  t:dns { ["7.100.51.198.slow.example"] = { a = "timeout" } }
  t:policy("dnswl", { zones = { "slow.example" } })
  expect((rcpt(t, "198.51.100.7"))):accepts()
  t:advance "31m"
  expect((rcpt(t, "198.51.100.7"))):accepts()
end)

test("an answer that is none is told", function(t)
  for _, zone in ipairs { "wl.example 127.0.0", "wl.example 127.0.0.x", "wl.example 127.0.0.2-999", "", "wl.example &x" } do
    expect((pcall(t.policy, t, "dnswl", { zones = { zone } }))):equals(false)
  end
end)
