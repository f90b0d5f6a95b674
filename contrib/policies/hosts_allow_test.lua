local function greeting(t, ip) return t:connect { ip = ip }.greeting end

test("the first line that matches", function(t)
  t:policy("hosts_allow", { rules = { "192.0.2.1 OK", "192.0.2.0/24 DENY no spam please", "198.51.100.0/24 DENYSOFT", "2001:db8::/32 DENY" } })
  expect(greeting(t, "192.0.2.1")):accepts()
  expect(greeting(t, "192.0.2.2")):rejects("5.7.1", "^no spam please$")
  expect(greeting(t, "198.51.100.7")):defers("4.7.1", "come back later")
  expect(greeting(t, "2001:db8::7")):rejects("5.7.1", "not welcome")
  expect(greeting(t, "203.0.113.7")):accepts()
end)

test("a line that is none is a mistake of the configuration", function(t)
  expect((pcall(t.policy, t, "hosts_allow", { rules = { "192.0.2.1 PERHAPS" } }))):equals(false)
  expect((pcall(t.policy, t, "hosts_allow", { rules = { "nowhere DENY" } }))):equals(false)
end)
