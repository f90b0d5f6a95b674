-- headers: header sections that RFC 5322 does not allow, and marks of mail that no mail
-- program wrote.
--
-- At HEADERS each test gives a finding, and all findings of a message are told together.
-- By default they are points for the score: honest programs break rules, too. The result
-- `headers` has `found`, a list of "missing FIELD", "several FIELD", "date unreadable",
-- "date past", "date future", "no address in From", "raw characters", "no program" and
-- "direct", and `count`.
--
-- Settings:
--   required  fields that must be there (From, Date)
--   singular  fields that may be there once
--   past      how old the date may be; 0: any age (15d)
--   future    how far ahead the date may be; 0: any (2d)
--   raw       whether characters beyond ASCII are a finding, where SMTPUTF8 was not said (true)
--   program   whether it is one that no User-Agent or X-Mailer is there (false)
--   direct    whether it is one that no other server has received it before (false)
--   action    what follows a finding: "score", "defer" or "reject" (score)
--   points    of each finding, where the action is "score" (1)
--
-- Example:
--   [[policy]]
--   use    = "headers"
--   action = "reject"
--   past   = "30d"

local headers = policy {
  about    = "Finds header sections that RFC 5322 does not allow.",
  immune   = { "relaying", "authenticated" },
  settings = {
    required = list(string) { "From", "Date" } : about "fields that must be there",
    singular = list(string) { "Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject" } : about "fields that may be there once",
    past     = duration "15d" : about "how old the date may be; 0: any age",
    future   = duration "2d" : about "how far ahead the date may be; 0: any",
    raw      = boolean (true) : about "whether characters beyond ASCII are a finding, where SMTPUTF8 was not said",
    program  = boolean (false) : about "whether it is one that no User-Agent or X-Mailer is there",
    direct   = boolean (false) : about "whether it is one that no other server has received it before",
    action   = enum { "score", "defer", "reject" } "score" : about "what follows a finding",
    points   = number (1) : about "of each finding, where the action is score",
  },
}

local function judge_date(fields, found)
  local date = fields:get("Date")
  if not date then return end
  local at = time.parse(date)
  if not at then return table.insert(found, "date unreadable") end
  if headers.past > 0 and at < now() - headers.past then table.insert(found, "date past") end
  if headers.future > 0 and at > now() + headers.future then table.insert(found, "date future") end
end

function headers.headers(tx)
  local fields, found, count, raw = tx.headers, {}, {}, false
  for name in fields:each() do
    name = name:lower()
    count[name] = (count[name] or 0) + 1
  end
  for _, name in ipairs(headers.required) do
    if not count[name:lower()] then table.insert(found, "missing " .. name) end
  end
  for _, name in ipairs(headers.singular) do
    if (count[name:lower()] or 0) > 1 then table.insert(found, "several " .. name) end
    raw = raw or (fields:raw(name) or ""):find("[\128-\255]") ~= nil
  end
  judge_date(fields, found)
  if count.from and not addr.list(fields:raw("From")) then table.insert(found, "no address in From") end
  if headers.raw and raw and not tx.params.SMTPUTF8 then table.insert(found, "raw characters") end
  if headers.program and not count["user-agent"] and not count["x-mailer"] then table.insert(found, "no program") end
  if headers.direct and not count.received then table.insert(found, "direct") end

  tx:result("headers", { found = found, count = #found })
  if #found == 0 then return end
  local text = table.concat(found, ", ")
  if headers.action == "defer" then return defer("4.6.0", "The header section is wrong: %s", text) end
  if headers.action == "reject" then return reject("5.6.0", "The header section is wrong: %s", text) end
  for _, what in ipairs(found) do tx:score("headers." .. what:lower():gsub("[^%w]+", "_"), headers.points, what) end
end

return headers
