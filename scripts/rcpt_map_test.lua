local function rcpt(t, address)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  return s:rcpt(address), s
end

test("each gets its answer", function(t)
  t:domains { "example.net", "example.com" }
  t:policy("rcpt_map", { entries = {
    "jane@example.net OK", "Joe@example.net DENY Joe has left", "busy@ defer", "trap@example.net discard a trap", "x@elsewhere.example accept",
  }, domains = { "example.net" } })
  t:policy("badrcptto", { addresses = { "jane@example.net" } })
  expect((rcpt(t, "Jane@example.net"))):accepts()
  expect((rcpt(t, "joe@example.net"))):rejects("5.1.1", "^Joe has left$")
  expect((rcpt(t, "busy@example.com"))):defers("4.2.1", "no mail for this address")
  expect((rcpt(t, "trap@example.net"))):accepts()
  expect((rcpt(t, "other@example.net"))):rejects("5.1.1")
  expect((rcpt(t, "other@example.com"))):accepts()
  expect((rcpt(t, "x@elsewhere.example"))):rejects("5.7.1")
end)

test("what the rest gets, and a file", function(t)
  t:policy("rcpt_map", { file = "testdata/rcpt_map.txt", domains = { "example.net" }, rest = "defer", text = "Who?" })
  expect((rcpt(t, "jane@example.net"))):accepts()
  expect((rcpt(t, "joe@example.net"))):defers("4.2.1", "^Who%?$")
  t:policy("rcpt_map", { domains = { "example.net" }, rest = "discard" })
  expect((rcpt(t, "joe@example.net"))):accepts()
end)

test("a map, and one that fails", function(t)
  t:lookup("recipients", { ["jane@example.net"] = "accept", ["joe@example.net"] = "reject Gone", ["odd@example.net"] = "perhaps" })
  t:policy("rcpt_map", { map = "recipients", domains = { "example.net" } })
  expect((rcpt(t, "jane+x@example.net"))):accepts()
  expect((rcpt(t, "joe@example.net"))):rejects("5.1.1", "^Gone$")
  expect((rcpt(t, "bob@example.net"))):rejects("5.1.1")
  expect((rcpt(t, "odd@example.net"))):defers()
  t:policy("rcpt_map", { map = "nowhere" })
  expect((rcpt(t, "jane@example.net"))):defers("4.3.0")
end)

test("lines that are none", function(t)
  for _, line in ipairs { "jane@example.net", "jane@example.net PERHAPS", "" } do
    expect((pcall(t.policy, t, "rcpt_map", { entries = { line } }))):equals(false)
  end
end)
