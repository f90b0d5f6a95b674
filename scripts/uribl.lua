-- uribl: looks up where the links of a message lead, in block lists of domains and of
-- addresses.
--
-- At MESSAGE the links are found in all text parts, decoded as a reader's program would
-- follow them (quoted-printable, entities, percent codes, odd forms of addresses), and
-- all lists are asked about the registered domains of their hosts at once. Hosts that
-- are addresses, IPv4 and IPv6, are asked of `ip_zones`. The result `uribl` has
-- `listed`, `domain`, `zone`, `answer`, `meaning` and `hosts`, how many were asked
-- about. Lists that do not answer, and dead ones, never hold up mail.
--
-- Settings:
--   zones     lists of domains, each with the answers that count and what they mean,
--             such as "multi.example.org &8=phishing &64=abused" (none)
--   ip_zones  lists of addresses, in the same way (none)
--   whole     ask about whole host names, too (false)
--   most      hosts that are looked up, the first ones (20)
--   exempt    domains that are not looked up
--   action    what follows a listing: "reject", "defer" or "score" (reject)
--   points    of each listing, where action is "score" (3)
--   header    note listings in a field X-URIBL (false)
--   probe     leave out lists that are dead (true)
--   text      of the reply; {domain}, {zone}, {answer}, {meaning} and {text} are filled in
--
-- Example:
--   [[policy]]
--   use    = "uribl"
--   zones  = ["multi.example.org &8=phishing &16=malware", "dbl.example.org 127.0.1.2-99"]
--   exempt = ["example.net"]

local zones = require "zones"

local uribl = policy {
  about      = "Looks up where links lead, in block lists.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  every      = "30m",
  settings   = {
    zones    = list(string) {} : about "lists of domains, with the answers that count and their meanings",
    ip_zones = list(string) {} : about "lists of addresses, in the same way",
    whole    = boolean (false) : about "ask about whole host names, too",
    most     = integer (20) : about "hosts that are looked up, the first ones",
    exempt   = domains {} : about "domains that are not looked up",
    action   = enum { "reject", "defer", "score" } "reject" : about "what follows a listing",
    points   = number (3) : about "of each listing, where action is score",
    header   = boolean (false) : about "note listings in a field X-URIBL",
    probe    = boolean (true) : about "leave out lists that are dead",
    text     = string "A link leads to {domain}, which {zone} lists: {text}" : about "of the reply; {domain}, {zone}, {answer}, {meaning} and {text} are filled in",
  },
}

local by_name, by_address = zones.read(uribl, "zones"), zones.read(uribl, "ip_zones")
if #by_name.names + #by_address.names == 0 then log.warn("zones: none is given, so nothing is asked") end

-- hosts are the names and the addresses that links lead to.
local function hosts(tx)
  local names, addresses, seen = {}, {}, {}
  for _, link in ipairs(tx.mime:urls() or {}) do
    local host = link.host
    if host ~= "" and not seen[host] and #names + #addresses < uribl.most then
      seen[host] = true
      local organization = addr.organization(host)
      if ip.parse(host) then
        table.insert(addresses, host)
      elseif organization and not uribl.exempt:match(organization) and not uribl.exempt:match(host) then
        for _, name in ipairs { organization, uribl.whole and host or organization } do
          if not names[name] and #names < 64 then
            names[name] = true
            table.insert(names, name)
          end
        end
      end
    end
  end
  return names, addresses
end

-- ask asks all lists about all hosts at once.
local function ask(names, addresses)
  local questions, of = {}, {}
  local function add(lists, look, subject, name)
    if #lists.names == 0 or #questions == 64 then return end
    table.insert(questions, lists:question(look, subject))
    table.insert(of, { lists = lists, name = name })
  end
  if #names > 0 then add(by_name, dns.listed, names) end
  for _, address in ipairs(addresses) do
    if not ip.parse(address).private then add(by_address, dns.dnsbl, address, address) end
  end
  local answers, errs = parallel(questions)
  local found = {}
  for i, one in ipairs(of) do
    if errs[i] then log.warn("the lists could not be asked about %s: %s", one.name or names[1], errs[i].text) end
    for _, listing in ipairs(one.lists:keep(answers[i] or {})) do
      listing.name = listing.name or one.name
      table.insert(found, listing)
    end
  end
  return found
end

function uribl.message(tx)
  local names, addresses = hosts(tx)
  if #names + #addresses == 0 then return end
  local found = ask(names, addresses)
  local first = found[1]
  if not first then
    tx:result("uribl", { listed = 0, hosts = #names + #addresses })
    return
  end
  tx:result("uribl", {
    listed = #found, hosts = #names + #addresses, domain = first.name, zone = first.zone, answer = first.answer, meaning = first.meaning,
  })
  for _, one in ipairs(found) do
    if uribl.header then tx.headers:prepend("X-URIBL", ("%s %s %s"):format(one.name, one.zone, one.answer)) end
    if uribl.action == "score" then tx:score("uribl." .. one.zone, uribl.points, one.name .. " " .. one.answer) end
  end
  if uribl.action == "score" then return end
  local values = { domain = first.name, zone = first.zone, answer = first.answer, meaning = first.meaning, text = first.why }
  local text = uribl.text:gsub("{(%w+)}", values):gsub(":?%s*$", "")
  if uribl.action == "defer" then return defer("4.7.1", "%s", text) end
  return reject("5.7.1", "%s", text)
end

function uribl.tick()
  if not uribl.probe then return end
  by_name:probe(dns.listed, "invalid", "test", "1h")
  by_address:probe(dns.dnsbl, "127.0.0.1", "127.0.0.2", "1h")
end

return uribl
