local function session(t, facts)
  facts = facts or {}
  facts.ip = "198.51.100.7"
  local s = t:connect(facts)
  s:helo("client.example.org")
  s:mail("a@example.org")
  return s
end

test("listed recipients are refused, the others are not", function(t)
  t:policy("badrcptto", { addresses = { "former@example.net", "@old.example", "*.gone.example" } })
  local s = session(t)
  expect(s:rcpt("Former@example.net")):rejects("5.7.1", "takes no mail")
  expect(s:rcpt("b@example.net")):accepts()
  expect(s:data("Subject: x\n\nhello\n")):accepts()
  assert(#t:delivered() == 1 and #t:delivered()[1].recipients == 1)
end)

test("relaying clients are judged too", function(t)
  t:policy("badrcptto", { addresses = { "@old.example", "*.gone.example" }, text = "Gone" })
  local s = session(t, { relaying = true })
  expect(s:rcpt("x@old.example")):rejects("5.7.1", "^Gone$")
  expect(s:rcpt("x@a.gone.example")):rejects("5.7.1")
  expect(s:rcpt("x@other.example")):accepts()
end)

test("an entry may be an expression, and have a text of its own", function(t)
  t:policy("badrcptto", { addresses = { "closed@example.net This mailbox is closed", "/^old-/" } })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  expect(s:rcpt "closed@example.net"):rejects("5.7.1", "^This mailbox is closed$")
  expect(s:rcpt "old-list@example.net"):rejects("5.7.1", "takes no mail")
  expect(s:rcpt "list@example.net"):accepts()
end)
