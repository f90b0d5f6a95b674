local function world(t)
  t:lookup("users", {
    ["gone@example.net"]   = { closed = "Joe has left" },
    ["shut@example.net"]   = { closed = true },
    ["jane@example.net"]   = { block = { "spam@example.org", "@bulk.example" }, allow = "friend@bulk2.example", skip = "badmailfrom" },
    ["small@example.net"]  = { max_size = 500 },
    ["strict@example.net"] = { reject = 3, tag = 2 },
    ["tagged@example.net"] = { tag = 2 },
    ["*"]                  = { reject = 5 },
  })
end

local function session(t, sender, params)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail(sender or "a@example.org", params)
  return s
end

local function rcpt(t, address, sender, params) return session(t, sender, params):rcpt(address) end

test("senders, sizes, and who takes no mail", function(t)
  world(t)
  t:policy("badmailfrom", { addresses = { "odd@", "friend@" } }, { deny_at = "rcpt" })
  t:policy "user_settings"
  expect(rcpt(t, "gone@example.net")):rejects("5.2.1", "^Joe has left$")
  expect(rcpt(t, "shut@example.net")):rejects("5.2.1", "takes no mail$")
  expect(rcpt(t, "jane@example.net", "spam@example.org")):rejects("5.7.1", "jane@example.net takes no mail from you")
  expect(rcpt(t, "joe@example.net", "spam@example.org")):accepts()
  expect(rcpt(t, "jane@example.net", "x@bulk.example")):rejects("5.7.1")
  expect(rcpt(t, "jane@example.net", "")):accepts()
  expect(rcpt(t, "jane@example.net", "odd@example.org")):accepts()
  expect(rcpt(t, "joe@example.net", "odd@example.org")):rejects("5.7.1")
  expect(rcpt(t, "jane@example.net", "friend@bulk2.example")):accepts()
  expect(rcpt(t, "small@example.net", nil, { SIZE = 400 })):accepts()
  expect(rcpt(t, "small@example.net", nil, { SIZE = 600 })):rejects(552, "at most 500 bytes")
  expect(rcpt(t, "x@elsewhere.example")):rejects("5.7.1", "Relaying")
end)

test("points and sizes, for each recipient alone", function(t)
  world(t)
  t:dns { ["bad.example.dbl.example"] = { a = "127.0.0.2" }, ["worse.example.dbl.example"] = { a = { "127.0.0.2", "127.0.0.3" } }, ["bulk2.example.dbl.example"] = { a = { "127.0.0.2", "127.0.0.3" } } }
  t:policy("rhsbl", { zones = { "dbl.example" }, action = "score", points = 3 })
  t:policy "user_settings"
  local function send(address, sender, text)
    local s = session(t, sender)
    s:rcpt(address)
    return s:data(text or "Subject: x\n\n")
  end
  expect(send("strict@example.net", "a@bad.example")):rejects("5.7.1", "like this")
  expect(send("strict@example.net", "a@good.example")):accepts()
  expect(send("tagged@example.net", "a@bad.example")):accepts()
  expect(send("joe@example.net", "a@bad.example")):accepts()
  expect(send("joe@example.net", "a@worse.example")):rejects("5.7.1")
  expect(send("jane@example.net", "friend@bulk2.example")):accepts()
  expect(send("small@example.net", "a@good.example", "Subject: x\n\n" .. ("x"):rep(70):rep(10, "\n") .. "\n")):rejects(552)
  expect(t:sent()[2].headers["x-spam-flag"]):equals "YES"
  expect(t:sent()[3].headers["x-spam-flag"]):is_nil()
  local s = t:connect { ip = "192.0.2.9", helo = "in.example.net", relaying = true }
  s:mail "jane@example.net"
  s:rcpt "x@elsewhere.example"
  expect(s:data "Subject: x\n\n"):accepts()
end)

test("a map that does not answer", function(t)
  world(t)
  t:policy "user_settings"
  local s = session(t)
  expect(s:rcpt "joe@example.net"):accepts()
  t:lookup("users", "down")
  expect(s:data "Subject: x\n\n"):defers("4.3.0")
  expect(rcpt(t, "joe@example.net")):defers("4.3.0", "settings of joe@example.net")
  t:policy("user_settings", { map = "pass" })
  expect(rcpt(t, "joe@example.net")):accepts()
end)

test("no map, nothing chosen", function(t)
  t:policy "user_settings"
  expect(rcpt(t, "jane@example.net")):accepts()
  expect((pcall(t.policy, t, "user_settings", { map = "reject" }))):equals(false)
end)
