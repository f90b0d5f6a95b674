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

test("an entry may be an expression, and have a text of its own", function(t)
  t:policy("badmailfrom", { addresses = { "user@example.org   No more of yours", "/^casino[0-9]+@/", "/@(win|prize)[.]/ We don't gamble", "@below.example" } })
  expect(mail(t, "User@example.org")):rejects("5.7.1", "^No more of yours$")
  expect(mail(t, "Casino7@example.org")):rejects("5.7.1", "not welcome")
  expect(mail(t, "you@win.example")):rejects("5.7.1", "^We don't gamble$")
  expect(mail(t, "x@below.example")):rejects("5.7.1", "not welcome")
  expect(mail(t, "casino@example.org")):accepts()
  expect(mail(t, "you@winner.example")):accepts()
end)

test("what is no entry is told, all at once, with its line", function(t)
  local ok, err = pcall(t.policy, t, "badmailfrom", { file = "testdata/bad_addresses.txt" })
  expect(ok):equals(false)
  expect(err):contains('bad_addresses.txt:4: "a@b@c" is no address; write user@example.net')
  expect(err):contains("bad_addresses.txt:6: error parsing regexp")
  ok, err = pcall(t.policy, t, "badmailfrom", { addresses = { "x@y", "", "@", "a..b", "-x.example" } })
  expect(ok):equals(false)
  for _, n in ipairs { 2, 3, 4, 5 } do expect(err):contains(("addresses: item %d: "):format(n)) end
  expect(err:find("item 1", 1, true)):is_nil()
end)

test("a file may stand in the place of the list", function(t)
  t:policy("badmailfrom", { addresses = "@testdata/some_addresses.txt" })
  expect(mail(t, "x@a.junk.example")):rejects()
  expect(mail(t, "x@junk.example")):accepts()
end)
