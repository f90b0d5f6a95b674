local key = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
local body = "From: A <a@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"
local ours = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=s1; c=relaxed/relaxed; h=from:subject; bh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=;\r\n b=aPir8Qrh+drO14+KoIgjA4uxclxbpmV4MWkTfCaQz94y9I2W5BR7KYdaAv81atbFuI0Z8aKKsl+WWbj61wgiDA==\r\n"
local other = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.com; s=s2; c=relaxed/relaxed; h=from:subject; bh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=;\r\n b=gbmbpqPuDEAOHMHrUQx+kx9lxrmY0bgIQCvvQa4inpnZdA/p6WsvL+TMYU7LvfmAJ1BI+BUfSA7djDYqbXBYBg==\r\n"

local function send(t, text, more, facts, sender)
  local zone = {
    txt = {
      ["s1._domainkey.example.org"] = key, ["s2._domainkey.example.com"] = key,
      ["_dmarc.example.org"] = "v=DMARC1; p=reject; sp=quarantine", ["_dmarc.soft.example"] = "v=DMARC1; p=none",
      ["mail.example.org"] = "v=spf1 ip4:198.51.100.7 -all",
    },
    fail = { ["_dmarc.lame.example"] = "servfail" },
  }
  for name, record in pairs(more or {}) do zone.txt[name] = record end
  t:dns(zone)
  facts = facts or {}
  facts.ip, facts.helo = facts.ip or "198.51.100.7", "client.example.net"
  local s = t:connect(facts)
  s:mail(sender or "bounce@lists.example")
  s:rcpt("b@example.net")
  return s:data(text)
end

local function from(value) return "From: " .. value .. "\r\nSubject: hi\r\n\r\nhello\r\n" end

local function last(t, name)
  local trace = t:trace()
  for i = #trace, 1, -1 do
    if trace[i].results and trace[i].results[name] then return trace[i].results[name] end
  end
end

test("the domain's signature, or SPF of its organization, passes", function(t)
  t:policy("dmarc")
  expect(send(t, ours .. body)):accepts()
  expect(send(t, body, nil, nil, "x@mail.example.org")):accepts()
  expect(last(t, "dmarc").verdict):equals("pass")
end)

test("what fails is treated as the domain asks", function(t)
  t:policy("dmarc")
  expect(send(t, body)):rejects("5.7.26", "The policy of example.org refuses mail in the name of example.org")
  expect(send(t, other .. body)):rejects("5.7.26")
  expect(send(t, from "A <a@news.example.org>")):accepts()
  expect(t:quarantined()[1].reason):contains("news.example.org asks for quarantine")
  expect(send(t, from "a@soft.example")):accepts()
  expect(send(t, from "a@nothing.example")):accepts()
end)

test("less than the domain asks", function(t)
  t:policy("dmarc", { enforce = "monitor", points = { fail = 3 } })
  expect(send(t, body)):accepts()
  expect(last(t, "dmarc").disposition):equals("reject")
  t:policy("dmarc", { enforce = "quarantine" })
  expect(send(t, body)):accepts()
end)

test("a trusted list's signature and a trusted client spare", function(t)
  t:policy("dmarc", { trust_signers = { "example.com" }, trust = { "203.0.113.0/24" } })
  expect(send(t, other .. body)):accepts()
  expect(last(t, "dmarc").override):equals("example.com")
  expect(send(t, body, nil, { ip = "203.0.113.9" })):accepts()
  expect(send(t, body)):rejects()
  expect(send(t, body, nil, { ip = "10.0.0.1" })):accepts()
  expect(send(t, body, nil, { relaying = true })):accepts()
end)

