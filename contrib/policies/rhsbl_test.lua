local function mail(t, sender)
  t:dns {
    ["bad.example.dbl.example"]   = { a = "127.0.1.2", txt = "sends spam" },
    ["bad.example.other.example"] = { a = "127.0.0.2" },
    ["bad.example.over.example"]  = { a = "127.255.255.254" },
  }
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  return s:mail(sender), s
end

test("a listed domain is refused", function(t)
  t:policy("rhsbl", { zones = { "over.example", "dbl.example" } })
  expect((mail(t, "a@bad.example"))):rejects("5.7.1", "bad.example is listed by dbl.example: sends spam")
  expect((mail(t, "a@good.example"))):accepts()
  expect((mail(t, ""))):accepts()
  t:policy("rhsbl", { zones = { "other.example" } })
  expect((mail(t, "a@bad.example"))):rejects("5.7.1", "no reason given")
end)

test("or gets points", function(t)
  t:policy("rhsbl", { zones = { "dbl.example", "other.example", "over.example" }, points = 1.5 })
  local reply, s = mail(t, "a@bad.example")
  expect(reply):accepts()
  s:rcpt "b@example.net"
  s:data "Subject: hello\n\n"
  expect(t:delivered()[1].total):equals(3)
end)
