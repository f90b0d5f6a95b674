-- connection_time: says how long connections lasted; qpsmtpd's of that name. The
-- histogram is postern_script_connection_seconds.
--
--   [[policy]]
--   use = "contrib/policies/connection_time.lua"

local connection_time = policy {
  about    = "Says how long connections lasted.",
  settings = { least = duration "0s" : about "shorter ones are not logged" },
}

function connection_time.disconnect(conn)
  local took = conn.totals.duration
  metric.histogram("connection_seconds", took, { listener = conn.listener })
  if took < connection_time.least then return end
  log.info("%s stayed for %.3f s and brought %d messages", conn.ip, took, conn.totals.messages)
end

return connection_time
