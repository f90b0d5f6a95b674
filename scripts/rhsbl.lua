-- rhsbl: looks domains up in block lists of domains: the sender's, and if asked for
-- those of HELO, of the client's name, of From, Reply-To and Message-ID.
--
-- All lists are asked about all domains at once: at MAIL about what is known there, at
-- HEADERS about the fields. For each name the domain that somebody registered is
-- asked about, too. The result `rhsbl` has `listed`, `domain`, `zone`, `answer` and
-- `meaning`. Lists that do not answer, and dead ones, never hold up mail.
--
-- Settings:
--   zones     the lists, each with the answers that count and what they mean (none)
--   subjects  what is looked up: "sender", "helo", "name", "from", "reply_to",
--             "message_id" (sender)
--   action    what follows a listing: "reject", "defer" or "score" (reject)
--   points    of each listing, where action is "score" (3)
--   exempt    domains that are not looked up
--   probe     leave out lists that are dead (true)
--   text      of the reply; {domain}, {zone}, {answer}, {meaning} and {text} are filled in
--
-- Example:
--   [[policy]]
--   use      = "rhsbl"
--   zones    = ["dbl.example.org 127.0.1.2-99"]
--   subjects = ["sender", "from"]

local zones = require "zones"

local rhsbl = policy {
  about      = "Looks domains up in block lists.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  every      = "30m",
  settings   = {
    zones    = list(string) {} : about "the lists, with the answers that count and their meanings",
    subjects = list(enum { "sender", "helo", "name", "from", "reply_to", "message_id" }) { "sender" } : about "what is looked up",
    action   = enum { "reject", "defer", "score" } "reject" : about "what follows a listing",
    points   = number (3) : about "of each listing, where action is score",
    exempt   = domains {} : about "domains that are not looked up",
    probe    = boolean (true) : about "leave out lists that are dead",
    text     = string "{domain} is listed by {zone}: {text}" : about "of the reply; {domain}, {zone}, {answer}, {meaning} and {text} are filled in",
  },
}

local lists, wanted = zones.read(rhsbl, "zones"), {}
if #lists.names == 0 then log.warn("zones: none is given, so nothing is asked") end
for _, subject in ipairs(rhsbl.subjects) do wanted[subject] = true end

local function add(names, domain)
  domain = (domain or ""):lower():gsub("%.$", "")
  local organization = addr.organization(domain) -- nil of literals and single words
  if not organization or names[domain] or rhsbl.exempt:match(domain) then return end
  for _, name in ipairs { domain, organization } do
    if not names[name] and #names < 64 then
      names[name] = true
      table.insert(names, name)
    end
  end
end

local function judge(tx, names)
  if #names == 0 then return end
  local listings, err = lists:ask(dns.listed, names)
  if not listings then
    log.warn("no list could be asked about %s: %s", names[1], err.text)
    return
  end
  local first = listings[1]
  if not first then return end
  tx:result("rhsbl", { listed = #listings, domain = first.name, zone = first.zone, answer = first.answer, meaning = first.meaning })
  if rhsbl.action == "score" then
    for _, one in ipairs(listings) do tx:score("rhsbl." .. one.zone, rhsbl.points, one.name .. " " .. one.answer) end
    return
  end
  local values = { domain = first.name, zone = first.zone, answer = first.answer, meaning = first.meaning, text = first.why }
  local text = rhsbl.text:gsub("{(%w+)}", values):gsub(":?%s*$", "")
  if rhsbl.action == "defer" then return defer("4.7.1", "%s", text) end
  return reject("5.7.1", "%s", text)
end

function rhsbl.mail(tx)
  local names = {}
  if wanted.sender and not tx.sender.null then add(names, tx.sender.domain) end
  if wanted.helo then add(names, tx.conn.helo) end
  if wanted.name then add(names, tx.conn.host) end
  return judge(tx, names)
end

function rhsbl.headers(tx)
  local names = {}
  for field, subject in pairs { From = "from", ["Reply-To"] = "reply_to" } do
    for _, one in ipairs(wanted[subject] and addr.list(tx.headers:raw(field) or "") or {}) do add(names, one.address.domain) end
  end
  if wanted.message_id then add(names, (tx.headers:raw("Message-ID") or ""):match("@([%w.-]+)")) end
  return judge(tx, names)
end

function rhsbl.tick()
  if rhsbl.probe then lists:probe(dns.listed, "invalid", "test", "1h") end
end

return rhsbl
