-- known_senders: those whom our users write to are known, and their answers come through.
--
-- When a user of ours, authenticated or relaying, sends mail, the organizations of its
-- recipients are noted together with the sender's own. Mail from such an organization to
-- ours is known, if the client belongs to it: by the client's confirmed name at CONNECT,
-- by SPF (the policy spf in front) at MAIL, or by DKIM (the policy dkim in front) at
-- MESSAGE. Mail that is known gets `points`, which are to be negative, and is spared the
-- policies that `skip` names, as early as it is known. The result `known_senders` has
-- `domain` and `by`.
--
-- Settings:
--   lifetime  how long a correspondent is remembered after the last mail to it (90d)
--   points    of mail that is known (-2)
--   skip      policies that it is spared (greylist)
--   common    organizations that everybody writes to and from: only the whole address of
--             a correspondent there is known
--
-- Example:
--   [[policy]]
--   use    = "known_senders"
--   points = -3
--   common = ["bigmail.example"]

local known = policy {
  about      = "Knows those whom our users write to.",
  on_failure = "pass",
  settings   = {
    lifetime = duration "90d" : about "how long a correspondent is remembered after the last mail to it",
    points   = number (-2) : about "of mail that is known",
    skip     = list(string) { "greylist" } : about "policies that it is spared",
    common   = domains {
      "gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "yahoo.com", "yahoo.co.jp", "ymail.com", "aol.com", "icloud.com", "me.com", "mac.com",
      "proton.me", "protonmail.com", "gmx.de", "gmx.net", "gmx.com", "web.de", "t-online.de", "freenet.de", "orange.fr", "free.fr", "laposte.net", "libero.it", "wp.pl", "o2.pl",
      "seznam.cz", "mail.ru", "yandex.ru", "yandex.com", "qq.com", "163.com", "126.com", "naver.com", "comcast.net", "zoho.com", "mail.com",
    } : about "organizations that everybody writes to and from: only whole addresses there are known",
  },
}

local function organization(domain) return addr.organization(domain) or domain end

-- key stands for a correspondent: its organization, or its address at one that is common.
local function key(ours, user, domain)
  local theirs = organization(domain)
  if known.common:match(theirs) then theirs = user:lower() .. "@" .. domain end
  return { "known_senders", ours, theirs }
end

local function inside(tx) return tx.conn.relaying or tx.conn.authenticated end

function known.queued(tx)
  if not inside(tx) or tx.sender.null then return end
  for _, rcpt in ipairs(tx.recipients) do
    if not rcpt.ours then store.put(key(organization(tx.sender.domain), rcpt.user, rcpt.domain), true, known.lifetime) end
  end
end

-- spare does what follows where the sender of a message is known to one of its
-- recipients' organizations.
local function spare(tx, ours, by)
  if tx:results("known_senders") then return end
  if not store.get(key(ours, tx.sender.user, tx.sender.domain)) then return end
  tx:result("known_senders", { domain = organization(tx.sender.domain), by = by })
  if known.points ~= 0 then tx:score("known_senders", known.points, by) end
  for _, name in ipairs(known.skip) do tx:skip(name) end
end

-- vouched tells what says that the client, or the message, is of the sender's
-- organization.
local function vouched(tx)
  local theirs = organization(tx.sender.domain)
  local spf, dkim = tx:results("spf"), tx:results("dkim")
  if spf and spf.pass and spf.identity == "mailfrom" then return "spf" end
  if tx.conn.host and organization(tx.conn.host) == theirs then return "name" end
  for _, domain in ipairs(dkim and dkim.domains or {}) do
    if organization(domain) == theirs then return "dkim" end
  end
end

function known.rcpt(tx, rcpt)
  if tx.sender.null or inside(tx) or not rcpt.ours then return end
  local by = vouched(tx)
  if by then spare(tx, organization(rcpt.domain), by) end
end

function known.message(tx)
  if tx.sender.null or inside(tx) then return end
  local by = vouched(tx)
  for _, rcpt in ipairs(by and tx.recipients or {}) do spare(tx, organization(rcpt.domain), by) end
end

return known
