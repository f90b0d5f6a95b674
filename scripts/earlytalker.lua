-- earlytalker: refuses clients that speak before the greeting.
--
-- RFC 5321 section 3.1: a client waits for the server's greeting. Much malware
-- does not. The greeting is held back for `wait`, and who sends anything in that
-- time is answered with 554 and disconnected. Relaying clients don't wait.
--
-- Settings:
--   wait  how long the greeting is held back (1s)
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
  settings   = { wait = duration "1s" : about "how long the greeting is held back" },
}

function earlytalker.connect(conn)
  if conn:early(earlytalker.wait) then
    return reject { text = "You spoke before the greeting", code = 554, enhanced = "5.5.1", disconnect = true }
  end
end

return earlytalker
