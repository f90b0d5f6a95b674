-- addresses: a list of envelope addresses to look one up in.
--
-- An entry is one of
--   user@example.net    this address
--   user@               this local part at every domain
--   @example.net        every address of this domain; example.net means the same
--   *.example.net       every address of a domain below it; @.example.net too
--   /REGEXP/            every address that matches
-- Upper and lower case are the same. Behind it a text may stand, which find gives too.
--
--   local addresses = require "addresses"
--   local list = addresses.read(p, "senders", "file")   -- entries of these settings
--   if list:find(tx.sender) then … end

local faults = require "faults"

local addresses = {}
addresses.__index = addresses

-- new makes a list of one or several tables of entries. What is no entry is left out.
function addresses.new(...)
  local self = setmetatable({ exact = {}, below = {}, patterns = {}, texts = {}, empty = true }, addresses)
  for _, entries in ipairs { ... } do
    for _, entry in ipairs(entries) do self:add(entry) end
  end
  return self
end

-- read makes a list of settings, which are lists or files, and raises what is wrong with
-- them.
function addresses.read(policy, ...)
  local self, wrong = addresses.new(), faults.new()
  local entries, place = faults.items(policy, ...)
  for i, entry in ipairs(entries) do
    local ok, err = self:add(entry)
    if not ok then wrong:at(place, i, "%s", err) end
  end
  wrong:raise()
  return self
end

local forms = "write user@example.net, user@, @example.net, *.example.net or /REGEXP/"

-- domain_of is a domain as envelopes have it, or nil.
local function domain_of(text)
  if text:find("^[%w_][%w._-]*$") and not text:find("..", 1, true) then return (text:gsub("%.$", "")) end
  local parsed = text:find("[\128-\255]") and addr.parse("postmaster@" .. text)
  return parsed and parsed.domain
end

-- add adds an entry: true, or nil and what is wrong with it.
function addresses:add(entry)
  if entry:find("^[%w._+=-]*@%w[%w-]*%.[%w.-]*%w$") and not entry:find("..", 1, true) then -- most are, of which there may be many
    self.exact[entry:lower()] = entry
    self.empty = false
    return true
  end
  local expression, text = entry:match("^%s*/(.+)/%s+(.-)%s*$")
  expression = expression or entry:match("^%s*/(.+)/%s*$")
  if expression then
    local re, err = regex.compile("(?i)" .. expression)
    if not re then return nil, err.text end
    entry = "/" .. expression .. "/"
    table.insert(self.patterns, { re = re, entry = entry })
    self.texts[entry] = text ~= "" and text or nil
    self.empty = false
    return true
  end
  entry, text = entry:match("^%s*(%S+)%s*(.-)%s*$")
  if not entry then return nil, forms end
  local user, domain = entry:lower():match("^(.*)@(.*)$")
  if not user then user, domain = "", entry:lower() end
  local below = user == "" and (domain:match("^%*%.(.+)$") or domain:match("^%.(.+)$"))
  local known = (below or domain ~= "") and domain_of(below or domain)
  if not known and (domain ~= "" or user == "") or user:find("@", 1, true) and not user:find('^".*"$') then
    return nil, ("%q is no address; %s"):format(entry, forms)
  end
  if below then self.below[known] = entry else self.exact[user .. "@" .. (known or "")] = entry end
  if text ~= "" then self.texts[entry] = text end
  self.empty = false
  return true
end

-- find returns the entry that an address (of the envelope, or a rcpt) is in, or nil, and
-- the text behind it, if there is one.
function addresses:find(address)
  local user, domain = address.user:lower(), address.domain
  local entry = self.exact[user .. "@" .. domain] or self.exact[user .. "@"] or self.exact["@" .. domain]
  local rest = domain
  while not entry and rest do
    rest = rest:match("^[^.]+%.(.+)$")
    entry = rest and self.below[rest]
  end
  for _, one in ipairs(entry and {} or self.patterns) do
    if one.re:match(user .. "@" .. domain) then
      entry = one.entry
      break
    end
  end
  return entry, entry and self.texts[entry]
end

return addresses
