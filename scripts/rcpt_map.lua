-- rcpt_map: a table of recipients, and what each is answered.
--
-- A line is ADDRESS ACTION and maybe a text: the address in the forms of badmailfrom,
-- the action accept, reject, defer or discard (OK, DENY, DENYSOFT and DISCARD mean the
-- same). The nearest form wins: the address, user@, the domain, what is above it.
-- Recipients of `domains` that no line is about get `rest`. An accept takes a recipient
-- of ours whatever the policies behind say; it never relays.
--
-- Settings:
--   entries  the lines
--   file     a file with one line each; # begins a comment line
--   map      the name of a [[lookup]] that has "ACTION text" by address or domain
--   domains  domains whose recipients are all in the table (none)
--   rest     what others at those domains get: "reject", "defer" or "discard" (reject)
--   text     of replies where the line has none
--
-- Example:
--   [[policy]]
--   use     = "rcpt_map"
--   entries = ["jane@example.net accept", "joe@example.net reject Joe has left"]
--   domains = ["example.net"]

local addresses = require "addresses"
local faults = require "faults"

local rcpt_map = policy {
  about    = "A table of recipients, and what each is answered.",
  settings = {
    entries = list(string) {} : about "ADDRESS ACTION text",
    file    = file ""         : about "a file with one line each",
    map     = string ""       : about "the name of a [[lookup]] that has \"ACTION text\" by address or domain",
    domains = domains {}      : about "domains whose recipients are all in the table",
    rest    = enum { "reject", "defer", "discard" } "reject" : about "what others at those domains get",
    text    = string "We take no mail for this address" : about "of replies where the line has none",
  },
}

local words = { ok = "accept", deny = "reject", denysoft = "defer" }

local does = {
  accept  = function(_, rcpt) return rcpt.ours and accept() or nil end,
  reject  = function(text) return reject("5.1.1", "%s", text) end,
  defer   = function(text) return defer("4.2.1", "%s", text) end,
  discard = function(text) return discard("%s", text) end,
}

-- answer reads "ACTION text"; nil where it is none.
local function answer(line)
  local word, text = line:match("^%s*(%a+)%s*(.-)%s*$")
  local action = word and (words[word:lower()] or word:lower())
  if not does[action] then return nil end
  return { action = action, text = text ~= "" and text or rcpt_map.text }
end

local list, answers = addresses.new(), {}

local wrong = faults.new()
local lines, place = faults.items(rcpt_map, "entries", "file")
for i, line in ipairs(lines) do
  local address, rest = line:match("^%s*(%S+)%s+(.+)$")
  local what = rest and answer(rest)
  local ok, err = what ~= nil, ("write ADDRESS accept|reject|defer|discard text, not %q"):format(line)
  if ok then ok, err = list:add(address) end
  if ok then answers[address] = what else wrong:at(place, i, "%s", err) end
end
wrong:raise()

function rcpt_map.rcpt(tx, rcpt)
  local entry = list:find(rcpt)
  local what = entry and answers[entry]
  if not what and rcpt_map.map ~= "" then
    local line, err = lookup.address(rcpt_map.map, rcpt.address)
    if line == nil and err.kind ~= "none" then return defer("4.3.0", "The table of recipients can't be asked now") end
    what = line and assert(answer(tostring(line)), "the map " .. rcpt_map.map .. " has no answer for " .. rcpt.address .. ": " .. tostring(line))
  end
  if not what and rcpt_map.domains:match(rcpt.domain) then what = { action = rcpt_map.rest, text = rcpt_map.text } end
  if not what then return end
  tx:result("rcpt_map", { action = what.action, recipient = rcpt.address })
  return does[what.action](what.text, rcpt)
end

return rcpt_map
