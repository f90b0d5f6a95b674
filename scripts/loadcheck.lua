-- loadcheck: defers connections while the host has more to do than it can.
--
-- The load average of the last minute is compared with the number of processors. Where
-- the load can't be read nobody is deferred. Relaying clients are let in up to `ours`.
--
-- Settings:
--   most  load for each processor from which strangers are deferred (4)
--   ours  load for each processor from which relaying clients are, too; 0: never (0)
--   text  of the reply
--
-- Example:
--   [[policy]]
--   use  = "loadcheck"
--   most = 2

local loadcheck = policy {
  about      = "Defers connections while the host has too much to do.",
  on_failure = "pass",
  settings   = {
    most = number (4) : about "load for each processor from which strangers are deferred",
    ours = number (0) : about "load for each processor from which relaying clients are, too; 0: never",
    text = string "Too much to do, please try again later" : about "of the reply",
  },
}

function loadcheck.connect(conn)
  local most = loadcheck.most
  if conn.relaying or conn.ip.loopback then most = loadcheck.ours end
  if most == 0 then return end
  local load, processors = host.load()
  if load and load / processors >= most then
    return defer { text = loadcheck.text, code = 421, enhanced = "4.3.2", disconnect = true }
  end
end

return loadcheck
