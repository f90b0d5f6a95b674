test("NOOPs in a row", function(t)
  t:policy "noop_counter"
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  expect(s:command "NOOP"):accepts()
  expect(s:command "NOOP"):accepts()
  expect(s:mail "a@example.org"):accepts()
  expect(s:command "NOOP"):accepts()
  expect(s:command "NOOP"):accepts()
  expect(s:command "HELP"):accepts()
  expect(s:command "NOOP"):accepts()
  expect(s:command "NOOP"):accepts()
  expect(s:command "NOOP"):disconnects(521, "wasting")
end)
