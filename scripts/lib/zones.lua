-- zones: lists in the DNS as settings name them, what their answers mean, and
-- whether they are alive.
--
-- An entry is a zone and, where not every answer counts, those that do, each with a
-- meaning that replies and results tell:
--   "bl.example.org"
--   "zen.example.org 127.0.0.2=spammer 127.0.0.4-7=infected"
--   "list.example.org 127.0.*.1-3"      any number, a range
--   "multi.example.org &8=phishing"     a bit of the last number
--
--   local zones = require "zones"
--   local lists = zones.read(p, "zones")
--   local listings, err = lists:ask(dns.dnsbl, conn.ip)
--
-- A list can be dead in two ways that matter: it lists everybody, or it does not
-- answer and costs time. lists:probe, in a handler tick, finds those, and they are
-- left out until a later one finds them well.

local faults = require "faults"

local zones = {}
zones.__index = zones

local function octet(text)
  if text == "*" then return { 0, 255 } end
  local from, to = text:match("^(%d+)%-(%d+)$")
  from = tonumber(from or text)
  to = tonumber(to) or from
  return from and from <= to and to <= 255 and { from, to } or nil
end

-- rule reads an answer that counts, nil where it is none.
local function rule(word)
  local pattern, meaning = word:match("^([^=]+)=?(.*)$")
  local bits = pattern and tonumber(pattern:match("^&(%d+)$"))
  if bits then return bits <= 255 and { bits = bits, meaning = meaning } or nil end
  local octets = {}
  for text in (pattern or ""):gmatch("[^.]+") do octets[#octets + 1] = octet(text) end
  local _, dots = (pattern or ""):gsub("%.", "")
  return #octets == 4 and dots == 3 and { octets = octets, meaning = meaning } or nil
end

-- new makes a table of no lists, to add some.
function zones.new() return setmetatable({ names = {}, rules = {} }, zones) end

-- read makes lists of a setting, and raises what is wrong with it.
function zones.read(policy, setting)
  local self, wrong = zones.new(), faults.new()
  for i, entry in ipairs(policy[setting]) do
    local ok, err = self:add(entry)
    if not ok then wrong:add(setting, i, "%s", err) end
  end
  wrong:raise()
  return self
end

-- add adds an entry: true, or nil and what is wrong with it.
function zones:add(entry)
  local name, rules
  for word in entry:gmatch("%S+") do
    if not name then
      name = word:lower():gsub("%.$", "")
      if not name:find("^[%w_-][%w._-]*%.[%w-]+$") or name:find("..", 1, true) then
        return nil, ("%q is no list; write its name, such as bl.example.org, and maybe the answers that count"):format(word)
      end
      rules = self.rules[name] or {}
    else
      local one = rule(word)
      if not one then return nil, ("%q is no answer; write one such as 127.0.0.2, 127.0.0.4-7=meaning or &8"):format(word) end
      table.insert(rules, one)
    end
  end
  if not name then return nil, "it is empty; write the name of a list, such as bl.example.org" end
  if not self.rules[name] then table.insert(self.names, name) end
  self.rules[name] = rules
  self.key = { "zones", table.concat(self.names, " ") }
  return true
end

local function common(a, b) -- whether two numbers have a bit in common
  while a > 0 and b > 0 do
    if a % 2 == 1 and b % 2 == 1 then return true end
    a, b = math.floor(a / 2), math.floor(b / 2)
  end
  return false
end

local function fits(one, numbers)
  if one.bits then return common(one.bits, numbers[4]) end
  for i = 1, 4 do
    if numbers[i] < one.octets[i][1] or numbers[i] > one.octets[i][2] then return false end
  end
  return true
end

-- What some lists answer those they don't serve: those of links say 127.0.0.1, dnswl.org
-- 127.0.0.255, Spamhaus' list of domains 127.0.1.255. Where an entry names them they count.
local refusals = { ["127.0.0.1"] = true, ["127.0.0.255"] = true, ["127.0.1.255"] = true }

-- meaning is what an answer of a zone means, "" where nothing is said of it, nil
-- where it does not count. Several are joined.
function zones:meaning(zone, answer)
  local rules = self.rules[zone]
  if #rules == 0 then return not refusals[answer] and "" or nil end
  local numbers, found = {}, {}
  for n in answer:gmatch("%d+") do numbers[#numbers + 1] = tonumber(n) end
  for _, one in ipairs(rules) do
    if fits(one, numbers) then found[#found + 1] = one.meaning end
  end
  if #found == 0 then return nil end
  return table.concat(found, ", ")
end

-- alive are the names of the lists that the last probe found well.
function zones:alive()
  if #self.names == 0 then return self.names end
  local dead = store.get(self.key)
  if type(dead) ~= "table" then return self.names end
  local list = {}
  for _, name in ipairs(self.names) do
    if not dead[name] then list[#list + 1] = name end
  end
  return list
end

-- question is what parallel takes to ask the lists; keep judges what it gives.
function zones:question(look, subject) return { look, subject, self:alive() } end

-- keep are the listings that count. Each gets its meaning, and a why: the list's own
-- words, or else the meaning.
function zones:keep(listings)
  local list = {}
  for _, one in ipairs(listings) do
    one.meaning = self:meaning(one.zone, one.answer)
    one.why = one.text ~= "" and one.text or one.meaning
    if one.meaning then list[#list + 1] = one end
  end
  return list
end

-- ask asks the lists by dns.dnsbl or dns.listed, and keeps what counts.
function zones:ask(look, subject)
  local names = self:alive()
  if #names == 0 then return {} end
  local listings, err = look(subject, names)
  if not listings then return nil, err end
  return self:keep(listings)
end

-- probe asks each list about what can't be listed (RFC 5782 section 5), and keeps
-- out, for the time given, those that list it or don't answer.
function zones:probe(look, never, always, remember)
  local asked = {}
  for _, name in ipairs(self.names) do
    table.insert(asked, { look, never, name })
    table.insert(asked, { look, always, name })
  end
  local found, errs = {}, {}
  for from = 1, #asked, 64 do
    local some = {}
    for i = from, math.min(#asked, from + 63) do some[#some + 1] = asked[i] end
    local values, failures = parallel(some)
    for i = 1, #some do found[from + i - 1], errs[from + i - 1] = values[i], failures[i] end
  end
  local dead = {}
  for i, name in ipairs(self.names) do
    local wrong, right = found[2 * i - 1], found[2 * i]
    if wrong and #wrong > 0 then
      dead[name] = "it lists everything"
    elseif not wrong and not right then
      dead[name] = "it does not answer: " .. errs[2 * i - 1].text
    end
    if dead[name] then log.warn("the list %s is left out: %s", name, dead[name]) end
  end
  if next(dead) then store.put(self.key, dead, remember) else store.delete(self.key) end
end

return zones
