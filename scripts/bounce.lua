-- bounce: mail from the null sender that is no bounce of ours, and bounces to addresses
-- that never send.
--
-- A bounce goes to the one who sent (RFC 5321 section 4.5.5), so a further recipient is
-- asked to wait for a message of its own, which loses nothing. What else is wrong is
-- only noted unless you ask for more: a Return-Path field, which the last server alone
-- writes; no part of the message that came back; and with `validate` a returned message
-- that we did not send. For that, mail of relaying and authenticated clients gets a
-- field X-Bounce-Check, made with `secret` of its From, Date and Message-ID, and what
-- comes back is checked for it. Keep `validate` at "score" for as long as mail without
-- the field may come back; [batv] is the other way. The result `bounce` has `found`, a
-- list of what was found, and `valid`: "yes", "no" or "unknown".
--
-- Settings:
--   several      what follows several recipients: "pass", "score", "defer" or "reject" (defer)
--   return_path  what follows a Return-Path field: the same choices (score)
--   empty        what follows where nothing of the message comes back (pass)
--   validate     what follows where what comes back is not ours (pass)
--   never        recipients of ours that never send, in the forms of badmailfrom: their
--                bounces are refused (none)
--   none         refuse all bounces: we send nothing (false)
--   points       of each, where the choice is "score" (2)
--   secret       the key of validation; unset: messages get no field
--   lifetime     how long after its Date a message may come back (7d)
--
-- Example:
--   [[policy]]
--   use      = "bounce"
--   never    = ["noreply@"]
--   secret   = "correct horse battery staple"
--   validate = "score"

local addresses = require "addresses"

local action = enum { "pass", "score", "defer", "reject" }

local bounce = policy {
  about    = "Finds mail from the null sender that is no bounce of ours.",
  settings = {
    several     = action "defer" : about "what follows several recipients",
    return_path = action "score" : about "what follows a Return-Path field",
    empty       = action "pass"  : about "what follows where nothing of the message comes back",
    validate    = action "pass"  : about "what follows where what comes back is not ours",
    never       = list(string) {} : about "recipients of ours that never send",
    none        = boolean (false) : about "refuse all bounces: we send nothing",
    points      = number (2) : about "of each, where the choice is score",
    secret      = secret "" : about "the key of validation; unset: messages get no field",
    lifetime    = duration "7d" : about "how long after its Date a message may come back",
  },
}

local never = addresses.read(bounce, "never")
local field = "X-Bounce-Check"

local function ours(tx) return tx.conn.relaying or tx.conn.authenticated end

-- found notes what was found, and does what follows.
local function found(tx, what, follows, valid)
  local before = tx:results("bounce")
  local list = {}
  for _, one in ipairs(before and before.found or {}) do list[#list + 1] = one end
  list[#list + 1] = what
  tx:result("bounce", { found = list, valid = valid or before and before.valid or "unknown" })
  if follows == "score" then tx:score("bounce", bounce.points, what) end
  if follows == "defer" then return defer("4.7.1", "This is no bounce of ours: %s", what) end
  if follows == "reject" then return reject("5.7.1", "This is no bounce of ours: %s", what) end
end

function bounce.rcpt(tx, rcpt)
  if not tx.sender.null or ours(tx) then return end
  if bounce.none then return reject("5.7.1", "We send no mail, so this is no bounce of ours") end
  if never:find(rcpt) then return reject("5.7.1", "%s never sends, so this is no bounce of its mail", rcpt.address) end
  if #tx.recipients > 0 and bounce.several == "defer" then
    return defer("4.5.3", "A bounce has one recipient; send the next one by itself")
  end
end

function bounce.data(tx)
  if tx.sender.null and not ours(tx) and #tx.recipients > 1 then return found(tx, "several recipients", bounce.several) end
end

function bounce.headers(tx)
  if tx.sender.null and not ours(tx) and tx.headers:get("Return-Path") then
    return found(tx, "a Return-Path field", bounce.return_path)
  end
end

local function stamp(when, get)
  local text = when .. "\n" .. (get("From") or "") .. "\n" .. (get("Date") or "") .. "\n" .. (get("Message-ID") or "")
  return ("%d %s"):format(when, hash.hmac("sha256", bounce.secret, (text:gsub("%s+", " "))))
end

-- returned are the fields of the message that comes back: a function that gets one by
-- its name, or nil.
local function returned(tx)
  local inside = false
  for part in tx.mime:parts() do
    if inside then return function(name) return (part:header(name)) end end
    if part.type == "text/rfc822-headers" then
      local whole = mime.parse(part:text() or "")
      return whole and function(name) return (whole.root:header(name)) end
    end
    inside = part.type == "message/rfc822" or part.type == "message/global"
  end
end

local function judge(get)
  local when = tonumber((get(field) or ""):match("^(%d+) %x+$"))
  if not when then return "no", "what comes back was not sent by us" end
  if not hash.equal(stamp(when, get), get(field)) then return "no", "what comes back was forged" end
  if now() - when > bounce.lifetime then return "no", "what comes back is too old" end
  return "yes"
end

function bounce.message(tx)
  if not tx.sender.null or ours(tx) then return end
  local get = returned(tx)
  if not get then return found(tx, "nothing of the message comes back", bounce.empty) end
  if bounce.secret == "" then return end
  local valid, why = judge(get)
  if valid == "no" then return found(tx, why, bounce.validate, "no") end
  local before = tx:results("bounce")
  tx:result("bounce", { found = before and before.found or {}, valid = "yes" })
end

function bounce.queue(tx)
  if bounce.secret == "" or not ours(tx) or tx.sender.null then return end
  tx.headers:remove(field)
  tx.headers:prepend(field, stamp(math.floor(now()), function(name) return tx.headers:get(name) end))
end

return bounce
