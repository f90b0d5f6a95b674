local function rcpt(t, sender, recipient)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail(sender)
  return s:rcpt(recipient)
end

test("only pairs are refused", function(t)
  t:policy("badmailfromto", { entries = { "Spammer@example.org jane@example.net", "@bulk.example\t@example.net" } })
  expect(rcpt(t, "spammer@example.org", "jane@example.net")):rejects("5.7.1", "jane@example.net takes no mail from you")
  expect(rcpt(t, "x@bulk.example", "any@example.net")):rejects("5.7.1")
  expect(rcpt(t, "spammer@example.org", "joe@example.net")):accepts()
  expect(rcpt(t, "other@example.org", "jane@example.net")):accepts()
  expect(rcpt(t, "", "jane@example.net")):accepts()
end)

test("a text of one's own", function(t)
  t:policy("badmailfromto", { entries = { "@bulk.example b@" }, text = "Not to {recipient}, 100%" })
  expect(rcpt(t, "x@bulk.example", "b@example.net")):rejects("5.7.1", "^Not to b@example.net, 100%%$")
  expect(t:trace()[1].results.badmailfromto.entry):equals "@bulk.example b@"
end)

test("an entry that is no pair is a mistake of the configuration", function(t)
  local ok, err = pcall(t.policy, t, "badmailfromto", { entries = { "spammer@example.org" } })
  expect(ok):equals(false)
  expect(tostring(err)):contains('write SENDER RECIPIENT, not "spammer@example.org"')
end)
