local key = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
local body = "From: A <a@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"
local ours = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=s1; c=relaxed/relaxed; h=from:subject; bh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=;\r\n b=aPir8Qrh+drO14+KoIgjA4uxclxbpmV4MWkTfCaQz94y9I2W5BR7KYdaAv81atbFuI0Z8aKKsl+WWbj61wgiDA==\r\n"
local other = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.com; s=s2; c=relaxed/relaxed; h=from:subject; bh=zS7KNTV0HyeorkDDGwxB1AV6enuRKzO5rthkhdHIRnY=;\r\n b=gbmbpqPuDEAOHMHrUQx+kx9lxrmY0bgIQCvvQa4inpnZdA/p6WsvL+TMYU7LvfmAJ1BI+BUfSA7djDYqbXBYBg==\r\n"

local function send(t, text, zone, facts)
  zone = zone or { txt = { ["s1._domainkey.example.org"] = key, ["s2._domainkey.example.com"] = key } }
  t:dns(zone)
  facts = facts or {}
  facts.ip = "198.51.100.7"
  local s = t:connect(facts)
  s:helo("client.example.org")
  s:mail("bounce@lists.example")
  s:rcpt("b@example.net")
  return s:data(text)
end

local lame = { fail = { ["s1._domainkey.example.org"] = "servfail" } }

test("by default nothing is refused", function(t)
  t:policy("dkim")
  for _, text in ipairs { ours .. body, body, ours .. body .. "more\r\n", ours:gsub("s=s1", "s=s9") .. body, "DKIM-Signature: x\r\n" .. body } do
    expect(send(t, text)):accepts()
  end
  expect(send(t, ours .. body, lame)):accepts()
end)

test("each verdict has its own consequence", function(t)
  t:policy("dkim", { fail = "reject", none = "defer", permerror = "reject", neutral = "reject", temperror = "reject" })
  expect(send(t, ours .. body)):accepts()
  expect(send(t, ours .. body .. "more\r\n")):rejects("5.7.20", "DKIM fail: the body was changed")
  expect(send(t, body)):defers("4.7.20", "DKIM none: the message is not signed")
  expect(send(t, ours:gsub("s=s1", "s=s9") .. body)):rejects("5.7.20", "no key at s9._domainkey.example.org")
  expect(send(t, "DKIM-Signature: x\r\n" .. body)):rejects("5.7.20", "DKIM neutral")
  expect(send(t, ours .. body, lame)):defers("4.7.20", "can't be looked up now")
end)

test("a broken signature hides no other, and a testing domain's failure counts as none", function(t)
  t:policy("dkim", { fail = "reject", neutral = "reject" })
  expect(send(t, "DKIM-Signature: x\r\n" .. ours:gsub("hi", "ho") .. ours .. body)):accepts()
  expect(send(t, ours .. body .. "more\r\n", { txt = { ["s1._domainkey.example.org"] = key .. "; t=y" } })):accepts()
  expect(send(t, ours .. body .. "more\r\n", nil, { relaying = true })):accepts()
end)

test("must_sign wants a signature of the domain in From", function(t)
  t:policy("dkim", { must_sign = { "example.org" } })
  expect(send(t, ours .. body)):accepts()
  expect(send(t, other .. ours .. body)):accepts()
  expect(send(t, other .. body)):rejects("5.7.20", "example.org did not sign the message")
  expect(send(t, body)):rejects("5.7.20", "the message is not signed")
  expect(send(t, ours .. body, lame)):defers("4.7.20")
  expect(send(t, "From: x@example.com\r\n\r\nhello\r\n")):accepts()
end)

test("must_sign is not passed by however From is written", function(t)
  t:policy("dkim", { must_sign = { "example.org" } })
  for _, from in ipairs({
    "<x@example.org> (me)", "x@example.org, y@example.com", "X <x@example.org>, y <y@example.com>", "y@example.com, X <x@EXAMPLE.org>", "us: x@example.org;",
    "x@example.org, [y <y@example.com>", "y@example.com\r\nFrom: x@example.org", "y@example.com (x)\r\n ,\r\n x@example.org", "[X] <x@example.org>",
  }) do
    expect(send(t, "From: " .. from .. "\r\n\r\nhello\r\n")):rejects("5.7.20", "the message is not signed")
  end
  for _, from in ipairs({ '"x@example.org" <y@example.com>', "y@example.com (x@example.org)", "Doe, Joe <y@example.com>" }) do
    expect(send(t, "From: " .. from .. "\r\n\r\nhello\r\n")):accepts()
  end
end)

test("points, and what stands behind reads the result", function(t)
  t:policy("dkim", { points = { pass = -1, fail = 2 } })
  expect(send(t, ours .. body)):accepts()
  expect(send(t, ours .. body .. "more\r\n")):accepts()
  local edits = {}
  for _, run in ipairs(t:trace()) do
    for _, edit in ipairs(run.edits) do edits[#edits + 1] = edit end
  end
  local all = table.concat(edits, "\n")
  assert(all:find("score dkim.pass -1", 1, true) and all:find("score dkim.fail +2", 1, true), all)
  local it = t:trace()[#t:trace()].results.dkim
  expect(it.fail):equals(true)
  expect(it.signatures[1].selector):equals("s1")
end)
