-- earlytalker: refuses clients that speak before the greeting.
--
-- RFC 5321 section 3.1: a client waits for the server's greeting. Much malware
-- does not. The greeting is held back for `wait`, and who sends anything in that
-- time is answered with 554 and disconnected, or deferred, or only given points. Relaying
-- clients don't wait. The result `earlytalker` of who spoke has `early`.
--
-- Settings:
--   wait    how long the greeting is held back, at most a minute (1s)
--   action  what follows: "reject", "defer" or "score" (reject)
--   points  where the action is "score" (3)
--
-- Example:
--   [[policy]]
--   use  = "earlytalker"
--   wait = "2s"
--   when = { client_not = ["192.0.2.0/24"] }

local earlytalker = policy {
  about      = "Refuses clients that speak before the greeting.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    wait   = duration "1s" : range(0, "1m") : about "how long the greeting is held back",
    action = enum { "reject", "defer", "score" } "reject" : about "what follows",
    points = number (3) : about "where the action is score",
  },
}

function earlytalker.connect(conn)
  if not conn:early(earlytalker.wait) then return end
  conn:result("earlytalker", { early = true })
  if earlytalker.action == "score" then
    conn:score("earlytalker", earlytalker.points, "spoke before the greeting")
    return
  end
  if earlytalker.action == "defer" then
    return defer { text = "You spoke before the greeting", code = 421, enhanced = "4.5.1", disconnect = true }
  end
  return reject { text = "You spoke before the greeting", code = 554, enhanced = "5.5.1", disconnect = true }
end

return earlytalker
