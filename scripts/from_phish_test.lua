local function send(t, from, how)
  how = how or {}
  how.ip, how.helo = "198.51.100.7", "client.example.org"
  local s = t:connect(how)
  s:mail("a@example.org", { SMTPUTF8 = true })
  s:rcpt "b@example.net"
  return s:data("From: " .. from .. "\nSubject: hello\n\nworld\n")
end

test("who looks like a brand", function(t)
  t:policy("from_phish", { action = "reject" })
  for _, bad in ipairs {
    "PayPal <x@example.org>", "=?utf-8?q?P=D0=B0yp=D0=B0l?= Service <x@example.org>", "Pay-Pa1 <x@example.org>", "x <service@paypal-login.example>",
    "Micr0soft Support <x@example.org>", "Microsoft <x@rnicrosoft.example>", "x <paypal@example.org>", "Nétflix <x@example.org>",
  } do
    expect(send(t, bad)):rejects("5.7.1", "looks like")
  end
  for _, good in ipairs { "PayPal <service@mail.paypal.com>", "Jane <jane@example.org>", "Pay Day <x@example.org>", "nonsense", "Microsoft <x@email.microsoft.com>" } do
    expect(send(t, good)):accepts()
  end
  expect(send(t, "PayPal <x@example.org>", { relaying = true })):accepts()
end)

test("short words stand alone, and brands of one's own", function(t)
  t:policy("from_phish", { action = "defer", brands = { ["DHL"] = { "dhl.com", "dhl.de" } }, exempt = { "friend.example" } })
  expect(send(t, "DHL Express <x@example.org>")):defers("4.7.1", "looks like DHL")
  expect(send(t, "Sandhleer <x@example.org>")):accepts()
  expect(send(t, "DHL <x@friend.example>")):accepts()
  expect(send(t, "PayPal <x@example.org>")):accepts()
end)

test("people of ours, and points", function(t)
  t:policy("from_phish", { people = { "Jane Doe" }, points = 3 })
  expect(send(t, "Jane  D0e <ceo@example.org>")):accepts()
  expect(t:delivered()[1].total):equals(3)
  expect(send(t, "Jane Doe <jane@example.net>")):accepts()
  expect(send(t, "Jane Doeberg <x@example.org>")):accepts()
  expect(t:delivered()[2].total + t:delivered()[3].total):equals(0)
  expect((pcall(t.policy, t, "from_phish", { action = "tag" }))):equals(false)
end)

test("brands write from their domains in other countries", function(t)
  t:policy "from_phish"
  local s = t:connect { ip = "198.51.100.7", helo = "client.example.org" }
  for _, from in ipairs { '"PayPal" <service@paypal.fr>', '"Amazon.nl" <bestelling@amazon.nl>', '"Microsoft Teams" <no-reply@teams.mail.microsoft>' } do
    s:mail "a@example.org"
    s:rcpt "b@example.net"
    expect(s:data("From: " .. from .. "\nSubject: x\n\n")):accepts()
    local all = t:delivered()
    expect(all[#all].total):equals(0)
  end
end)
