-- block_me: users block a sender by sending the unwanted mail to an address of ours.
--
-- A message that a user of ours, authenticated or relaying, sends to `address` is not
-- delivered: the senders in it, those of the messages that it holds as attachments, or
-- else of a From line in its text, are blocked for that user. Mail from a blocked sender
-- to that user alone is refused; other recipients still get it. With `everybody` a
-- blocked sender is blocked for all of us. A sender of ours can't be blocked.
--
-- Settings:
--   address    where users send what they don't want; unset: nobody can block
--   everybody  whether a block is everybody's (false)
--   lifetime   how long a block lasts; 0: for ever (365d)
--   most       senders of one message that are blocked (5)
--   text       of the reply
--
-- Example:
--   [[policy]]
--   use     = "block_me"
--   address = "block@example.net"

local block_me = policy {
  about    = "Users block a sender by sending its mail to an address of ours.",
  settings = {
    address   = string "" : about "where users send what they don't want",
    everybody = boolean (false) : about "whether a block is everybody's",
    lifetime  = duration "365d" : about "how long a block lasts; 0: for ever",
    most      = integer (5) : about "senders of one message that are blocked",
    text      = string "Your mail is not wanted here" : about "of the reply",
  },
}

local function inside(conn) return conn.relaying or conn.authenticated end

local function key(user, sender) return { "block_me", block_me.everybody and "" or user:lower(), sender:lower() } end

-- authors are those of the messages that a message holds.
local function authors(tx)
  local list, nested = {}, false
  local function add(field)
    for _, one in ipairs(addr.list(field or "") or {}) do
      if #list < block_me.most and not addr.ours(one.address) then table.insert(list, tostring(one.address)) end
    end
  end
  for part in tx.mime:parts() do
    if nested then add(part:header "From") end
    nested = part.type == "message/rfc822"
  end
  if #list > 0 then return list end
  for line in (tx.mime:text(65536) or ""):gmatch("[^\n]+") do
    add(line:match("^[> ]*[*]*From[*]*:%s*(.-)%s*$"))
  end
  return list
end

function block_me.rcpt(tx, rcpt)
  if inside(tx.conn) or tx.sender.null or not rcpt.ours then return end
  if store.get(key(rcpt.address, tostring(tx.sender))) then
    tx:result("block_me", { recipient = rcpt.address })
    return reject("5.7.1", "%s", block_me.text)
  end
end

function block_me.message(tx)
  if block_me.address == "" or not inside(tx.conn) or tx.sender.null then return end
  for _, rcpt in ipairs(tx.recipients) do
    if rcpt.address:lower() == block_me.address:lower() then
      local list = authors(tx)
      if #list == 0 then return reject("5.6.0", "There is no sender to block in this message; attach the unwanted mail") end
      for _, sender in ipairs(list) do
        local ok, err = store.put(key(tostring(tx.sender), sender), true, block_me.lifetime)
        if not ok then return defer("4.3.0", "Can't note that now: %s", err.text) end
      end
      tx:result("block_me", { blocked = list })
      return discard("blocks %s", table.concat(list, ", "))
    end
  end
end

return block_me
