local function session(t, sender, how)
  how = how or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail(sender)
  return s
end

local function send(t, sender, text, how)
  local s = session(t, sender, how)
  s:rcpt "a@example.net"
  return s:data(text)
end

local plain = "Subject: failure\n\nYour mail could not be delivered\n"

-- notice is a bounce that brings a message back, or only its header section.
local function notice(message, headers)
  return "Subject: failure\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary=x\n\n--x\n\nsorry\n--x\nContent-Type: " ..
    (headers and "text/rfc822-headers" or "message/rfc822") .. "\n\n" .. message .. "\n--x--\n"
end

local function result(t)
  local found
  for _, run in ipairs(t:trace()) do found = run.results and run.results.bounce or found end
  return found
end

test("a second recipient comes by itself", function(t)
  t:policy "bounce"
  local s = session(t, "")
  expect(s:rcpt "a@example.net"):accepts()
  expect(s:rcpt "b@example.net"):defers("4.5.3", "by itself")
  expect(s:data(plain)):accepts()
  s = session(t, "c@example.org")
  s:rcpt "a@example.net"
  expect(s:rcpt "b@example.net"):accepts()
  s = session(t, "", { relaying = true })
  s:rcpt "a@example.net"
  expect(s:rcpt "b@example.net"):accepts()
  t:policy("bounce", { several = "reject" })
  s = session(t, "")
  s:rcpt "a@example.net"
  expect(s:rcpt "b@example.net"):accepts()
  expect(s:data(plain)):rejects("5.7.1", "several recipients")
end)

test("addresses that never send, and a host that sends nothing", function(t)
  t:policy("bounce", { never = { "noreply@" } })
  expect(session(t, ""):rcpt "noreply@example.net"):rejects("5.7.1", "never sends")
  expect(session(t, "a@example.org"):rcpt "noreply@example.net"):accepts()
  t:policy("bounce", { none = true })
  expect(session(t, ""):rcpt "a@example.net"):rejects("5.7.1", "no mail")
end)

test("Return-Path is noted, or more", function(t)
  t:policy("bounce", { points = 1.5 })
  expect(send(t, "", "Return-Path: <x@y.example>\n" .. plain)):accepts()
  expect(t:delivered()[1].total):equals(1.5)
  expect(result(t).found):contains "a Return-Path field"
  expect(send(t, "a@example.org", "Return-Path: <x@y.example>\n" .. plain)):accepts()
  expect(t:delivered()[2].total):equals(0)
  t:policy("bounce", { return_path = "defer" })
  expect(send(t, "", "Return-Path: <x@y.example>\n" .. plain)):defers("4.7.1", "Return-Path")
  t:policy("bounce", { empty = "reject" })
  expect(send(t, "", plain)):rejects("5.7.1", "nothing of the message")
end)

test("what comes back is ours, or not", function(t)
  t:policy("bounce", { secret = "key", validate = "reject" })
  local mail = "From: Jane <jane@example.net>\nDate: Thu, 01 Jan 2026 12:00:00 +0000\nMessage-ID: <1@example.net>\nSubject: hello\n\nworld\n"
  expect(send(t, "jane@example.net", mail, { relaying = true })):accepts()
  local sent = t:delivered()[1].text
  expect(t:delivered()[1].headers["x-bounce-check"]):matches "^%d+ %x+$"
  expect(send(t, "", notice(sent))):accepts()
  expect(result(t).valid):equals "yes"
  local head = sent:match("^(.-\r?\n\r?\n)")
  expect(send(t, "", notice(head, true))):accepts()
  expect(send(t, "", notice(mail))):rejects("5.7.1", "not sent by us")
  expect(send(t, "", notice((sent:gsub("Jane <jane", "Joe <joe"))))):rejects("5.7.1", "forged")
  expect(result(t).valid):equals "no"
  expect(send(t, "", plain)):accepts()
  expect(result(t).valid):equals "unknown"
  t:advance "8d"
  expect(send(t, "", notice(sent))):rejects("5.7.1", "too old")
end)

test("without a secret nothing is written, and a forged field goes", function(t)
  t:policy "bounce"
  expect(send(t, "jane@example.net", "From: jane@example.net\n\n", { relaying = true })):accepts()
  expect(t:delivered()[1].headers["x-bounce-check"]):is_nil()
  expect(send(t, "", notice "Subject: x\n\ny\n")):accepts()
  expect((pcall(t.policy, t, "bounce", { several = "drop" }))):equals(false)
end)
