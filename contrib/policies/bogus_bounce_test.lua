local function send(t, sender, recipients, fields)
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  s:mail(sender)
  for _, r in ipairs(recipients) do s:rcpt(r) end
  return s:data((fields or "") .. "Subject: hello\n\nworld\n")
end

test("a bounce goes to one", function(t)
  t:policy("bogus_bounce", { action = "reject" })
  expect(send(t, "", { "a@example.net" })):accepts()
  expect(send(t, "", { "a@example.net", "b@example.net" })):rejects("5.7.1", "it has 2 recipients")
  expect(send(t, "c@example.org", { "a@example.net", "b@example.net" }, "Return-Path: <x@y.example>\n")):accepts()
  t:policy("bogus_bounce", { action = "defer" })
  expect(send(t, "", { "a@example.net" }, "Return-Path: <x@y.example>\n")):defers("4.7.1", "Return-Path")
end)

test("by default it is only noted", function(t)
  t:policy "bogus_bounce"
  expect(send(t, "", { "a@example.net", "b@example.net" })):accepts()
  local why
  for _, r in ipairs(t:trace()) do why = why or r.results and r.results.bogus_bounce and r.results.bogus_bounce.why end
  expect(why):equals("it has 2 recipients")
end)
