local function session(t, user, password)
  local s = t:connect { ip = "198.51.100.7", tls = true, helo = "client.example.org" }
  expect(s:auth(user, password)):accepts()
  return s
end

local function send(s, body)
  s:mail "jane@example.net"
  s:rcpt "x@elsewhere.example"
  return s:data("Subject: verify\n\n" .. body .. "\n")
end

test("name and password together", function(t)
  t:users { ["jane@example.net"] = "s3cret-Pass", joe = "short", ann = "two words" }
  t:policy "prevent_credential_leaks"
  local s = session(t, "jane@example.net", "s3cret-Pass")
  expect(send(s, "user jane, password s3cret-Pass")):rejects("5.7.1", "your password")
  expect(send(s, "Jane@example.net (\"s3cret-Pass\").")):rejects("5.7.1")
  expect(send(s, "jane password:s3cret-Pass")):rejects("5.7.1")
  expect(send(s, "s3cret-Pass without a name")):accepts()
  expect(send(s, "jane without it, s3cret-Past")):accepts()
  s = session(t, "ann", "two words")
  expect(send(s, "I am ann, it is two  words, see")):rejects("5.7.1")
  s = session(t, "joe", "short")
  expect(send(s, "joe short")):accepts()
end)

test("nothing is known of others", function(t)
  t:policy "prevent_credential_leaks"
  local other = t:connect { ip = "198.51.100.7", helo = "client.example.org", relaying = true }
  expect(send(other, "jane s3cret-Pass")):accepts()
  expect((pcall(t.policy, t, "prevent_credential_leaks", { shortest = "some" }))):equals(false)
end)
