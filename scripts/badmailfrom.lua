-- badmailfrom: refuses senders by a list, from every client.
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
--   use       = "badmailfrom"
--   addresses = ["spammer@example.com", "@bulk.example", "*.junk.example"]

local addresses = require "addresses"

local badmailfrom = policy {
  about    = "Refuses senders by a list.",
  settings = {
    addresses = list(string) {} : about "user@example.net, user@, @example.net, *.example.net",
    file      = file ""         : about "a file with one entry a line",
    text      = string "This sender is not welcome here" : about "of the reply",
  },
}

local list = addresses.new(badmailfrom.addresses, badmailfrom.file and badmailfrom.file.lines)

function badmailfrom.mail(tx)
  if tx.sender.null then return end
  local entry = list:find(tx.sender)
  if entry then
    tx:result("badmailfrom", { entry = entry })
    return reject("5.7.1", "%s", badmailfrom.text)
  end
end

return badmailfrom
