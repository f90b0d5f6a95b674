-- badrcptto: refuses recipients by a list, from every client, relaying ones too.
--
-- An entry is user@example.net, user@ (at every domain), @example.net or
-- example.net (the whole domain), *.example.net (every domain below it), or /REGEXP/.
-- Behind an entry may stand a text for the reply.
--
-- Settings:
--   addresses  the list
--   file       a file with one entry a line; # begins a comment line
--   text       of replies where the entry has none
--
-- Example:
--   [[policy]]
--   use       = "badrcptto"
--   addresses = ["former@example.net", "@old.example"]

local addresses = require "addresses"

local badrcptto = policy {
  about    = "Refuses recipients by a list, from every client.",
  settings = {
    addresses = list(string) {} : about "user@example.net, user@, @example.net, *.example.net or /REGEXP/, and maybe a text",
    file      = file ""         : about "a file with one entry a line",
    text      = string "This recipient takes no mail" : about "of replies where the entry has none",
  },
}

local list = addresses.read(badrcptto, "addresses", "file")
if list.empty then log.warn("addresses: none is given, here or by file, so nothing is refused") end

function badrcptto.rcpt(tx, rcpt)
  local entry, text = list:find(rcpt)
  if entry then return reject("5.7.1", "%s", text or badrcptto.text) end
end

return badrcptto
