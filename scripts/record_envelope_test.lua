local function send(t, sender, ...)
  local s = t:connect { ip = "192.0.2.9", helo = "client.example.org", relaying = true }
  s:mail(sender)
  for _, address in ipairs { ... } do s:rcpt(address) end
  expect(s:data "Subject: x\nX-Envelope-To: forged\n\n"):accepts()
end

test("each copy has its own recipient", function(t)
  t:policy "record_envelope"
  send(t, "a@example.org", "b@example.net", "c@example.net", "d@elsewhere.example")
  local to = {}
  for _, m in ipairs(t:sent()) do
    to[m.recipient] = m.headers["x-envelope-to"] or "none"
    expect(m.headers["x-envelope-from"]):equals "<a@example.org>"
  end
  expect(to):equals { ["b@example.net"] = "<b@example.net>", ["c@example.net"] = "<c@example.net>", ["d@elsewhere.example"] = "none" }
  send(t, "", "b@example.net")
  expect(t:delivered()[2].headers["x-envelope-from"]):equals "<>"
end)

test("other fields, or none", function(t)
  t:policy("record_envelope", { from = "", to = "X-Original-To", ours = false })
  send(t, "a@example.org", "d@elsewhere.example")
  expect(t:sent()[1].headers["x-original-to"]):equals "<d@elsewhere.example>"
  expect(t:sent()[1].headers["x-envelope-from"]):is_nil()
  t:policy("record_envelope", { to = "" })
  send(t, "a@example.org", "b@example.net")
  expect(t:sent()[2].headers["x-envelope-to"]):equals "forged"
  expect((pcall(t.policy, t, "record_envelope", { ours = "yes" }))):equals(false)
end)
