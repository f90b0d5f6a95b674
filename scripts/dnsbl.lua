-- dnsbl: asks DNS block lists (RFC 5782) about the client's address.
--
-- At MAIL the lists are asked, all at once, for IPv4 and IPv6. A listed client is
-- refused, deferred, or only given points for the score. What was found is left as the
-- result `dnsbl` with `listed` (how many listings), `zone`, `answer`, `meaning` and
-- `text`. Lists that do not answer never hold up mail, and are left out for a while, as
-- are those that list everybody; private addresses are not asked about, nor clients for
-- whom a connection rule sets RBLSMTPD, to a text or to nothing.
--
-- Settings:
--   zones    the lists, each with the answers that count and what they mean, such as
--            "zen.example.org 127.0.0.2=spammer 127.0.0.4-7=infected" (none)
--   answers  answers that count, such as "127.0.0.2", of every list; empty: every answer
--   action   what follows a listing: "reject", "defer" or "score" (reject)
--   points   of each listing, where action is "score" (4)
--   weights  points of some lists, by their names, in the place of that
--   bounces  ask only about mail from the null sender, for lists of those who misuse it (false)
--   probe    leave out lists that are dead (true)
--   text     of the reply; {ip}, {zone}, {zones} (all that list it), {answer}, {meaning} and
--            {text} are filled in
--
-- Example:
--   [[policy]]
--   use   = "dnsbl"
--   zones = ["bl.example.org"]

local zones = require "zones"

local dnsbl = policy {
  about      = "Asks DNS block lists about the client's address.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  every      = "30m",
  settings   = {
    zones   = list(string) {} : about "the lists, with the answers that count and their meanings",
    answers = list(string) {} : about "answers that count, such as 127.0.0.2; empty: every answer",
    action  = enum { "reject", "defer", "score" } "reject" : about "what follows a listing",
    points  = number (4) : about "of each listing, where action is score",
    weights = map(number) {} : about "points of some lists, by their names",
    bounces = boolean (false) : about "ask only about mail from the null sender",
    probe   = boolean (true) : about "leave out lists that are dead",
    text    = string "{ip} is listed by {zone}: {text}" : about "of the reply; {ip}, {zone}, {zones}, {answer}, {meaning} and {text} are filled in",
  },
}

local lists, wanted = zones.read(dnsbl, "zones"), {}
if #lists.names == 0 then log.warn("zones: none is given, so nothing is asked") end
for _, answer in ipairs(dnsbl.answers) do wanted[answer] = true end

local function counts(listing)
  return next(wanted) == nil or wanted[listing.answer]
end

function dnsbl.mail(tx)
  local client = tx.conn.ip
  if client.loopback or client.private or dnsbl.bounces and not tx.sender.null then return end
  if tx.conn.env.RBLSMTPD then return end -- a connection rule has decided
  local listings, err = lists:ask(dns.dnsbl, client)
  if not listings then
    log.warn("no list could be asked about %s: %s", client, err.text)
    return
  end
  local first, count, all = nil, 0, {}
  for _, listing in ipairs(listings) do
    if counts(listing) then
      first, count = first or listing, count + 1
      if all[#all] ~= listing.zone then table.insert(all, listing.zone) end
      if dnsbl.action == "score" then
        tx:score("dnsbl." .. listing.zone, dnsbl.weights[listing.zone] or dnsbl.points, listing.answer .. " " .. listing.why)
      end
    end
  end
  if not first then
    tx:result("dnsbl", { listed = 0 })
    return
  end
  tx:result("dnsbl", { listed = count, zone = first.zone, answer = first.answer, meaning = first.meaning, text = first.text })
  if dnsbl.action == "score" then return end
  local values = { ip = tostring(client), zone = first.zone, answer = first.answer, meaning = first.meaning, text = first.why, zones = table.concat(all, ", ") }
  local text = dnsbl.text:gsub("{(%w+)}", values):gsub(":?%s*$", "")
  if dnsbl.action == "defer" then return defer("4.7.1", "%s", text) end
  return reject("5.7.1", "%s", text)
end

function dnsbl.tick()
  if dnsbl.probe then lists:probe(dns.dnsbl, "127.0.0.1", "127.0.0.2", "1h") end
end

return dnsbl
