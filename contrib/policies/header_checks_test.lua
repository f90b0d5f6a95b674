local function send(t, fields)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  return s:data(fields .. "\n\nhello\n")
end

test("fields", function(t)
  t:policy("header_checks", { required = { "From", "Date" } })
  local date = "Date: " .. time.format(t:now())
  expect(send(t, "From: a@example.org\n" .. date)):accepts()
  expect(send(t, "from: a@example.org")):rejects("5.6.0", "field Date is missing")
  expect(send(t, date)):rejects("5.6.0", "field From is missing")
  expect(send(t, "From: a@example.org\nSubject: x\n" .. date .. "\nSUBJECT: y")):rejects("5.6.0", "more than one field Subject")
  expect(send(t, "From: a@example.org\nDate: soon")):rejects("5.6.0", "can't be read")
end)

test("dates", function(t)
  t:policy("header_checks", { past = "15d", future = "2d" })
  local function dated(days) return send(t, "From: a@example.org\nDate: " .. time.format(t:now() + days * 86400)) end
  expect(dated(-14)):accepts()
  expect(dated(1)):accepts()
  expect(dated(-16)):rejects("5.6.0", "older than 15d")
  expect(dated(3)):rejects("5.6.0", "more than 2d ahead")
end)
