local function send(t, sender, subject, how)
  how = how or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail(sender)
  s:rcpt "b@example.net"
  expect(s:data((subject and "Subject: " .. subject .. "\n" or "") .. "X-Spam-Flag: NO\n\n")):accepts()
  local all = t:delivered()
  return all[#all].headers
end

test("marks", function(t)
  t:dns { ["bad.example.dbl.example"] = { a = "127.0.0.2" } }
  t:policy("rhsbl", { zones = { "dbl.example" }, action = "score", points = 6 })
  t:policy "subject_tag"
  local h = send(t, "a@bad.example", "Grüße")
  expect(h.subject):equals "[SPAM] Grüße"
  expect(h["x-spam-flag"]):equals "YES"
  expect(h["x-spam-status"]):equals "Yes, score=6.0 required=5.0"
  expect(send(t, "a@bad.example", "Re: [SPAM] hi").subject):equals "Re: [SPAM] hi"
  expect(send(t, "a@bad.example").subject):equals "[SPAM]"
  h = send(t, "a@good.example", "hi")
  expect(h.subject):equals "hi"
  expect(h["x-spam-flag"]):is_nil()
  expect(h["x-spam-status"]):equals "No, score=0.0 required=5.0"
  expect(send(t, "a@bad.example", "hi", { relaying = true }).subject):equals "hi"
end)

test("other marks, or none", function(t)
  t:dns { ["bad.example.dbl.example"] = { a = "127.0.0.2" } }
  t:policy("rhsbl", { zones = { "dbl.example" }, action = "score", points = 3 })
  t:policy("subject_tag", { from = 2, mark = "", flag = "", status = "", level = "X-Level" })
  local h = send(t, "a@bad.example", "hi")
  expect(h.subject):equals "hi"
  expect(h["x-spam-flag"]):equals "NO"
  expect(h["x-level"]):equals "***"
  expect(send(t, "a@good.example", "hi")["x-level"]):is_nil()
  expect((pcall(t.policy, t, "subject_tag", { from = "much" }))):equals(false)
end)
