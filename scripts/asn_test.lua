local function mail(t, ip, how)
  how = how or {}
  how.ip, how.helo = ip, "client.example.org"
  local s = t:connect(how)
  return s:mail "a@example.org", s
end

local function send(t, ip)
  local _, s = mail(t, ip)
  s:rcpt "b@example.net"
  s:data "Subject: x\nX-ASN: 1\n\n"
  local all = t:delivered()
  return all[#all]
end

test("by database", function(t)
  t:geoip { ["198.51.100.0/24"] = { asn = 64496, name = "Example" }, ["2001:db8::/32"] = { asn = 64497 } }
  t:policy("asn", { reject = { 64497 }, points = { ["64496"] = 1 }, header = true })
  local m = send(t, "198.51.100.7")
  expect(m.total):equals(1)
  expect(m.headers["x-asn"]):equals "64496 Example"
  expect((mail(t, "2001:db8::1"))):rejects("5.7.1", "(AS64497)")
  expect((mail(t, "2001:db8::1", { relaying = true }))):accepts()
  expect(send(t, "203.0.113.7").headers["x-asn"]):is_nil()
  expect((mail(t, "10.0.0.1"))):accepts()
end)

test("by DNS", function(t)
  t:geoip "down"
  t:dns {
    ["7.100.51.198.slow.example"] = { txt = "timeout" }, ["7.100.51.198.dead.example"] = { txt = "servfail" },
    ["7.100.51.198.asn.example"] = { txt = "64496 | 198.51.100.0/24 | XX" },
    ["1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.asn6.example"] = { txt = "64497 64498 | 2001:db8::/32" },
    ["8.0.0.0.7.0.0.0.6.0.0.0.5.0.0.0.4.0.0.0.3.0.0.0.8.b.d.0.1.0.0.2.asn6.example"] = { txt = "64497" },
  }
  t:policy("asn", { zones = { "slow.example", "dead.example", "asn.example" }, zones6 = { "asn6.example" }, reject = { 64496, 64497 }, header = true })
  expect((mail(t, "198.51.100.7"))):rejects("5.7.1", "AS64496")
  expect((mail(t, "2001:db8::1"))):rejects("5.7.1", "AS64497")
  expect((mail(t, "2001:db8:3:4:5:6:7:8"))):rejects("5.7.1")
  expect((mail(t, "198.51.100.8"))):accepts()
  t:policy("asn", { zones = { "asn.example" }, header = true })
  expect(send(t, "198.51.100.7").headers["x-asn"]):equals "64496"
  t:policy "asn"
  expect(send(t, "198.51.100.7").headers["x-asn"]):equals "1"
  expect((pcall(t.policy, t, "asn", { reject = { "AS1" } }))):equals(false)
end)
