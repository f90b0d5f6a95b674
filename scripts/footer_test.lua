local function send(t, how, body, type, rcpt, sender)
  how.ip, how.helo = "192.0.2.9", "client.example.org"
  local s = t:connect(how)
  s:mail(sender or "jane@example.net")
  s:rcpt(rcpt or "x@example.net")
  expect(s:data("Subject: hello\nMIME-Version: 1.0\nContent-Type: " .. (type or "text/plain") .. "\n\n" .. body .. "\n")):accepts()
  local all = t:delivered()
  return all[#all].body
end

test("under our users' mail, once", function(t)
  t:policy("footer", { plain = "{domain} Ltd <&>\nBy {sender}" })
  local body = send(t, { user = "jane" }, "hello")
  expect(body):contains "example.net Ltd <&>\r\nBy jane@example.net"
  expect(send(t, { relaying = true }, "hello")):contains "Ltd"
  expect(send(t, { user = "jane" }, "<p>hello</p>", "text/html")):contains "<p>example.net Ltd &lt;&amp;&gt;<br>By jane@example.net</p>"
  expect(send(t, { user = "jane" }, "> example.net Ltd <&>")):equals "> example.net Ltd <&>\r\n"
  expect(send(t, {}, "hello", nil, nil, "a@example.org")):equals "hello\r\n"
  expect(send(t, { relaying = true }, "hello", nil, nil, "")):equals "hello\r\n"
end)

test("under some, under all, and in words of one's own", function(t)
  t:policy("footer", { plain = "Ltd", foreign = true, exempt = { "robot@" } })
  expect(send(t, { user = "jane" }, "hello")):equals "hello\r\n"
  expect(send(t, { user = "jane" }, "hello", nil, "x@elsewhere.example")):contains "Ltd"
  expect(send(t, { user = "jane" }, "hello", nil, "x@elsewhere.example", "robot@example.net")):equals "hello\r\n"
  t:policy("footer", { plain = "Ltd", html = "<b>{domain}</b>", to = "all" })
  expect(send(t, {}, "<p>hello</p>", "text/html", nil, "a@example.org")):contains "<b>example.org</b>"
  t:policy "footer"
  expect(send(t, { user = "jane" }, "hello")):equals "hello\r\n"
  expect((pcall(t.policy, t, "footer", { to = "some" }))):equals(false)
end)
