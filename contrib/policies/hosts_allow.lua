-- hosts_allow: a table of networks and what their clients hear; qpsmtpd's of that
-- name. The first line that matches decides: NETWORK CODE text, where CODE is OK,
-- DENY or DENYSOFT. OK keeps the policies behind it from judging the connection.
--
--   [[policy]]
--   use  = "contrib/policies/hosts_allow.lua"
--   file = "hosts_allow.txt"

local hosts_allow = policy {
  about    = "Decides connections by the client's network.",
  settings = {
    rules = list(string) {} : about "NETWORK CODE text",
    file  = file ""         : about "a file with one rule a line",
  },
}

local does = {
  OK       = function() return accept() end,
  DENY     = function(text) return reject("5.7.1", "%s", text ~= "" and text or "You are not welcome here") end,
  DENYSOFT = function(text) return defer("4.7.1", "%s", text ~= "" and text or "Please come back later") end,
}
local rules = {}

for _, lines in ipairs { hosts_allow.rules, hosts_allow.file and hosts_allow.file.lines or {} } do
  for _, line in ipairs(lines) do
    local network, code, text = line:match("^(%S+)%s+(%S+)%s*(.*)$")
    if not does[code] then error(("write NETWORK OK|DENY|DENYSOFT text, not %q"):format(line), 0) end
    table.insert(rules, { networks = assert(ip.set { network }), decide = does[code], text = text })
  end
end

function hosts_allow.connect(conn)
  for _, rule in ipairs(rules) do
    if rule.networks:match(conn.ip) then return rule.decide(rule.text) end
  end
end

return hosts_allow
