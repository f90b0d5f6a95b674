-- loop: finds mail that came here before, by Delivered-To, by marks of our own, and by
-- what it says of whence it came.
--
-- At MESSAGE each recipient whose address a Delivered-To field has is refused: the mail
-- was delivered to it, and comes back. Too many Received fields are a loop as well; the
-- engine's own bound is `[limits] hops`, `hops` here may be lower. The result `loop` has
-- `why`.
--
-- Settings:
--   delivered_to  refuse recipients that a Delivered-To field has (true)
--   hops          Received and Delivered-To fields together that are too many; 0: any number (0)
--   ours          Received fields by our own name that are too many; 0: any number (10)
--   names         further names of ours in Received fields
--
-- Example:
--   [[policy]]
--   use  = "loop"
--   hops = 50

local loop = policy {
  about    = "Finds mail that goes round in circles.",
  settings = {
    delivered_to = boolean (true) : about "refuse recipients that a Delivered-To field has",
    hops         = integer (0) : about "Received and Delivered-To fields together that are too many; 0: any number",
    ours         = integer (10) : about "Received fields by our own name that are too many; 0: any number",
    names        = list(string) {} : about "further names of ours in Received fields",
  },
}

local function refuse(tx, why)
  tx:result("loop", { why = why })
  return reject(554, "5.4.6", "This message goes round in circles: %s", why)
end

local function count(tx)
  local hops, ours, delivered = 0, 0, {}
  for name, value in tx.headers:each() do
    name = name:lower()
    if name == "received" then
      hops = hops + 1
      local by = (value:match("by%s+([%w.-]+)") or ""):lower()
      for _, own in ipairs(loop.names) do
        if by == own:lower() then ours = ours + 1 end
      end
      if addr.ours(by) then ours = ours + 1 end
    elseif name == "delivered-to" then
      hops = hops + 1
      delivered[(value:match("([^%s<>]+@[^%s<>]+)") or ""):lower()] = true
    end
  end
  return hops, ours, delivered
end

function loop.message(tx)
  local hops, ours, delivered = count(tx)
  if loop.hops > 0 and hops > loop.hops then return refuse(tx, hops .. " hops") end
  if loop.ours > 0 and ours > loop.ours then return refuse(tx, "it was here " .. ours .. " times") end
  if not loop.delivered_to or not next(delivered) then return end
  return tx:each_rcpt(function(rcpt)
    if delivered[rcpt.address:lower()] then
      return reject(554, "5.4.6", "This message was delivered to %s before", rcpt.address)
    end
  end)
end

return loop
