local function world(t)
  t:dns {
    ["bad.example.multi.example"]      = { a = "127.0.0.8", txt = "steals passwords" },
    ["www.host.example.multi.example"] = { a = "127.0.0.64" },
    ["7.100.51.198.ips.example"]       = { a = "127.0.0.2" },
    ["1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ips.example"] = { a = "127.0.0.2" },
    ["bad.example.slow.example"]       = { a = "timeout" }, ["bad.example.dead.example"] = { a = "servfail" },
  }
end

local function send(t, body, type, facts)
  facts = facts or {}
  facts.ip, facts.helo = "192.0.2.9", "client.example.org"
  local s = t:connect(facts)
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  return s:data("MIME-Version: 1.0\nContent-Type: " .. (type or "text/plain") .. "\n\n" .. body .. "\n")
end

test("a link to a listed domain", function(t)
  world(t)
  t:policy("uribl", { zones = { "multi.example &8=phishing &64=abused" } })
  expect(send(t, "see http://www.bad.example/login now")):rejects("5.7.1", "leads to bad.example, which multi.example lists: steals passwords")
  expect(send(t, "<a href='http&#58;//www.b%61d.example/'>click</a>", "text/html")):rejects("5.7.1")
  expect(send(t, "http://good.example/?to=http%3A%2F%2Fbad.example%2F")):rejects("5.7.1")
  expect(send(t, "http://good.example/ and a@bad.example")):accepts()
  expect(send(t, "http://www.host.example/")):accepts()
  expect(send(t, "nothing")):accepts()
  expect(send(t, "http://bad.example/", nil, { relaying = true })):accepts()
  t:policy("uribl", { zones = { "multi.example &8=phishing &64=abused" }, whole = true, text = "{meaning}" })
  expect(send(t, "http://www.host.example/")):rejects("5.7.1", "^abused$")
  t:policy("uribl", { zones = { "multi.example" }, exempt = { "bad.example" } })
  expect(send(t, "http://www.bad.example/")):accepts()
end)

test("addresses, in their odd forms, too", function(t)
  world(t)
  t:policy("uribl", { ip_zones = { "ips.example" }, action = "defer" })
  for _, host in ipairs { "198.51.100.7", "0xC6336407", "[2001:db8::1]" } do
    expect(send(t, "http://" .. host .. "/x")):defers("4.7.1", "ips.example")
  end
  expect(send(t, "http://198.51.100.8/ http://10.0.0.1/")):accepts()
end)

test("only lists of the one kind, and no probing", function(t)
  world(t)
  t:policy("uribl", { ip_zones = { "ips.example" }, probe = false })
  expect(send(t, "http://bad.example/ http://198.51.100.7/")):rejects("5.7.1", "ips.example")
  t:advance "31m"
  expect(send(t, "http://198.51.100.7/")):rejects("5.7.1", "ips.example")
end)

test("points, a field, and how many are asked about", function(t)
  world(t)
  t:policy("uribl", { zones = { "multi.example" }, action = "score", points = 2, header = true, most = 2 })
  expect(send(t, "http://one.example/ http://bad.example/")):accepts()
  expect(t:delivered()[1].total):equals(2)
  expect(t:delivered()[1].headers["x-uribl"]):equals "bad.example multi.example 127.0.0.8"
  expect(send(t, "http://one.example/ http://two.example/ http://bad.example/")):accepts()
  expect(t:delivered()[2].total):equals(0)
end)

test("lists that fail hold nothing up", function(t)
  world(t)
  t:policy("uribl", { zones = { "slow.example", "dead.example" } })
  expect(send(t, "http://bad.example/")):accepts()
  t:advance "31m"
  expect(send(t, "http://bad.example/")):accepts()
end)

test("settings that are wrong", function(t)
  expect((pcall(t.policy, t, "uribl", { zones = { "multi.example &x" } }))):equals(false)
  expect((pcall(t.policy, t, "uribl", { zones = { "multi.example" }, action = "add-header" }))):equals(false)
end)
