-- limit: how much one client, sender or recipient may do.
--
-- Rates are written N/TIME, such as "30/1m" or "500/day": so many, and again as many evenly over that
-- time. Who is over one is deferred and told for how long; nobody loses mail. All limits
-- are off until they are set. Those of clients hold for strangers, those of users for
-- who authenticated. With the policy karma in front, a client with a good history may do
-- `good` times as much, one with a bad history `bad` times. Counters are in the store,
-- for all nodes that share it; while it does not answer nobody is limited.
--
-- Settings:
--   connections    connections of one client at a time; 0: any number (0)
--   connect_rate   connections of one client (off)
--   message_rate   messages of one client (off)
--   sender_rate    messages of one sender from strangers (off)
--   domain_rate    messages of one sender's domain from strangers (off)
--   recipient_rate messages to one recipient of ours from strangers (off)
--   null_rate      messages from the null sender to one recipient (off)
--   user_rate      recipients that one user may write to (off)
--   recipients     recipients of one message from a stranger; 0: any number (0)
--   errors         refusals after which a stranger's connection is closed; 0: any number (0)
--   good           factor for clients with a good history (3)
--   bad            factor for clients with a bad history (0.5)
--   ipv4           prefix length that stands for an IPv4 client (32)
--   ipv6           prefix length that stands for an IPv6 client (64)
--   exempt         networks that are not limited
--
-- Example:
--   [[policy]]
--   use          = "limit"
--   connections  = 10
--   message_rate = "60/1m"
--   user_rate    = "500/1d"

local faults = require "faults"

local limit = policy {
  about      = "Limits how much one client, sender or recipient may do.",
  on_failure = "pass",
  settings   = {
    connections    = integer (0) : about "connections of one client at a time; 0: any number",
    connect_rate   = string "" : about "connections of one client",
    message_rate   = string "" : about "messages of one client",
    sender_rate    = string "" : about "messages of one sender from strangers",
    domain_rate    = string "" : about "messages of one sender's domain from strangers",
    recipient_rate = string "" : about "messages to one recipient of ours from strangers",
    null_rate      = string "" : about "messages from the null sender to one recipient",
    user_rate      = string "" : about "recipients that one user may write to",
    recipients     = integer (0) : about "recipients of one message from a stranger; 0: any number",
    errors         = integer (0) : about "refusals after which a stranger's connection is closed; 0: any number",
    good           = number (3) : about "factor for clients with a good history",
    bad            = number (0.5) : about "factor for clients with a bad history",
    ipv4           = integer (32) : range(0, 32) : about "prefix length that stands for an IPv4 client",
    ipv6           = integer (64) : range(0, 128) : about "prefix length that stands for an IPv6 client",
    exempt         = cidrs {} : about "networks that are not limited",
  },
}

local units = { s = 1, m = 60, h = 3600, d = 86400, sec = 1, min = 60, hour = 3600, day = 86400 }
local wrong = faults.new()

-- rate reads "30/1m"; nil for "".
local function rate(name)
  local text = limit[name]
  if text == "" then return nil end
  local n, span, unit = text:match("^(%d+)/(%d*)(%a+)$")
  n, span = tonumber(n), tonumber(span) or 1
  if not n or n < 1 or span < 1 or not units[unit] then
    wrong:add(name, nil, "write a rate such as 30/1m or 500/day, not %q", text)
    return nil
  end
  return { n = n, per = span * units[unit] }
end

local rates = {}
for _, name in ipairs { "connect_rate", "message_rate", "sender_rate", "domain_rate", "recipient_rate", "null_rate", "user_rate" } do rates[name] = rate(name) end
wrong:raise()

local function client(conn) return conn.ip:prefix(limit.ipv4, limit.ipv6) end

local function stranger(conn)
  return not conn.relaying and not conn.authenticated and not conn.ip.loopback and not limit.exempt:match(conn.ip)
end

local function factor(conn)
  local it = conn:results("karma")
  if not it or it.history == 0 then return 1 end
  return it.history > 0 and limit.good or limit.bad
end

-- over takes from a rate's bucket and gives the seconds to wait where it is empty.
local function over(name, conn, who)
  local it = rates[name]
  if not it then return nil end
  local most = math.max(1, it.n * (stranger(conn) and factor(conn) or 1))
  local ok, wait = store.take({ "limit", name, who }, most, it.per)
  if ok ~= false then return nil end -- taken, or the store does not answer
  metric.counter("limited", { limit = name })
  return math.ceil(wait)
end

local function slow(name, what, wait)
  if wait then return defer("4.7.1", "%s: too many, please try again in %D", what, wait) end
end

function limit.connect(conn)
  if not stranger(conn) then return end
  local most = limit.connections > 0 and math.max(1, math.floor(limit.connections * factor(conn)))
  local open = most and store.incr({ "limit", "open", client(conn) }, 1, "1h")
  if open then conn.notes.limit_counted = true end
  if open and open > most then
    return defer { text = "Too many connections of yours at a time", code = 421, enhanced = "4.7.0", disconnect = true }
  end
  local wait = over("connect_rate", conn, client(conn))
  if wait then
    return defer { text = ("Too many connections of yours, please try again in %D"):format(wait), code = 421, enhanced = "4.7.0", disconnect = true }
  end
end

function limit.disconnect(conn)
  if not conn.notes.limit_counted then return end
  local open = store.incr({ "limit", "open", client(conn) }, -1, "1h")
  if open and open <= 0 then store.delete { "limit", "open", client(conn) } end
end

function limit.mail(tx)
  if not stranger(tx.conn) then return end
  local refusal = slow("message_rate", "Messages of your server", over("message_rate", tx.conn, client(tx.conn)))
  if refusal or tx.sender.null then return refusal end
  return slow("sender_rate", "Messages of this sender", over("sender_rate", tx.conn, tostring(tx.sender):lower()))
    or slow("domain_rate", "Messages of this domain", over("domain_rate", tx.conn, tx.sender.domain))
end

function limit.rcpt(tx, rcpt)
  local conn = tx.conn
  if conn.authenticated then return slow("user_rate", "Recipients of yours", over("user_rate", conn, conn.user:lower())) end
  if not stranger(conn) then return end
  if limit.recipients > 0 and #tx.recipients >= math.max(1, math.floor(limit.recipients * factor(conn))) then
    return defer("4.5.3", "Too many recipients; send the rest as another message")
  end
  if not rcpt.ours then return end
  return slow("recipient_rate", "Messages to this recipient", over("recipient_rate", conn, rcpt.address:lower()))
    or tx.sender.null and slow("null_rate", "Bounces to this recipient", over("null_rate", conn, rcpt.address:lower()))
    or nil
end

function limit.deny(_, refusal)
  local conn = refusal.conn
  if limit.errors == 0 or not stranger(conn) then return end
  conn.notes.limit_errors = (conn.notes.limit_errors or 0) + 1
  if conn.notes.limit_errors >= math.max(1, math.floor(limit.errors * factor(conn))) then
    return defer { text = "Too many errors", code = 421, enhanced = "4.7.0", disconnect = true }
  end
end

return limit
