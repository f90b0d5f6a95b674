local function report(t, user, body, type)
  local s = t:connect { ip = "192.0.2.9", helo = "inside.example.net", user = "jane" }
  s:mail(user)
  s:rcpt "Block@example.net"
  return s:data("Subject: go away\nMIME-Version: 1.0\nContent-Type: " .. (type or "text/plain") .. "\n\n" .. body)
end

local function rcpt(t, sender, address)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail(sender)
  return s:rcpt(address)
end

local attached = "--x\n\nsee\n--x\nContent-Type: message/rfc822\n\nFrom: Spam <spam@example.org>\nSubject: buy\n\nnow\n--x--\n"

test("what is sent there is blocked for the one who did", function(t)
  t:policy("block_me", { address = "block@example.net" })
  expect(report(t, "jane@example.net", attached, "multipart/mixed; boundary=x")):accepts()
  expect(#t:delivered()):equals(0)
  expect(rcpt(t, "Spam@example.org", "Jane@example.net")):rejects("5.7.1", "not wanted")
  expect(rcpt(t, "spam@example.org", "joe@example.net")):accepts()
  expect(rcpt(t, "other@example.org", "jane@example.net")):accepts()
  expect(rcpt(t, "", "jane@example.net")):accepts()
  t:advance "366d"
  expect(rcpt(t, "spam@example.org", "jane@example.net")):accepts()
end)

test("a forwarded text will do, but none of ours", function(t)
  t:policy("block_me", { address = "block@example.net", everybody = true })
  expect(report(t, "jane@example.net", "---- Forwarded ----\n> From: Joe <joe@example.net>\n> *From:* Spam <spam@example.org>\n")):accepts()
  expect(rcpt(t, "spam@example.org", "anybody@example.net")):rejects("5.7.1")
  expect(rcpt(t, "joe@example.net", "anybody@example.net")):accepts()
  expect(report(t, "jane@example.net", "please\n")):rejects("5.6.0", "no sender to block")
end)

test("strangers can't, and a store that is down says so", function(t)
  t:policy("block_me", { address = "block@example.net" })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "jane@example.net"
  s:rcpt "block@example.net"
  expect(s:data "Subject: x\n\nFrom: a@example.org\n"):accepts()
  expect(rcpt(t, "a@example.org", "jane@example.net")):accepts()
  t:store "down"
  expect(report(t, "jane@example.net", "From: spam@example.org\n")):defers("4.3.0")
  t:policy "block_me"
  expect(report(t, "jane@example.net", "From: spam@example.org\n")):accepts()
  expect((pcall(t.policy, t, "block_me", { lifetime = "long" }))):equals(false)
end)
