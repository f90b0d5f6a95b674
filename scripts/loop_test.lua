local function send(t, fields, ...)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  for _, address in ipairs { "b@example.net", ... } do s:rcpt(address) end
  return s:data(fields .. "Subject: hello\n\nworld\n")
end

local function hops(n, by) return ("Received: from x by " .. by .. "; Thu, 01 Jan 2026 12:00:00 +0000\n"):rep(n) end

test("what was delivered before", function(t)
  t:policy "loop"
  expect(send(t, "Delivered-To: other@example.net\n")):accepts()
  expect(send(t, "Delivered-To: <B@example.net>\n")):rejects("5.4.6", "delivered to b@example.net before")
  expect(send(t, "Delivered-To: nonsense\n")):accepts()
  t:policy("loop", { delivered_to = false })
  expect(send(t, "Delivered-To: b@example.net\n")):accepts()
end)

test("too many hops, and too often here", function(t)
  t:policy("loop", { hops = 5, ours = 2, names = { "mx.other.example" } })
  expect(send(t, hops(5, "mx.example.org"))):accepts()
  expect(send(t, hops(5, "mx.example.org") .. "Delivered-To: x@example.org\n")):rejects("5.4.6", "6 hops")
  expect(send(t, hops(2, "example.net"))):accepts()
  expect(send(t, hops(3, "example.net"))):rejects("5.4.6", "here 3 times")
  expect(send(t, hops(3, "MX.other.example"))):rejects("5.4.6")
  t:policy("loop", { ours = 0 })
  expect(send(t, hops(30, "example.net"))):accepts()
  expect((pcall(t.policy, t, "loop", { hops = "many" }))):equals(false)
end)
