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
local faults = require "faults"

local badmailfromto = policy {
  about    = "Refuses senders to some recipients.",
  settings = {
    entries = list(string) {} : about "sender and recipient, each in the forms of badmailfrom",
    file    = file ""         : about "a file with one pair a line",
    text    = string "{recipient} takes no mail from you" : about "of the reply; {recipient} is filled in",
  },
}

local rules, wrong = {}, faults.new()

local lines, place = faults.items(badmailfromto, "entries", "file")
for i, line in ipairs(lines) do
  local words = {}
  for word in line:gmatch("%S+") do table.insert(words, word) end
  local rule = { line = line, from = addresses.new(), to = addresses.new() }
  local ok, err = #words == 2, ("write SENDER RECIPIENT, not %q"):format(line)
  if ok then ok, err = rule.from:add(words[1]) end
  if ok then ok, err = rule.to:add(words[2]) end
  if ok then table.insert(rules, rule) else wrong:at(place, i, "%s", err) end
end
wrong:raise()
if #lines == 0 then log.warn("entries: none is given, here or by file, so nothing is refused") end

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
