test("the last straw", function(t)
  t:policy("count_unrecognized_commands", { most = 3 })
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  expect(s:command "GIMME mail"):rejects(500)
  expect(s:command "NOOP"):accepts()
  expect(s:command "GIMME more"):rejects(500)
  expect(s.closed):equals(false)
  expect(s:command "GIMME all"):disconnects("5.5.1", "unrecognised")
end)
