local gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

local function send(t, text, facts)
  facts = facts or {}
  facts.ip = "198.51.100.7"
  local s = t:connect(facts)
  s:helo("client.example.org")
  s:mail("a@example.org")
  s:rcpt("b@example.net")
  return s:data(text)
end

test("GTUBE is refused wherever it stands", function(t)
  t:policy("content_signatures")
  expect(send(t, "Subject: test\n\n" .. gtube .. "\n")):rejects("5.7.1", "GTUBE")
  expect(send(t, "Subject: " .. gtube .. "\n\nhello\n")):rejects("5.7.1", "GTUBE")
  expect(send(t, "Subject: test\n\n" .. ("x"):rep(200000) .. gtube .. "\n", { relaying = true })):rejects("5.7.1")
  assert(#t:delivered() == 0)
end)

test("only byte for byte", function(t)
  t:policy("content_signatures")
  expect(send(t, "Subject: test\n\n" .. gtube:lower() .. "\n")):accepts()
  expect(send(t, "Subject: test\n\n" .. gtube:sub(1, 40) .. "\n" .. gtube:sub(41) .. "\n")):accepts()
  expect(send(t, "Subject: test\n\nWEpTKkM0SkRCUUFETjEu\n")):accepts()
  assert(#t:delivered() == 3)
end)

test("signatures of one's own", function(t)
  t:policy("content_signatures", { gtube = false, signatures = { "http://malware.example/", "" }, text = "No" })
  expect(send(t, "Subject: test\n\nsee http://malware.example/x\n")):rejects("5.7.1", "^No$")
  expect(send(t, "Subject: test\n\n" .. gtube .. "\n")):accepts()
end)
