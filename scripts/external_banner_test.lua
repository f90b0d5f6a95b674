local function from(t, how, fields, body)
  local sender = how.sender
  how.sender, how.ip, how.helo = nil, how.ip or "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail(sender or "a@example.org")
  s:rcpt "b@example.net"
  expect(s:data("MIME-Version: 1.0\n" .. (fields or "Subject: hello") .. "\n\n" .. (body or "hello") .. "\n")):accepts()
  local all = t:delivered()
  return all[#all]
end

test("on top of mail from outside", function(t)
  t:policy("external_banner", { subject = "[EXTERNAL] ", header = "X-External" })
  local m = from(t, {})
  expect(m.body):matches "^This message came from outside"
  expect(m.body):contains "hello"
  expect(m.headers.subject):equals "[EXTERNAL] hello"
  expect(m.headers["x-external"]):equals "yes"
  expect(from(t, {}, "Subject: Re: [EXTERNAL] hello").headers.subject):equals "Re: [EXTERNAL] hello"
  expect(from(t, {}, "Content-Type: text/html", "<p>hello</p>").body):contains "<div style="
  m = from(t, { relaying = true }, "X-External: yes")
  expect(m.body):equals "hello\r\n"
end)

test("who is not outside", function(t)
  t:dns { ["partner.example"] = { txt = "v=spf1 ip4:198.51.100.7 -all" } }
  t:policy("spf", { fail = "pass" })
  t:policy("external_banner", { trust = { "203.0.113.0/24" }, exempt = { "@partner.example" }, header = "X-External" })
  expect(from(t, { ip = "203.0.113.7" }, "X-External: yes").headers["x-external"]):is_nil()
  expect(from(t, { sender = "a@partner.example" }).body):equals "hello\r\n"
  expect(from(t, { sender = "a@partner.example", ip = "192.0.2.7" }).body):contains "outside"
  expect(from(t, { sender = "" }).body):contains "outside"
end)

test("known correspondents, and words of one's own", function(t)
  t:policy "known_senders"
  t:policy("external_banner", { known = false, plain = "<Outside>", html = "<i>out</i>" })
  local s = t:connect { ip = "192.0.2.9", helo = "in.example.net", relaying = true }
  s:mail "b@example.net"
  s:rcpt "a@example.org"
  s:data "Subject: x\n\n"
  expect(from(t, { host = "mx.example.org" }).body):equals "hello\r\n"
  expect(from(t, { host = "mx.other.example" }).body):matches "^<Outside>"
  expect(from(t, {}, "Content-Type: text/html", "<p>hello</p>").body):contains "<i>out</i>"
  t:policy("external_banner", { plain = "", subject = "[X] " })
  expect(from(t, {}).body):equals "hello\r\n"
  expect((pcall(t.policy, t, "external_banner", { trust = { "x" } }))):equals(false)
end)
