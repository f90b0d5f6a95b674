-- rcpt_regexp: decides recipients by regular expressions.
--
-- A rule is REGEXP ACTION and maybe a text: the expression (RE2, without regard to case)
-- for the whole address, the action accept, reject, defer or discard (OK, DENY, DENYSOFT
-- and DISCARD mean the same). The first that matches decides. An accept takes a
-- recipient of ours whatever the policies behind say; it never relays.
--
-- Settings:
--   rules  the rules
--   file   a file with one rule a line; # begins a comment line
--
-- Example:
--   [[policy]]
--   use   = "rcpt_regexp"
--   rules = ["^postmaster@ accept", "^[0-9]+@ reject no numbers here"]

local faults = require "faults"

local rcpt_regexp = policy {
  about    = "Decides recipients by regular expressions.",
  settings = {
    rules = list(string) {} : about "REGEXP ACTION text",
    file  = file ""         : about "a file with one rule a line",
  },
}

local does = {
  accept  = function(_, rcpt) return rcpt.ours and accept() or nil end,
  reject  = function(text) return reject("5.1.1", "%s", text ~= "" and text or "We take no mail for this address") end,
  defer   = function(text) return defer("4.2.1", "%s", text ~= "" and text or "Please try again later") end,
  discard = function(text) return discard("%s", text ~= "" and text or "by an expression") end,
}
local words = { OK = "accept", DENY = "reject", DENYSOFT = "defer", DISCARD = "discard" }
local rules = {}

local wrong = faults.new()
local lines, place = faults.items(rcpt_regexp, "rules", "file")
for i, line in ipairs(lines) do
  local expression, action, text = line:match("^(%S+)%s+(%a+)%s*(.*)$")
  local decide = action and does[words[action:upper()] or action:lower()]
  local re, err
  if decide then re, err = regex.compile("(?i)" .. expression) end
  if not decide then
    wrong:at(place, i, "write REGEXP accept|reject|defer|discard text, not %q", line)
  elseif not re then
    wrong:at(place, i, "%s", err.text)
  else
    table.insert(rules, { re = re, decide = decide, text = text })
  end
end
wrong:raise()
if #lines == 0 then log.warn("rules: none is given, here or by file, so nothing is refused") end

function rcpt_regexp.rcpt(_, rcpt)
  for _, rule in ipairs(rules) do
    if rule.re:match(rcpt.address) then return rule.decide(rule.text, rcpt) end
  end
end

return rcpt_regexp
