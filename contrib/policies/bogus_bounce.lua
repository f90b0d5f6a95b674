-- bogus_bounce: finds mail from <> that is no bounce; qpsmtpd's of that name.
-- A notice goes to one recipient (RFC 3464 section 2), and nobody but the last
-- server writes a Return-Path (RFC 5321 section 4.4).
--
--   [[policy]]
--   use    = "contrib/policies/bogus_bounce.lua"
--   action = "reject"

local bogus_bounce = policy {
  about    = "Finds mail from the null sender that is no bounce.",
  immune   = { "relaying", "authenticated" },
  settings = {
    action = enum { "log", "reject", "defer" } "log" : about "what follows: a result for others to read, or a refusal",
  },
}

local function found(tx, why)
  tx:result("bogus_bounce", { why = why })
  if bogus_bounce.action == "reject" then return reject("5.7.1", "This is no bounce: %s", why) end
  if bogus_bounce.action == "defer" then return defer("4.7.1", "This is no bounce: %s", why) end
end

function bogus_bounce.data(tx)
  if tx.sender.null and #tx.recipients ~= 1 then
    return found(tx, ("it has %d recipients"):format(#tx.recipients))
  end
end

function bogus_bounce.headers(tx)
  if tx.sender.null and tx.headers:get("Return-Path") then
    return found(tx, "it has a Return-Path field")
  end
end

return bogus_bounce
