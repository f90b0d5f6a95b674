local function world(t)
  t:dns {
    ["example.org"] = { txt = "v=spf1 ip4:198.51.100.7 -all" }, ["bigmail.example"] = { txt = "v=spf1 ip4:198.51.100.7 -all" },
    ["s1._domainkey.example.org"] = { txt = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" },
  }
  t:policy("spf", { fail = "pass" })
  t:policy "dkim"
  t:policy("known_senders", { common = { "bigmail.example" } })
  t:policy("greylist", { promote = 0 })
end

-- write is mail of our user Jane.
local function write(t, to)
  local s = t:connect { ip = "192.0.2.9", helo = "inside.example.net", user = "jane" }
  s:mail "jane@example.net"
  s:rcpt(to)
  expect(s:data "Subject: hello\n\n"):accepts()
end

local function answer(t, from, how, text)
  how = how or {}
  how.ip, how.helo = how.ip or "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail(from)
  local reply = s:rcpt "jane@example.net"
  if reply.code == 250 then reply = s:data(text or "Subject: answer\n\n") end
  return reply
end

test("who was written to may answer", function(t)
  world(t)
  expect(answer(t, "friend@example.org")):defers("4.7.1")
  write(t, "friend@mail.example.org")
  expect(answer(t, "other@example.org")):accepts()
  expect(t:delivered()[2].total):equals(-2)
  expect(t:delivered()[2].scores.known_senders):equals(-2)
  expect(answer(t, "x@example.org", { ip = "203.0.113.7" })):defers("4.7.1")
  expect(answer(t, "x@example.org", { ip = "203.0.113.7", host = "mx.example.org" })):accepts()
  expect(answer(t, "x@example.com", { host = "mx.example.org" })):defers("4.7.1")
  t:advance "91d"
  expect(answer(t, "fresh@example.org")):defers("4.7.1")
end)

test("a signature says so, too, if late", function(t)
  world(t)
  write(t, "a@example.org")
  t:policy("greylist", {}, { mode = "off" })
  local body = "From: A <a@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"
  local signature = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=s1; c=relaxed/relaxed; h=from:subject; bh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=;\r\n b=aPir8Qrh+drO14+KoIgjA4uxclxbpmV4MWkTfCaQz94y9I2W5BR7KYdaAv81atbFuI0Z8aKKsl+WWbj61wgiDA==\r\n"
  expect(answer(t, "bounces@example.org", { ip = "203.0.113.7" }, signature .. body)):accepts()
  expect(t:delivered()[2].scores.known_senders):equals(-2)
  expect(answer(t, "bounces@example.org", { ip = "203.0.113.7" }, body)):accepts()
  expect(t:delivered()[3].scores.known_senders):is_nil()
end)

test("at a provider only whole addresses are known", function(t)
  world(t)
  write(t, "friend@bigmail.example")
  expect(answer(t, "Friend@bigmail.example")):accepts()
  expect(answer(t, "stranger@bigmail.example")):defers("4.7.1")
  expect(answer(t, "")):defers("4.7.1")
end)

test("mail from outside is no sign, and a store that is down none either", function(t)
  world(t)
  t:policy("greylist", {}, { mode = "off" })
  expect(answer(t, "a@example.org")):accepts()
  expect(answer(t, "a@example.org")):accepts()
  expect(t:delivered()[2].total):equals(0)
  t:store "down"
  write(t, "a@example.org")
  expect(answer(t, "a@example.org")):accepts()
  expect((pcall(t.policy, t, "known_senders", { lifetime = "long" }))):equals(false)
end)

test("one who writes from where everybody does is known by the whole address", function(t)
  t:dns { ["gmail.com"] = { txt = "v=spf1 ip4:198.51.100.0/24 -all" } }
  t:policy "spf"
  t:policy "known_senders"
  local s = t:connect { ip = "192.0.2.9", helo = "inside.example.net", relaying = true }
  s:mail "joe@example.net"
  s:rcpt "friend@gmail.com"
  expect(s:data "Subject: x\n\n"):accepts()
  local function points(sender)
    local c = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
    c:mail(sender)
    c:rcpt "joe@example.net"
    expect(c:data "Subject: x\n\n"):accepts()
    local all = t:delivered()
    return all[#all].total
  end
  expect(points "friend@gmail.com"):equals(-2)
  expect(points "stranger@gmail.com"):equals(0)
end)
