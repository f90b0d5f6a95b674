-- whitelist: spares clients, HELO names, senders and recipients other policies;
-- qpsmtpd's of that name. Put it before them. It decides nothing itself: whether we
-- take mail for a recipient is still the recipient rule's affair.
--
--   [[policy]]
--   use     = "contrib/policies/whitelist.lua"
--   hosts   = ["192.0.2.0/24"]
--   senders = ["partner@example.org"]
--   skip    = ["greylist", "dnsbl"]

local addresses = require "addresses"

local whitelist = policy {
  about    = "Spares some clients, senders and recipients other policies.",
  settings = {
    hosts      = cidrs {}        : about "networks of clients",
    names      = domains {}      : about "names in HELO; a client can claim any",
    senders    = list(string) {} : about "senders, in the forms of badmailfrom",
    recipients = list(string) {} : about "recipients, in the same forms",
    skip       = list(string) {} : about "names of the policies that are not asked",
  },
}

local senders, recipients = addresses.new(whitelist.senders), addresses.new(whitelist.recipients)

local function spare(who)
  for _, name in ipairs(whitelist.skip) do who:skip(name) end
end

function whitelist.connect(conn) if whitelist.hosts:match(conn.ip) then spare(conn) end end
function whitelist.helo(conn) if whitelist.names:match(conn.helo) then spare(conn) end end
function whitelist.mail(tx) if senders:find(tx.sender) then spare(tx) end end
function whitelist.rcpt(tx, rcpt) if recipients:find(rcpt) then spare(tx) end end

return whitelist
