local function mail(t, sender, facts)
  t:dns {
    ["good.example"]      = { mx = { "10 mx.good.example" } },
    ["mx.good.example"]   = { a = { "127.0.0.1", "198.51.100.9" } },
    ["six.example"]       = { aaaa = "2001:db8::1" },
    ["mx6.example"]       = { mx = { "10 gone.example", "20 six.example" } },
    ["none.example"]      = { mx = { "0 ." } },
    ["loop.example"]      = { mx = { "10 here.example", "20 gone.example" } },
    ["here.example"]      = { a = "127.0.0.1", aaaa = "::1" },
    ["slow.example"]      = { mx = "timeout" },
    ["fails.example"]     = { mx = "servfail" },
    ["half.example"]      = { mx = { "10 slow.half.example" } },
    ["slow.half.example"] = { a = "timeout" },
  }
  local how = facts or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  return s:mail(sender), s
end

test("domains that take mail", function(t)
  t:policy("mail_from_resolvable", { exempt = { "*.local.example" } })
  for _, good in ipairs { "a@good.example", "a@six.example", "a@mx6.example", "", "a@[192.0.2.1]", "a@x.local.example" } do
    expect((mail(t, good))):accepts()
  end
  expect((mail(t, "a@none.example", { relaying = true }))):accepts()
end)

test("domains that do not", function(t)
  t:policy "mail_from_resolvable"
  expect((mail(t, "a@none.example"))):rejects("5.7.27", "null MX")
  expect((mail(t, "a@nowhere.example"))):defers("4.1.8", "nothing that mail")
  expect((mail(t, "a@loop.example"))):defers("4.1.8", "can't be")
  expect((mail(t, "a@here.example"))):defers("4.1.8")
  t:policy("mail_from_resolvable", { none = "reject", bogus = "pass", null_mx = "score", points = 2 })
  expect((mail(t, "a@nowhere.example"))):rejects("5.1.8")
  expect((mail(t, "a@loop.example"))):accepts()
  local reply, s = mail(t, "a@none.example")
  expect(reply):accepts()
  s:rcpt "b@example.net"
  s:data "Subject: hello\n\n"
  expect(t:delivered()[1].total):equals(2)
end)

test("where the DNS fails nothing is for good", function(t)
  t:policy("mail_from_resolvable", { none = "reject", bogus = "reject" })
  for _, sender in ipairs { "a@slow.example", "a@fails.example", "a@half.example" } do expect((mail(t, sender))):defers("4.4.3") end
  t:policy("mail_from_resolvable", { temperror = "pass" })
  expect((mail(t, "a@slow.example"))):accepts()
  local trace = t:trace()
  expect(trace[#trace].results.mail_from_resolvable.verdict):equals "temperror"
end)

test("a setting that is wrong", function(t)
  expect((pcall(t.policy, t, "mail_from_resolvable", { temperror = "reject" }))):equals(false)
  expect((pcall(t.policy, t, "mail_from_resolvable", { invalid = { "nowhere" } }))):equals(false)
end)
