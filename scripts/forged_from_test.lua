local function session(t, sender, how)
  how = how or {}
  how.ip, how.helo = how.ip or "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  return s, s:mail(sender)
end

local function send(t, sender, from, more, how)
  local s = session(t, sender, how)
  s:rcpt "b@example.net"
  return s:data("From: " .. from .. "\n" .. (more or "") .. "Subject: hello\n\nworld\n")
end

test("points, by default", function(t)
  t:policy "forged_from"
  expect(send(t, "a@example.net", "A <a@example.net>")):accepts()
  expect(t:delivered()[1].total):equals(6)
  expect(send(t, "a@example.org", "A <a@example.org>")):accepts()
  expect(t:delivered()[2].total):equals(0)
  expect(send(t, "a@example.org", '"service@bank.example" <a@example.org>')):accepts()
  expect(t:delivered()[3].total):equals(3)
  expect(send(t, "a@example.org", '"a@mail.example.org" <a@example.org>')):accepts()
  expect(t:delivered()[4].total):equals(0)
end)

test("our names are ours", function(t)
  t:policy("forged_from", { sender = "reject", from = "reject", domains = { "old.example" }, trust = { "192.0.2.0/24" } })
  local _, reply = session(t, "a@example.net")
  expect(reply):rejects("5.7.1", "example.net is ours: log in")
  _, reply = session(t, "a@old.example")
  expect(reply):rejects("5.7.1")
  expect(send(t, "x@example.org", "a@example.net")):rejects("5.7.1", "From names example.net")
  expect(send(t, "a@example.net", "a@example.net", nil, { relaying = true })):accepts()
  expect(send(t, "a@example.net", "a@example.net", nil, { ip = "192.0.2.1" })):accepts()
  expect(send(t, "", "a@example.org")):accepts()
end)

test("lists, SPF and DKIM may", function(t)
  t:dns { ["example.net"] = { txt = "v=spf1 ip4:198.51.100.7 -all" } }
  t:policy("spf", { fail = "pass" })
  t:policy("forged_from", { from = "reject", sender = "pass" })
  expect(send(t, "list-bounces@lists.example", "a@example.net", "List-Id: <x.lists.example>\n")):accepts()
  expect(send(t, "x@lists.example", "a@example.net")):rejects("5.7.1")
  expect(send(t, "a@example.net", "a@example.net")):accepts()
  expect(send(t, "a@example.net", "a@example.net", nil, { ip = "198.51.100.8" })):rejects("5.7.1")
end)

test("a signature of ours may, too", function(t)
  t:domains { "example.org" }
  t:dns { ["s1._domainkey.example.org"] = { txt = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" } }
  t:policy "dkim"
  t:policy("forged_from", { from = "reject" })
  local body = "From: A <a@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"
  local signature = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=s1; c=relaxed/relaxed; h=from:subject; bh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=;\r\n b=aPir8Qrh+drO14+KoIgjA4uxclxbpmV4MWkTfCaQz94y9I2W5BR7KYdaAv81atbFuI0Z8aKKsl+WWbj61wgiDA==\r\n"
  local function data(text)
    local s = session(t, "bounce@lists.example")
    s:rcpt "b@example.org"
    return s:data(text)
  end
  expect(data(signature .. body)):accepts()
  expect(data(body)):rejects("5.7.1")
end)

test("another organization", function(t)
  t:policy("forged_from", { mismatch = "defer", names = "reject" })
  expect(send(t, "a@mail.example.org", "a@example.org")):accepts()
  expect(send(t, "a@example.org", "a@bank.example")):defers("4.7.1", "bank.example")
  expect(send(t, "a@example.org", "a@bank.example", "List-Post: <mailto:x@example.org>\n")):accepts()
  expect(send(t, "a@example.org", "pay@bank.example <a@example.org>")):rejects("5.7.1", "name in From")
  expect(send(t, "a@example.org", "nonsense")):accepts()
  expect((pcall(t.policy, t, "forged_from", { trust = { "here" } }))):equals(false)
end)
