local files = {
  plain = "UEsDBBQAAAAIAAAAIQCGphA2BwAAAAUAAAAFAAAAYS50eHTLSM3JyQcAUEsBAhQDFAAAAAgAAAAhAIamEDYHAAAABQAAAAUAAAAAAAAAAAAAAIABAAAAAGEudHh0UEsFBgAAAAABAAEAMwAAACoAAAAAAA==",
  exe = "UEsDBBQAAAAIAAAAIQBdm7CPBAAAAAIAAAAOAAAAZG9jcy9TZXR1cC5FWEXzjQIAUEsBAhQDFAAAAAgAAAAhAF2bsI8EAAAAAgAAAA4AAAAAAAAAAAAAAIABAAAAAGRvY3MvU2V0dXAuRVhFUEsFBgAAAAABAAEAPAAAADAAAAAAAA==",
  nested = "UEsDBBQAAAAIAAAAIQDCxZzFSQAAAIIAAAAJAAAAaW5uZXIuZGF0C/BmZhFhYGDgAGJFhtjZG/pZgCwmIOYD4pT85GL94NSS0gI91wjXz71MDAHejEwizLh1wEADIwOG/gBvVjaQKCMQ2gBpA7BKAFBLAQIUAxQAAAAIAAAAIQDCxZzFSQAAAIIAAAAJAAAAAAAAAAAAAACAAQAAAABpbm5lci5kYXRQSwUGAAAAAAEAAQA3AAAAcAAAAAAA",
  secret = "UEsDBBQAAAAIAAAAIQCGphA2BwAAAAUAAAAFAAAAYS50eHTLSM3JyQcAUEsBAhQDFAABAAgAAAAhAIamEDYHAAAABQAAAAUAAAAAAAAAAAAAAIABAAAAAGEudHh0UEsFBgAAAAABAAEAMwAAACoAAAAAAA==",
  macros = "UEsDBBQAAAAIAAAAIQCDFtyMAwAAAAEAAAATAAAAd29yZC92YmFQcm9qZWN0LmJpbqsAAFBLAQIUAxQAAAAIAAAAIQCDFtyMAwAAAAEAAAATAAAAAAAAAAAAAACAAQAAAAB3b3JkL3ZiYVByb2plY3QuYmluUEsFBgAAAAABAAEAQQAAADQAAAAAAA==",
  tgz = "H4sIAAAAAAACA+3NMQ7CMBAEwHtKXhCMYsh7aCko4ljy8zmoED1IiJlmV9vsOGz9Nl9bfFBJ51qfmd4zHV/6Y1+XeoqpxBf0tl+2vIz/NAIAAAAAAAAAAIBfdAfeVZH6ACgAAA==",
  two = "UEsDBBQAAAAIAAAAIQAAAAAAAgAAAAAAAAAFAAAAMS50eHQDAFBLAwQUAAAACAAAACEAAAAAAAIAAAAAAAAABQAAADIudHh0AwBQSwECFAMUAAAACAAAACEAAAAAAAIAAAAAAAAABQAAAAAAAAAAAAAAgAEAAAAAMS50eHRQSwECFAMUAAAACAAAACEAAAAAAAIAAAAAAAAABQAAAAAAAAAAAAAAgAElAAAAMi50eHRQSwUGAAAAAAIAAgBmAAAASgAAAAAA",
}

local function send(t, name, encoded, type, facts)
  facts = facts or {}
  facts.ip, facts.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(facts)
  s:mail "a@example.org"
  s:rcpt "b@example.net"
  return s:data("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\nhello\n--x\nContent-Type: " ..
    (type or "application/octet-stream") .. "\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"" .. name .. "\"\n\n" .. encoded .. "\n--x--\n")
end

test("names", function(t)
  t:policy("attachment", { names = { "^invoice.*\\.html?$" }, types = { "^application/x-ms" } })
  expect(send(t, "report.pdf", "JVBERi0x")):accepts()
  for _, name in ipairs { "setup.exe", "Photo.JPG.SCR", "x.js", "x.exe. .", "Invoice 12.HTM" } do
    expect(send(t, name, "TVo=")):rejects("5.7.1", "We take no files such as ")
  end
  expect(send(t, "page.html", "PGI+", "text/html")):accepts()
  expect(send(t, "x", "TVo=", "application/x-msdownload")):rejects("5.7.1", "such as x$")
  expect(send(t, "setup.exe", "TVo=", nil, { relaying = true })):rejects("5.7.1")
  t:policy("attachment", { extensions = { ".Foo" }, text = "No {name}" })
  expect(send(t, "a.foo", "TVo=")):rejects("5.7.1", "^No a.foo$")
  expect(send(t, "a.exe", "TVo=")):accepts()
end)

