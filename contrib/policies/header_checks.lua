-- header_checks: required and singular fields, and the date; qpsmtpd's "headers".
--
--   [[policy]]
--   use  = "contrib/policies/header_checks.lua"
--   past = "15d"

local header_checks = policy {
  about    = "Refuses header sections that RFC 5322 does not allow.",
  immune   = { "relaying", "authenticated" },
  settings = {
    required = list(string) { "From" } : about "fields that must be there",
    singular = list(string) { "Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject" }
      : about "fields that may be there once",
    past     = duration "0s" : about "how old the date may be; 0: any age",
    future   = duration "0s" : about "how far ahead the date may be; 0: any",
  },
}

function header_checks.headers(tx)
  for _, name in ipairs(header_checks.required) do
    if not tx.headers:get(name) then return reject("5.6.0", "The field %s is missing", name) end
  end
  for _, name in ipairs(header_checks.singular) do
    if #tx.headers:all(name) > 1 then return reject("5.6.0", "There is more than one field %s", name) end
  end
  local date = tx.headers:get("Date")
  local at = date and time.parse(date)
  if date and not at then return reject("5.6.0", "The date can't be read") end
  if at and header_checks.past > 0 and at < now() - header_checks.past then
    return reject("5.6.0", "The date is older than %D", header_checks.past)
  end
  if at and header_checks.future > 0 and at > now() + header_checks.future then
    return reject("5.6.0", "The date is more than %D ahead", header_checks.future)
  end
end

return header_checks
