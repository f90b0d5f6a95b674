local function session(t) return t:connect { ip = "198.51.100.7", helo = "client.example.org" } end

test("the last straw", function(t)
  t:policy("command_limits", { unrecognised = 3 })
  local s = session(t)
  expect(s:command "GIMME mail"):rejects(500)
  expect(s:command "NOOP"):accepts()
  expect(s:command "GIMME more"):rejects(500)
  expect(s.closed):equals(false)
  expect(s:command "GIMME all"):disconnects(521, "wasting our time")
end)

test("NOOPs in a row", function(t)
  t:policy("command_limits", { noop = 3, text = "Bye" })
  local s = session(t)
  for _, between in ipairs { "HELP", "RSET", "EHLO x.example" } do
    expect(s:command "NOOP"):accepts()
    expect(s:command "NOOP"):accepts()
    expect(s:command(between)):accepts()
  end
  s:command "NOOP"
  s:command "NOOP"
  expect(s:mail "a@example.org"):accepts()
  s:command "NOOP"
  s:command "NOOP"
  expect(s:command "NOOP"):disconnects(521, "^Bye$")
end)

test("RSETs, of those who bring no mail", function(t)
  t:policy("command_limits", { rset = 3 })
  local s = session(t)
  for _ = 1, 3 do
    expect(s:command "RSET"):accepts()
    expect(s:command "RSET"):accepts()
    s:mail "a@example.org"
    s:rcpt "b@example.net"
    expect(s:data "Subject: x\n\n"):accepts()
  end
  s:command "RSET"
  s:command "RSET"
  expect(s:command "RSET"):disconnects(521)
end)

test("who asks for users, and no bounds at all", function(t)
  t:policy "command_limits"
  local s = session(t)
  for _ = 1, 4 do s:command "VRFY jane" end
  expect(s:command "EXPN staff"):disconnects(521)
  t:policy("command_limits", { asking = 0, noop = 0, rset = 0, unrecognised = 0 })
  s = session(t)
  for _ = 1, 30 do s:command "NOOP" end
  expect(s.closed):equals(false)
  expect((pcall(t.policy, t, "command_limits", { noop = "few" }))):equals(false)
end)
