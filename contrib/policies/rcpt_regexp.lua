-- rcpt_regexp: decides recipients by regular expressions; qpsmtpd's of that name.
-- The first that matches decides: REGEXP CODE text. OK takes the recipient whatever
-- the policies behind say, but never relays.
--
--   [[policy]]
--   use   = "contrib/policies/rcpt_regexp.lua"
--   rules = ["^postmaster@ OK", "^[0-9]+@ DENY no numbers here"]

local rcpt_regexp = policy {
  about    = "Decides recipients by regular expressions.",
  settings = {
    rules = list(string) {} : about "REGEXP CODE text",
    file  = file ""         : about "a file with one rule a line",
  },
}

local does = {
  OK       = function(_, rcpt) return rcpt.ours and accept() or nil end,
  DENY     = function(text) return reject("5.1.1", "%s", text ~= "" and text or "We take no mail for this address") end,
  DENYSOFT = function(text) return defer("4.2.1", "%s", text ~= "" and text or "Please try again later") end,
  DISCARD  = function(text) return discard(text) end,
}
local rules = {}

for _, lines in ipairs { rcpt_regexp.rules, rcpt_regexp.file and rcpt_regexp.file.lines or {} } do
  for _, line in ipairs(lines) do
    local re, code, text = line:match("^(%S+)%s+(%S+)%s*(.*)$")
    if not does[code] then error(("write REGEXP OK|DENY|DENYSOFT|DISCARD text, not %q"):format(line), 0) end
    table.insert(rules, { re = assert(regex.compile("(?i)" .. re)), decide = does[code], text = text })
  end
end

function rcpt_regexp.rcpt(_, rcpt)
  for _, rule in ipairs(rules) do
    if rule.re:match(rcpt.address) then return rule.decide(rule.text, rcpt) end
  end
end

return rcpt_regexp
