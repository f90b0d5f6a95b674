-- greylist: defers the first delivery attempt of an unknown client, sender and
-- recipient. A real server tries again, much malware does not.
--
-- What is known together is the client's network, the sender and the recipient.
-- The first attempt is answered with 450; one after `delay` passes, and the three
-- are remembered for `lifetime` from their last message on. Only recipients of
-- ours are greylisted; relaying and authenticated clients are left alone. While
-- the store does not answer, mail passes.
--
-- Settings:
--   delay     how long a new triplet waits (5m)
--   window    how long a first attempt is remembered for the second to come (2d)
--   lifetime  how long a known triplet is remembered (36d)
--   ipv4      prefix length that stands for an IPv4 client (24)
--   ipv6      prefix length that stands for an IPv6 client (64)
--
-- Example:
--   [[policy]]
--   use   = "greylist"
--   delay = "2m"
--   when  = { client_not = ["192.0.2.0/24"] }

local greylist = policy {
  about    = "Defers the first delivery attempt of an unknown client, sender and recipient.",
  immune   = { "relaying", "authenticated" },
  settings = {
    delay    = duration "5m"  : about "how long a new triplet waits",
    window   = duration "2d"  : about "how long a first attempt is remembered for the second to come",
    lifetime = duration "36d" : about "how long a known triplet is remembered",
    ipv4     = integer (24)   : about "prefix length that stands for an IPv4 client",
    ipv6     = integer (64)   : about "prefix length that stands for an IPv6 client",
  },
}

function greylist.rcpt(tx, rcpt)
  if not rcpt.ours then return end
  local network = tx.conn.ip:prefix(greylist.ipv4, greylist.ipv6)
  local key = { "greylist", network, tostring(tx.sender):lower(), rcpt.address:lower() }
  local seen, err = store.get(key)
  if not seen then
    if err.kind == "none" then
      local ok
      ok, err = store.put(key, now(), greylist.delay + greylist.window)
      if ok then
        return defer("4.7.1", "Greylisted: please try again in %D", greylist.delay)
      end
    end
    log.warn("the store does not answer, so %s passes: %s", network, err.text)
    return
  end
  local waited = now() - seen
  if waited < greylist.delay then
    return defer("4.7.1", "Greylisted: too early, please try again in %D", math.ceil(greylist.delay - waited))
  end
  store.put(key, seen, greylist.lifetime)
end

return greylist