local chain = "ARC-Seal: i=1; a=ed25519-sha256; t=1700000000; cv=none; d=lists.example;\r\n\ts=s; b=\r\n\toau/CDRf+YfZjGMAk+zbxLq2AhD5ZeTrhDPQOAZb/mPpdv1lksn1VlthOSJxzZjJh0S9ZBcxwgr\r\n\teK6KIq28GCQ==\r\nARC-Message-Signature: i=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n\td=lists.example; s=s; t=1700000000; h=from:subject;\r\n\tbh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=; b=\r\n\t2hsU3ICerK16cbXUJyc4k1KXxDKQHRY10EH1OIkw5Pr94QPk30uONvKX1q8UZqVEiZhsnmGv9/2\r\n\txy8PRcoh1BQ==\r\nARC-Authentication-Results: i=1; lists.example;\r\n\tdmarc=pass header.from=example.org\r\n"

test("a trusted sealer's word spares, if the chain holds and it is about this From", function(t)
  local keys = { ["s._domainkey.lists.example"] = key }
  t:policy("dmarc", { trust_sealers = { "lists.example" } })
  expect(send(t, chain .. body, keys)):accepts()
  expect(last(t, "dmarc").override):equals("lists.example")
  expect(send(t, chain .. body .. "more\r\n", keys)):rejects("5.7.26")
  expect(send(t, chain:gsub("header.from=example.org", "header.from=example.or") .. body, keys)):rejects("5.7.26")
  expect(send(t, chain .. body)):rejects("5.7.26")
  t:policy("dmarc", { trust_sealers = { "other.example" } })
  expect(send(t, chain .. body, keys)):rejects("5.7.26")
end)

-- A quote in a comment is none of a value, and a value that a sender chose tells nothing.
local forged = "ARC-Seal: i=1; a=ed25519-sha256; t=1700000000; cv=none; d=lists.example;\r\n\ts=s; b=\r\n\tQEULRTYHVMRkeiFyeWREpzn51LP3pby4oRPXQCtVAtD0Q5QOaSP36HWfoi73JPmrDIHNZ243YbD\r\n\t/REBr6StZDg==\r\nARC-Message-Signature: i=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n\td=lists.example; s=s; t=1700000000; h=from:subject;\r\n\tbh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=; b=\r\n\t2hsU3ICerK16cbXUJyc4k1KXxDKQHRY10EH1OIkw5Pr94QPk30uONvKX1q8UZqVEiZhsnmGv9/2\r\n\txy8PRcoh1BQ==\r\nARC-Authentication-Results: i=1; lists.example;\r\n\tspf=fail (helo \"x)\r\n\t smtp.mailfrom=\"y; dmarc=pass header.from=example.org z\"\r\n"

test("what a sender wrote into a trusted sealer's results spares nothing", function(t)
  t:policy("dmarc", { trust_sealers = { "lists.example" } })
  expect(send(t, forged .. body, { ["s._domainkey.lists.example"] = key })):rejects("5.7.26")
end)

test("a From that can't be judged", function(t)
  t:policy("dmarc")
  expect(send(t, "Subject: hi\r\n\r\nhello\r\n")):rejects("5.7.1", "there is no From field")
  expect(send(t, "From: a@soft.example\r\n" .. from "a@example.org")):rejects("5.7.1", "2 From fields")
  expect(send(t, from "nobody")):rejects("5.7.1", "From can't be judged")
  t:policy("dmarc", { permerror = "defer" })
  expect(send(t, from "Undisclosed:;")):defers("4.7.1")
  t:policy("dmarc", { permerror = "pass" })
  expect(send(t, from "nobody")):accepts()
end)

test("what can't be told now", function(t)
  t:policy("dmarc", { temperror = "defer" })
  expect(send(t, from "a@lame.example")):defers("4.7.24", "lame.example")
  t:policy("dmarc")
  expect(send(t, from "a@lame.example")):accepts()
end)

test("the ways of RFC 7489", function(t)
  t:policy("dmarc", { organization = "suffix-list" })
  expect(send(t, from "a@shop.example.co.uk", { ["_dmarc.example.co.uk"] = "v=DMARC1; p=reject" })):rejects("5.7.26", "example.co.uk")
  expect(send(t, from "a@example.co.uk", { ["_dmarc.co.uk"] = "v=DMARC1; p=reject" })):accepts()
end)
