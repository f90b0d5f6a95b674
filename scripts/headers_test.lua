local function send(t, fields, how, params)
  how = how or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail("a@example.org", params)
  s:rcpt "b@example.net"
  return s:data(fields .. "\n\nhello\n")
end

local function dated(t, days) return "Date: " .. time.format(t:now() + (days or 0) * 86400) end

test("fields", function(t)
  t:policy("headers", { action = "reject" })
  local date = dated(t)
  expect(send(t, "From: a@example.org\n" .. date)):accepts()
  expect(send(t, "from: a@example.org")):rejects("5.6.0", "missing Date$")
  expect(send(t, "X-A: b")):rejects("5.6.0", "missing From, missing Date")
  expect(send(t, "From: a@example.org\nSubject: x\n" .. date .. "\nSUBJECT: y")):rejects("5.6.0", "several Subject")
  expect(send(t, "From: a@example.org\nDate: soon")):rejects("5.6.0", "date unreadable")
  expect(send(t, "From: nobody\n" .. date)):rejects("5.6.0", "no address in From")
  expect(send(t, "X-A: b", { relaying = true })):accepts()
end)

test("dates", function(t)
  t:policy("headers", { action = "defer" })
  local function at(days) return send(t, "From: a@example.org\n" .. dated(t, days)) end
  expect(at(-14)):accepts()
  expect(at(1)):accepts()
  expect(at(-16)):defers("4.6.0", "date past")
  expect(at(3)):defers("4.6.0", "date future")
  t:policy("headers", { action = "reject", past = "0s", future = "0s" })
  expect(at(-3000)):accepts()
  expect(at(3000)):accepts()
end)

test("raw characters, and what programs leave", function(t)
  t:policy("headers", { action = "reject" })
  local good = "From: a@example.org\n" .. dated(t)
  expect(send(t, good .. "\nSubject: Grüße")):rejects("5.6.0", "raw characters")
  expect(send(t, good .. "\nSubject: Grüße", nil, { SMTPUTF8 = true })):accepts()
  expect(send(t, good .. "\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=")):accepts()
  t:policy("headers", { action = "reject", raw = false, program = true, direct = true })
  expect(send(t, good .. "\nSubject: Grüße")):rejects("5.6.0", "no program, direct")
  expect(send(t, "Received: by x.example; " .. time.format(t:now()) .. "\n" .. good .. "\nX-Mailer: x")):accepts()
end)

test("points, by default", function(t)
  t:policy("headers", { points = 0.5 })
  expect(send(t, "Subject: x\nSubject: y")):accepts()
  expect(t:delivered()[1].total):equals(1.5)
  expect(t:delivered()[1].scores["headers.several_subject"]):equals(0.5)
  expect((pcall(t.policy, t, "headers", { past = "never" }))):equals(false)
end)
