-- badmailfrom: refuses senders by a list, from every client.
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
--   use       = "badmailfrom"
--   addresses = ["spammer@example.com", "@bulk.example", "*.junk.example"]

local addresses = require "addresses"

local badmailfrom = policy {
  about    = "Refuses senders by a list.",
  settings = {
    addresses = list(string) {} : about "user@example.net, user@, @example.net, *.example.net or /REGEXP/, and maybe a text",
    file      = file ""         : about "a file with one entry a line",
    text      = string "This sender is not welcome here" : about "of replies where the entry has none",
  },
}

local list = addresses.read(badmailfrom, "addresses", "file")
if list.empty then log.warn("addresses: none is given, here or by file, so nothing is refused") end

function badmailfrom.mail(tx)
  if tx.sender.null then return end
  local entry, text = list:find(tx.sender)
  if entry then
    tx:result("badmailfrom", { entry = entry })
    return reject("5.7.1", "%s", text or badmailfrom.text)
  end
end

return badmailfrom
