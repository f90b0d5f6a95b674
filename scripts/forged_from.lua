-- forged_from: strangers that write in our name, and authors that are not who they seem.
--
-- At MAIL a sender of ours from a client that is neither relaying nor authenticated is
-- one finding, at MESSAGE a From of ours is another, unless DKIM or SPF stand behind it
-- (put the policies dkim, spf or dmarc in front) or a mailing list passes our user's mail
-- on, whose own sender is the list's. Two more look at any mail: a From whose domain is
-- another than the sender's, which much honest mail has, and an address in the name
-- that readers show, whose domain is another than the address's. The result
-- `forged_from` has `found`, a list of "sender", "from", "mismatch", "name".
--
-- Settings:
--   sender    what follows a sender of ours: "pass", "score", "defer" or "reject" (score)
--   from      what follows a From of ours (score)
--   mismatch  what follows a From of another organization than the sender's (pass)
--   names     what follows an address of another organization in the name shown (score)
--   domains   further domains that are ours
--   trust     clients that may write in our name, such as other servers of ours
--   points    of each, where the choice is "score" (3)
--
-- Example:
--   [[policy]]
--   use    = "forged_from"
--   sender = "reject"
--   trust  = ["192.0.2.0/24"]

local action = enum { "pass", "score", "defer", "reject" }

local forged = policy {
  about    = "Finds strangers that write in our name, and authors that are not who they seem.",
  immune   = { "relaying", "authenticated" },
  settings = {
    sender   = action "score" : about "what follows a sender of ours",
    from     = action "score" : about "what follows a From of ours",
    mismatch = action "pass"  : about "what follows a From of another organization than the sender's",
    names    = action "score" : about "what follows an address of another organization in the name shown",
    domains  = domains {} : about "further domains that are ours",
    trust    = cidrs {} : about "clients that may write in our name",
    points   = number (3) : about "of each, where the choice is score",
  },
}

local function ours(domain) return addr.ours(domain) or forged.domains:match(domain) end

local function organization(domain) return addr.organization(domain) or domain end

local says = {
  sender   = "%s is ours: log in to send in its name",
  from     = "From names %s, which is ours: log in to send in its name",
  mismatch = "From names %s, another organization than the sender's",
  names    = "The name in From holds an address that is not the one of %s",
}

local function found(tx, what, who)
  local before = tx:results("forged_from")
  local list = {}
  for _, one in ipairs(before and before.found or {}) do list[#list + 1] = one end
  list[#list + 1] = what == "names" and "name" or what
  tx:result("forged_from", { found = list })
  local follows = forged[what]
  if follows == "score" then tx:score("forged_from." .. what, forged.points, who) end
  if follows == "defer" then return defer("4.7.1", says[what], who) end
  if follows == "reject" then return reject("5.7.1", says[what], who) end
end

-- vouched tells whether DKIM or SPF stand behind a domain, by what earlier policies
-- found, and listed whether a list passes mail on.
local function vouched(tx, domain)
  local dkim, spf = tx:results("dkim"), tx:results("spf")
  for _, by in ipairs(dkim and dkim.domains or {}) do
    if organization(by) == organization(domain) then return true end
  end
  return spf and spf.pass and organization(spf.domain) == organization(domain)
end

local function listed(tx)
  return (tx.headers:get("List-Id") or tx.headers:get("List-Post")) and not tx.sender.null and not ours(tx.sender.domain)
end

function forged.mail(tx)
  if tx.sender.null or forged.trust:match(tx.conn.ip) or not ours(tx.sender.domain) then return end
  return found(tx, "sender", tx.sender.domain)
end

function forged.message(tx)
  if forged.trust:match(tx.conn.ip) then return end
  for _, one in ipairs(addr.list(tx.headers:raw("From") or "") or {}) do
    local domain = one.address.domain
    local refusal
    if ours(domain) and not vouched(tx, domain) and not listed(tx) then refusal = found(tx, "from", domain) end
    if not tx.sender.null and organization(domain) ~= organization(tx.sender.domain) and not listed(tx) then
      refusal = refusal or found(tx, "mismatch", domain)
    end
    local shown = one.name:match("[%w.+_-]+@([%w.-]+%.%a+)")
    if shown and organization(shown:lower()) ~= organization(domain) then refusal = refusal or found(tx, "names", domain) end
    if refusal then return refusal end
  end
end

return forged
