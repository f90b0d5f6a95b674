local function took(t, sender, how)
  how = how or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail(sender)
  local before = t:now()
  s:rcpt "b@example.net"
  s:data "Subject: x\n\n"
  return t:now() - before
end

test("who has points waits at each step", function(t)
  t:policy("rhsbl", { zones = { "dbl.example" }, action = "score", points = 4 })
  t:policy "tarpit"
  t:dns { ["bad.example.dbl.example"] = { a = "127.0.0.2" } }
  expect(took(t, "a@bad.example")):equals(12)
  expect(took(t, "a@good.example")):equals(0)
  expect(took(t, "a@bad.example", { relaying = true })):equals(0)
  t:policy("tarpit", { delay = "5s", most = "7s" })
  expect(took(t, "a@bad.example")):equals(21)
  t:policy("tarpit", { from = 5 })
  expect(took(t, "a@bad.example")):equals(0)
end)

test("refusals come late", function(t)
  t:policy("tarpit", { every_refusal = "3s" })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  local before = t:now()
  expect(s:rcpt "b@elsewhere.example"):rejects("5.7.1")
  expect(t:now() - before):equals(3)
  expect((pcall(t.policy, t, "tarpit", { delay = "long" }))):equals(false)
end)
