-- fcrdns: whether the client's address has a name that leads back to it (RFC 8601
-- section 2.7.3, iprev), and whether that looks like one that a provider gives to
-- anybody.
--
-- At CONNECT the names of the address are asked for, and the addresses of all of them
-- at once. The result `fcrdns` has `iprev` ("pass", "fail", "permerror" for no name,
-- "temperror"), `pass`, `fail`, `name` and `generic`, whether the address stands in the
-- name. What follows, follows at MAIL, so that clients can log in before; by default
-- nothing does: plenty of honest hosts have no name. DNS failures change nothing.
--
-- Settings:
--   no_name   what follows where there is no name: "pass", "score", "defer" or "reject" (pass)
--   no_match  what follows where no name leads back (pass)
--   generic   what follows a name that has the address in it (pass)
--   points    of each, where the choice is "score" (1)
--   exempt    networks that are not looked up
--
-- Example:
--   [[policy]]
--   use     = "fcrdns"
--   no_name = "score"
--   generic = "score"

local action = enum { "pass", "score", "defer", "reject" }

local fcrdns = policy {
  about      = "Finds out whether the client's name leads back to its address.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    no_name  = action "pass" : about "what follows where there is no name",
    no_match = action "pass" : about "what follows where no name leads back",
    generic  = action "pass" : about "what follows a name that has the address in it",
    points   = number (1) : about "of each, where the choice is score",
    exempt   = cidrs {} : about "networks that are not looked up",
  },
}

-- generic tells whether two of an IPv4 address's last three numbers, or its last four
-- groups of an IPv6 one, stand in a name.
local function generic(address, name)
  local text = tostring(address)
  if address.version == 6 then
    local digits = name:gsub("[^%x]", "")
    local tail = text:match("([%x]+:[%x]+)$")
    return tail ~= nil and #tail > 4 and digits:find(tail:gsub(":", ""), 1, true) ~= nil
  end
  local _, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  local numbers = {}
  for n in name:gmatch("%d+") do numbers[tonumber(n)] = true end
  if numbers[tonumber(d)] and (numbers[tonumber(c)] or numbers[tonumber(b)]) then return true end
  local padded = ("%03d%03d"):format(c, d)
  return name:find(padded, 1, true) ~= nil or name:lower():find(("%02x%02x"):format(c, d), 1, true) ~= nil and name:find("%d") ~= nil
end

function fcrdns.connect(conn)
  if conn.ip.private or conn.ip.loopback or fcrdns.exempt:match(conn.ip) then return end
  local found, errs = parallel { { dns.fcrdns, conn.ip }, { dns.ptr, conn.ip } }
  local name, names = found[1], found[2]
  local iprev = "pass"
  if not name then
    iprev = errs[1].kind == "temporary" and "temperror" or names and "fail" or "permerror"
  end
  conn:result("fcrdns", {
    iprev = iprev, pass = iprev == "pass", fail = iprev == "fail" or iprev == "permerror", name = name or names and names[1],
    generic = name ~= nil and generic(conn.ip, name),
  })
end

local says = { no_name = "%s has no name", no_match = "no name of %s leads back to it", generic = "%s has a name that anybody's address gets; use your provider's server" }

function fcrdns.mail(tx)
  local it = tx:results("fcrdns")
  local what = it and (it.iprev == "permerror" and "no_name" or it.iprev == "fail" and "no_match" or it.generic and "generic")
  if not what then return end
  local follows = fcrdns[what]
  if follows == "score" then tx:score("fcrdns." .. what, fcrdns.points, tostring(tx.conn.ip)) end
  if follows == "defer" then return defer("4.7.25", says[what], tx.conn.ip) end
  if follows == "reject" then return reject("5.7.25", says[what], tx.conn.ip) end
end

return fcrdns
