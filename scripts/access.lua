-- access: allow and block lists by client, name, HELO, sender, recipient and From.
--
-- A rule is a line of ACTION SUBJECT VALUE and maybe a text for the reply:
--   allow client    192.0.2.0/24
--   deny  client    2001:db8:bad::/48     Your network sends us spam
--   deny  name      *.dyn.example.org     (the client's confirmed name)
--   deny  helo      /^(dsl|cable)-[0-9]/
--   deny  sender    @bulk.example         No newsletters, please
--   defer recipient closed@example.net    This mailbox is moving
--   allow from      partner@example.org
--   deny  any       *.spam.example        (name, HELO, sender and From)
-- ACTION is allow, deny or defer. VALUE is a network; or a domain, *.domain for all
-- below it; or of addresses user@example.net, user@, @example.net, *.example.net; or
-- /REGEXP/, without regard to case. An allow wins over every other rule: of a client,
-- name or HELO for the whole connection, of a sender or From for the message, of a
-- recipient for that recipient. It only keeps these rules from refusing: the recipient
-- rule still decides whose mail we take. The result `access` has `action`, `subject` and
-- `value` of the rule that decided.
--
-- Settings:
--   rules  the rules
--   file   a file with one rule a line; # begins a comment line
--   text   of replies where the rule has none
--
-- Example:
--   [[policy]]
--   use   = "access"
--   rules = ["deny sender @bulk.example", "allow client 192.0.2.0/24"]

local addresses = require "addresses"
local faults = require "faults"

local access = policy {
  about    = "Allow and block lists by client, name, HELO, sender, recipient and From.",
  immune   = { "relaying", "authenticated" },
  settings = {
    rules = list(string) {} : about "ACTION SUBJECT VALUE text",
    file  = file ""         : about "a file with one rule a line",
    text  = string "Not welcome here" : about "of replies where the rule has none",
  },
}

-- A list holds the values of one subject with one action. Domains are kept as
-- addresses of any user.
local function new_list(subject)
  return { subject = subject, networks = {}, addresses = addresses.new(), patterns = {}, texts = {}, empty = true }
end

-- add adds a value: true, or nil and what is wrong with it.
local function add(list, value, text)
  list.empty = false
  list.texts[value] = text
  local pattern = value:match("^/(.+)/$")
  if pattern then
    local re, err = regex.compile("(?i)" .. pattern)
    if not re then return nil, err.text end
    table.insert(list.patterns, { re = re, value = value })
  elseif list.subject == "client" then
    local set, err = ip.set { value }
    if not set then return nil, err.text end
    table.insert(list.networks, { set = set, value = value })
  else
    return list.addresses:add(value)
  end
  return true
end

-- find is the rule's value that someone is in: an ip, a name or an address.
local function find(list, who)
  if list.empty or not who then return nil end
  for _, one in ipairs(list.patterns) do
    if one.re:match(tostring(who)) then return one.value end
  end
  if list.subject == "client" then
    for _, one in ipairs(list.networks) do
      if one.set:match(who) then return one.value end
    end
    return nil
  end
  if type(who) == "string" then who = { user = "", domain = who:lower():gsub("%.$", "") } end
  return list.addresses:find(who)
end

local subjects = { "client", "name", "helo", "sender", "recipient", "from", "any" }
local lists = {}
for _, action in ipairs { "allow", "deny", "defer" } do
  lists[action] = {}
  for _, subject in ipairs(subjects) do lists[action][subject] = new_list(subject) end
end

local wrong = faults.new()
local lines, place = faults.items(access, "rules", "file")
for i, line in ipairs(lines) do
  local action, subject, value, text = line:match("^%s*(%a+)%s+(%a+)%s+(%S+)%s*(.-)%s*$")
  local list = action and lists[action:lower()] and lists[action:lower()][subject:lower()]
  if not list then
    wrong:at(place, i, "write ACTION SUBJECT VALUE, with ACTION allow, deny or defer and SUBJECT one of %s, not %q", table.concat(subjects, ", "), line)
  else
    local ok, err = add(list, value, text ~= "" and text or nil)
    if not ok then wrong:at(place, i, "%s", err) end
  end
end
wrong:raise()
if #lines == 0 then log.warn("rules: none is given, here or by file, so nothing is refused") end

local function wants_any(subject)
  return subject == "name" or subject == "helo" or subject == "sender" or subject == "from"
end

-- wants tells whether a rule is about a subject, so that nothing is looked up in vain.
local function wants(subject)
  for _, by in pairs(lists) do
    if not by[subject].empty or wants_any(subject) and not by.any.empty then return true end
  end
end

-- judge gives "allow", or a refusal, or nothing.
local function judge(who, subject, whom)
  for _, action in ipairs { "allow", "deny", "defer" } do
    local list = lists[action][subject]
    local value = find(list, whom)
    if not value and wants_any(subject) then
      list = lists[action].any
      value = find(list, whom)
    end
    if value then
      who:result("access", { action = action, subject = subject, value = value })
      local text = list.texts[value] or access.text
      if action == "deny" then return reject("5.7.1", "%s", text) end
      if action == "defer" then return defer("4.7.1", "%s", text) end
      return "allow"
    end
  end
end

-- settle remembers an allow in notes and passes refusals on.
local function settle(notes, verdict)
  if verdict ~= "allow" then return verdict end
  notes.access_allowed = true
end

local function allowed(tx) return tx.conn.notes.access_allowed or tx.notes.access_allowed end

function access.connect(conn)
  local refusal = settle(conn.notes, judge(conn, "client", conn.ip))
  if conn.notes.access_allowed then return end
  if wants "name" and conn.host then
    local by_name = settle(conn.notes, judge(conn, "name", conn.host))
    if conn.notes.access_allowed then return end
    refusal = refusal or by_name
  end
  return refusal
end

function access.helo(conn)
  if not conn.notes.access_allowed then return settle(conn.notes, judge(conn, "helo", conn.helo)) end
end

function access.mail(tx)
  if not allowed(tx) and not tx.sender.null then return settle(tx.notes, judge(tx, "sender", tx.sender)) end
end

function access.rcpt(tx, rcpt)
  if allowed(tx) then return end
  local verdict = judge(tx, "recipient", addr.parse(rcpt.address))
  if verdict ~= "allow" then return verdict end
end

function access.headers(tx)
  if allowed(tx) or not wants "from" then return end
  for _, one in ipairs(addr.list(tx.headers:raw("From") or "") or {}) do
    local refusal = settle(tx.notes, judge(tx, "from", one.address))
    if refusal or tx.notes.access_allowed then return refusal end
  end
end

return access