test("what is in archives", function(t)
  t:policy "attachment"
  expect(send(t, "a.zip", files.plain)):accepts()
  expect(send(t, "a.zip", files.exe)):rejects("5.7.1", "such as Setup.EXE$")
  expect(send(t, "harmless.dat", files.nested)):rejects("5.7.1", "Setup.EXE")
  expect(send(t, "a.tgz", files.tgz)):rejects("5.7.1", "run.js")
  expect(send(t, "a.zip", files.secret)):accepts()
  expect(send(t, "a.rar", "UmFyIRoHAQA=")):accepts()
  t:policy("attachment", { archives = false })
  expect(send(t, "a.zip", files.exe)):accepts()
end)

test("what is in RAR and 7z archives", function(t)
  local rar = "UmFyIRoHAM+QcwAADQAAAAAAAAB4YHQAgjAAAgAAAAIAAAACXZuwjwAAAAAUMBAAIAAAAEdyX19lLmV4ZQAAwwD83wNNWum9dACAKwAKAAAACgAAAAIi5UWZAAAAABQwCwAgAAAAYVxzZXR1cC5leGVNWiBwcm9ncmFtik10BIAnABAAAAAQAAAAAgTCHs0AAAAAFDAHACAAAABlbmMuZXhlTVogcHJvZ3JhbTAwMDAwMHa5dOCAIQAAAAAAAAAAAAIAAAAAAAAAABQwAQAgAAAAYQSwewAABwA="
  local sevenzip = "N3q8ryccAARC0WffAwAAAAAAAABKAAAAAAAAAMqC5Y9NWgoBBAYAAQkDAAcLAQABAQAMAwAICgFBm4InAAAFAREVAHMAZQB0AHUAcAAuAGUAeABlAAAAFAoBALnYLGgef90BFQYBACCApIEAAA=="
  t:policy "attachment"
  expect(send(t, "a.rar", rar)):rejects("5.7.1", "such as Gr.+e.exe$")
  expect(send(t, "a.dat", sevenzip)):rejects("5.7.1", "such as setup.exe$")
  t:policy("attachment", { extensions = {}, encrypted = "reject" })
  expect(send(t, "a.rar", rar)):rejects("5.7.1", "a.rar has a password")
  expect(send(t, "a.7z", sevenzip)):accepts()
end)

test("what can't be looked into", function(t)
  t:policy("attachment", { encrypted = "reject", unreadable = "defer", macros = "reject" })
  expect(send(t, "a.zip", files.secret)):rejects("5.7.1", "a.zip has a password")
  expect(send(t, "a.rar", "UmFyIRoHAQA=")):defers("4.7.1", "can't be looked into")
  expect(send(t, "a.zip", files.plain:sub(1, 100))):defers("4.7.1")
  expect(send(t, "a.docm", files.macros)):rejects("5.7.1", "a.docm has macros")
  t:policy("attachment", { unreadable = "reject", entries = 1 })
  expect(send(t, "a.zip", files.two)):rejects("5.7.1")
  t:policy("attachment", { unreadable = "reject", depth = 1 })
  expect(send(t, "a.zip", files.nested)):rejects("5.7.1")
  t:policy("attachment", { encrypted = "score", points = 2 })
  expect(send(t, "a.zip", files.secret)):accepts()
  expect(t:delivered()[1].total):equals(2)
end)

test("forwarded mail, and what is noted", function(t)
  t:policy "attachment"
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  local function forward(inner)
    s:mail "a@example.org"
    s:rcpt "b@example.net"
    return s:data("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822; name=\"Order at shop.com\"\n\n" .. inner .. "\n--x--\n")
  end
  expect(forward "Subject: x\n\nhello\n"):accepts()
  expect(forward "Subject: x\nContent-Type: application/x; name=x.exe\n\nMZ\n"):rejects("5.7.1")
  expect(send(t, "a.zip", files.plain)):accepts()
  local it
  for _, run in ipairs(t:trace()) do it = run.results and run.results.attachment or it end
  expect(it.names):equals { "a.zip" }
  expect(it.archives):equals(1)
  expect(#it.hashes[1]):equals(64)
end)

test("settings that are wrong", function(t)
  expect((pcall(t.policy, t, "attachment", { names = { "(" } }))):equals(false)
  expect((pcall(t.policy, t, "attachment", { encrypted = "drop" }))):equals(false)
end)
