test("it only watches", function(t)
  t:policy("connection_time", { least = "1m" })
  expect(t:connect { ip = "198.51.100.7", helo = "client.example.org" }:quit()):accepts()
  t:policy "connection_time"
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  t:advance "90s"
  s:quit()
  local r = t:trace()
  expect(r[#r].stage):equals "disconnect"
  expect(r[#r].error):is_nil()
end)
