-- addresses: a list of envelope addresses to look one up in.
--
-- An entry is one of
--   user@example.net    this address
--   user@               this local part at every domain
--   @example.net        every address of this domain; example.net means the same
--   *.example.net       every address of a domain below it; @.example.net too
-- Upper and lower case are the same.
--
--   local addresses = require "addresses"
--   local list = addresses.new { "user@example.net", "@example.org" }
--   if list:find(tx.sender) then … end

local addresses = {}
addresses.__index = addresses

-- new makes a list of one or several tables of entries.
function addresses.new(...)
  local self = setmetatable({ exact = {}, below = {} }, addresses)
  for _, entries in ipairs { ... } do
    for _, entry in ipairs(entries) do self:add(entry) end
  end
  return self
end

function addresses:add(entry)
  local text = entry:lower()
  local below = text:match("^@?%*%.(.+)$") or text:match("^@%.(.+)$")
  if below then
    self.below[below] = entry
  elseif text:find("@", 1, true) then
    self.exact[text] = entry
  else
    self.exact["@" .. text] = entry
  end
end

-- find returns the entry that an address (of the envelope, or a rcpt) is in, or nil.
function addresses:find(address)
  local user, domain = address.user:lower(), address.domain
  local entry = self.exact[user .. "@" .. domain] or self.exact[user .. "@"] or self.exact["@" .. domain]
  local rest = domain
  while not entry do
    rest = rest:match("^[^.]+%.(.+)$")
    if not rest then return nil end
    entry = self.below[rest]
  end
  return entry
end

return addresses
