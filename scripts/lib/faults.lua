-- faults: what is wrong with a policy's settings, all of it at once.
--
-- A script that finds a setting wrong when it is loaded raises an error of lines such as
-- "rules: item 2: write A B". Each is told at the setting's line of the configuration,
-- and where the setting is a file, or "@file.txt", with the line of that file.
--
--   local faults = require "faults"
--   local wrong = faults.new()
--   local lines, place = faults.items(p, "rules", "file")
--   for i, line in ipairs(lines) do
--     if not read(line) then wrong:at(place, i, "write SENDER RECIPIENT, not %q", line) end
--   end
--   wrong:raise()

local faults = {}
faults.__index = faults

local most = 50 -- more are of no help

function faults.new() return setmetatable({ list = {} }, faults) end

-- add notes that an item of a setting is wrong; item is nil where the whole is.
function faults:add(setting, item, text, ...)
  if #self.list >= most then return end
  if select("#", ...) > 0 then text = text:format(...) end
  local place = item and ("%s: item %d: "):format(setting, item) or setting .. ": "
  table.insert(self.list, place .. text)
end

-- raise raises what was noted, if there is something.
function faults:raise()
  if #self.list > 0 then error(table.concat(self.list, "\n"), 0) end
end

-- items are the items of some settings, which are lists or files: a list of all, and a
-- function that gives the setting and the number of the i-th.
function faults.items(policy, ...)
  local parts = {}
  for _, setting in ipairs { ... } do
    local value = policy[setting]
    local list = value and (value.lines or value) or {}
    if #list > 0 then table.insert(parts, { setting = setting, list = list }) end
  end
  local all = parts[1] and parts[1].list or {}
  if #parts > 1 then
    all = {}
    for _, part in ipairs(parts) do
      for _, text in ipairs(part.list) do all[#all + 1] = text end
    end
  end
  return all, function(i)
    for _, part in ipairs(parts) do
      if i <= #part.list then return part.setting, i end
      i = i - #part.list
    end
  end
end

-- at is add for the i-th of items.
function faults:at(place, i, text, ...)
  local setting, n = place(i)
  self:add(setting, n, text, ...)
end

return faults
