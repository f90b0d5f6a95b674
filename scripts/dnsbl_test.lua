local listed, clean = "198.51.100.7", "198.51.100.8"

local function mail(t, ip, facts)
  facts = facts or {}
  facts.ip = ip
  t:dns {
    a    = { ["7.100.51.198.bl.example.org"] = "127.0.0.2", ["7.100.51.198.other.example"] = { "127.0.0.4", "127.0.0.10" } },
    txt  = { ["7.100.51.198.bl.example.org"] = "seen sending spam" },
    fail = { ["7.100.51.198.dead.example"] = "servfail" },
  }
  local s = t:connect(facts)
  s:helo("client.example.org")
  return s:mail("a@example.org")
end

test("a listed client is refused with the list's reason", function(t)
  t:policy("dnsbl", { zones = { "bl.example.org" } })
  expect(mail(t, listed)):rejects("5.7.1", "198.51.100.7 is listed by bl.example.org: seen sending spam")
  expect(mail(t, clean)):accepts()
end)

test("a list without a reason, and a text of one's own", function(t)
  t:policy("dnsbl", { zones = { "other.example" } })
  expect(mail(t, listed)):rejects("5.7.1", "is listed by other.example$")
  t:policy("dnsbl", { zones = { "other.example" }, text = "See https://{zone}/{ip} 100%" })
  expect(mail(t, listed)):rejects("5.7.1", "https://other.example/198.51.100.7 100%%")
end)

test("only some answers count", function(t)
  t:policy("dnsbl", { zones = { "other.example" }, answers = { "127.0.0.10" } })
  expect(mail(t, listed)):rejects()
  t:policy("dnsbl", { zones = { "other.example" }, answers = { "127.0.0.99" } })
  expect(mail(t, listed)):accepts()
end)

test("defer and score", function(t)
  t:policy("dnsbl", { zones = { "bl.example.org" }, action = "defer" })
  expect(mail(t, listed)):defers("4.7.1", "listed")
  t:policy("dnsbl", { zones = { "bl.example.org", "other.example" }, action = "score", points = 2.5 })
  expect(mail(t, listed)):accepts()
  local edits = {}
  for _, run in ipairs(t:trace()) do
    if run.stage == "mail" then edits = run.edits end
  end
  assert(table.concat(edits, "\n"):find("score dnsbl.bl.example.org +2.5", 1, true), table.concat(edits, "\n"))
end)

test("a dead list, relaying and private clients pass", function(t)
  t:policy("dnsbl", { zones = { "dead.example" } })
  expect(mail(t, listed)):accepts()
  t:policy("dnsbl", { zones = { "bl.example.org" } })
  expect(mail(t, listed, { relaying = true })):accepts()
  expect(mail(t, "10.0.0.1")):accepts()
end)

test("lists that time out, and results for later policies", function(t)
  t:policy("dnsbl", { zones = { "dead.example", "slow.example" } })
  t:dns { fail = { ["7.100.51.198.dead.example"] = "servfail", ["7.100.51.198.slow.example"] = "timeout" } }
  local s = t:connect { ip = listed, helo = "client.example.org" }
  expect(s:mail("a@example.org")):accepts()
  t:policy("dnsbl", { zones = { "bl.example.org" } })
  expect(mail(t, clean)):accepts()
  local trace = t:trace()
  expect(trace[#trace].results.dnsbl.listed):equals(0)
end)

test("an action that is none is told", function(t)
  local ok, err = pcall(t.policy, t, "dnsbl", { zones = { "bl.example.org" }, action = "drop" })
  expect(ok):equals(false)
  expect(err):contains("action")
end)

test("answers and their meanings, and weights", function(t)
  t:policy("dnsbl", { zones = { "other.example 127.0.0.4-9=infected &32=x" }, text = "{meaning}: {text}" })
  expect(mail(t, listed)):rejects("5.7.1", "^infected: infected$")
  t:policy("dnsbl", { zones = { "other.example 127.0.0.2-3" } })
  expect(mail(t, listed)):accepts()
  t:policy("dnsbl", { zones = { "bl.example.org", "other.example &2" }, action = "score", weights = { ["bl.example.org"] = 1 } })
  expect(mail(t, listed)):accepts()
  local edits = ""
  for _, run in ipairs(t:trace()) do edits = edits .. table.concat(run.edits or {}, "\n") end
  expect(edits):contains "score dnsbl.bl.example.org +1"
  expect(edits):contains "score dnsbl.other.example +4"
end)

test("a list about bounces alone", function(t)
  t:policy("dnsbl", { zones = { "bl.example.org" }, bounces = true })
  expect(mail(t, listed)):accepts()
  local s = t:connect { ip = listed, helo = "client.example.org" }
  expect(s:mail ""):rejects("5.7.1")
end)

test("a list that lists everybody is left out, until it is well", function(t)
  local all = { ["7.100.51.198.all.example"] = { a = "127.0.0.2" }, ["1.0.0.127.all.example"] = { a = "127.0.0.2" } }
  local function try()
    local s = t:connect { ip = listed, helo = "client.example.org" }
    return s:mail "a@example.org"
  end
  t:dns(all)
  t:policy("dnsbl", { zones = { "all.example" } })
  expect(try()):rejects()
  t:advance "31m"
  expect(try()):accepts()
  all["1.0.0.127.all.example"] = nil
  t:dns(all)
  t:advance "31m"
  expect(try()):rejects()
  t:policy("dnsbl", { zones = { "all.example" }, probe = false })
  t:advance "31m"
  expect(try()):rejects()
end)

test("a connection rule that sets RBLSMTPD has decided", function(t)
  t:dns { ["7.100.51.198.bl.example.org"] = { a = "127.0.0.2" } }
  t:policy("dnsbl", { zones = { "bl.example.org" } })
  local function try(env)
    local s = t:connect { ip = listed, helo = "client.example.org", env = env }
    return s:mail "a@example.org"
  end
  expect(try(nil)):rejects()
  expect(try { RBLSMTPD = "" }):accepts()
  expect(try { RBLSMTPD = "Come back later" }):accepts()
end)

test("what is no list, or no answer, is told, all at once", function(t)
  local ok, err = pcall(t.policy, t, "dnsbl", { zones = { "bl.example.org", "zen", "https://bl.example", "a..b", "bl.example 127.0.0.x", "bl.example 127.0.0.9-2", "bl.example 127.0.0", "" } })
  expect(ok):equals(false)
  for _, n in ipairs { 2, 3, 4, 5, 6, 7, 8 } do expect(err):contains(("zones: item %d: "):format(n)) end
  expect(err:find("item 1:", 1, true)):is_nil()
end)

test("the answers by which lists refuse to serve are no listings, unless they are named", function(t)
  t:dns { ["7.100.51.198.bl.example"] = { a = "127.0.0.1" }, ["7.100.51.198.wl.example"] = { a = "127.0.0.255" } }
  local function mail(zones)
    t:policy("dnsbl", { zones = zones })
    local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
    return s:mail "a@example.org"
  end
  expect(mail { "bl.example", "wl.example" }):accepts()
  expect(mail { "bl.example 127.0.0.1=white" }):rejects()
end)

test("the reply may name all lists", function(t)
  t:dns { ["7.100.51.198.bl.example"] = { a = { "127.0.0.2", "127.0.0.3" } }, ["7.100.51.198.other.example"] = { a = "127.0.0.2" } }
  t:policy("dnsbl", { zones = { "bl.example", "none.example", "other.example" }, text = "{ip} is listed by {zones}" })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  expect(s:mail "a@example.org"):rejects("5.7.1", "is listed by bl.example, other.example$")
end)
