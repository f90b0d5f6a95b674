-- dnsbl: asks DNS block lists (RFC 5782) about the client's address.
--
-- At MAIL the lists are asked, all at once. A listed client is refused, deferred,
-- or only given points for the score. What was found is left as the result
-- `dnsbl` with `listed` (how many listings), `zone`, `answer` and `text`. Lists
-- that do not answer never hold up mail; private addresses are not asked about.
--
-- Settings:
--   zones    the lists (none)
--   answers  answers that count, such as "127.0.0.2"; empty: every answer
--   action   what follows a listing: "reject", "defer" or "score" (reject)
--   points   of each listing, where action is "score" (4)
--   text     of the reply; {ip}, {zone}, {answer} and {text} are filled in
--
-- Example:
--   [[policy]]
--   use   = "dnsbl"
--   zones = ["bl.example.org"]

local dnsbl = policy {
  about      = "Asks DNS block lists about the client's address.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    zones   = list(string) {} : about "the lists",
    answers = list(string) {} : about "answers that count, such as 127.0.0.2; empty: every answer",
    action  = enum { "reject", "defer", "score" } "reject" : about "what follows a listing",
    points  = number (4) : about "of each listing, where action is score",
    text    = string "{ip} is listed by {zone}: {text}" : about "of the reply; {ip}, {zone}, {answer} and {text} are filled in",
  },
}

local wanted = {}
for _, answer in ipairs(dnsbl.answers) do wanted[answer] = true end

local function counts(listing)
  return next(wanted) == nil or wanted[listing.answer]
end

function dnsbl.mail(tx)
  local client = tx.conn.ip
  if #dnsbl.zones == 0 or client.loopback or client.private then return end
  local listings, err = dns.dnsbl(client, dnsbl.zones)
  if not listings then
    log.warn("no list could be asked about %s: %s", client, err.text)
    return
  end
  local first, count = nil, 0
  for _, listing in ipairs(listings) do
    if counts(listing) then
      first, count = first or listing, count + 1
      if dnsbl.action == "score" then
        tx:score("dnsbl." .. listing.zone, dnsbl.points, listing.answer .. " " .. listing.text)
      end
    end
  end
  if not first then
    tx:result("dnsbl", { listed = 0 })
    return
  end
  tx:result("dnsbl", { listed = count, zone = first.zone, answer = first.answer, text = first.text })
  if dnsbl.action == "score" then return end
  local values = { ip = tostring(client), zone = first.zone, answer = first.answer, text = first.text }
  local text = dnsbl.text:gsub("{(%w+)}", values):gsub(":?%s*$", "")
  if dnsbl.action == "defer" then return defer("4.7.1", "%s", text) end
  return reject("5.7.1", "%s", text)
end

return dnsbl
