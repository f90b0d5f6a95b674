test("a good word", function(t)
  t:policy "quit_fortune"
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  expect(s:command "NOOP"):accepts()
  expect(s:quit()):disconnects("2.0.0", "^Fare well$")
end)
