local function zone(t)
  t:dns {
    txt = {
      ["example.org"]      = "v=spf1 ip4:198.51.100.7 -all exp=why.example.org",
      ["why.example.org"]  = "%{i} is not ours",
      ["soft.example"]     = "v=spf1 ~all",
      ["wrong.example"]    = "v=spf1 ipv4:198.51.100.7",
      ["neutral.example"]  = "v=spf1",
      ["mx.example.com"]   = "v=spf1 -all",
    },
    fail = { ["lame.example"] = "servfail", ["slow.example"] = "timeout" },
  }
end

local function mail(t, sender, facts)
  zone(t)
  facts = facts or {}
  facts.ip, facts.helo = facts.ip or "198.51.100.9", facts.helo or "client.example.net"
  return t:connect(facts):mail(sender)
end

test("a fail is refused with the domain's words, the rest passes", function(t)
  t:policy("spf")
  expect(mail(t, "a@example.org")):rejects("5.7.23", "SPF fail: 198.51.100.9 may not send in the name of example.org; example.org says: 198.51.100.9 is not ours")
  expect(mail(t, "a@example.org", { ip = "198.51.100.7" })):accepts()
  for _, domain in ipairs { "soft.example", "wrong.example", "neutral.example", "nothing.example", "lame.example", "slow.example" } do
    expect(mail(t, "a@" .. domain)):accepts()
  end
  expect(mail(t, "")):accepts()
  expect(mail(t, "", { helo = "mx.example.com" })):rejects("5.7.23", "in the name of mx.example.com$")
end)

test("each verdict has its own consequence", function(t)
  t:policy("spf", { softfail = "defer", permerror = "reject", temperror = "reject", neutral = "reject", none = "defer" })
  expect(mail(t, "a@soft.example")):defers("4.7.23", "softfail")
  expect(mail(t, "a@wrong.example")):rejects("5.7.24", "permerror")
  expect(mail(t, "a@lame.example")):defers("4.7.24", "temperror")
  expect(mail(t, "a@slow.example")):defers("4.7.24", "temperror")
  expect(mail(t, "a@neutral.example")):rejects("5.7.23", "neutral")
  expect(mail(t, "a@nothing.example")):defers("4.7.23", "none")
end)

test("the HELO name may count too", function(t)
  t:policy("spf", { helo_name = true })
  expect(mail(t, "a@soft.example", { helo = "mx.example.com" })):rejects("5.7.23", "mx.example.com")
  expect(mail(t, "a@soft.example")):accepts()
end)

test("points, and the result for policies behind", function(t)
  t:policy("spf", { points = { softfail = 2 } })
  expect(mail(t, "a@soft.example")):accepts()
  local trace = t:trace()
  local run = trace[#trace]
  expect(run.results.spf.verdict):equals("softfail")
  expect(run.results.spf.pass):equals(false)
  expect(run.results.spf.domain):equals("soft.example")
  assert(table.concat(run.edits, "\n"):find("score spf.softfail +2", 1, true), table.concat(run.edits, "\n"))
end)

test("clients that are not judged", function(t)
  t:policy("spf", { trust = { "203.0.113.0/24" } })
  for _, facts in ipairs { { ip = "10.1.2.3" }, { ip = "127.0.0.1" }, { ip = "203.0.113.5" }, { relaying = true }, { user = "jane" } } do
    expect(mail(t, "a@example.org", facts)):accepts()
  end
end)

local function deliver(t, settings, content)
  zone(t)
  t:policy("spf", settings)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail("a@example.org")
  s:rcpt("b@example.net")
  expect(s:data(content)):accepts()
  local all = t:delivered()
  return all[#all]
end

test("the field is written, and one that claims to be ours goes", function(t)
  local other, forged = "Received-SPF: pass receiver=mx.example.org\r\n", "Received-SPF: pass receiver=mx.example.net\r\n"
  local got = deliver(t, {}, "Subject: hi\r\n\r\nhello\r\n")
  expect(got.headers["received-spf"]):contains("pass (mx.example.net: domain of a@example.org designates 198.51.100.7 as permitted sender)")
  got = deliver(t, { header = false }, forged .. "Subject: hi\r\n\r\nhello\r\n")
  expect(got.headers["received-spf"]):equals(nil)
  got = deliver(t, { header = false }, forged .. other .. forged .. "Subject: hi\r\n\r\nhello\r\n")
  expect(got.headers["received-spf"]):equals("pass receiver=mx.example.org")
end)

test("three askers, one answer", function(t)
  t:policy("spf")
  t:policy("spf", { fail = "pass" }, { name = "again" })
  expect(mail(t, "a@example.org")):rejects("5.7.23")
end)
