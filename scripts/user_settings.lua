-- user_settings: what each recipient has chosen, from the map "users" of [[lookup]].
--
-- The map says for an address, for its domain, or for "*" (docs/lua.md tells how):
--   closed    a text: the recipient takes no mail
--   block     senders that are refused, in the forms of badmailfrom
--   allow     senders that are spared what `skip` and deny_at of other policies keep
--   skip      names of policies whose refusals, kept until RCPT by deny_at, don't count
--   max_size  bytes of the largest message
--   reject    points at which a message is refused for this recipient
--   tag       points at which its copy gets X-Spam-Flag: YES
-- Lists are lists, or texts with blanks between. A recipient is judged alone: what one
-- refuses the others get, as `[server] mixed_recipients` says. A map that does not
-- answer defers, and where there is none nothing is chosen.
--
-- Settings:
--   map  what to do where the map can't be asked: "defer" or "pass" (defer)
--
-- Example:
--   [[policy]]
--   use = "user_settings"
--
--   [[lookup]]
--   name   = "users"
--   source = "users.toml"

local addresses = require "addresses"

local users = policy {
  about    = "Does what each recipient has chosen.",
  settings = { map = enum { "defer", "pass" } "defer" : about "what to do where the map can't be asked" },
}

local failed = { "the map can't be asked" }

-- chosen is what a recipient has chosen, nil where it has not, failed where that can't
-- be told.
local function chosen(rcpt, name)
  local value, err = lookup.user(rcpt, name)
  if value == nil and err.kind == "temporary" then
    log.warn("the settings of %s can't be asked: %s", rcpt.address, err.text)
    return users.map == "defer" and failed or nil
  end
  return value
end

local function each(value)
  if type(value) == "table" then return value end
  local list = {}
  for word in tostring(value or ""):gmatch("[^%s,]+") do table.insert(list, word) end
  return list
end

local function later(rcpt) return defer("4.3.0", "The settings of %s can't be asked now", rcpt.address) end

function users.rcpt(tx, rcpt)
  if not rcpt.ours then return end
  local closed = chosen(rcpt, "closed")
  if closed == failed then return later(rcpt) end
  if closed then return reject("5.2.1", "%s", closed == true and "This mailbox takes no mail" or tostring(closed)) end
  local most, size = tonumber(chosen(rcpt, "max_size")), tonumber(tx.params.SIZE)
  if most and size and size > most then return reject(552, "5.3.4", "%s takes at most %d bytes", rcpt.address, most) end
  if not tx.sender.null then
    if addresses.new(each(chosen(rcpt, "allow"))):find(tx.sender) then
      rcpt.notes.user_allows = true
      rcpt:pardon()
      return
    end
    if addresses.new(each(chosen(rcpt, "block"))):find(tx.sender) then
      return reject("5.7.1", "%s takes no mail from you", rcpt.address)
    end
  end
  for _, name in ipairs(each(chosen(rcpt, "skip"))) do rcpt:pardon(name) end
end

function users.queue(tx)
  return tx:each_rcpt(function(rcpt)
    if not rcpt.ours then return end
    local most = chosen(rcpt, "max_size")
    if most == failed then return later(rcpt) end
    if tonumber(most) and tx.size > tonumber(most) then return reject(552, "5.3.4", "%s takes at most %s bytes", rcpt.address, most) end
    if rcpt.notes.user_allows then return end
    local limit, tag = tonumber(chosen(rcpt, "reject")), tonumber(chosen(rcpt, "tag"))
    if limit and tx.total >= limit then return reject("5.7.1", "%s takes no mail like this", rcpt.address) end
    if tag and tx.total >= tag then rcpt.headers:prepend("X-Spam-Flag", "YES") end
  end)
end

return users
