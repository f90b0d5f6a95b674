-- fcrdns: whether the client's address has a name that leads back to it (RFC 8601
-- section 2.7.3, iprev); qpsmtpd's of that name, and Haraka's. The result "fcrdns"
-- is there for score rules: when = "fcrdns.fail".
--
--   [[policy]]
--   use    = "contrib/policies/fcrdns.lua"
--   points = 1

local fcrdns = policy {
  about      = "Finds out whether the client's name leads back to its address.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    points = number (0)      : about "points where it does not",
    reject = boolean (false) : about "refuse at MAIL where it does not",
  },
}

function fcrdns.connect(conn)
  if conn.ip.private or conn.ip.loopback then return end
  local name, err = dns.fcrdns(conn.ip)
  local iprev = name and "pass" or err.kind == "temporary" and "temperror" or "fail"
  conn:result("fcrdns", { iprev = iprev, name = name, pass = iprev == "pass", fail = iprev == "fail" })
  if iprev == "fail" and fcrdns.points ~= 0 then conn:score("no_fcrdns", fcrdns.points, tostring(conn.ip)) end
end

function fcrdns.mail(tx)
  local found = tx:results("fcrdns")
  if fcrdns.reject and found and found.fail then
    return reject("5.7.25", "No name leads back to %s", tx.conn.ip)
  end
end

return fcrdns
