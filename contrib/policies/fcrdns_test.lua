local function mail(t, ip)
  t:dns {
    ["198.51.100.7"] = { ptr = "good.example" }, ["good.example"] = { a = "198.51.100.7" },
    ["198.51.100.8"] = { ptr = "liar.example" }, ["liar.example"] = { a = "192.0.2.1" },
    ["198.51.100.9"] = { ptr = "timeout" },
  }
  local s = t:connect { ip = ip, helo = "client.example.org" }
  return s:mail "a@example.org", s
end

test("refused are those who have no name of their own", function(t)
  t:policy("fcrdns", { reject = true })
  expect((mail(t, "198.51.100.7"))):accepts()
  expect((mail(t, "198.51.100.8"))):rejects("5.7.25", "198.51.100.8")
  expect((mail(t, "198.51.100.9"))):accepts()
  expect((mail(t, "198.51.100.10"))):rejects("5.7.25")
  expect((mail(t, "10.0.0.1"))):accepts()
end)

test("or they get points", function(t)
  t:policy("fcrdns", { points = 1.5 })
  local _, s = mail(t, "198.51.100.8")
  s:rcpt "b@example.net"
  s:data "Subject: hello\n\n"
  expect(t:delivered()[1].total):equals(1.5)
end)
