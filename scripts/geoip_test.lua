local function world(t)
  t:geoip {
    ["198.51.100.0/24"] = { country = "XX", continent = { code = "EU" }, city = { names = { en = "Town" } }, location = { latitude = 48.85, longitude = 2.35 } },
    ["2001:db8::/32"] = { country = "YY" },
    ["203.0.113.0/24"] = { asn = 64496 },
  }
end

local function mail(t, ip, how)
  how = how or {}
  how.ip, how.helo = ip, "client.example.org"
  local s = t:connect(how)
  return s:mail "a@example.org", s
end

local function send(t, ip)
  local _, s = mail(t, ip)
  s:rcpt "b@example.net"
  s:data "Subject: x\nX-GeoIP: ZZ\n\n"
  local all = t:delivered()
  return all[#all]
end

test("countries that are refused, and those that are not", function(t)
  world(t)
  t:policy("geoip", { reject = { "xx" }, exempt = { "198.51.100.9" } })
  expect((mail(t, "198.51.100.7"))):rejects("5.7.1", "(XX)")
  for _, ip in ipairs { "198.51.100.9", "2001:db8::1", "203.0.113.7", "192.0.2.7", "10.0.0.1" } do expect((mail(t, ip))):accepts() end
  expect((mail(t, "198.51.100.7", { relaying = true }))):accepts()
  t:policy("geoip", { only = { "XX" } })
  expect((mail(t, "198.51.100.7"))):accepts()
  expect((mail(t, "2001:db8::1"))):rejects("5.7.1")
  expect(send(t, "198.51.100.7").headers["x-geoip"]):equals "ZZ"
  expect((mail(t, "203.0.113.7"))):accepts()
end)

test("points, distance, and a field", function(t)
  world(t)
  t:policy("geoip", { points = { XX = 1.5 }, home = "52.52, 13.40", too_far = 500, header = true })
  local m = send(t, "198.51.100.7")
  expect(m.total):equals(2.5)
  expect(m.headers["x-geoip"]):equals "XX"
  local it
  for _, run in ipairs(t:trace()) do it = run.results and run.results.geoip or it end
  expect(it):equals { country = "XX", continent = "EU", city = "Town", distance = 878 }
  m = send(t, "203.0.113.7")
  expect(m.total):equals(0)
  expect(m.headers["x-geoip"]):is_nil()
end)

test("databases that fail, and settings that are wrong", function(t)
  t:geoip "down"
  t:policy("geoip", { only = { "XX" } })
  expect((mail(t, "198.51.100.7"))):accepts()
  expect((pcall(t.policy, t, "geoip", { home = "Berlin" }))):equals(false)
end)

test("countries are two letters, small or large", function(t)
  t:geoip { ["198.51.100.0/24"] = { country = "DE", asn = 64496, name = "Example" } }
  t:policy("geoip", { points = { de = 2 } })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  expect(s:data "Subject: x\n\n"):accepts()
  expect(t:delivered()[1].total):equals(2)
  local ok, err = pcall(t.policy, t, "geoip", { points = { Germany = 1 }, reject = { "XYZ" } })
  expect(ok):equals(false)
  expect(err):contains('points: "Germany" is no country')
  expect(err):contains('reject: item 1: "XYZ" is no country')
end)
