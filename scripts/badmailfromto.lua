-- badmailfromto: refuses senders to some recipients only.
--
-- An entry is a sender and a recipient, each in the forms of badmailfrom: an address,
-- user@, @example.net, *.example.net. The null sender is left alone. The result
-- `badmailfromto` has `entry`.
--
-- Settings:
--   entries  the pairs, separated by a blank
--   file     a file with one pair a line; # begins a comment line
--   text     of the reply; {recipient} is filled in
--
-- Example:
--   [[policy]]
--   use     = "badmailfromto"
--   entries = ["spammer@example.org jane@example.net", "@bulk.example @example.net"]

local addresses = require "addresses"

local badmailfromto = policy {
  about    = "Refuses senders to some recipients.",
  settings = {
    entries = list(string) {} : about "sender and recipient, each in the forms of badmailfrom",
    file    = file ""         : about "a file with one pair a line",
    text    = string "{recipient} takes no mail from you" : about "of the reply; {recipient} is filled in",
  },
}

local rules = {}

local function add(lines)
  for _, line in ipairs(lines) do
    local from, to = line:match("^(%S+)%s+(%S+)$")
    if not from then error(("write SENDER RECIPIENT, not %q"):format(line), 0) end
    table.insert(rules, { line = line, from = addresses.new { from }, to = addresses.new { to } })
  end
end

add(badmailfromto.entries)
add(badmailfromto.file and badmailfromto.file.lines or {})

function badmailfromto.rcpt(tx, rcpt)
  if tx.sender.null then return end
  for _, rule in ipairs(rules) do
    if rule.from:find(tx.sender) and rule.to:find(rcpt) then
      tx:result("badmailfromto", { entry = rule.line })
      return reject("5.7.1", "%s", (badmailfromto.text:gsub("{recipient}", { ["{recipient}"] = rcpt.address })))
    end
  end
end

return badmailfromto
