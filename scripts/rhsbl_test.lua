local function world(t, more)
  local names = more or {}
  names["bad.example.dbl.example"]   = { a = "127.0.1.2", txt = "sends spam" }
  names["bad.example.other.example"] = { a = "127.0.0.2" }
  names["bad.example.over.example"]  = { a = "127.255.255.254" }
  names["bad.example.slow.example"]  = { a = "timeout" }
  t:dns(names)
end

local function mail(t, sender, how)
  how = how or {}
  how.ip, how.helo = how.ip or "198.51.100.7", how.helo or "client.example.org"
  local s = t:connect(how)
  return s:mail(sender), s
end

local function send(t, fields)
  local _, s = mail(t, "a@good.example")
  s:rcpt "b@example.net"
  return s:data(fields .. "\nSubject: hello\n\nworld\n")
end

test("a listed domain is refused, one below it, too", function(t)
  world(t)
  t:policy("rhsbl", { zones = { "over.example", "dbl.example" } })
  expect((mail(t, "a@bad.example"))):rejects("5.7.1", "bad.example is listed by dbl.example: sends spam")
  expect((mail(t, "a@news.bad.example"))):rejects("5.7.1", "^bad.example is listed")
  for _, good in ipairs { "a@good.example", "", "a@[192.0.2.1]" } do expect((mail(t, good))):accepts() end
  expect((mail(t, "a@bad.example", { relaying = true }))):accepts()
  t:policy("rhsbl", { zones = { "dbl.example" }, exempt = { "bad.example" } })
  expect((mail(t, "a@bad.example"))):accepts()
  t:policy("rhsbl", { zones = { "other.example" }, action = "defer" })
  expect((mail(t, "a@bad.example"))):defers("4.7.1", "listed by other.example$")
end)

test("answers and their meanings", function(t)
  world(t)
  t:policy("rhsbl", { zones = { "other.example 127.0.0.2=phishing" } })
  expect((mail(t, "a@bad.example"))):rejects("5.7.1", "listed by other.example: phishing$")
  t:policy("rhsbl", { zones = { "other.example 127.0.0.4-9" } })
  expect((mail(t, "a@bad.example"))):accepts()
  t:policy("rhsbl", { zones = { "other.example &6=abused" }, text = "{domain} {meaning} {answer}" })
  expect((mail(t, "a@bad.example"))):rejects("5.7.1", "^bad.example abused 127.0.0.2$")
end)

test("or gets points", function(t)
  world(t)
  t:policy("rhsbl", { zones = { "dbl.example", "other.example", "over.example", "slow.example" }, action = "score", points = 1.5 })
  local reply, s = mail(t, "a@bad.example")
  expect(reply):accepts()
  s:rcpt "b@example.net"
  s:data "Subject: hello\n\n"
  expect(t:delivered()[1].total):equals(3)
end)

test("other names than the sender's", function(t)
  world(t)
  t:policy("rhsbl", { zones = { "dbl.example" }, subjects = { "helo", "name", "from", "reply_to", "message_id" } })
  expect((mail(t, "a@bad.example"))):accepts()
  expect((mail(t, "a@good.example", { helo = "mx.bad.example" }))):rejects("5.7.1")
  expect((mail(t, "a@good.example", { host = "mx.bad.example" }))):rejects("5.7.1")
  expect(send(t, "From: Jane <jane@good.example>")):accepts()
  expect(send(t, "From: Jane <jane@bad.example>")):rejects("5.7.1")
  expect(send(t, "From: a@good.example\nReply-To: x@good.example, y@bad.example")):rejects("5.7.1")
  expect(send(t, "From: a@good.example\nMessage-ID: <1@mail.bad.example>")):rejects("5.7.1")
  expect(send(t, "From: nobody")):accepts()
end)

test("lists that fail, and those that list everything", function(t)
  world(t)
  t:policy("rhsbl", { zones = { "slow.example", "over.example" } })
  expect((mail(t, "a@bad.example"))):accepts()
  world(t, { ["invalid.all.example"] = { a = "127.0.0.2" }, ["good.example.all.example"] = { a = "127.0.0.2" },
    ["invalid.gone.example"] = { a = "timeout" }, ["test.gone.example"] = { a = "servfail" } })
  t:policy("rhsbl", { zones = { "all.example", "gone.example", "dbl.example" } })
  expect((mail(t, "a@good.example"))):rejects("5.7.1")
  t:advance "31m"
  expect((mail(t, "a@good.example"))):accepts()
  expect((mail(t, "a@bad.example"))):rejects("5.7.1", "dbl.example")
  world(t, { ["good.example.all.example"] = { a = "127.0.0.2" } })
  t:advance "31m"
  expect((mail(t, "a@good.example"))):rejects("5.7.1")
end)

test("settings that are wrong", function(t)
  expect((pcall(t.policy, t, "rhsbl", { zones = { "x" }, subjects = { "body" } }))):equals(false)
  expect((pcall(t.policy, t, "rhsbl", { zones = { "x 127.0.0" } }))):equals(false)
end)
