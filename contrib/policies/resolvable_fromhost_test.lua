local function mail(t, sender, facts)
  t:dns {
    ["good.example"]     = { mx = { "10 mx.good.example" } },
    ["mx.good.example"]  = { a = { "127.0.0.1", "198.51.100.9" } },
    ["six.example"]      = { aaaa = "2001:db8::1" },
    ["none.example"]     = { mx = { "0 ." } },
    ["loop.example"]     = { mx = { "10 here.example", "20 gone.example" } },
    ["here.example"]     = { a = "127.0.0.1" },
    ["slow.example"]     = { mx = "timeout" },
    ["half.example"]     = { mx = { "10 slow.half.example" } },
    ["slow.half.example"] = { a = "timeout" },
  }
  local how = facts or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  return t:connect(how):mail(sender)
end

test("domains that take mail", function(t)
  t:policy "resolvable_fromhost"
  for _, good in ipairs { "a@good.example", "a@six.example", "", "a@[192.0.2.1]" } do expect(mail(t, good)):accepts() end
  expect(mail(t, "a@none.example", { relaying = true })):accepts()
end)

test("domains that do not", function(t)
  t:policy "resolvable_fromhost"
  for _, bad in ipairs { "a@none.example", "a@loop.example", "a@nowhere.example" } do
    expect(mail(t, bad)):defers("4.1.8", bad:sub(3) .. " takes no bounces")
  end
  t:policy("resolvable_fromhost", { permanent = true })
  for _, bad in ipairs { "a@none.example", "a@loop.example", "a@nowhere.example" } do expect(mail(t, bad)):rejects("5.1.8") end
end)

test("where the DNS fails nothing is for good", function(t)
  t:policy("resolvable_fromhost", { permanent = true })
  expect(mail(t, "a@slow.example")):defers("4.1.8")
  expect(mail(t, "a@half.example")):defers("4.1.8")
end)
