-- mail_from_resolvable: the sender's domain must take bounces.
--
-- At MAIL its MX and address records are asked for at once, and then the addresses of
-- its mail exchangers. It takes no mail where it says so (a null MX, RFC 7505), where
-- there is no such domain or nothing to send mail to, and where all it names lies in a
-- network that can't be. The null sender and address literals are left alone. The
-- result `mail_from_resolvable` has `verdict`: "ok", "null_mx", "none", "bogus" or
-- "temperror".
--
-- Settings:
--   null_mx    what follows a null MX: "pass", "score", "defer" or "reject" (reject)
--   none       what follows where there is nothing (defer)
--   bogus      what follows where all leads to networks that can't be (defer)
--   temperror  what follows where the DNS does not answer: "pass", "score" or "defer" (defer)
--   points     where the choice is "score" (3)
--   invalid    networks that take no mail
--   exempt     domains that are not looked up
--
-- Example:
--   [[policy]]
--   use  = "mail_from_resolvable"
--   none = "reject"

local action = enum { "pass", "score", "defer", "reject" }

local resolvable = policy {
  about    = "Refuses senders whose domain takes no bounces.",
  immune   = { "relaying", "authenticated" },
  settings = {
    null_mx   = action "reject" : about "what follows a null MX",
    none      = action "defer"  : about "what follows where there is nothing to send mail to",
    bogus     = action "defer"  : about "what follows where all leads to networks that can't be",
    temperror = enum { "pass", "score", "defer" } "defer" : about "what follows where the DNS does not answer",
    points    = number (3) : about "where the choice is score",
    invalid   = cidrs { "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8" } : about "networks that take no mail",
    exempt    = domains {} : about "domains that are not looked up",
  },
}

-- usable tells whether one of some look-ups gave an address that can be, and whether
-- one failed.
local function usable(found, errs, from)
  local any, failed = false, false
  for i, list in pairs(found) do
    for _, address in ipairs(i >= from and list or {}) do
      any = true
      if not resolvable.invalid:match(address) then return "ok" end
    end
  end
  for i, err in pairs(errs) do failed = failed or i >= from and err.kind == "temporary" end
  if failed then return "temperror" end
  return any and "bogus" or "none"
end

local function judge(domain)
  local found, errs = parallel { { dns.mx, domain }, { dns.a, domain }, { dns.aaaa, domain } }
  local mx = found[1]
  if not mx then
    if errs[1].kind == "temporary" then return "temperror" end
    return usable(found, errs, 2)
  end
  local asked = {}
  for i = 1, math.min(#mx, 32) do
    if mx[i].host ~= "" then
      table.insert(asked, { dns.a, mx[i].host })
      table.insert(asked, { dns.aaaa, mx[i].host })
    end
  end
  if #asked == 0 then return "null_mx" end
  found, errs = parallel(asked)
  return usable(found, errs, 1)
end

local says = {
  null_mx   = { "1.8", "%s takes no mail (null MX), so no bounces either" },
  none      = { "1.8", "%s has nothing that mail could be sent to" },
  bogus     = { "1.8", "the mail exchangers of %s are at addresses that can't be" },
  temperror = { "4.3", "%s can't be looked up now" },
}

function resolvable.mail(tx)
  local domain = tx.sender.domain
  if tx.sender.null or domain:find("^%[") or resolvable.exempt:match(domain) then return end
  local verdict = judge(domain)
  tx:result("mail_from_resolvable", { verdict = verdict })
  local follows, text = resolvable[verdict], says[verdict]
  if verdict == "ok" or follows == "pass" then return end
  if follows == "score" then
    tx:score("mail_from_resolvable", resolvable.points, verdict)
  elseif follows == "defer" then
    return defer("4." .. text[1], text[2], domain)
  else
    if verdict == "null_mx" then return reject("5.7.27", text[2], domain) end -- RFC 7505 section 4.2
    return reject("5." .. text[1], text[2], domain)
  end
end

return resolvable
