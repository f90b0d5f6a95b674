-- resolvable_fromhost: the sender's domain must take bounces; qpsmtpd's of that name.
-- A null MX (RFC 7505) or one in a network that can't be is as good as nothing.
--
--   [[policy]]
--   use = "contrib/policies/resolvable_fromhost.lua"

local resolvable_fromhost = policy {
  about    = "Refuses senders whose domain takes no mail.",
  immune   = { "relaying", "authenticated" },
  settings = {
    permanent = boolean (false) : about "refuse for good; where the DNS fails the sender is deferred anyway",
    invalid   = cidrs { "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::1" } : about "networks that take no mail",
  },
}

local function usable(host) -- nil where the DNS failed
  local found, errs = parallel { { dns.a, host }, { dns.aaaa, host } }
  for _, list in pairs(found) do
    for _, ip in ipairs(list) do if not resolvable_fromhost.invalid:match(ip) then return true end end
  end
  for _, err in pairs(errs) do if err.kind == "temporary" then return nil end end
  return false
end

function resolvable_fromhost.mail(tx)
  if tx.sender.null or tx.sender.domain:find("^%[") then return end
  local mx, err = dns.mx(tx.sender.domain)
  if not mx and err.kind == "none" then mx = { { host = tx.sender.domain } } end
  local unsure = not mx
  for _, one in ipairs(mx or {}) do
    local ok = one.host ~= "" and usable(one.host)
    if ok then return end
    unsure = unsure or ok == nil
  end
  if unsure or not resolvable_fromhost.permanent then return defer("4.1.8", "%s takes no bounces", tx.sender.domain) end
  return reject("5.1.8", "%s takes no bounces", tx.sender.domain)
end

return resolvable_fromhost
