-- rhsbl: looks the sender's domain up in block lists of domains; qpsmtpd's of that
-- name.
--
--   [[policy]]
--   use   = "contrib/policies/rhsbl.lua"
--   zones = ["dbl.example"]

local rhsbl = policy {
  about      = "Looks the sender's domain up in block lists.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    zones  = list(string) {}   : about "the lists, all asked at once",
    points = number (0)        : about "points for each that lists it; 0: a refusal",
  },
}

function rhsbl.mail(tx)
  if tx.sender.null or #rhsbl.zones == 0 then return end
  local asked = {}
  for i, zone in ipairs(rhsbl.zones) do asked[i] = { dns.a, tx.sender.domain .. "." .. zone } end
  local found = parallel(asked)
  local listed = 0
  for i, zone in ipairs(rhsbl.zones) do
    if found[i] and tostring(found[i][1]):find("^127%.0%.") then
      listed = listed + 1
      if rhsbl.points == 0 then
        local why = dns.txt(asked[i][2])
        return reject("5.7.1", "%s is listed by %s: %s", tx.sender.domain, zone, why and why[1] or "no reason given")
      end
      tx:score("rhsbl." .. zone, rhsbl.points, tx.sender.domain)
    end
  end
  tx:result("rhsbl", { listed = listed })
end

return rhsbl
