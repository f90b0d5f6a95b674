test("the first that matches decides", function(t)
  t:policy("rcpt_regexp", { rules = {
    "^postmaster@ OK", "@example.net$ DENYSOFT", "^[0-9]+@ DENY no numbers here", "^none@ reject", "^void@ discard", "^trap@ DISCARD a trap",
  } })
  t:domains { "example.net", "example.com" }
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  expect(s:rcpt "Postmaster@example.net"):accepts()
  expect(s:rcpt "postmaster@elsewhere.example"):rejects("5.7.1")
  expect(s:rcpt "b@example.net"):defers("4.2.1", "later")
  expect(s:rcpt "4711@example.com"):rejects("5.1.1", "^no numbers here$")
  expect(s:rcpt "none@example.com"):rejects("5.1.1", "no mail for this address")
  expect(s:rcpt "trap@example.com"):accepts()
  expect(s:data "Subject: hello\n\n"):accepts()
  expect(t:delivered()[1].recipients):equals { "Postmaster@example.net" }
end)

test("a rule that is none is a mistake of the configuration", function(t)
  expect((pcall(t.policy, t, "rcpt_regexp", { rules = { "^x@ MAYBE" } }))):equals(false)
  expect((pcall(t.policy, t, "rcpt_regexp", { rules = { "( DENY" } }))):equals(false)
end)
