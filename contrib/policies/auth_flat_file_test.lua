test("who is in the file", function(t)
  t:policy("auth_flat_file", { file = "testdata/flat_auth_pw" })
  local function login(user, password)
    local s = t:connect { ip = "198.51.100.7", tls = true, helo = "client.example.org" }
    return s:auth(user, password), s
  end
  local reply, s = login("Jane@example.net", "correct horse: battery")
  expect(reply):accepts("2.7.0")
  s:mail "jane@example.net"
  expect(s:rcpt "b@elsewhere.example"):accepts()
  expect((login("jane@example.net", "wrong"))):rejects("5.7.8")
  expect((login("joe@example.net", "correct horse: battery"))):rejects("5.7.8")
end)
