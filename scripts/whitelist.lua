-- whitelist: spares clients, names, senders and recipients other policies.
--
-- Put it before them. Who is listed is not asked about by the policies of `skip`; a
-- recipient that is listed is spared what they say at RCPT, and what they keep until then
-- (deny_at = "rcpt"); the others of the message still hear it. What they say of the message
-- itself is spared where all its recipients are listed. It decides nothing itself: whether we take mail
-- for a recipient is still the recipient rule's affair. Anybody can claim a HELO name
-- and a sender: `verified` wants SPF or DKIM to say so, by the policies spf and dkim in
-- front. The result `whitelist` has `by` and `points` are given where they are set.
--
-- Settings:
--   clients     networks of clients
--   names       confirmed names of clients, "*.example.org" for all below
--   helos       names in HELO; a client can claim any
--   senders     senders, in the forms of badmailfrom
--   recipients  recipients of ours that want all their mail, in the same forms
--   verified    a sender counts only where SPF passes (true)
--   skip        names of the policies that are not asked (dnsbl, greylist, rhsbl)
--   points      of who is listed (0)
--
-- Example:
--   [[policy]]
--   use        = "whitelist"
--   clients    = ["192.0.2.0/24"]
--   senders    = ["@partner.example"]
--   recipients = ["postmaster@", "abuse@"]

local addresses = require "addresses"

local whitelist = policy {
  about    = "Spares some clients, names, senders and recipients other policies.",
  settings = {
    clients    = cidrs {}        : about "networks of clients",
    names      = domains {}      : about "confirmed names of clients",
    helos      = domains {}      : about "names in HELO; a client can claim any",
    senders    = list(string) {} : about "senders, in the forms of badmailfrom",
    recipients = list(string) {} : about "recipients of ours that want all their mail",
    verified   = boolean (true)  : about "a sender counts only where SPF passes",
    skip       = list(string) { "dnsbl", "greylist", "rhsbl" } : about "names of the policies that are not asked",
    points     = number (0)      : about "of who is listed",
  },
}

local senders, recipients = addresses.read(whitelist, "senders"), addresses.read(whitelist, "recipients")

local function spare(who, by)
  who:result("whitelist", { by = by })
  if whitelist.points ~= 0 then who:score("whitelist", whitelist.points, by) end
  for _, name in ipairs(whitelist.skip) do who:skip(name) end
end

function whitelist.connect(conn)
  if whitelist.clients:match(conn.ip) then return spare(conn, "client") end
  if #whitelist.names > 0 and conn.host and whitelist.names:match(conn.host) then spare(conn, "name") end
end

function whitelist.helo(conn)
  if whitelist.helos:match(conn.helo) then spare(conn, "helo") end
end

function whitelist.mail(tx)
  if tx.sender.null or not senders:find(tx.sender) then return end
  local spf = tx:results("spf")
  if not whitelist.verified or spf and spf.pass then spare(tx, "sender") end
end

function whitelist.rcpt(_, rcpt)
  if not recipients:find(rcpt) then return end
  for _, name in ipairs(whitelist.skip) do rcpt:pardon(name) end
end

function whitelist.data(tx)
  for _, rcpt in ipairs(tx.recipients) do
    if not recipients:find(rcpt) then return end
  end
  for _, name in ipairs(whitelist.skip) do tx:skip(name) end
end

return whitelist
