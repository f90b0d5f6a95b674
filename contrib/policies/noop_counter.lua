-- noop_counter: hangs up on clients that do nothing, again and again; qpsmtpd's of
-- that name. Only NOOPs in a row count.
--
--   [[policy]]
--   use  = "contrib/policies/noop_counter.lua"
--   most = 3

local noop_counter = policy {
  about    = "Hangs up after some NOOPs in a row.",
  settings = { most = integer (3) : about "NOOPs in a row that are answered" },
}

function noop_counter.command(conn, line)
  if line.verb ~= "NOOP" then
    conn.notes.noops = 0
    return
  end
  conn.notes.noops = (conn.notes.noops or 0) + 1
  if conn.notes.noops >= noop_counter.most then
    return reject { code = 521, enhanced = "5.5.0", text = "Stop wasting my time", disconnect = true }
  end
end

function noop_counter.helo(conn) conn.notes.noops = 0 end
function noop_counter.mail(tx) tx.conn.notes.noops = 0 end
noop_counter.rcpt, noop_counter.data = noop_counter.mail, noop_counter.mail

return noop_counter
