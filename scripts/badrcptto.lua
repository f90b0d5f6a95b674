-- badrcptto: refuses recipients by a list, from every client, relaying ones too.
--
-- An entry is user@example.net, user@ (at every domain), @example.net or
-- example.net (the whole domain), or *.example.net (every domain below it).
--
-- Settings:
--   addresses  the list
--   file       a file with one entry a line; # begins a comment line
--   text       of the reply
--
-- Example:
--   [[policy]]
--   use       = "badrcptto"
--   addresses = ["former@example.net", "@old.example"]

local addresses = require "addresses"

local badrcptto = policy {
  about    = "Refuses recipients by a list, from every client.",
  settings = {
    addresses = list(string) {} : about "user@example.net, user@, @example.net, *.example.net",
    file      = file ""         : about "a file with one entry a line",
    text      = string "This recipient takes no mail" : about "of the reply",
  },
}

local list = addresses.new(badrcptto.addresses, badrcptto.file and badrcptto.file.lines)

function badrcptto.rcpt(tx, rcpt)
  if list:find(rcpt) then return reject("5.7.1", "%s", badrcptto.text) end
end

return badrcptto
