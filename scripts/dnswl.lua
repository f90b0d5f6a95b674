-- dnswl: asks DNS lists of good senders (RFC 5782) about the client's address.
--
-- At CONNECT the lists are asked, all at once. A client that one lists is spared the
-- policies that `skip` names, and its mail gets `points`, which are to be negative. It
-- decides nothing itself. The result `dnswl` has `listed`, `zone`, `answer` and
-- `meaning`. A list that does not answer changes nothing.
--
-- Settings:
--   zones   the lists, each with the answers that count, such as
--           "list.example.org 127.0.*.1-3" for all above the lowest trust (none)
--   skip    policies that listed clients are spared (greylist)
--   points  of a listed client (0)
--   probe   leave out lists that are dead (true)
--
-- Example:
--   [[policy]]
--   use    = "dnswl"
--   zones  = ["list.example.org 127.0.*.2-3"]
--   points = -2

local zones = require "zones"

local dnswl = policy {
  about      = "Spares clients that lists of good senders know.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  every      = "30m",
  settings   = {
    zones  = list(string) {} : about "the lists, with the answers that count",
    skip   = list(string) { "greylist" } : about "policies that listed clients are spared",
    points = number (0) : about "of a listed client",
    probe  = boolean (true) : about "leave out lists that are dead",
  },
}

local lists = zones.read(dnswl, "zones")
if #lists.names == 0 then log.warn("zones: none is given, so nothing is asked") end

function dnswl.connect(conn)
  if conn.ip.loopback or conn.ip.private then return end
  local listings = lists:ask(dns.dnsbl, conn.ip)
  local first = listings and listings[1]
  if not first then return end
  conn:result("dnswl", { listed = #listings, zone = first.zone, answer = first.answer, meaning = first.meaning })
  if dnswl.points ~= 0 then conn:score("dnswl", dnswl.points, first.zone .. " " .. first.answer) end
  for _, name in ipairs(dnswl.skip) do conn:skip(name) end
end

function dnswl.tick()
  if dnswl.probe then lists:probe(dns.dnsbl, "127.0.0.1", "127.0.0.2", "1h") end
end

return dnswl
