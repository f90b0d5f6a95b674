-- badmailfromto: refuses senders to some recipients only; qpsmtpd's of that name.
--
--   [[policy]]
--   use     = "contrib/policies/badmailfromto.lua"
--   entries = ["spammer@example.org jane@example.net", "@bulk.example @example.net"]

local addresses = require "addresses"

local badmailfromto = policy {
  about    = "Refuses senders to some recipients.",
  settings = {
    entries = list(string) {} : about "sender and recipient, each in the forms of badmailfrom",
    file    = file ""         : about "a file with one entry a line",
  },
}

local rules = {}

local function add(lines)
  for _, line in ipairs(lines) do
    local from, to = line:match("^(%S+)%s+(%S+)$")
    if not from then error(("write SENDER RECIPIENT, not %q"):format(line), 0) end
    table.insert(rules, { from = addresses.new { from }, to = addresses.new { to } })
  end
end

add(badmailfromto.entries)
add(badmailfromto.file and badmailfromto.file.lines or {})

function badmailfromto.rcpt(tx, rcpt)
  if tx.sender.null then return end
  for _, rule in ipairs(rules) do
    if rule.from:find(tx.sender) and rule.to:find(rcpt) then
      return reject("5.7.1", "%s takes no mail from you", rcpt.address)
    end
  end
end

return badmailfromto
