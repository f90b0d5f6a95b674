-- greylist: defers the first delivery attempt of an unknown client, sender and
-- recipient. A real server tries again, much malware does not.
--
-- What is known together is the client, the sender and the recipient. The first attempt
-- is answered with 450; one after `delay` passes, and the three are remembered for
-- `lifetime` from their last message on. A client with `promote` triplets that came
-- again is known as a whole: nothing from it waits any more, for as long as it writes.
-- The client is its network, or, where SPF passes (put the policy spf in front), the
-- sender's domain, so that a sender with many servers is known once. A bounce, or a
-- server that only asks whether an address exists, is deferred at DATA. Only recipients
-- of ours are greylisted; relaying and authenticated clients are left alone. While the
-- store does not answer, mail passes.
--
-- Settings:
--   delay              how long a new triplet waits (5m)
--   window             how long a first attempt is remembered for the second to come (2d)
--   lifetime           how long a known triplet, or client, is remembered (36d)
--   promote            triplets that make their client known; 0: none does (2)
--   ipv4               prefix length that stands for an IPv4 client (24)
--   ipv6               prefix length that stands for an IPv6 client (64)
--   spf                whether SPF's domain stands for a client that passes (true)
--   exempt             networks that never wait (none)
--   exempt_names       confirmed names of clients that never wait, such as "*.example.org" (none)
--   exempt_senders     senders that never wait, in the forms of badmailfrom (none)
--   exempt_recipients  recipients whose mail never waits (postmaster@)
--
-- Example:
--   [[policy]]
--   use          = "greylist"
--   delay        = "2m"
--   exempt       = ["192.0.2.0/24"]
--   exempt_names = ["*.bigmail.example"]

local addresses = require "addresses"

local greylist = policy {
  about    = "Defers the first delivery attempt of an unknown client, sender and recipient.",
  immune   = { "relaying", "authenticated" },
  settings = {
    delay    = duration "5m"  : about "how long a new triplet waits",
    window   = duration "2d"  : about "how long a first attempt is remembered for the second to come",
    lifetime = duration "36d" : range("1m") : about "how long a known triplet, or client, is remembered",
    promote  = integer (2)    : range(0) : about "triplets that make their client known; 0: none does",
    ipv4     = integer (24)   : range(0, 32) : about "prefix length that stands for an IPv4 client",
    ipv6     = integer (64)   : range(0, 128) : about "prefix length that stands for an IPv6 client",
    spf      = boolean (true) : about "whether SPF's domain stands for a client that passes",
    exempt            = cidrs {} : about "networks that never wait",
    exempt_names      = domains {} : about "confirmed names of clients that never wait",
    exempt_senders    = list(string) {} : about "senders that never wait",
    exempt_recipients = list(string) { "postmaster@" } : about "recipients whose mail never waits",
  },
}

local senders, recipients = addresses.read(greylist, "exempt_senders"), addresses.read(greylist, "exempt_recipients")

local function exempt(tx, rcpt)
  return not rcpt.ours or greylist.exempt:match(tx.conn.ip) or senders:find(tx.sender) or recipients:find(rcpt)
    or #greylist.exempt_names > 0 and tx.conn.host and greylist.exempt_names:match(tx.conn.host)
end

-- client is what stands for a client.
local function client(tx)
  local spf = greylist.spf and tx:results("spf")
  if spf and spf.pass and spf.identity == "mailfrom" then return spf.domain end
  return tx.conn.ip:prefix(greylist.ipv4, greylist.ipv6)
end

-- part numbers the twentieths of a lifetime: to renew what is known once in each is
-- enough, and saves a write for every message.
local function part() return math.floor(now() / greylist.lifetime * 20) end

-- promote notes how many triplets of a client came again, or only renews what is known.
local function promote(who, known, triplets)
  if greylist.promote == 0 or known and known.triplets == triplets and known.part == part() then return end
  store.put({ "greylist.client", who }, { triplets = triplets, part = part() }, greylist.lifetime)
end

-- wait defers, a bounce and a question only at DATA.
local function wait(tx, text, ...)
  if not tx.sender.null then return defer("4.7.1", text, ...) end
  tx.notes.greylist = text:format(...)
end

function greylist.rcpt(tx, rcpt)
  if exempt(tx, rcpt) then return end
  local who = client(tx)
  local key = { "greylist", who, tostring(tx.sender):lower(), rcpt.address:lower() }
  local found, errs = parallel { { store.get, key }, { store.get, { "greylist.client", who } } }
  local seen, known = found[1], found[2]
  local came = known and known.triplets or 0
  if greylist.promote > 0 and came >= greylist.promote then
    promote(who, known, came)
    tx:result("greylist", { known = "client" })
    return
  end
  if not seen then
    local err = errs[1]
    if err.kind == "none" then
      local ok
      ok, err = store.put(key, now(), greylist.delay + greylist.window)
      if ok then return wait(tx, "Greylisted: please try again in %D", greylist.delay) end
    end
    log.warn("the store does not answer, so %s passes: %s", who, err.text)
    return
  end
  local again = type(seen) == "number" -- when it first came; a text once it has come again
  if again and now() - seen < greylist.delay then
    return wait(tx, "Greylisted: too early, please try again in %D", math.ceil(greylist.delay - (now() - seen)))
  end
  if again then promote(who, known, came + 1) end
  local renewed = ("%d"):format(part())
  if seen ~= renewed then store.put(key, renewed, greylist.lifetime) end
  tx:result("greylist", { known = "triplet" })
end

function greylist.data(tx)
  if tx.notes.greylist then return defer("4.7.1", "%s", tx.notes.greylist) end
end

return greylist
