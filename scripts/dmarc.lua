-- dmarc: does the domain in From stand behind the message (RFC 9989)?
--
-- At MESSAGE the domain's policy is found and compared with what SPF and DKIM say. A
-- message that fails is treated as the domain asks: quarantined or refused, or less
-- where `enforce` says less. A From field that can't be judged, because there is none,
-- or several, or no address in it, is refused. Nothing is refused that comes from a
-- client in `trust`, or with a signature of a domain in `trust_signers`, such as a
-- mailing list whose changes break the author's, or through forwarders in
-- `trust_sealers` whose unbroken ARC chain (RFC 8617) says that it passed. The result `dmarc` has `verdict`,
-- `pass`, `fail`, `from`, `policy`, `disposition`, `domain`, `problem`, and `override`
-- where something was spared. Relaying and authenticated clients and private addresses
-- are not judged.
--
-- Settings:
--   enforce        the strictest that follows a failure: "monitor" (nothing),
--                  "quarantine" or "reject" (reject)
--   permerror      what follows a From field that can't be judged: "pass", "defer" or
--                  "reject" (reject)
--   temperror      what follows where it can't be told now: "pass" or "defer" (pass)
--   organization   how organizational domains are found: "tree-walk" (RFC 9989) or
--                  "suffix-list" (RFC 7489) (tree-walk)
--   trust          clients that are not judged, such as forwarders of your users ([])
--   trust_signers  domains whose signature spares a message that fails ([])
--   trust_sealers  domains whose ARC seals are believed: a message that fails is spared
--                  where they say that it passed for its From ([])
--   points         points for the score by verdict, such as { fail = 3 } ({})
--   reports        whether messages are counted for the reports of [dmarc] (yes)
--   text           of a refusal; {from}, {policy}, {domain} are filled in
--
-- Example:
--   [[policy]]
--   use           = "dmarc"
--   enforce       = "quarantine"
--   trust_signers = ["lists.example.org"]

local judge = policy {
  about    = "Does the domain in From stand behind the message?",
  immune   = { "relaying", "authenticated" },
  settings = {
    enforce       = enum { "monitor", "quarantine", "reject" } "reject" : about "the strictest that follows a failure",
    permerror     = enum { "pass", "defer", "reject" } "reject" : about "what follows a From field that can't be judged",
    temperror     = enum { "pass", "defer" } "pass" : about "what follows where it can't be told now",
    organization  = enum { "tree-walk", "suffix-list" } "tree-walk" : about "how organizational domains are found",
    trust         = cidrs {} : about "clients that are not judged",
    trust_signers = domains {} : about "domains whose signature spares a message that fails",
    trust_sealers = domains {} : about "domains whose ARC seals are believed about a message that fails",
    points        = map(number) {} : about "points for the score by verdict",
    reports       = boolean (true) : about "whether messages are counted for the reports of [dmarc]",
    text          = string "The policy of {domain} refuses mail in the name of {from} that it did not authorize (DMARC)" : about "of a refusal; {from}, {policy}, {domain} are filled in",
  },
}

-- Whether a set's findings say that DMARC passed for a domain.
local function says(findings, from)
  for _, one in ipairs(findings) do
    if one.method == "dmarc" and one.verdict == "pass" and (one.properties["header.from"] or ""):lower() == from then return true end
  end
end

-- Who spares a message by a chain of ARC: the first set below which nobody stands who
-- is not trusted, and that says DMARC passed for the From that is still there.
local function sealed(tx, it)
  if #judge.trust_sealers == 0 then return end
  local chain = arc.check(tx)
  if not chain or chain.verdict ~= "pass" then return end
  for i = #chain.sets, 1, -1 do
    local one = chain.sets[i]
    if not judge.trust_sealers:match(one.domain) then return end
    if says(one.findings, it.from) then return one.domain end
  end
end

-- The signature that spares a message, if there is one.
local function spared(it)
  for _, one in ipairs(it.identifiers) do
    if one.method == "dkim" and one.verdict == "pass" and judge.trust_signers:match(one.domain) then return one.domain end
  end
end

local function treat(it)
  local text = judge.text:gsub("{(%w+)}", { from = it.from, policy = it.policy, domain = it.domain })
  if it.disposition == "reject" and judge.enforce == "reject" then return reject("5.7.26", "%s", text) end
  if it.disposition ~= "none" and judge.enforce ~= "monitor" then return quarantine("DMARC: " .. it.from .. " asks for " .. it.disposition) end
end

function judge.message(tx)
  local client = tx.conn.ip
  if client.loopback or client.private or judge.trust:match(client) then return end
  local it = dmarc.check(tx, judge.organization)
  local points = judge.points[it.verdict]
  if points then tx:score("dmarc." .. it.verdict, points, it.from) end
  local override = it.verdict == "fail" and (spared(it) or sealed(tx, it)) or ""
  tx:result("dmarc", {
    verdict = it.verdict, pass = it.verdict == "pass", fail = it.verdict == "fail", from = it.from, policy = it.policy,
    disposition = it.disposition, domain = it.domain, problem = it.problem, override = override,
  })
  if it.verdict == "permerror" and judge.permerror ~= "pass" then
    if judge.permerror == "defer" then return defer("4.7.1", "From can't be judged: %s", it.problem) end
    return reject("5.7.1", "From can't be judged: %s", it.problem)
  end
  if it.verdict == "temperror" and judge.temperror == "defer" then
    return defer("4.7.24", "DMARC can't be told now: %s", it.problem)
  end
  local follows
  if it.verdict == "fail" and override == "" then follows = treat(it) end
  if judge.reports and it.domain ~= "" then
    local done = follows and (it.disposition == "reject" and judge.enforce == "reject" and "reject" or "quarantine") or "none"
    local why = ""
    if override ~= "" then why = "trusted: " .. override elseif done ~= it.disposition then why = "enforced is " .. judge.enforce end
    dmarc.count(tx, done, why, judge.organization) -- it logs what it can't count
  end
  return follows
end

return judge
