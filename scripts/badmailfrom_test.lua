local function mail(t, sender, facts)
  facts = facts or {}
  facts.ip = "198.51.100.7"
  local s = t:connect(facts)
  s:helo("client.example.org")
  return s:mail(sender)
end

test("entries of every form", function(t)
  t:policy("badmailfrom", { addresses = { "User@Example.org", "@bulk.example", "junk.example", "*.below.example", "robot@" } })
  for _, bad in ipairs { "user@example.org", "USER@EXAMPLE.ORG", "any@bulk.example", "x@junk.example", "x@a.below.example", "x@a.b.below.example", "robot@anywhere.example" } do
    expect(mail(t, bad)):rejects("5.7.1", "not welcome")
  end
  for _, good in ipairs { "other@example.org", "user@sub.example.org", "x@sub.bulk.example", "x@below.example", "x@notbelow.example", "robots@anywhere.example", "" } do
    expect(mail(t, good)):accepts()
  end
end)

test("relaying clients are not spared, and the text can be chosen", function(t)
  t:policy("badmailfrom", { addresses = { "@bulk.example" }, text = "100% no" })
  expect(mail(t, "x@bulk.example", { relaying = true })):rejects("5.7.1", "^100%% no$")
end)

test("an empty list refuses nobody", function(t)
  t:policy("badmailfrom")
  expect(mail(t, "x@bulk.example")):accepts()
end)

test("which entry it was is a result", function(t)
  t:policy("badmailfrom", { addresses = { "@bulk.example" } })
  expect(mail(t, "x@bulk.example")):rejects()
  expect(t:trace()[1].results.badmailfrom.entry):equals("@bulk.example")
end)

test("a file that is not there is told", function(t)
  local ok, err = pcall(t.policy, t, "badmailfrom", { file = "nowhere.txt" })
  expect(ok):equals(false)
  expect(err):contains("nowhere.txt")
end)
