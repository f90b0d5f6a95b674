-- dkim: verifies who signed the message (RFC 6376).
--
-- At MESSAGE all signatures are verified. By default nothing follows but the result
-- `dkim`, for score rules and for policies that stand behind, such as dmarc: a message
-- whose signature fails is to be treated like one that is not signed. What follows a
-- verdict can be set for each; signatures of domains that are testing (t=y) count only
-- where they pass. `must_sign` names domains whose mail is not taken without a
-- signature of theirs. Relaying and authenticated clients are left alone.
--
-- Settings:
--   fail       what follows a fail: "pass", "defer" or "reject" (pass)
--   policy     a signature that is right and not taken, for its key or l= (pass)
--   neutral    one that can't be read (pass)
--   permerror  one that can never be right, such as one without a key (pass)
--   temperror  a key that can't be looked up now (pass)
--   none       no signature (pass)
--   must_sign  domains in From, "*.example.net" for all below one, that sign all their
--              mail: another message is refused; deferred where a key can't be had ([])
--   points     points for the score by verdict, such as { pass = -1, fail = 1 } ({})
--   text       of a refusal; {verdict}, {domain}, {reason} are filled in
--
-- Example:
--   [[policy]]
--   use       = "dkim"
--   must_sign = ["bank.example"]
--   points    = { pass = -0.5, fail = 1 }

local action = enum { "pass", "defer", "reject" }

local signed = policy {
  about    = "Verifies who signed the message.",
  immune   = { "relaying", "authenticated" },
  settings = {
    fail      = action "pass" : about "what follows a signature that does not match",
    policy    = action "pass" : about "what follows one that is right and not taken",
    neutral   = action "pass" : about "what follows one that can't be read",
    permerror = action "pass" : about "what follows one that can never be right",
    temperror = action "pass" : about "what follows where the key can't be looked up",
    none      = action "pass" : about "what follows where there is no signature",
    must_sign = domains {} : about "domains in From that sign all their mail",
    points    = map(number) {} : about "points for the score by verdict",
    text      = string "DKIM {verdict}: {reason}" : about "of a refusal; {verdict}, {domain}, {reason} are filled in",
  },
}

-- What the message is worth: the best verdict, where a domain that is testing counts
-- only if its signature passes.
local rank = { pass = 6, temperror = 5, fail = 4, policy = 3, permerror = 2, neutral = 1 }

local function best(it)
  local found = { verdict = "none", domain = "", reason = "the message is not signed" }
  for _, one in ipairs(it.signatures) do
    if not (one.testing and not one.pass) and rank[one.verdict] > (rank[found.verdict] or 0) then found = one end
  end
  return found
end

local function refuse(follows, found)
  local text = signed.text:gsub("{(%w+)}", { verdict = found.verdict, domain = found.domain, reason = found.reason })
  if follows == "defer" or found.verdict == "temperror" then return defer("4.7.20", "%s", text) end
  return reject("5.7.20", "%s", text) -- RFC 7372 section 3.1
end

-- Whether a signature of the domain, or of one above it, passes.
local function signs(it, domain)
  for _, by in ipairs(it.domains) do
    if domain == by or domain:sub(-#by - 1) == "." .. by then return true end
  end
end

-- The domains that From names. Of what can't be read, or stands in a second From, every
-- one that is in it: a reader may show any of them.
local function authors(tx)
  local list = {}
  for i, text in ipairs(tx.headers:all("From")) do
    local boxes = i == 1 and addr.list(tx.headers:raw("From"))
    if boxes and not text:find("@.*[,;].*<") then
      for _, box in ipairs(boxes) do list[#list + 1] = box.address.domain:lower() end
    else
      for domain in text:lower():gmatch("@([%w%.%-]+)") do list[#list + 1] = domain end
    end
  end
  return list
end

-- The first domain in From that has to sign and has not.
local function unsigned(tx, it)
  for _, domain in ipairs(authors(tx)) do
    if signed.must_sign:match(domain) and not signs(it, domain) then return domain end
  end
end

function signed.message(tx)
  local it = dkim.check(tx)
  local found = best(it)
  local points = signed.points[found.verdict]
  if points then tx:score("dkim." .. found.verdict, points, found.domain) end
  local list = {}
  for i, one in ipairs(it.signatures) do
    list[i] = {
      verdict = one.verdict, reason = one.reason, domain = one.domain, selector = one.selector, identity = one.identity,
      algorithm = one.algorithm, bits = one.bits, testing = one.testing, b = one.b,
    }
  end
  tx:result("dkim", {
    verdict = found.verdict, pass = found.verdict == "pass", fail = found.verdict == "fail",
    domain = found.domain, reason = found.reason, domains = it.domains, signatures = list, left = it.left,
  })
  local domain = #signed.must_sign > 0 and unsigned(tx, it)
  if domain then
    if found.verdict == "pass" then
      found = { verdict = "none", domain = domain, reason = domain .. " did not sign the message" }
    end
    return refuse("reject", found)
  end
  local follows = signed[found.verdict]
  if follows and follows ~= "pass" then return refuse(follows, found) end -- pass has no setting
end

return signed
