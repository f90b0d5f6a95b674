-- aliases: writes other addresses in the place of recipients of ours, or drops them.
--
-- A name is user@example.net, user@ (at every domain of ours), @example.net (every
-- address of the domain) or * (every address of ours), in this order of preference; an
-- address with a detail, user+detail@example.net, is found without it, too. Its values
-- are addresses; a value @example.org keeps the user and changes the domain, one without
-- @ stays in the domain; none at all drops the recipient. A + at a value's end keeps the
-- detail: "jane+" makes team+news into jane+news. Values may be names again, ten deep,
-- and each address is written once. Put this policy last: where a first address is
-- foreign, nobody behind it is asked.
--
-- Settings:
--   to         addresses by name (none)
--   lines      a file with a name and its addresses on each line, such as
--              "team@example.net jane@example.net joe@example.org"
--   map        the name of a [[lookup]] that has addresses, separated by blanks or commas,
--              by name
--   separator  what the detail of an address stands behind; empty: there are none (+)
--
-- Example:
--   [[policy]]
--   use = "aliases"
--   to  = { "team@example.net" = ["jane", "joe@example.org"], "void@example.net" = [] }

local aliases = policy {
  about    = "Writes other addresses in the place of recipients of ours.",
  settings = {
    to        = map(list(string)) {} : about "addresses by name",
    lines     = file "" : about "a file with a name and its addresses on each line",
    map       = string "" : about "the name of a [[lookup]] that has addresses by name",
    separator = string "+" : about "what the detail of an address stands behind; empty: there are none",
  },
}

local known = {}

local function add(name, list)
  name = name:lower()
  known[name] = known[name] or {}
  for _, one in ipairs(list) do table.insert(known[name], one) end
end

for name, list in pairs(aliases.to) do add(name, list) end
for _, line in ipairs(aliases.lines and aliases.lines.lines or {}) do
  local name, rest = line:match("^(%S+)%s*(.*)$")
  local list = {}
  for word in rest:gmatch("[^%s,]+") do table.insert(list, word) end
  add(name, list)
end

-- values are the addresses of a name, nil where it is none. The second result is an
-- error of the map.
local function values(name)
  name = name:lower()
  if known[name] then return known[name] end
  if aliases.map == "" then return nil end
  local found, err = lookup.get(aliases.map, name)
  if found == nil then return nil, err.kind ~= "none" and err or nil end
  if type(found) == "table" then return found end
  local list = {}
  for word in tostring(found):gmatch("[^%s,]+") do table.insert(list, word) end
  return list
end

-- find looks an address up by its names, and gives the detail that was left out.
local function find(user, domain)
  local plain, detail = user, nil
  if aliases.separator ~= "" then
    local at = user:find(aliases.separator, 2, true)
    if at then plain, detail = user:sub(1, at - 1), user:sub(at) end
  end
  for _, name in ipairs { user .. "@" .. domain, plain .. "@" .. domain, user .. "@", plain .. "@", "@" .. domain, "*" } do
    local list, err = values(name)
    if list or err then return list, err, detail end
  end
end

-- written is the address that a value makes of another.
local function written(value, user, domain, detail)
  if value:sub(1, 1) == "@" then return user .. value end
  local to, at = value:match("^([^@]*)(@?.*)$")
  if to:sub(-1) == "+" then to = to:sub(1, -2) .. (detail or "") end
  return to .. (at ~= "" and at or "@" .. domain)
end

-- expand collects the addresses that stand for one, each once.
local function expand(user, domain, depth, into)
  local list, err, detail
  if depth <= 10 and addr.ours(domain) then list, err, detail = find(user, domain) end
  if err then return err end
  if not list then
    local address = user .. "@" .. domain
    if not into[address:lower()] then
      into[address:lower()] = true
      table.insert(into, address)
    end
    return
  end
  for _, value in ipairs(list) do
    local address, wrong = addr.parse(written(value, user, domain, detail))
    if not address then return wrong end
    local itself = address.user:lower() == user:lower() and address.domain == domain
    err = expand(address.user, address.domain, itself and 99 or depth + 1, into)
    if err then return err end
  end
end

function aliases.rcpt(tx, rcpt)
  if not rcpt.ours then return end
  local into = {}
  local err = expand(rcpt.user, rcpt.domain, 1, into)
  if err then return defer("4.3.5", "The alias of %s can't be looked up: %s", rcpt.address, err.text) end
  if #into == 0 then return discard("an alias for nobody") end
  if #into == 1 and into[1] == rcpt.address then return end
  rcpt:replace(into[1])
  for i = 2, math.min(#into, 200) do tx.recipients:add(into[i]) end
  tx:result("aliases", { count = #into })
  if not addr.ours((into[1]:match("@([^@]*)$"))) then return accept() end
end

return aliases
