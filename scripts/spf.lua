-- spf: judges the client by the SPF record of the sender's domain (RFC 7208).
--
-- At MAIL the client is judged, the null sender by the HELO name. What follows a
-- verdict is set for each; by default a fail is refused and the rest passes. The
-- result `spf` has `verdict`, `pass`, `fail`, `domain`, `identity`, `mechanism` and
-- `problem`, for score rules and for policies that stand behind, such as dmarc. A
-- Received-SPF field tells who reads the mail; fields that claim to be ours are removed.
-- Relaying and authenticated clients and private addresses are not judged.
--
-- Settings:
--   fail       what follows a fail: "pass", "defer" or "reject" (reject)
--   softfail   a softfail (pass)
--   neutral    a neutral (pass)
--   none       no record (pass)
--   permerror  a record that is wrong (pass)
--   temperror  a DNS that does not answer (pass)
--   helo_name  whether the HELO name is judged too, and its fail treated like the
--              sender's (no)
--   points     points for the score by verdict, such as { softfail = 2 } ({})
--   trust      clients that are not judged, such as your other mail exchangers and
--              forwarders ([])
--   header     whether the field Received-SPF is written (yes)
--   text       of a refusal; {sender}, {domain}, {ip}, {verdict} are filled in
--
-- Example:
--   [[policy]]
--   use      = "spf"
--   softfail = "defer"
--   points   = { softfail = 2, permerror = 1 }

local action = enum { "pass", "defer", "reject" }

local spfpolicy = policy {
  about    = "Judges the client by the SPF record of the sender's domain.",
  immune   = { "relaying", "authenticated" },
  settings = {
    fail      = action "reject" : about "what follows a fail",
    softfail  = action "pass" : about "what follows a softfail",
    neutral   = action "pass" : about "what follows a neutral",
    none      = action "pass" : about "what follows where there is no record",
    permerror = action "pass" : about "what follows a record that is wrong",
    temperror = action "pass" : about "what follows where the DNS does not answer",
    helo_name = boolean (false) : about "whether the HELO name is judged too, and its fail treated like the sender's",
    points    = map(number) {} : about "points for the score by verdict",
    trust     = cidrs {} : about "clients that are not judged",
    header    = boolean (true) : about "whether the field Received-SPF is written",
    text      = string "SPF {verdict}: {ip} may not send in the name of {domain}" : about "of a refusal; {sender}, {domain}, {ip}, {verdict} are filled in",
  },
}

-- RFC 7372: codes of what failed.
local codes = { permerror = "7.24", temperror = "7.24" }

local function judged(conn)
  return not (conn.ip.loopback or conn.ip.private or spfpolicy.trust:match(conn.ip))
end

local function refuse(tx, it)
  local follows = spfpolicy[it.verdict]
  if not follows or follows == "pass" then return end -- a verdict of pass has no setting
  local values = { sender = it.sender, domain = it.domain, ip = tostring(tx.conn.ip), verdict = it.verdict }
  local text = spfpolicy.text:gsub("{(%w+)}", values)
  if it.explanation ~= "" then text = text .. "; " .. it.source .. " says: " .. it.explanation end
  local code = codes[it.verdict] or "7.23"
  if follows == "defer" or it.verdict == "temperror" then return defer("4." .. code, "%s", text) end
  return reject("5." .. code, "%s", text)
end

function spfpolicy.mail(tx)
  if not judged(tx.conn) then return end
  local it = spf.check(tx)
  local points = spfpolicy.points[it.verdict]
  if points then tx:score("spf." .. it.verdict, points, it.domain) end
  tx:result("spf", {
    verdict = it.verdict, pass = it.verdict == "pass", fail = it.verdict == "fail",
    domain = it.domain, identity = it.identity, mechanism = it.mechanism, problem = it.problem,
  })
  if spfpolicy.helo_name then
    local name = spf.check(tx, "helo")
    if name.verdict == "fail" then return refuse(tx, name) end
  end
  return refuse(tx, it)
end

function spfpolicy.headers(tx)
  local n = 0
  for _, value in ipairs(tx.headers:all("Received-SPF")) do
    n = n + 1
    if spf.claims(value) then
      tx.headers:remove("Received-SPF", n)
      n = n - 1
    end
  end
  if spfpolicy.header and judged(tx.conn) then tx.headers:prepend("Received-SPF", spf.check(tx).field) end
end

return spfpolicy
